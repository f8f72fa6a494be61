"""The recovery from the history, against the simulator, in memory and in fake time."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import capturedLogs, formatEvent

from tests.recovery.recovery_case import BROKEN, OrdersTestCase, RecoveryTestCase
from tests.support.journals import BASE_URL, DAY, dates_of
from tradeproxy.config.settings import RecoveryMode
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.proxy_status import GapOutcome


class HistoryRecoveryTests(RecoveryTestCase):
    """Missed events are read from the history."""

    def test_outage_delivers_missed_events_before_newer(self) -> None:
        """They are delivered in order and without a mark."""
        self.outage(lambda: self.emit(1, 2, 3))
        self.emit(4)
        self.advance(2)
        self.emit(5)
        self.advance(0)
        self.assertEqual(self.delivered(), [(n, None) for n in range(6)])
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 3))
        self.assertIsNone(self.account.gaps.current)

    def test_first_stream_has_no_gap(self) -> None:
        """Before the first stream, nothing can be missed."""
        self.assertEqual(self.delivered(), [(0, None)])
        self.assertEqual(tuple(self.account.gaps), ())

    def test_outage_without_events_delivers_nothing(self) -> None:
        """Known events of the overlap are neither delivered nor counted as duplicates."""
        self.outage(lambda: None)
        self.advance(2)
        self.assertEqual(self.delivered(), [(0, None)])
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 0))
        self.assertEqual(self.journal.duplicates, 0)

    def test_recovery_identifies_account(self) -> None:
        """The journal stores Alpaca's account id; another id starts a new log."""
        epoch = self.journal.epoch
        self.outage(lambda: None)
        self.advance(2)
        self.assertEqual(self.journal.epoch, epoch)
        self.journal.identify("another")
        self.assertNotEqual(self.journal.epoch, epoch)

    def test_recovery_end_is_logged_in_one_line(self) -> None:
        """The line holds account, outcome, count, seconds, and how long the stream was down."""
        with capturedLogs() as logs:
            self.outage(lambda: self.emit(1, 2))
            self.advance(2)
        lines = [line for event in logs if "recovery" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), 1)
        self.assertRegex(
            lines[0],
            r"paper: recovery ended: recovered, 2 missed events in [0-9.]+ s;"
            r" the stream was down for [0-9.]+ s$",
        )

    def test_history_truncated_is_continued(self) -> None:
        """The next request starts where the response broke off."""
        self.inject(FaultKind.HISTORY_TRUNCATE, events=3)
        self.outage(lambda: self.emit(*range(1, 8)))
        self.advance(4)
        self.assertEqual(self.delivered(), [(n, None) for n in range(8)])
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 7))

    def test_history_with_loss_is_requested_again(self) -> None:
        """Alpaca reports the loss in a comment; the rest of the response is ignored."""
        self.inject(FaultKind.HISTORY_DROP, events=2, dropped=3)
        self.outage(lambda: self.emit(*range(1, 8)))
        self.advance(4)
        self.assertEqual(self.delivered(), [(n, None) for n in range(8)])

    def test_history_junk_is_counted(self) -> None:
        """The events before and after the junk are delivered."""

        def happens() -> None:
            self.emit(1)
            self.alpaca.history.append(BROKEN)
            self.emit(2)

        self.outage(happens)
        self.advance(2)
        self.assertEqual([n for n, _ in self.delivered()], [0, 1, 2])
        self.assertEqual(self.account.dropped_frames.total(), 1)

    def test_history_503_is_retried_after_retry_after(self) -> None:
        """Within the deadline no event is late."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, retry_after=3)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(2.5)
        self.assertEqual(self.delivered(), [(0, None)])
        self.advance(2)
        self.assertEqual(self.delivered(), [(0, None), (1, None), (2, None)])

    def test_second_outage_during_recovery_restarts_it(self) -> None:
        """Buffered events are kept, and the events of both outages are delivered in order."""
        self.inject(FaultKind.HISTORY_DELAY, delay=3)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0.5)
        self.outage(lambda: self.emit(3), 0.5)
        self.emit(4)
        self.advance(3)
        self.assertEqual(self.delivered(), [(n, None) for n in range(5)])
        self.assertEqual(
            (self.gap.outcome, len(tuple(self.account.gaps))), (GapOutcome.RECOVERED, 1)
        )

    def test_new_process_recovers_events_since_last_one(self) -> None:
        """Events that happened while no proxy ran are recovered too."""
        self.stop()
        self.emit(1, 2)
        self.advance(30)
        self.start_new_process()
        self.advance(2)
        self.assertEqual(self.delivered(), [(0, None), (1, None), (2, None)])


class EventsModeTests(RecoveryTestCase):
    """The mode that uses the history only."""

    mode = RecoveryMode.EVENTS

    def test_history_rejected_loses_gap(self) -> None:
        """Newer events are released at once, and the reason is published."""
        self.inject(FaultKind.HISTORY_REFUSE, status=403)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0.5)
        self.assertEqual(self.delivered(), [(0, None), (2, None)])
        self.assertEqual(
            (self.gap.outcome, self.gap.reason),
            (GapOutcome.LOST, "the history is refused: HTTP 403"),
        )


class RecoveryOffTests(RecoveryTestCase):
    """The mode without recovery."""

    mode = RecoveryMode.OFF

    def test_recovery_off_loses_gap_at_once(self) -> None:
        """Newer events are not buffered, and the gap's reason is published."""
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0)
        self.assertEqual(self.delivered(), [(0, None), (2, None)])
        self.assertEqual((self.gap.outcome, self.gap.reason), (GapOutcome.LOST, "recovery is off"))


class RecoveryStopTests(RecoveryTestCase):
    """The stop of the service, in each phase of the recovery."""

    def assert_stops(self) -> None:
        stopped = self.service.stopService()
        self.advance(3)
        assert stopped is not None
        self.successResultOf(stopped)
        self.advance(0)
        self.journal.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_during_request_keeps_gap_open(self) -> None:
        """The request is cancelled, and buffered events are written to the journal."""
        self.host.hanging = True
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(1)
        self.assert_stops()
        self.assertEqual([n for n, _ in self.delivered()], [0, 2])
        self.assertIsNotNone(self.account.gaps.current)

    def test_stop_between_attempts_cancels_retry(self) -> None:
        """No request follows."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=1000.0)
        self.outage(lambda: self.emit(1))
        self.advance(20)
        self.assert_stops()

    def test_stop_during_response_cancels_it(self) -> None:
        """The response is closed before its end."""
        self.inject(FaultKind.HISTORY_DELAY, delay=30)
        self.outage(lambda: self.emit(1))
        self.advance(2)
        self.assert_stops_after_feeds_close()

    def assert_stops_after_feeds_close(self) -> None:
        self.alpaca.feeds.close_all()
        self.assert_stops()

    def test_stop_after_error_cancels_retry(self) -> None:
        """The recovery is not retried."""
        self.rate_limiter.broken = True
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assert_stops()

    def test_account_close_writes_buffered_events(self) -> None:
        """They are written in the same reactor turn: the process may end after it."""
        self.inject(FaultKind.HISTORY_DELAY, delay=30)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(1)
        self.assertEqual(self.delivered(), [(0, None)])
        self.alpaca.feeds.close_all()
        self.service.stopService()
        self.account.close()
        self.assertEqual(self.delivered(), [(0, None), (2, None)])
        self.advance(5)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_of_healthy_stream_cancels_check(self) -> None:
        """No timer is left."""
        self.assert_stops()


class OrderRecordingJournal(SqliteJournal):
    """A journal that records its last event whenever the complete time is updated."""

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(
            "paper",
            None,
            clock,
            dates_of(clock),
            base_url=BASE_URL,
            full_sync=False,
            max_age=7 * DAY,
            max_events=1_000_000,
        )
        self.last_at_update: list[int] = []

    def set_metadata(self, key: str, value: str | None, *, is_urgent: bool = True) -> None:
        if key in ("orders through", "checked through"):
            self.last_at_update.append(self.last)
        super().set_metadata(key, value, is_urgent=is_urgent)

    def advance_dedup_horizon(self, time: int) -> None:
        self.last_at_update.append(self.last)
        super().advance_dedup_horizon(time)


class CompletenessOrderTests(OrdersTestCase):
    """Found events are written before the time up to which the log is complete."""

    def new_journal(self) -> OrderRecordingJournal:
        journal = OrderRecordingJournal(self.proxy_clock)
        journal.open()
        return journal

    def test_found_events_are_written_before_progress(self) -> None:
        """After a crash in between, the events counted as delivered and were never requested."""
        assert isinstance(self.journal, OrderRecordingJournal)
        before = self.journal.last
        self.journal.last_at_update.clear()
        self.outage(self.submit)
        self.advance(5)
        self.assertEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.assertGreater(self.journal.last, before)
        self.assertEqual(self.journal.last_at_update, [self.journal.last] * 3)
