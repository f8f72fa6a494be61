"""Toward Alpaca: one connection an account, kept up."""
