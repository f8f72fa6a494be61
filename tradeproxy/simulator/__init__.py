"""An Alpaca of our own: the stream, an exchange, and faults to order."""
