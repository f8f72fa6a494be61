"""Tests of the faults that withhold events: mute, omit and unreported."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tests.simulator.support import HttpTestCase, StreamClient
from tests.simulator.test_exchange import market
from tests.support.frames import AUTHENTICATE, AUTHORIZED, LISTEN, LISTENING
from tradeproxy.simulator.exchange import ExchangeResult
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.simulator.orders import Order

EPOCH = "1970-01-01T00:00:00Z"
RESTING = {"type": "limit", "limit_price": Decimal("0.01")}


class MissingEventsTestCase(HttpTestCase):
    """A client of the stream, and the history beside it."""

    def numbers(self, client: StreamClient) -> list[int]:
        """Return the numbers of the events that the client received since the last call."""
        self.flush()
        return [json.loads(message)["data"]["n"] for message in client.taken()]

    def stored(self) -> list[Any]:
        """Return the events in the history."""
        return self.read(since=EPOCH, until=EPOCH.replace("1970", "2100")).events

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.simulator.emit_stamped({"event": "new", "n": number})


class MuteTests(MissingEventsTestCase):
    """A connection that lives and brings no events."""

    def test_mute_suppresses_only_events(self) -> None:
        """Pings, login and listen get replies; the history and its live feed have the events."""
        client = self.listener()
        live = self.read()
        self.inject(FaultKind.MUTE)
        self.send(1)
        self.inject(FaultKind.REPEAT)
        self.inject(FaultKind.GARBAGE)
        client.sendPing(b"ping")
        self.assertEqual(self.say(client, AUTHENTICATE, LISTEN), [AUTHORIZED, LISTENING])
        self.assertEqual(client.pongs, [b"ping"])
        self.flush()
        self.assertEqual([event["n"] for event in live.events], [1])

    def test_mute_ends_after_seconds(self) -> None:
        """Without `seconds` it lasts as long as the connection."""
        client = self.listener()
        self.inject(FaultKind.MUTE, seconds=5)
        self.send(1)
        self.advance(5)
        self.send(2)
        self.inject(FaultKind.MUTE)
        self.advance(100_000)
        self.send(3)
        self.assertEqual(self.numbers(client), [2])

    def test_mute_does_not_affect_the_next_connection(self) -> None:
        """A reconnect is healthy."""
        first = self.listener()
        self.inject(FaultKind.MUTE)
        self.send(1)
        first.sendClose(1000)
        self.wires.flush()
        client = self.listener()
        self.send(2)
        self.assertEqual((self.numbers(first), self.numbers(client)), ([], [2]))

    def test_mute_connection_is_closed_cleanly(self) -> None:
        """A close frame gets a reply."""
        client = self.listener()
        self.inject(FaultKind.MUTE)
        client.sendClose(1000)
        self.wires.flush()
        self.assertEqual((client.closed, self.simulator.connected), ((1000, None), False))


class OmitTests(MissingEventsTestCase):
    """Events that are in the history only."""

    def test_omit_affects_count_events(self) -> None:
        """The history has each event."""
        client = self.listener()
        self.inject(FaultKind.OMIT, count=2)
        self.send(1, 2, 3)
        self.assertEqual(self.numbers(client), [3])
        self.assertEqual([event["n"] for event in self.stored()], [1, 2, 3])

    def test_omit_for_seconds_affects_every_connection(self) -> None:
        """It also covers reconnects."""
        first = self.listener()
        self.inject(FaultKind.OMIT, seconds=10)
        self.send(1)
        first.sendClose(1000)
        self.wires.flush()
        client = self.listener()
        self.send(2)
        self.advance(10)
        self.send(3)
        self.assertEqual((self.numbers(first), self.numbers(client)), ([], [3]))


class UnreportedTests(MissingEventsTestCase):
    """Orders that change without an event."""

    def submit(self, **changes: Any) -> str:
        """Submit an order and return its id."""
        (order,) = self.apply(self.simulator.exchange.submit(market(**changes)))
        return order.id

    def apply(self, result: ExchangeResult) -> tuple[Order, ...]:
        return self.simulator.apply(result)

    def test_unreported_cancel_is_only_in_the_order(self) -> None:
        """The next change gives an event again."""
        client = self.listener()
        first, second = self.submit(**RESTING), self.submit(**RESTING)
        self.flush()
        client.taken()
        self.advance(60)
        self.inject(FaultKind.UNREPORTED)
        self.apply(self.simulator.exchange.cancel(first))
        self.apply(self.simulator.exchange.cancel(second))
        self.flush()
        self.assertEqual([frame["order"]["id"] for frame in self.events_of(client)], [second])
        self.assertEqual([event["order"]["id"] for event in self.stored()], [first, second, second])
        order = self.get("/v2/orders", status="closed", direction="asc").json[0]
        self.assertEqual((order["id"], order["status"]), (first, "canceled"))
        self.assertEqual(order["updated_at"][:19], "2027-01-15T08:01:00")

    def test_unreported_fill_is_an_activity(self) -> None:
        """Money has moved, so the account's activities have the fill."""
        client = self.listener()
        order_id = self.submit()
        self.flush()
        client.taken()
        self.inject(FaultKind.UNREPORTED, seconds=1)
        self.advance(1)
        self.assertEqual((self.events_of(client), len(self.stored())), ([], 1))
        activities = self.get("/v2/account/activities").json
        self.assertEqual({activity["order_id"] for activity in activities}, {order_id})
        self.assertEqual(self.get(f"/v2/orders/{order_id}").json["status"], "filled")

    def events_of(self, client: StreamClient) -> list[Any]:
        """Return the data of the events that the client received since the last call."""
        return [json.loads(message)["data"] for message in client.taken()]
