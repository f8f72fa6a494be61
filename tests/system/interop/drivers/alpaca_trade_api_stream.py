"""alpaca-trade-api, Alpaca's first SDK: Stream, with only the URL changed."""
# mypy: ignore-errors

from printing import show


async def on_update(update):
    """Print an update, an Entity with Alpaca's own fields."""
    show(update.event, update.order["id"], update.event_id)


# snippet:
from alpaca_trade_api.stream import Stream

stream = Stream("any", "any", base_url="http://localhost:8099/trade-updates-paper")
stream.subscribe_trade_updates(on_update)
stream.run()
# snippet end
