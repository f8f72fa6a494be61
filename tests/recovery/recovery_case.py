"""An account whose Alpaca is the simulator, with outages, in memory and in fake time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Request, Site

from tests.support.journals import memory_journal
from tests.support.memory import MemoryEndpoint, fake_time, simulator
from tests.upstream.support import (
    BASE_URL,
    KEYS,
    MemoryHost,
    OverridingResource,
    keys_of,
    memory_agent,
)
from tradeproxy.book.book import Book
from tradeproxy.config.settings import RecoveryMode, RecoverySettings
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.recovery.recovery import Recovery
from tradeproxy.runtime.dates import Dates
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.history import EventRecord
from tradeproxy.simulator.orders import Order, parse_order
from tradeproxy.simulator.web import ApiSite
from tradeproxy.upstream.backoff import Backoff
from tradeproxy.upstream.client import UpstreamFactory
from tradeproxy.upstream.rate_limiter import RateLimiter
from tradeproxy.upstream.rest import RestClient
from tradeproxy.upstream.service import UpstreamService
from tradeproxy.wire.credentials import KeyPair
from tradeproxy.wire.event import format_time
from tradeproxy.wire.proxy_status import Gap

INTERVAL = 900.0
BROKEN = EventRecord(b"", 1_800_000_002_500_000_000, None, None, b"nonsense")
"""An entry of the history that is not JSON."""


class FrameRecorder:
    """A subscriber that records the frames that it gets."""

    size = 1

    def __init__(self) -> None:
        self.frames: list[Any] = []

    def deliver(self, batch: Batch) -> None:
        self.frames += [json.loads(row.payload) for row in batch.rows if row.payload is not None]

    def announce(self, status: bytes) -> None:
        pass

    def abort(self) -> None:
        raise AssertionError("nothing here fails")


class BreakableRateLimiter(RateLimiter):
    """A rate limiter that raises an error once `broken` is set."""

    broken = False

    def delay(self, now: float) -> float:
        if self.broken:
            raise ZeroDivisionError
        return super().delay(now)


class RecoveryTestCase(SynchronousTestCase):
    """An account with recovery, whose Alpaca is the simulator; it has delivered event 0."""

    mode = RecoveryMode.AUTO
    deadline = 5.0
    accepted: KeyPair | None = KEYS
    """The keys that Alpaca accepts; None stands for any."""

    def setUp(self) -> None:
        self.clock = fake_time(self)
        self.alpaca = simulator(self.clock, credentials=self.accepted)
        self.wire = MemoryEndpoint(self.alpaca, self.clock)
        self.host = MemoryHost(ApiSite(self.alpaca), self.wire)
        self.proxy_clock = self.new_proxy_clock()
        self.journal = self.new_journal()
        self.addCleanup(self.journal.close)
        self.account = Account("paper", self.journal, self.proxy_clock)
        self.recorder = FrameRecorder()
        self.account.broadcaster.register(self.recorder)
        self.service = self.new_service()
        self.service.startService()
        self.addCleanup(self.stop)
        self.advance(1)
        self.emit(0)
        self.advance(1)

    def new_journal(self) -> SqliteJournal:
        return memory_journal(
            self.proxy_clock, dates=Dates(self.clock.seconds, self.proxy_clock.seconds)
        )

    def new_proxy_clock(self) -> IReactorTime:
        """Return the proxy's clock. Timers and Alpaca use `clock`."""
        return self.clock

    def start_new_process(self) -> None:
        """Continue with the journal in a new account and service."""
        self.account = Account("paper", self.journal, self.proxy_clock)
        self.account.broadcaster.register(self.recorder)
        self.service = self.new_service()
        self.service.startService()

    def override(self, answer: Callable[[Request], bytes | int | None]) -> None:
        """Answer requests with a function of the test; Alpaca answers where that returns None."""
        self.host.site = Site(
            OverridingResource(ApiSite(self.alpaca).resource, self.clock, answer),
            reactor=self.clock,
        )

    def new_service(self) -> UpstreamService:
        self.rate_limiter = BreakableRateLimiter()
        self.keys = keys_of(KEYS)
        rest = RestClient(
            memory_agent(self.host, self.clock),
            BASE_URL,
            self.keys,
            self.proxy_clock,
            self.account.dates,
            self.rate_limiter,
        )
        recovery = Recovery(
            self.account,
            rest,
            RecoverySettings(self.mode, self.deadline, INTERVAL),
            self.proxy_clock,
            self.new_book(),
        )
        return UpstreamService(
            self.account,
            self.wire,
            UpstreamFactory(self.keys, self.account, recovery, self.clock),
            recovery,
            Backoff(lambda: 1.0),
            self.clock,
        )

    def new_book(self) -> Book | None:
        """Return the book of `account`, if the tests are about it."""
        return None

    def advance(self, seconds: float) -> None:
        self.wire.advance(seconds)

    def stop(self) -> Deferred[None] | None:
        if not self.service.running:
            return None
        stopped = self.service.stopService()
        self.advance(5)
        return stopped

    def emit(self, *numbers: int) -> None:
        """Emit events at Alpaca now, whether or not a stream is connected."""
        for number in numbers:
            at = format_time(round(self.clock.seconds() * 1_000_000))
            order = {"id": f"order {number}", "status": "new", "filled_qty": "0"}
            event = {
                "at": at,
                "event_id": f"event {number}",
                "event": "new",
                "n": number,
                "order": order,
            }
            self.alpaca.emit(event)

    def inject(self, kind: FaultKind, **details: Any) -> None:
        self.alpaca.inject(Fault(kind, **details))

    def outage(self, happens: Callable[[], object], seconds: float = 2.0) -> None:
        """Drop the connection, call `happens` while it is down, and let it reconnect."""
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.advance(0.5)
        happens()
        self.advance(seconds)
        self.wire.refusing = False
        while not self.alpaca.listening:
            self.advance(0.25)

    def delivered(self) -> list[tuple[int, str | None]]:
        """Return the number of each event that a client got, with its mark."""
        return [(frame["data"]["n"], frame.get("recovered")) for frame in self.recorder.frames]

    @property
    def gap(self) -> Gap:
        """Return the last gap."""
        return tuple(self.account.gaps)[-1]


FOREVER = 1_000_000.0


class OrdersTestCase(RecoveryTestCase):
    """An account without access to the history. Orders can be submitted and queried."""

    def setUp(self) -> None:
        super().setUp()
        self.recorder.frames.clear()
        self.inject(FaultKind.HISTORY_REFUSE, status=404, seconds=FOREVER)

    def submit(self, **fields: Any) -> Order:
        """Submit an order; without a limit price it fills within 0.5 s, maybe in two parts."""
        asked = {
            "symbol": "SPY",
            "side": "buy",
            "type": "market",
            "time_in_force": "day",
            "qty": "10",
        }
        (order,) = self.alpaca.apply(self.alpaca.exchange.submit(parse_order(asked | fields)))
        return order

    def submit_resting(self) -> Order:
        """Submit an order that never fills."""
        return self.submit(type="limit", limit_price="0.01", time_in_force="gtc")

    def cancel(self, order: Order) -> None:
        self.alpaca.apply(self.alpaca.exchange.cancel(order.id))

    def select_events(self, order: Order) -> list[tuple[str, str | None]]:
        """Return the delivered events of an order, each with its mark."""
        return [
            (frame["data"]["event"], frame.get("recovered"))
            for frame in self.recorder.frames
            if frame["data"]["order"]["id"] == order.id
        ]

    def assert_all_is_delivered(self) -> None:
        """Assert that each order's fills were delivered once, and its last status is delivered."""
        filled: defaultdict[str, Decimal] = defaultdict(Decimal)
        last: dict[str, str] = {}
        for frame in self.recorder.frames:
            data = frame["data"]
            last[data["order"]["id"]] = data["order"]["status"]
            if data["event"] in ("fill", "partial_fill"):
                filled[data["order"]["id"]] += Decimal(data["qty"])
        for order in self.alpaca.exchange.orders("all"):
            self.assertEqual(filled[order.id], order.filled_qty, order)
            self.assertEqual(last[order.id], order.status.value, order)
