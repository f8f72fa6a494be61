import asyncio

import ccxt.pro

exchange = ccxt.pro.alpaca({"apiKey": "any", "secret": "any"})
exchange.urls["api"]["ws"]["trading"] = "ws://localhost:8099/trade-updates-paper"
exchange.set_markets([])  # without real keys; otherwise ccxt requests the markets from Alpaca


async def watch():
    while True:
        try:
            for order in await exchange.watch_orders():
                print(order["info"]["status"], order["id"])
        except ccxt.NetworkError:
            await asyncio.sleep(1)


asyncio.run(watch())
