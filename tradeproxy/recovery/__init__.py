"""Recovery: find events that the stream missed, and deliver each of them once."""
