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
    keys_of,
    memory_agent,
)
from tradeproxy.config.settings import RecoveryMode, RecoverySettings
from tradeproxy.hub.account import Account
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.recovery.recovery import Recovery
from tradeproxy.runtime.dates import SECOND
from tradeproxy.upstream.rate_limiter import RateLimiter
from tradeproxy.upstream.rest import RestClient
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.frame import extract_data, frame_event
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import GapOutcome

HISTORY = "/v2/events/trades"
FILLS = "/v2/account/activities"
OPEN = "open orders"
"""Stands for the path of all orders, in requests for those that are open."""

START = 1_800_000_000 * SECOND
"""When the tests begin (microseconds since 1970)."""


class ScriptedCase(RestClientTestCase):
    """An account with an empty log, at an Alpaca without orders, fills and history."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.new_journal()
        self.addCleanup(self.journal.close)
        self.rate_limiter = RateLimiter()
        self.rest = RestClient(
            memory_agent(self.host, self.clock),
            BASE_URL,
            keys_of(KEYS),
            self.clock,
            self.journal.dates,
            self.rate_limiter,
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


class ScheduleTestCase(ScriptedCase):
    """A recovery whose stream is up and down as the test says."""

    mode = RecoveryMode.AUTO

    def setUp(self) -> None:
        super().setUp()
        self.asked: list[tuple[str, float]] = []
        self.recovery = self.new_recovery()
        self.began = self.clock.seconds()

    def new_recovery(self) -> Recovery:
        recovery = Recovery(
            self.account, self.rest, RecoverySettings(self.mode, 5.0, 900.0), self.clock
        )
        self.addCleanup(recovery.stop)
        return recovery

    def respond(self, request: Request) -> bytes | int:
        path = request.path.decode()
        if path == "/v2/orders" and request.args[b"status"] == [b"open"]:
            path = OPEN
        self.asked.append((path, self.clock.seconds()))
        return super().respond(request)

    def list_times(self, path: str) -> list[float]:
        """Return when this path was requested, in seconds after the begin; clears the record."""
        times = [time - self.began for asked, time in self.asked if asked == path]
        self.asked.clear()
        return times

    def come_up(self) -> None:
        """Let a connection open, and its stream begin."""
        self.recovery.connection_opened()
        self.account.mark_upstream_up()
        self.recovery.stream_up()
        self.wires.flush()

    def lose(self) -> None:
        self.recovery.connection_closed()
        self.account.mark_upstream_down("lost")

    def begin_gap(self) -> None:
        """Let the first stream come up, and the second one after a gap of 100 s."""
        self.come_up()
        self.lose()
        self.clock.advance(100)
        self.began = self.clock.seconds()
        self.asked.clear()
        self.come_up()

    def build(self, number: int, **fields: Any) -> Event:
        """Return an event of an order of its own that happens now."""
        document = build_order(0, "new", self.now, id=f"{number}")
        return build_event(document, at=format_time(self.now), event_id=f"{number}", **fields)

    def bring(self, *events: Event, complete: bool = True) -> None:
        """Let the history have these events."""
        lines = [b"data: %s\n\n" % extract_data(event.payload)[0] for event in events]
        self.history = event_stream(*lines, complete=complete)

    @property
    def gap_state(self) -> tuple[GapOutcome, int]:
        gap = tuple(self.account.gaps)[-1]
        return gap.outcome, gap.events
