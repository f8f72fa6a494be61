"""A proxy that shares one Alpaca trade-updates connection per account among many clients."""

__version__ = "0.1.0"
