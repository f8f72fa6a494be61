"""Tests for tradeproxy.cli."""
