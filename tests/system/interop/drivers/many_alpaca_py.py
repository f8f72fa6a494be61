"""Many TradingStreams in one process, as many as the argument says, each in a thread of its own."""
# mypy: ignore-errors

import logging
import sys
from threading import Thread

from alpaca.trading.stream import TradingStream
from printing import show


def watch(number):
    """Run one, which is what `number` tells from the others."""

    async def on_update(update):
        show(update.event, update.order.id, stream=number)

    stream = TradingStream("any", "any", url_override="ws://localhost:8099/trade-updates-paper")
    stream.subscribe_trade_updates(on_update)
    stream.run()


logging.disable()  # a traceback every 10 ms, from each
threads = [Thread(target=watch, args=[number]) for number in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()  # an interpreter that is on its way out resolves no names for them
