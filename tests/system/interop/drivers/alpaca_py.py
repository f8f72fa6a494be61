from alpaca.trading.stream import TradingStream


async def on_update(update):
    print(update.event, update.order.id)


stream = TradingStream("any", "any", url_override="ws://localhost:8099/trade-updates-paper")
stream.subscribe_trade_updates(on_update)
stream.run()
