"""One log an account for any number of nodes, in Redis; one of them holds its connection to Alpaca."""
