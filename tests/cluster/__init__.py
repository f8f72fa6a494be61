"""Tests for tradeproxy.cluster."""
