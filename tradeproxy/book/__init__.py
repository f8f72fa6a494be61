"""The orders, positions and fills of an account, from its log and from Alpaca's answers."""
