"""Tests for tradeproxy.client."""
