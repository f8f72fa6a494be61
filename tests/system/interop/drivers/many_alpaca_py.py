"""STREAMS TradingStreams in one process, each in its own thread."""

import logging
import os
from threading import Thread

from alpaca.trading.stream import TradingStream


def watch(number):
    """Run the stream with this number."""

    async def on_update(update):
        print(f"{update.event} {update.order.id} {number}\n", end="")  # one write: others print too

    stream = TradingStream("any", "any", url_override="ws://localhost:8099/trade-updates-paper")
    stream.subscribe_trade_updates(on_update)
    stream.run()


logging.disable()  # otherwise every stream logs a traceback every 10 ms
threads = [Thread(target=watch, args=[number]) for number in range(int(os.environ["STREAMS"]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()  # during interpreter shutdown the threads could not resolve host names
