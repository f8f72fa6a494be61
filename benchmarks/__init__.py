"""Measurements of the proxy and of other servers that do the same job; see README.md."""
