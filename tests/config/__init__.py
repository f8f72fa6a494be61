"""Tests for tradeproxy.config."""
