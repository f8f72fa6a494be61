"""Several nodes share one log per account in Redis; one node at a time connects to Alpaca."""
