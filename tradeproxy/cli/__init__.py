"""The commands check, tail and export of `tradeproxy`."""
