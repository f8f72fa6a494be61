"""The commands init, check, status, tail and export of `tradeproxy`."""
