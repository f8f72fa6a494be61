"""Unmodified clients, each in its own environment, against the real proxy: `make interop`."""
