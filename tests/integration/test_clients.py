"""Unmodified public clients against a real proxy process."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import websocket
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.models import Order
from alpaca.trading.requests import LimitOrderRequest, MarketOrderRequest
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.processes import SOURCES
from tests.support.sockets import SocketTestCase

BOT = """
import logging, sys
from alpaca.trading.stream import TradingStream

async def show(update):
    order = update.order
    has_price = update.price is not None
    print(str(update.event), order.symbol, order.status.value, order.filled_qty, has_price)

logging.basicConfig(level=logging.INFO, stream=sys.stdout)
stream = TradingStream("any", "any", url_override=sys.argv[1])
stream.subscribe_trade_updates(show)
stream.run()
"""


class AlpacaPyStreamTests(SocketTestCase):
    """alpaca-py, with only its URL changed."""

    async def test_alpaca_py_gets_the_updates_of_its_orders(self) -> None:
        """Orders placed at the embedded Alpaca arrive in TradingStream with the right fields."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        bot = self.command(
            sys.executable, "-u", "-c", BOT, f"ws://localhost:{self.port}/trade-updates-paper"
        )
        await bot.says("connected to")
        await deferToThread(self.trade)
        for line in (
            "new SPY new 0 False",
            "fill SPY filled 2 True",
            "new AAPL new 0 False",
            "canceled AAPL canceled 0 False",
        ):
            await bot.says(f"\n{line}\n")

    def trade(self) -> None:
        """Place a market order that fills, and a limit order that is canceled; runs in a thread."""
        client = TradingClient("any", "any", url_override=f"http://127.0.0.1:{self.alpaca_port}")
        client.submit_order(
            MarketOrderRequest(
                symbol="SPY", qty=2, side=OrderSide.BUY, time_in_force=TimeInForce.DAY
            )
        )
        resting = client.submit_order(
            LimitOrderRequest(
                symbol="AAPL",
                qty=1,
                side=OrderSide.BUY,
                time_in_force=TimeInForce.DAY,
                limit_price=1,
            )
        )
        assert isinstance(resting, Order)
        client.cancel_order_by_id(resting.id)


class WebsocketClientTests(SocketTestCase):
    """websocket-client, which sends an Origin of its own."""

    async def test_websocket_client_origin_is_accepted(self) -> None:
        """Its Origin is the proxy's address, like that of the proxy's own pages."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        connection = await deferToThread(
            websocket.create_connection,
            f"ws://localhost:{self.port}/trade-updates-paper",
            timeout=10,
        )
        self.addCleanup(connection.close)
        connection.send(AUTH.decode())
        self.assertEqual(await deferToThread(connection.recv), AUTHENTICATED.decode())
        event = alpaca.emit({"event": "new"})
        self.assertEqual(await deferToThread(connection.recv), event.decode())


class ReadmeClientTests(SocketTestCase):
    """The clients in the README, as they are printed, with a proxy on the default port."""

    async def test_readme_clients_print_updates(self) -> None:
        """Each block runs unchanged."""
        text = Path(SOURCES, "README.md").read_text(encoding="utf-8")
        programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        curl = re.findall(r"^curl -N .*$", text, re.MULTILINE)
        self.assertEqual((len(programs), len(curl)), (2, 1))
        try:
            await self.proxy("--demo", "--port", "8099")
        except AssertionError as error:
            raise SkipTest("port 8099, 8100 or 8101 is in use") from error
        sdk, library = (self.command(sys.executable, "-u", "-c", code) for code in programs)
        await sdk.says("\nnew ")
        await library.says("'data': {'status': 'authorized', 'action': 'authenticate'}}")
        await library.says("{'stream': 'trade_updates', 'data': {'at': '")
        if shutil.which("curl"):
            await self.command("/bin/sh", "-c", f"exec {curl[0]}").says("\ndata: {")
