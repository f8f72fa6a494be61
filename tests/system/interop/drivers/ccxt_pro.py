"""ccxt pro: watch_orders, with only the URL changed."""
# mypy: ignore-errors

from printing import show

EVENTS = {"partially_filled": "partial_fill", "filled": "fill"}


def on_order(order):
    """Print an order as the event that led to its status; `info` is Alpaca's own object."""
    status = order["info"]["status"]
    show(EVENTS.get(status, status), order["id"])


# snippet:
import asyncio

import ccxt.pro

exchange = ccxt.pro.alpaca({"apiKey": "any", "secret": "any"})
exchange.urls["api"]["ws"]["trading"] = "ws://localhost:8099/trade-updates-paper"
# snippet end

exchange.set_markets([])  # otherwise ccxt requests them from Alpaca over HTTP


# snippet:
async def watch():
    while True:
        try:
            for order in await exchange.watch_orders():
                on_order(order)
        except ccxt.NetworkError:
            await asyncio.sleep(1)


asyncio.run(watch())
# snippet end
