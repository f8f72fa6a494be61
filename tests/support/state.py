"""A proxy in memory whose accounts have books, and the events of orders."""

from __future__ import annotations

import json
from typing import Any

from tests.support.frames import AUTH
from tests.support.journals import event_id_of, time_of
from tests.support.proxy import Client, ProxyTestCase, RawClient
from tests.support.sse import ClosingTransport
from tradeproxy.wire.event import format_time

CLOSED = ("filled", "canceled", "rejected", "expired")


def order_event(
    n: int,
    order_id: str,
    kind: str = "new",
    *,
    status: str = "",
    symbol: str | None = "AAPL",
    note: str = "",
    legs: list[Any] | None = None,
    client_order_id: str = "",
) -> bytes:
    """Return the frame of event `n`: of an order of 10, which a partial fill gives 4."""
    filled = {"partial_fill": "4", "fill": "10"}.get(kind, "0")
    status = status or {"fill": "filled", "partial_fill": "partially_filled"}.get(kind, kind)
    order = {
        "id": order_id,
        "client_order_id": client_order_id or f"bot-{order_id}",
        "created_at": format_time(time_of(0)),
        "submitted_at": format_time(time_of(int(order_id) if order_id.isdigit() else 0)),
        "updated_at": format_time(time_of(n)),
        "symbol": symbol,
        "asset_class": "us_equity",
        "qty": "10",
        "filled_qty": filled,
        "filled_avg_price": "5" if filled != "0" else None,
        "order_class": "mleg" if legs else "simple",
        "order_type": "limit",
        "type": "limit",
        "side": "buy",
        "time_in_force": "day",
        "limit_price": "5",
        "status": status,
        "extended_hours": False,
        "legs": legs,
        "note": note,
    }
    data = {
        "event_id": event_id_of(n),
        "at": format_time(time_of(n)),
        "event": kind,
        "order": order,
    }
    if filled != "0":
        data |= {
            "execution_id": f"x{n}",
            "price": "5",
            "qty": filled,
            "position_qty": filled,
            "timestamp": format_time(time_of(n)),
        }
    return json.dumps({"stream": "trade_updates", "data": data}, separators=(",", ":")).encode()


def kinds(messages: list[bytes]) -> list[str]:
    """Return the stream of each message, and the event of status frames."""
    documents = map(json.loads, messages)
    return [
        document["data"]["event"] if document["stream"] == "proxy_status" else document["stream"]
        for document in documents
        if isinstance(document, dict)
    ]


def parts(messages: list[bytes]) -> list[dict[str, Any]]:
    """Return the data of each frame of a snapshot."""
    documents = map(json.loads, messages)
    return [
        document["data"]
        for document in documents
        if isinstance(document, dict) and document["stream"] == "snapshot"
    ]


def order_ids(part: dict[str, Any]) -> list[str]:
    """Return the ids of the orders in one part."""
    return [order["id"] for order in part["orders"]]


class StateTestCase(ProxyTestCase):
    """A proxy with two accounts whose books are current, without tests."""

    has_books = True
    starts_books = True

    def setUp(self) -> None:
        super().setUp()
        for book in self.books.values() if self.starts_books else ():
            self.start_book(book.account.name)
        self.numbers = iter(range(1_000_000))

    def start_book(self, name: str = "paper") -> None:
        """Start a book, and let it read its log."""
        book = self.books[name]
        book.start()
        self.addCleanup(book.stop)
        for _ in range(50):
            self.clock.advance(0)
        self.assertFalse(book.is_building)

    def trade(self, order_id: str, kind: str = "new", **options: Any) -> bytes:
        """Publish the next event of an order, and return its frame."""
        frame = order_event(next(self.numbers), order_id, kind, **options)
        self.publish(self.paper, frame)
        return frame

    def trade_often(self, count: int, **options: Any) -> list[str]:
        """Publish one new order after the other, and return their ids."""
        ids = [str(1000 + n) for n in range(count)]
        for order_id in ids:
            self.trade(order_id, **options)
        return ids

    def join(self, query: str = "snapshot=1", path: str = "/trade-updates-paper") -> Client:
        """Return a client that is logged in, with what it got since."""
        client = self.connect(f"{path}?{query}")
        client.taken()
        client.sendMessage(AUTH)
        self.wires.flush()
        return client

    def fetch(self, path: str, status: int = 200, **headers: str) -> Any:
        """Return the JSON at a path of the account `paper`."""
        answer = self.ask(path, **headers)
        self.assertEqual(answer.status, status, answer.received)
        return json.loads(answer.body)

    def ask(self, path: str, **headers: str) -> RawClient:
        """Return the answer at a path of the account `paper`."""
        return self.request(f"/trade-updates-paper{path}", **headers)


class BlockedStateCase(StateTestCase):
    """The same with clients that do not read yet, without tests."""

    def setUp(self) -> None:
        super().setUp()
        self.servers: list[Any] = []
        self.wires.transport = self.make_transport  # type: ignore[assignment]  # it is only called

    def make_transport(self, protocol: Any, is_server: bool, **options: Any) -> ClosingTransport:
        """Return one end of a wire; the proxy's end is blocked."""
        transport = ClosingTransport(protocol, is_server, **options)
        if is_server:
            transport.blocked = True
            self.servers.append(transport)
        return transport
