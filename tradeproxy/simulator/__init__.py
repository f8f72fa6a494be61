"""A simulated Alpaca: the stream, an exchange, and injectable faults."""
