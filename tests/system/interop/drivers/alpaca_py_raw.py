from alpaca.trading.stream import TradingStream

URL = "ws://localhost:8099/trade-updates-paper"


async def on_update(message):
    update = message["data"]
    print(update["event"], update["order"]["id"])


stream = TradingStream("any", "any", raw_data=True, url_override=URL)
stream.subscribe_trade_updates(on_update)
stream.run()
