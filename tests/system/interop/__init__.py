"""Clients that people have, each unmodified and in an environment of its own, against the real proxy."""
