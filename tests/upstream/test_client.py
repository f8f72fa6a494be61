"""The upstream connection and its service, against the simulator, in memory and in fake time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    capturedLogs,
    formatEvent,
    globalLogPublisher,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.support.journals import memory_journal
from tests.support.memory import LingeringTransport, MemoryEndpoint, fake_time, simulator
from tradeproxy.config.accounts import AccountSettings, BaseUrl
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.upstream.backoff import Backoff
from tradeproxy.upstream.client import CLOSE_TIMEOUT, UpstreamFactory
from tradeproxy.upstream.service import UpstreamService
from tradeproxy.upstream.session import StreamListener
from tradeproxy.wire.credentials import KeyPair, Secret
from tradeproxy.wire.messages import Dialect

KEYS = KeyPair(Secret("PKUPSTREAM"), Secret("upstream-secret"))
EVENT = {"event": "new", "order": {"id": "1", "symbol": "SPY"}}


class Collector:
    """A subscriber that keeps what it is given."""

    size = 1

    def __init__(self) -> None:
        self.events: list[bytes] = []

    def deliver(self, burst: Batch) -> None:
        self.events.extend(row.payload for row in burst.rows if row.payload is not None)

    def announce(self, status: bytes) -> None:
        pass

    def abort(self) -> None:
        raise AssertionError("nothing here fails")


@implementer(ILogObserver)
class DelayObserver:
    """Keeps every delay that the log announces, in seconds."""

    def __init__(self, delays: list[float]) -> None:
        self._delays = delays

    def __call__(self, event: LogEvent) -> None:
        if "delay" in event:
            self._delays.append(event["delay"])


class UpstreamTestCase(SynchronousTestCase):
    """An account whose upstream is the simulator; half of every ceiling is waited."""

    dialect = Dialect.AUTHENTICATE
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock = fake_time(self)
        self.alpaca = simulator(self.clock, **self.options)
        self.wire = MemoryEndpoint(self.alpaca, self.clock)
        journal = memory_journal(self.clock, "live")
        self.addCleanup(journal.close)
        self.account = Account("live", journal, self.clock)
        self.subscriber = Collector()
        self.account.broadcaster.register(self.subscriber)
        self.delays: list[float] = []
        settings = AccountSettings(
            "live", BaseUrl(False, "127.0.0.1", 8100), KEYS, self.dialect, "ALPACA_LIVE_API_KEY"
        )
        self.service = UpstreamService(
            self.account,
            self.wire,
            UpstreamFactory(settings, self.account, StreamListener(), self.clock),
            StreamListener(),
            Backoff(lambda: 0.5),
            self.clock,
        )
        observer = DelayObserver(self.delays)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.service.startService()
        self.addCleanup(self.stop)
        self.advance(0)

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


class StreamingTests(UpstreamTestCase):
    """A session that works."""

    def test_connects_logs_in_and_listens(self) -> None:
        """The service comes to the stream by itself, and the account says that it is up."""
        self.assertTrue(self.alpaca.listening)
        self.assertTrue(self.account.upstream.streaming)

    def test_hands_events_on_byte_for_byte(self) -> None:
        """What Alpaca writes is what the subscribers get, unknown events and odd white space included."""
        odd = b'{ "stream" : "trade_updates",\n "data": {"event":"held_by_martians", "x": 1e2} }'
        first = self.alpaca.emit(EVENT)
        self.alpaca.emit_payload(odd)
        self.advance(0)
        self.assertEqual(self.subscriber.events, [first, odd])

    def test_drops_and_counts_what_is_no_event_and_logs_each_kind_once(self) -> None:
        """Junk ends nothing: it is counted by kind, logged once a kind, and the events after it arrive."""
        with capturedLogs() as logs:
            self.inject(FaultKind.GARBAGE, count=10)
        event = self.alpaca.emit(EVENT)
        self.advance(0)
        self.assertEqual(self.subscriber.events, [event])
        self.assertEqual(self.account.dropped_frames.total(), 10)
        self.assertEqual(len(logs), len(self.account.dropped_frames))

    def test_a_burst_arrives_whole_and_in_order(self) -> None:
        """A burst is handed on whole and in its order."""
        events = [self.alpaca.emit(EVENT | {"n": n}) for n in range(100)]
        self.advance(0)
        self.assertEqual(self.subscriber.events, events)


class TextFramesTests(StreamingTests):
    """The same with an Alpaca that sends text frames, as the live one may."""

    options = {"binary": False}


class DocumentedDialectTests(StreamingTests):
    """The same in the dialect of Alpaca's documentation."""

    dialect = Dialect.AUTH
    options = {"credentials": KEYS}


class WrongKeyTests(UpstreamTestCase):
    """An account whose key Alpaca does not accept."""

    options = {"credentials": KeyPair(Secret("another"), Secret("key"))}

    def test_waits_at_least_a_minute_and_names_the_variable(self) -> None:
        """The log says which variable holds the refused key, and never the key."""
        self.advance(1)
        self.assertIn("ALPACA_LIVE_API_KEY", self.account.upstream.reason)
        with capturedLogs() as logs:
            self.advance(130)
        self.assertEqual(self.delays, [60.5, 61.0, 62.0])
        lines = [formatEvent(event) for event in logs]
        self.assertTrue(any("ALPACA_LIVE_API_KEY is not accepted" in line for line in lines), lines)
        self.assertFalse(
            [line for line in lines if "PKUPSTREAM" in line or "upstream-secret" in line]
        )


class OutageTests(UpstreamTestCase):
    """Every way in which the upstream goes away, and the way back."""

    def assert_recovers(self) -> None:
        self.assertTrue(self.account.upstream.streaming)
        event = self.alpaca.emit(EVENT | {"after": "the outage"})
        self.advance(0)
        self.assertEqual(self.subscriber.events[-1:], [event])

    def test_a_dropped_connection_is_made_again_within_a_second(self) -> None:
        """The first wait is full jitter under one second."""
        self.inject(FaultKind.DROP)
        self.assertFalse(self.account.upstream.streaming)
        self.advance(1)
        self.assertEqual(self.delays, [0.5])
        self.assert_recovers()

    def test_a_reset_connection_is_made_again(self) -> None:
        """A reset is no different from an end."""
        self.inject(FaultKind.RESET)
        self.advance(1)
        self.assert_recovers()

    def test_clean_closes_in_a_loop_back_off(self) -> None:
        """Alpaca's closing cleanly, again and again, is no reason to hammer it."""
        for _ in range(9):
            self.inject(FaultKind.CLOSE)
            while not self.alpaca.listening:
                self.advance(0.5)
        self.assertEqual(self.delays, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0])
        self.assert_recovers()

    def test_an_unreachable_host_backs_off_and_says_why(self) -> None:
        """The delays double from one second to sixty, each halved here by the jitter."""
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        with capturedLogs() as logs:
            self.advance(180)
        attempts = self.wire.attempts
        waits = [round(after - before, 3) for before, after in pairwise(attempts)]
        self.assertEqual(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0])
        self.assertIn("refused", self.account.upstream.reason)
        line = formatEvent(logs[0])
        self.assertIn("next attempt in 1.0 s", line)
        self.assertIs(logs[0]["log_level"], LogLevel.warn)
        self.wire.refusing = False
        self.advance(30)
        self.assert_recovers()

    def test_the_delay_starts_anew_only_after_a_session_that_worked(self) -> None:
        """A session of some seconds does not reset the backoff; one of more than a minute does."""
        for seconds in (10, 10, 10, 65, 10):
            self.advance(seconds)
            self.inject(FaultKind.DROP)
        self.assertEqual(self.delays, [0.5, 1.0, 2.0, 0.5, 1.0])

    def test_a_session_that_worked_counts_however_it_ended(self) -> None:
        """Also one that we end ourselves, since Alpaca says that it no longer sends us anything."""
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.advance(10)
        self.wire.refusing = False
        self.advance(100)
        self.delays.clear()
        self.alpaca.emit_payload(b'{"stream":"listening","data":{"streams":[]}}')
        self.advance(2)
        self.assertEqual(self.delays, [0.5])
        self.assert_recovers()

    def test_a_silent_connection_is_found_in_less_than_thirty_seconds(self) -> None:
        """Nothing arrives and no pong either: the connection is given up and made again."""
        self.inject(FaultKind.SILENCE)
        started = self.clock.seconds()
        while self.account.upstream.streaming:
            self.advance(0.5)
        self.assertLess(self.clock.seconds() - started, 30)
        self.assertIn("pong", self.account.upstream.reason)
        self.advance(2)
        self.assert_recovers()

    def test_a_second_connection_waits_for_the_slot(self) -> None:
        """HTTP 429 means at least 90 seconds."""
        self.inject(FaultKind.THROTTLE, count=1)
        self.inject(FaultKind.DROP)
        self.advance(95)
        self.assertEqual(self.delays, [0.5, 91.0])
        self.assert_recovers()

    def test_retry_after_is_obeyed(self) -> None:
        """Where Alpaca says how long, that is the floor."""
        self.inject(FaultKind.THROTTLE, count=1, retry_after=7)
        self.inject(FaultKind.DROP)
        self.advance(20)
        self.assertEqual(self.delays, [0.5, 8.0])
        self.assert_recovers()

    def test_a_goodbye_that_does_not_come_to_its_end_is_cut(self) -> None:
        """Alpaca closes and keeps TCP open: a deaf connection must not be taken for a stream."""
        self.wire.transport = LingeringTransport
        self.inject(FaultKind.RESET)
        self.advance(1)
        self.inject(FaultKind.CLOSE)
        self.advance(CLOSE_TIMEOUT + 1)
        self.assert_recovers()

    def test_a_refusal_for_a_while_is_waited_out(self) -> None:
        """A login that is refused now may be accepted in a minute."""
        self.inject(FaultKind.REFUSE, count=1)
        self.inject(FaultKind.DROP)
        self.advance(70)
        self.assert_recovers()


class StopTests(UpstreamTestCase):
    """How the service stops, wherever it stands."""

    def test_alpaca_gets_a_close_frame(self) -> None:
        """A half-closed connection would hold the account's only slot for about 90 s."""
        stopped = self.service.stopService()
        self.advance(0.5)
        self.assertEqual(self.alpaca.last_close, (1000, None))
        assert stopped is not None
        self.successResultOf(stopped)

    def test_stopping_is_bounded_when_alpaca_closed_first(self) -> None:
        """Also where the connection is half closed already."""
        self.wire.transport = LingeringTransport
        self.inject(FaultKind.RESET)
        self.advance(1)
        self.inject(FaultKind.CLOSE)
        stopped = self.service.stopService()
        assert stopped is not None
        self.advance(CLOSE_TIMEOUT)
        self.successResultOf(stopped)

    def test_stopping_is_bounded_when_alpaca_does_not_answer(self) -> None:
        """The connection is dropped after a second or two of silence."""
        self.inject(FaultKind.SILENCE)
        stopped = self.service.stopService()
        assert stopped is not None
        self.assertNoResult(stopped)
        self.advance(2.5)
        self.successResultOf(stopped)

    def test_a_stop_between_two_attempts_ends_the_waiting(self) -> None:
        """No attempt follows, and no timer stays."""
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        stopped = self.service.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        attempts = len(self.wire.attempts)
        self.advance(300)
        self.assertEqual(len(self.wire.attempts), attempts)

    def test_a_stop_during_the_dial_cancels_it(self) -> None:
        """A host that does not answer does not delay the stop."""
        self.wire.hanging = True
        self.inject(FaultKind.DROP)
        self.advance(1)
        stopped = self.service.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        self.assertEqual(self.wire.canceled, 1)
