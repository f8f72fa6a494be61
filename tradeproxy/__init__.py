"""A proxy that shares one Alpaca trade-updates connection per account among many clients."""
