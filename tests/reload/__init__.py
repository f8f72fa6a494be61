"""Tests for tradeproxy.reload."""
