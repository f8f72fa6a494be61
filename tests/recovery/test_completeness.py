"""The recovery from the history: completeness across restarts, damage and wrong clocks."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import NOT_DONE_YET, Request

from tests.recovery.recovery_case import INTERVAL, RecoveryTestCase
from tests.support.journals import Connections, journal_at, memory_journal
from tests.upstream.support import ClockAhead, status
from tradeproxy.hub.account import ANOTHER_ACCOUNT
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.recovery.recovery import MAX_RETRY
from tradeproxy.runtime.dates import SECOND, Dates
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.proxy_status import GapOutcome


class FirstStreamTests(RecoveryTestCase):
    """The account is identified before its log has events."""

    def setUp(self) -> None:
        super().setUp()
        self.stop()
        self.recorder.frames.clear()
        self.journal.close()
        self.journal = self.new_journal()
        self.addCleanup(self.journal.close)

    def test_first_stream_identifies_account(self) -> None:
        """Keys of another account were noticed only after an outage; the log had both accounts."""
        self.start_new_process()
        self.advance(0)
        self.emit(1)
        self.advance(1)
        epoch = self.journal.epoch
        self.journal.identify(self.alpaca.exchange.portfolio.account_id)
        self.assertEqual((self.delivered(), self.journal.epoch), ([(1, None)], epoch))
        self.journal.identify("another")
        self.assertNotEqual(self.journal.epoch, epoch)

    def test_identification_slow_releases_events_at_deadline(self) -> None:
        """The identification is retried until it succeeds."""
        self.inject(FaultKind.REST_REFUSE, status=503, seconds=20.0)
        self.host.hanging = True
        self.start_new_process()
        self.advance(0)
        self.emit(1)
        self.advance(4.5)
        self.assertEqual(self.delivered(), [])
        self.advance(1)
        self.assertEqual((self.delivered(), tuple(self.account.gaps)), ([(1, None)], ()))
        self.host.hanging = False
        self.advance(60)
        self.assertIsNotNone(self.account.completeness.checked_through)

    def test_outage_after_account_change_is_recovered(self) -> None:
        """The other account's log was removed, and with it the time up to which it was complete."""
        self.journal.identify("another")
        self.journal.advance_dedup_horizon(round(self.clock.seconds()) * SECOND)
        self.start_new_process()
        self.advance(3)
        self.assertEqual((self.gap.outcome, self.gap.reason), (GapOutcome.LOST, ANOTHER_ACCOUNT))
        self.advance(600)
        self.outage(lambda: self.emit(7))
        self.advance(3)
        self.assertEqual(self.delivered(), [(7, None)])
        self.assertEqual(
            (self.gap.outcome, len(tuple(self.account.gaps))), (GapOutcome.RECOVERED, 2)
        )

    def test_account_change_found_late_requests_no_older_events(self) -> None:
        """The account was not identified yet at the first request of the history."""
        self.journal.identify("another")
        self.journal.advance_dedup_horizon(round(self.clock.seconds()) * SECOND)
        self.inject(FaultKind.REST_REFUSE, status=503)
        self.inject(FaultKind.HISTORY_TRUNCATE, events=0)
        self.advance(1)
        self.emit(1)
        self.advance(1)
        self.start_new_process()
        self.advance(5)
        self.assertEqual((self.delivered(), self.gap.outcome), ([], GapOutcome.LOST))


class AlpacaClockTests(RecoveryTestCase):
    """Alpaca's time is from Alpaca's Date header only."""

    def shift_date(self, offset: float) -> None:
        """Let the Date of every answer be wrong for the next 5 seconds."""
        self.inject(FaultKind.DATE_SHIFT, offset=offset, seconds=5.0)

    def test_wrong_date_is_ignored_once_the_clock_is_known(self) -> None:
        """A Date an hour behind hid missed events; one a year ahead left the gap open for good."""
        for shift, number in ((-3600, 1), (365 * 86_400, 3)):
            self.shift_date(shift)
            self.outage(lambda: self.emit(number))  # noqa: B023  # called at once
            self.emit(number + 1)
            self.advance(6)
            self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)
            self.assertEqual(self.delivered()[-2:], [(number, None), (number + 1, None)])
            checked = self.account.completeness.checked_through
            assert checked is not None
            self.assertLess(abs(checked / SECOND - self.clock.seconds()), 10)

    def test_wrong_date_after_start_keeps_gap_open_until_the_next(self) -> None:
        """It counted as the time up to which the log is complete, even after a restart."""
        for shift, number in ((-3600, 1), (365 * 86_400, 3)):
            self.stop()
            self.emit(number)
            self.journal.dates = Dates(self.clock.seconds, self.clock.seconds)
            self.shift_date(shift)
            self.start_new_process()
            self.advance(1)
            self.emit(number + 1)
            self.advance(6)
            self.assertEqual(self.gap.outcome, GapOutcome.OPEN)
            self.advance(MAX_RETRY)
            self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)
            self.assertIn(number, [each for each, _ in self.delivered()])

    def test_answer_without_date_keeps_gap_open(self) -> None:
        """Our own clock may be wrong. Newer events are released at the deadline."""

        def answer(request: Request) -> bytes | None:
            if request.path != b"/v2/account":
                return None
            request.responseHeaders.removeHeader(b"date")
            return b"{}"

        self.override(answer)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(6)
        self.assertEqual(
            (self.gap.outcome, self.gap.reason), (GapOutcome.OPEN, "an answer without a date")
        )
        self.assertEqual(self.delivered(), [(0, None), (2, None)])

    def test_log_begun_by_clock_ahead_recovers_missed_events(self) -> None:
        """The clock was corrected since; events after the last one are still found."""
        self.journal.complete_from += 3600 * SECOND
        self.advance(600)
        self.outage(lambda: self.emit(1))
        self.advance(3)
        self.assertEqual(
            (self.delivered(), self.gap.outcome), ([(0, None), (1, None)], GapOutcome.RECOVERED)
        )


class HistoryClockAheadTests(RecoveryTestCase):
    """A proxy whose clock is an hour ahead."""

    def new_proxy_clock(self) -> IReactorTime:
        return ClockAhead(self.clock, 3600)

    def test_empty_log_clock_ahead_starts_gap_at_alpaca_time(self) -> None:
        """The gap began an hour late, and events of a long outage were not requested."""
        self.stop()
        self.recorder.frames.clear()
        self.journal = self.new_journal()
        self.addCleanup(self.journal.close)
        self.start_new_process()
        self.advance(600)
        self.outage(lambda: self.emit(1), 1200)
        self.advance(3)
        self.assertEqual((self.delivered(), self.gap.outcome), ([(1, None)], GapOutcome.RECOVERED))


class SleepTests(RecoveryTestCase):
    """The clock of intervals stops while the machine sleeps, as on macOS."""

    slept = 0.0

    def new_journal(self) -> SqliteJournal:
        dates = Dates(lambda: self.clock.seconds() - self.slept, self.clock.seconds)
        return memory_journal(self.clock, dates=dates)

    def test_events_during_sleep_are_recovered_in_their_place(self) -> None:
        """The estimate was behind by the sleep, and the history was read only up to there."""

        def sleep() -> None:
            self.advance(600)
            self.slept += 600
            self.emit(1)

        self.outage(sleep)
        self.emit(2)
        self.advance(3)
        self.assertEqual(self.delivered(), [(0, None), (1, None), (2, None)])
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)


class PortalTests(RecoveryTestCase):
    """Answers that are not from Alpaca."""

    def test_portal_page_keeps_gap_open(self) -> None:
        """A portal's login page replaced every answer for a while."""
        self.override(status(200, b"<html>log in</html>", content_type="text/html"))
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(10)
        self.assertEqual(self.gap.outcome, GapOutcome.OPEN)
        self.override(lambda request: None)
        self.advance(MAX_RETRY)
        self.assertEqual(
            (self.gap.outcome, self.delivered()[-1]), (GapOutcome.RECOVERED, (1, "events"))
        )

    def test_endless_history_is_requested_again(self) -> None:
        """The response held only comments and never ended."""

        def answer(request: Request) -> int | None:
            if request.path != b"/v2/events/trades":
                return None
            request.setHeader("content-type", "text/event-stream")
            for beat in range(100):
                self.clock.callLater(10 * beat, request.write, b": heartbeat\n\n")
            return NOT_DONE_YET

        self.override(answer)
        self.outage(lambda: self.emit(1))
        self.advance(20)
        self.override(lambda request: None)
        self.advance(20)
        self.assertEqual(
            (self.gap.outcome, self.delivered()), (GapOutcome.RECOVERED, [(0, None), (1, "events")])
        )


class SmallJournalTests(RecoveryTestCase):
    """A journal that keeps few events."""

    def new_journal(self) -> SqliteJournal:
        return memory_journal(self.clock, max_events=3)

    def test_gap_start_trimmed_is_lost(self) -> None:
        """Trimmed events count as delivered, so the gap cannot be completed."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=3 * TRIM_EVERY)
        self.outage(lambda: self.emit(1))
        for number in range(2, 12):
            self.emit(number)
            self.advance(2)
        self.advance(MAX_RETRY)
        self.assertEqual(
            (self.gap.outcome, self.gap.reason),
            (GapOutcome.LOST, "the journal was trimmed beyond the gap's begin"),
        )


class DamagedJournalTests(RecoveryTestCase):
    """A damaged journal file, which is replaced with an empty one."""

    def new_journal(self) -> SqliteJournal:
        self.connections = Connections()
        self.path = Path(self.mktemp()) / "paper.sqlite3"
        journal = journal_at(self.path, self.clock, connect=self.connections)
        journal.open()
        return journal

    def damage(self) -> None:
        epoch = self.journal.epoch
        self.connections.damage(self.path)
        self.assertIsNone(self.journal.find("anything"))
        self.assertNotEqual(self.journal.epoch, epoch)

    def test_damage_during_outage_recovers_missed_events_once(self) -> None:
        """The new log began in the middle of the outage: an older event is marked."""

        def happens() -> None:
            self.emit(1)
            self.advance(10)
            self.damage()
            self.emit(2)

        self.advance(5)
        self.outage(happens)
        self.advance(5)
        self.assertEqual(self.delivered(), [(0, None), (1, "events"), (2, None)])
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 2))

    def test_damage_after_event_with_time_ahead_recovers_missed_events(self) -> None:
        """A minute ahead is not the future yet. What was missed until then was dropped."""
        self.inject(FaultKind.TIME_SHIFT, offset=90, count=1)
        self.emit(1)
        self.advance(1)
        self.damage()
        self.outage(lambda: self.emit(2))
        self.advance(5)
        self.assertEqual([number for number, _ in self.delivered()], [0, 1, 2])

    def test_damage_of_healthy_stream_repeats_nothing(self) -> None:
        """The next check has no identities to compare, but drops the events by their time."""
        self.emit(*range(1, 10))
        self.advance(1)
        self.damage()
        self.advance(INTERVAL)
        self.assertEqual(self.delivered(), [(n, None) for n in range(10)])
