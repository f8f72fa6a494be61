"""An account whose Alpaca is the simulator, and its outages: in memory and in fake time."""

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
from tests.upstream.support import BASE_URL, KEYS, Detour, MemoryHost, http_client
from tradeproxy.config.accounts import AccountSettings, BaseUrl
from tradeproxy.config.settings import RecoveryMode, RecoverySettings
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.recovery.recovery import Recovery
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.history import EventRecord
from tradeproxy.simulator.orders import Order, parse_order
from tradeproxy.simulator.web import ApiSite
from tradeproxy.upstream.backoff import Backoff
from tradeproxy.upstream.client import UpstreamFactory
from tradeproxy.upstream.http import RateLimiter
from tradeproxy.upstream.rest import RestClient
from tradeproxy.upstream.service import UpstreamService
from tradeproxy.wire.event import format_time
from tradeproxy.wire.messages import Dialect
from tradeproxy.wire.proxy_status import Gap

INTERVAL = 900.0
BROKEN = EventRecord(b"nonsense", 0, 8, 1_800_000_002_500_000_000, None, None)
"""An entry of the history that is no JSON."""


class Reader:
    """A subscriber that keeps the frames that it is given."""

    size = 1

    def __init__(self) -> None:
        self.frames: list[Any] = []

    def deliver(self, burst: Batch) -> None:
        self.frames += [json.loads(row.payload) for row in burst.rows if row.payload is not None]

    def announce(self, status: bytes) -> None:
        pass

    def abort(self) -> None:
        raise AssertionError("nothing here fails")


class BreakableBudget(RateLimiter):
    """A budget with a mistake in it, once it is broken."""

    broken = False

    def delay(self, now: float) -> float:
        if self.broken:
            raise ZeroDivisionError
        return super().delay(now)


class RecoveryTestCase(SynchronousTestCase):
    """An account with a recovery, whose Alpaca is the simulator; it has streamed and told of event 0."""

    mode = RecoveryMode.AUTO

    def setUp(self) -> None:
        self.clock = fake_time(self)
        self.alpaca = simulator(self.clock, credentials=KEYS)
        self.wire = MemoryEndpoint(self.alpaca, self.clock)
        self.host = MemoryHost(ApiSite(self.alpaca), self.wire)
        self.ours = self.our_clock()
        self.journal = self.new_journal()
        self.addCleanup(self.journal.close)
        self.account = Account("paper", self.journal, self.ours)
        self.reader = Reader()
        self.account.broadcaster.register(self.reader)
        self.service = self.new_service()
        self.service.startService()
        self.addCleanup(self.stop)
        self.advance(1)
        self.emit(0)
        self.advance(1)

    def new_journal(self) -> SqliteJournal:
        return memory_journal(self.ours)

    def our_clock(self) -> IReactorTime:
        """Return the proxy's clock, which timers and Alpaca do not go by."""
        return self.clock

    def new_process(self) -> None:
        """Let another process go on with the journal."""
        self.account = Account("paper", self.journal, self.ours)
        self.account.broadcaster.register(self.reader)
        self.service = self.new_service()
        self.service.startService()

    def detour(self, answer: Callable[[Request], bytes | int | None]) -> None:
        """Let a function of the test answer requests from now on; Alpaca answers where it says None."""
        self.host.site = Site(
            Detour(ApiSite(self.alpaca).resource, self.clock, answer), reactor=self.clock
        )

    def new_service(self) -> UpstreamService:
        self.budget = BreakableBudget()
        rest = RestClient(
            http_client(self.host, self.clock), BASE_URL, KEYS, self.ours, self.budget
        )
        recovery = Recovery(
            self.account, rest, RecoverySettings(self.mode, 5.0, INTERVAL), self.ours
        )
        settings = AccountSettings(
            "paper", BaseUrl.parse(BASE_URL), KEYS, Dialect.AUTHENTICATE, "ALPACA_API_KEY"
        )
        return UpstreamService(
            self.account,
            self.wire,
            UpstreamFactory(settings, self.account, recovery, self.clock),
            recovery,
            Backoff(lambda: 1.0),
            self.clock,
        )

    def advance(self, seconds: float) -> None:
        self.wire.advance(seconds)

    def stop(self) -> Deferred[None] | None:
        if not self.service.running:
            return None
        stopped = self.service.stopService()
        self.advance(5)
        return stopped

    def emit(self, *numbers: int) -> None:
        """Let events happen now, whether or not anybody listens."""
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
        """Let the connection drop, something happen while it is down, and the connection come back."""
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.advance(0.5)
        happens()
        self.advance(seconds)
        self.wire.refusing = False
        while not self.alpaca.listening:
            self.advance(0.25)

    def told(self) -> list[tuple[int, str | None]]:
        """Return the numbers of the events that a client had, each with its mark."""
        return [(frame["data"]["n"], frame.get("recovered")) for frame in self.reader.frames]

    @property
    def gap(self) -> Gap:
        """The last gap."""
        return tuple(self.account.gaps)[-1]


FOREVER = 1_000_000.0


class OrdersTestCase(RecoveryTestCase):
    """An account to which the history is refused; orders can be submitted, and asked for."""

    def setUp(self) -> None:
        super().setUp()
        self.reader.frames.clear()
        self.inject(FaultKind.HISTORY_REFUSE, status=404, seconds=FOREVER)

    def submit(self, **fields: Any) -> Order:
        """Order something; without a limit price it is filled within half a second, maybe in two parts."""
        asked = {
            "symbol": "SPY",
            "side": "buy",
            "type": "market",
            "time_in_force": "day",
            "qty": "10",
        }
        (order,) = self.alpaca.apply(self.alpaca.exchange.submit(parse_order(asked | fields)))
        return order

    def rest_order(self) -> Order:
        """Order something that is never filled."""
        return self.submit(type="limit", limit_price="0.01", time_in_force="gtc")

    def cancel(self, order: Order) -> None:
        self.alpaca.apply(self.alpaca.exchange.cancel(order.id))

    def events_of(self, order: Order) -> list[tuple[str, str | None]]:
        """Return what was told of an order, each event with its mark."""
        return [
            (frame["data"]["event"], frame.get("recovered"))
            for frame in self.reader.frames
            if frame["data"]["order"]["id"] == order.id
        ]

    def assert_all_is_told(self) -> None:
        """Every order's fills were told once, and the last status is the order's."""
        filled: defaultdict[str, Decimal] = defaultdict(Decimal)
        last: dict[str, str] = {}
        for frame in self.reader.frames:
            data = frame["data"]
            last[data["order"]["id"]] = data["order"]["status"]
            if data["event"] in ("fill", "partial_fill"):
                filled[data["order"]["id"]] += Decimal(data["qty"])
        for order in self.alpaca.exchange.orders("all"):
            self.assertEqual(filled[order.id], order.filled_qty, order)
            self.assertEqual(last[order.id], order.status.value, order)
