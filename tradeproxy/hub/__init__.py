"""Accounts, their broadcasters and their gaps, independent of sockets and of Alpaca's protocol."""
