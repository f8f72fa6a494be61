"""alpaca-py: TradingStream, with only the URL changed."""
# mypy: ignore-errors

from printing import show


async def on_update(update):
    """Print an update; the SDK's object has no field for the event's id."""
    show(update.event, update.order.id)


# snippet:
from alpaca.trading.stream import TradingStream

stream = TradingStream("any", "any", url_override="ws://localhost:8099/trade-updates-paper")
stream.subscribe_trade_updates(on_update)
stream.run()
# snippet end
