"""An upstream of the simulator, in memory and fake time."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.support.journals import memory_journal
from tests.support.memory import MemoryEndpoint, fake_time, simulator
from tradeproxy.config.accounts import AccountSettings, BaseUrl
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.upstream.backoff import Backoff
from tradeproxy.upstream.client import UpstreamFactory
from tradeproxy.upstream.keys import AccountKeys
from tradeproxy.upstream.service import UpstreamService
from tradeproxy.upstream.session import StreamListener
from tradeproxy.wire.credentials import KeyPair, Secret
from tradeproxy.wire.messages import Dialect

KEYS = KeyPair(Secret("PKUPSTREAM"), Secret("upstream-secret"))
EVENT = {"event": "new", "order": {"id": "1", "symbol": "SPY"}}


class PayloadRecorder:
    """A subscriber that records the payloads that it gets."""

    size = 1

    def __init__(self) -> None:
        self.events: list[bytes] = []

    def deliver(self, batch: Batch) -> None:
        self.events.extend(row.payload for row in batch.rows if row.payload is not None)

    def announce(self, status: bytes) -> None:
        pass

    def abort(self) -> None:
        raise AssertionError("nothing here fails")


class RecordingListener(StreamListener):
    """Records its calls, in order. The call `failing` raises ZeroDivisionError."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failing = ""

    def connection_opened(self) -> None:
        self._record("opened")

    def stream_up(self) -> None:
        self._record("up")

    def connection_closed(self) -> None:
        self._record("closed")

    def stop(self) -> None:
        self._record("stop")

    def _record(self, call: str) -> None:
        self.calls.append(call)
        if call == self.failing:
            raise ZeroDivisionError


@implementer(ILogObserver)
class DelayObserver:
    """Records each delay that is logged, in seconds."""

    def __init__(self, delays: list[float]) -> None:
        self._delays = delays

    def __call__(self, event: LogEvent) -> None:
        if "delay" in event:
            self._delays.append(event["delay"])


class UpstreamClientTestCase(SynchronousTestCase):
    """An account, and the factory of its connections to Alpaca. Nothing connects yet."""

    dialect = Dialect.AUTHENTICATE

    def setUp(self) -> None:
        self.clock = fake_time(self)
        journal = memory_journal(self.clock, "live")
        self.addCleanup(journal.close)
        self.account = Account("live", journal, self.clock)
        settings = AccountSettings(
            "live", BaseUrl(False, "127.0.0.1", 8100), KEYS, self.dialect, "ALPACA_LIVE_API_KEY"
        )
        self.listener = RecordingListener()
        self.upstream_factory = UpstreamFactory(
            AccountKeys(settings), self.account, self.listener, self.clock
        )


class UpstreamTestCase(UpstreamClientTestCase):
    """An account whose upstream is the simulator. The jitter is half of the ceiling."""

    options: dict[str, Any] = {}

    def setUp(self) -> None:
        super().setUp()
        self.alpaca = simulator(self.clock, **self.options)
        self.wire = MemoryEndpoint(self.alpaca, self.clock)
        self.subscriber = PayloadRecorder()
        self.account.broadcaster.register(self.subscriber)
        self.delays: list[float] = []
        self.service = self.build_service()
        observer = DelayObserver(self.delays)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.service.startService()
        self.addCleanup(self.stop)
        self.advance(0)

    def build_service(self) -> UpstreamService:
        """Return a service of the account that is not started."""
        return UpstreamService(
            self.account,
            self.wire,
            self.upstream_factory,
            self.listener,
            Backoff(self.draw_jitter),
            self.clock,
        )

    def draw_jitter(self) -> float:
        return 0.5

    def advance(self, seconds: float) -> None:
        self.wire.advance(seconds)

    def stop(self) -> Deferred[None] | None:
        if not self.service.running:
            return None
        stopped = self.service.stopService()
        self.advance(5)
        return stopped

    def inject(self, kind: FaultKind, **details: Any) -> None:
        self.alpaca.inject(Fault(kind, **details))
        self.advance(0)
