"""The connections to Alpaca: one stream connection per account, and its REST requests."""
