"""The heart: accounts and their broadcasters; knows neither Alpaca's socket nor the clients'."""
