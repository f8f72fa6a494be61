"""Tests for the queries of URLs."""
