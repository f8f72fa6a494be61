from alpaca_trade_api.stream import Stream


async def on_update(update):
    print(update.event, update.order["id"])


stream = Stream("any", "any", base_url="http://localhost:8099/trade-updates-paper")
stream.subscribe_trade_updates(on_update)
stream.run()
