"""Tests of the whole product, most of them with its commands as processes."""
