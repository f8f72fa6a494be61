"""Events that the stream did not bring: found at Alpaca, delivered once, in order or marked."""
