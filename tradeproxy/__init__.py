"""One Alpaca trade-updates connection per account, handed on to any number of clients."""
