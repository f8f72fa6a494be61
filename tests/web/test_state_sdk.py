"""alpaca-py's models parse the orders and positions of the pages, and of a snapshot."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

from alpaca.trading.enums import OrderStatus, PositionSide
from alpaca.trading.models import Order, Position

from tests.support import frames
from tests.support.state import StateTestCase, parts
from tradeproxy.simulator.exchange import Exchange, ExchangeResult
from tradeproxy.simulator.orders import OrderRequest
from tradeproxy.wire.frame import frame_event


def parse_orders(documents: list[Any]) -> list[Order]:
    """Return the SDK's orders."""
    return [Order(**document) for document in documents]


class SdkModelTests(StateTestCase):
    """Orders and positions as Alpaca writes them."""

    def trade_at_exchange(self, exchange: Exchange, result: ExchangeResult) -> None:
        """Publish the events of an order until nothing more happens to it."""
        while True:
            for data in result.events:
                self.publish(self.paper, frame_event(json.dumps(data).encode()))
            pending = [order.id for order in result.orders if exchange.has_next_step(order.id)]
            if not pending:
                return
            result = exchange.step(pending[0])

    def test_captured_orders_are_parsed(self) -> None:
        """Among them are options, a multi-leg order, and crypto."""
        events = [frames.NEW, frames.CRYPTO_FILL, frames.MULTI_LEG_FILL, frames.PARTIAL_FILL]
        self.publish(self.paper, *events)
        orders = parse_orders(self.fetch("/orders?status=all")["orders"])
        self.assertEqual(
            {str(order.id) for order in orders},
            {json.loads(event)["data"]["order"]["id"] for event in events},
        )
        [multi_leg] = [order for order in orders if order.legs]
        assert multi_leg.legs is not None
        self.assertTrue(all(isinstance(leg, Order) for leg in multi_leg.legs))
        for order in orders:
            self.assertEqual(Order(**self.fetch(f"/orders/{order.id}")).id, order.id)

    def test_positions_of_fills_alone_are_parsed(self) -> None:
        """What only Alpaca knows, such as the market's price, is null until it answers."""
        exchange = Exchange(self.clock.seconds, Random(1))
        for symbol, side, kind in (
            ("AAPL", "buy", "day"),
            ("MSFT", "sell", "day"),
            ("BTC/USD", "buy", "gtc"),
            ("SPY261218C00600000", "buy", "day"),
        ):
            request = OrderRequest(
                symbol=symbol, side=side, type="market", time_in_force=kind, qty=Decimal(3)
            )
            self.trade_at_exchange(exchange, exchange.submit(request))
        [part] = parts(self.join().taken())
        for documents in (self.fetch("/positions")["positions"], part["positions"]):
            positions = {each.symbol: each for each in (Position(**each) for each in documents)}
            self.assertEqual(
                {symbol: each.qty for symbol, each in positions.items()},
                {"AAPL": "3", "BTCUSD": "3", "MSFT": "-3", "SPY261218C00600000": "3"},
            )
            self.assertIs(positions["MSFT"].side, PositionSide.SHORT)
            self.assertIs(positions["AAPL"].side, PositionSide.LONG)

    def test_orders_of_a_snapshot_are_parsed(self) -> None:
        """They are the same objects."""
        exchange = Exchange(self.clock.seconds, Random(1))
        request = OrderRequest(
            symbol="AAPL",
            side="buy",
            type="limit",
            time_in_force="gtc",
            qty=Decimal(3),
            limit_price=Decimal("0.5"),
        )
        self.trade_at_exchange(exchange, exchange.submit(request))
        [part] = parts(self.join().taken())
        for documents in (part["orders"], self.fetch("/state")["orders"]):
            [order] = parse_orders(documents)
            self.assertEqual((order.symbol, order.limit_price), ("AAPL", "0.5"))
            self.assertIs(order.status, OrderStatus.NEW)
