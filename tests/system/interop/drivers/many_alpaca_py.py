"""Many TradingStreams in one process, each in its own thread; the argument is their number."""
# mypy: ignore-errors

import logging
import sys
from threading import Thread

from alpaca.trading.stream import TradingStream
from printing import show


def watch(number):
    """Run the stream with this number."""

    async def on_update(update):
        show(update.event, update.order.id, stream=number)

    stream = TradingStream("any", "any", url_override="ws://localhost:8099/trade-updates-paper")
    stream.subscribe_trade_updates(on_update)
    stream.run()


logging.disable()  # otherwise every stream logs a traceback every 10 ms
threads = [Thread(target=watch, args=[number]) for number in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()  # during interpreter shutdown the threads could not resolve host names
