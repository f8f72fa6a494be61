"""Mute streams: they answer pings and bring no events, so only the history has them."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.recovery.recovery_case import INTERVAL, OrdersTestCase, RecoveryTestCase
from tests.support.journals import NOW, event, memory_journal, time_of
from tradeproxy.hub.account import Account
from tradeproxy.recovery.mute import MAX_REOPEN_AFTER, REOPEN_AFTER, MuteDetector
from tradeproxy.recovery.recovery import FIRST_CHECK
from tradeproxy.runtime.dates import Dates
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.simulator.history import event_record
from tradeproxy.web.health import readyz
from tradeproxy.wire.event import format_time
from tradeproxy.wire.proxy_status import GapOutcome

MUTE = "paper: the stream is mute: only the regular check finds events"


class MuteStreamTests(RecoveryTestCase):
    """A stream that falls silent, with a history that works."""

    def reasons(self) -> Any:
        return readyz([self.account])[1]["reasons"]

    def mute_reconnects(self) -> int:
        return self.account.reconnect_reasons["mute"]

    def emit_while_mute(self, number: int) -> None:
        """Emit an event that the stream omits, long enough before the next check."""
        self.inject(FaultKind.OMIT, count=1)
        self.emit(number)

    def test_mute_stream_is_closed_cleanly_and_opened_at_once(self) -> None:
        """All events came by the check, up to 15 minutes late, all day."""
        self.inject(FaultKind.MUTE)
        self.emit(1)
        self.advance(FIRST_CHECK)
        self.assertEqual(self.delivered(), [(0, None), (1, "events")])
        self.assertEqual(self.reasons(), [MUTE])
        assert self.alpaca.last_close is not None
        self.assertEqual(self.alpaca.last_close[0], 1000)
        self.assertTrue(self.alpaca.listening)
        self.assertEqual(self.mute_reconnects(), 1)
        self.emit(2)
        self.advance(1)
        self.assertEqual(self.delivered()[-1], (2, None))
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)

    def test_mute_stream_is_ready_again_when_check_finds_nothing(self) -> None:
        """An open connection proves nothing: the one before was open too."""
        self.inject(FaultKind.MUTE)
        self.emit(1)
        self.advance(FIRST_CHECK)
        self.advance(FIRST_CHECK - 5)
        self.assertEqual(self.reasons(), [MUTE])
        self.advance(10)
        self.assertEqual(self.reasons(), [])

    def test_stream_that_stays_mute_is_opened_at_growing_intervals(self) -> None:
        """At once, then after 5, 10, 20, 40 and 60 minutes. The checks bring the events."""
        opened: list[float] = []
        number = 1
        while len(opened) < 7:
            before = self.mute_reconnects()
            self.emit_while_mute(number)
            number += 1
            self.advance(20)
            if self.mute_reconnects() > before:
                opened.append(self.clock.seconds())
        intervals = [later - earlier for earlier, later in pairwise(opened)]
        expected = (300, 600, 1200, 2400, MAX_REOPEN_AFTER, MAX_REOPEN_AFTER)
        for interval, delay in zip(intervals, expected, strict=True):
            self.assertTrue(delay <= interval <= delay + 60, intervals)
        self.advance(INTERVAL)
        self.assertEqual(sorted(n for n, _ in self.delivered()), list(range(number)))

    def test_stream_that_brought_events_since_begins_again(self) -> None:
        """A second silence is a new one, but a stream that lags must not be opened all the time."""
        self.inject(FaultKind.MUTE)
        self.emit(1)
        self.advance(FIRST_CHECK + 5)
        self.emit(2)
        self.advance(1)
        self.inject(FaultKind.MUTE)
        self.emit(3)
        self.advance(REOPEN_AFTER / 2)
        self.assertEqual(self.mute_reconnects(), 1)
        for number in (4, 5, 6):
            self.emit(number)
            self.advance(60)
        self.assertEqual(self.mute_reconnects(), 2)
        self.assertEqual([n for n, _ in self.delivered()], [0, 1, 2, 3, 4, 5, 6])

    def test_lagging_stream_is_rarely_opened(self) -> None:
        """The history was 15 s ahead, and the stream was opened every half minute."""
        late: deque[Any] = deque()
        for number in range(1, 600):
            self.inject(FaultKind.OMIT, count=1)
            self.emit(number)
            late.append(self.alpaca.history.last(1)[0].payload)
            if len(late) > 15:
                self.alpaca._send([(late.popleft(), False)])  # noqa: SLF001
            self.advance(1)
        self.assertLessEqual(self.mute_reconnects(), 2)

    def test_stream_that_omitted_one_event_is_not_mute(self) -> None:
        """It has brought a later one, so a new connection would not help."""
        self.emit_while_mute(1)
        self.emit(2)
        self.advance(2 * FIRST_CHECK)
        self.assertEqual(self.delivered(), [(0, None), (2, None), (1, "events")])
        self.assertEqual((self.mute_reconnects(), self.reasons()), (0, []))

    def test_event_from_before_connection_does_not_make_it_mute(self) -> None:
        """The history may be late too. The new connection could not bring that event."""
        at = format_time(round(self.clock.seconds() * 1_000_000) + 1)
        self.outage(lambda: None)
        self.advance(5)
        late = {"at": at, "event_id": "late", "event": "new", "n": 1, "order": {"id": "late"}}
        self.alpaca.history.append(event_record(late, 0))
        self.advance(FIRST_CHECK)
        self.assertEqual(self.delivered(), [(0, None), (1, "events")])
        self.assertEqual((self.mute_reconnects(), self.reasons()), (0, []))

    def test_checks_run_soon_after_reconnect_then_less_often(self) -> None:
        """After 30 s, then at doubling intervals. An omitted event was 15 minutes late."""
        self.outage(lambda: None)
        self.advance(5)
        for number in (1, 3):
            self.emit_while_mute(number)
            self.emit(number + 1)
            self.advance(2 * FIRST_CHECK + 2)
        self.assertEqual([n for n, _ in self.delivered()], [0, 2, 1, 4, 3])

    def test_stopped_account_is_not_mute(self) -> None:
        """Another node may hold the connection now."""
        self.inject(FaultKind.MUTE)
        self.emit(1)
        self.advance(FIRST_CHECK)
        self.stop()
        self.assertFalse(self.account.is_mute)


class MuteWithoutHistoryTests(OrdersTestCase):
    """Events made of orders prove no silence: the order may have had none."""

    def test_synthetic_events_do_not_make_stream_mute(self) -> None:
        """Alpaca omits some cancellations on healthy streams too."""
        self.inject(FaultKind.MUTE)
        self.submit()
        self.advance(2 * FIRST_CHECK)
        self.assert_all_is_delivered()
        self.assertEqual(self.account.reconnect_reasons["mute"], 0)


class MuteDetectorTests(SynchronousTestCase):
    """When a stream counts as mute, and when it may be opened again."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        journal = memory_journal(self.clock)
        self.addCleanup(journal.close)
        self.account = Account("paper", journal, self.clock)
        self.mute = MuteDetector(self.account)

    def assert_opened_after(self, *delays: int) -> None:
        """Assert that a stream that stays mute is opened after these seconds, not before."""
        for delay in delays:
            self.clock.advance(delay - 0.5)
            self.assertEqual((self.mute.may_reopen(), self.mute.wait), (False, 0.5), delay)
            self.clock.advance(0.5)
            self.assertEqual((self.mute.wait, self.mute.may_reopen()), (0.0, True), delay)

    def test_reopenings_follow_schedule(self) -> None:
        """At once, then after 5, 10, 20, 40 and 60 minutes. After an event it begins again."""
        self.assertEqual((self.mute.wait, self.mute.may_reopen()), (0.0, True))
        self.assert_opened_after(300, 600, 1200, 2400, 3600, 3600)
        self.account.publish(event(10_000))
        self.assert_opened_after(300, 300, 600)

    def test_is_mute_compares_newest_found_with_stream(self) -> None:
        """The stream has brought no event of this time or later, although it could."""
        self.clock.advance(20)
        self.mute.stream_up()
        self.clock.advance(20)
        rows = (
            ("when the connection began", time_of(20), True),
            ("just before", time_of(20) - 1, False),
            ("later", time_of(30), True),
        )
        for name, newest, is_mute in rows:
            self.assertEqual(self.mute.is_mute(newest), is_mute, name)
        self.account.publish(event(30))
        for seconds, is_mute in ((29, False), (30, False), (31, True)):
            self.assertEqual(self.mute.is_mute(time_of(seconds)), is_mute, seconds)

    def test_is_mute_without_estimate_of_alpacas_clock(self) -> None:
        """Every event may be newer than the connection."""
        self.account.journal.dates = self.account.dates = Dates(
            self.clock.seconds, self.clock.seconds
        )
        self.assertTrue(self.mute.is_mute(1))
