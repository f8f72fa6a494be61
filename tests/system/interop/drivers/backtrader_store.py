from alpaca_backtrader_api import AlpacaStore

AlpacaStore._ENV_PRACTICE_URL = "http://localhost:8099/trade-updates-paper"
store = AlpacaStore(key_id="your key", secret_key="your secret", paper=True)
