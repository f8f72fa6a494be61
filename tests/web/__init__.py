"""Tests for the HTTP site."""
