"""The settings: the proxy reads the environment once, into frozen values."""
