"""Tests of events that are completed, parsed by alpaca-py."""

from __future__ import annotations

import json
from typing import Any

from alpaca.trading.enums import TradeEvent
from alpaca.trading.models import TradeUpdate

from tests.simulator.support import WebTestCase


class CompletionTests(WebTestCase):
    """Partial events become events that alpaca-py can parse."""

    def emit(self, data: Any) -> TradeUpdate:
        client = self.listener()
        self.assertEqual(self.ask("POST", "/simulator/emit", data), (200, {"delivered": 1}))
        [payload] = client.taken()
        client.dropConnection(abort=True)
        self.wires.flush()
        return TradeUpdate(**json.loads(payload)["data"])

    def test_example_of_the_docs_is_parsed(self) -> None:
        """It raised a ValidationError in alpaca-py: most fields were absent, and "1" is no UUID."""
        first, second = (
            self.emit({"event": "fill", "order": {"id": "1", "symbol": "SPY"}}) for _ in range(2)
        )
        self.assertEqual(first.order.id, second.order.id)
        self.assertNotEqual(first.execution_id, second.execution_id)
        order = first.order
        self.assertEqual((order.symbol, order.status.value), ("SPY", "filled"))
        self.assertEqual(order.filled_qty, order.qty)
        self.assertIsNotNone(order.filled_at)
        self.assertEqual(str(order.filled_avg_price), str(first.price))

    def test_every_event_is_complete(self) -> None:
        """Whatever part of the order is sent."""
        for event in TradeEvent:
            for order in ({}, {"id": "x"}, {"symbol": "BTC/USD", "limit_price": "5", "qty": "10"}):
                update = self.emit({"event": event.value, "order": order})
                self.assertEqual(update.event, event)
        self.assertEqual(self.emit({}).event, TradeEvent.NEW)

    def test_fields_that_are_sent_stay(self) -> None:
        """The rest follows from them."""
        sent = {"symbol": "BTC/USD", "side": "sell", "qty": "10", "type": "limit"}
        data = {"event": "partial_fill", "price": "7", "order": sent | {"limit_price": "6"}}
        update = self.emit(data)
        order = update.order.model_dump()
        self.assertEqual({name: order[name] for name in sent}, sent)
        self.assertEqual((order["order_type"], order["asset_class"]), ("limit", "crypto"))
        self.assertEqual((update.price, update.qty, order["filled_qty"]), (7, 5, "5"))
        self.assertEqual(self.emit({"event": "fill", "qty": "3"}).order.filled_qty, "3")

    def test_order_of_the_exchange_is_the_base(self) -> None:
        """Its id suffices."""
        placed = self.submit(client_order_id="mine", qty="8")
        update = self.emit({"event": "canceled", "order": {"id": placed["id"]}})
        self.assertEqual((update.order.client_order_id, update.order.qty), ("mine", "8"))
        self.assertEqual(update.order.status.value, "canceled")
