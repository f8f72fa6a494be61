"""Tests for the documents in docs/."""
