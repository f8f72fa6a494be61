"""An account whose Alpaca answers as the test says, at once, in memory and in fake time."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.web.server import Request

from tests.support.journals import memory_journal
from tests.upstream.support import (
    BASE_URL,
    KEYS,
    RestClientTestCase,
    event_stream,
    http_client,
)
from tradeproxy.hub.account import Account
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.runtime.dates import SECOND
from tradeproxy.upstream.rate_limiter import RateLimiter
from tradeproxy.upstream.rest import RestClient
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.frame import frame_event
from tradeproxy.wire.messages import TradeUpdate, parse_server

START = 1_800_000_000 * SECOND
"""When the tests begin (microseconds since 1970)."""


class ScriptedCase(RestClientTestCase):
    """An account with an empty log, at an Alpaca without orders, fills and history."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.new_journal()
        self.addCleanup(self.journal.close)
        self.rest = RestClient(
            http_client(self.host, self.clock),
            BASE_URL,
            KEYS,
            self.clock,
            self.journal.dates,
            RateLimiter(),
        )
        self.account = Account("paper", self.journal, self.clock)
        self.listed: Any = []
        """The answer to every request for a list of orders."""
        self.by_id: dict[str, Any] = {}
        self.fills: list[Any] = []
        self.history: Callable[[Request], bytes | int] = event_stream()
        self.answer = self.respond

    def new_journal(self) -> SqliteJournal:
        return memory_journal(self.clock)

    def respond(self, request: Request) -> bytes | int:
        request.setHeader("date", formatdate(self.clock.seconds(), usegmt=True))
        document: Any
        match request.path.decode().split("/")[2:]:
            case ["events", "trades"]:
                return self.history(request)
            case ["orders"]:
                document = self.listed
            case ["account", "activities"]:
                document = self.fills
            case ["orders", order_id]:
                if order_id not in self.by_id:
                    request.setResponseCode(404)
                document = self.by_id.get(order_id)
            case _:
                document = {"id": "account"}
        return json.dumps(document).encode()

    @property
    def now(self) -> int:
        """Alpaca's time (microseconds since 1970)."""
        return round(self.clock.seconds() * SECOND)

    def list_requests(self, path: str) -> list[dict[str, str]]:
        """Return the parameters of each request for this path."""
        split = [urlsplit(uri) for uri in self.requested_uris()]
        queries = [parse_qs(each.query) for each in split if each.path == path]
        return [{name: values[0] for name, values in query.items()} for query in queries]

    def log(self, *events: Event) -> None:
        """Put events into the log."""
        for event in events:
            self.account.publish(event)
        self.account.flush()


def build_order(filled: int, status: str = "", time: int = START, **fields: Any) -> dict[str, Any]:
    """Return an order of 10 that was created long ago, and changed at a time (microseconds)."""
    return {
        "id": "O",
        "status": status or ("filled" if filled == 10 else "partially_filled"),
        "filled_qty": str(filled),
        "created_at": format_time(START - 10**6 * SECOND),
        "submitted_at": format_time(START - 10**6 * SECOND),
        "updated_at": format_time(time),
    } | fields


def build_fill(qty: int, cum: int, time: int = START, **fields: Any) -> dict[str, Any]:
    """Return the activity of a fill of that order."""
    return {
        "id": f"activity {cum}",
        "order_id": "O",
        "type": "fill" if cum == 10 else "partial_fill",
        "qty": str(qty),
        "cum_qty": str(cum),
        "transaction_time": format_time(time),
    } | fields


def build_event(document: dict[str, Any], kind: str = "", qty: int = 0, **fields: Any) -> Event:
    """Return an event that has an order in this state; a fill, if it has a quantity."""
    at = document["updated_at"]
    kind = kind or ("partial_fill" if qty else document["status"])
    data = {"event": kind, "timestamp": at, "order": document}
    if qty:
        data |= {"qty": str(qty), "execution_id": f"to {document['filled_qty']}", "price": "1.5"}
    message = parse_server(frame_event(json.dumps(data | fields).encode()))
    assert isinstance(message, TradeUpdate)
    return message.event
