"""The settings: what the environment says, read once into frozen values."""
