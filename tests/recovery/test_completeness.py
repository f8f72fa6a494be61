"""The recovery by the history: only what is known counts as known, over restarts, damage and bad clocks."""

from __future__ import annotations

from email.utils import formatdate
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import NOT_DONE_YET, Request

from tests.recovery.recovery_case import INTERVAL, RecoveryTestCase
from tests.support.journals import Connections, journal_at, memory_journal
from tests.upstream.support import Ahead, status
from tradeproxy.hub.account import ANOTHER_ACCOUNT
from tradeproxy.journal.base import TRIM_EVERY
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.recovery.backfill import SECOND
from tradeproxy.recovery.recovery import MAX_RETRY
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.proxy_status import GapOutcome


class IdentifiedTests(RecoveryTestCase):
    """Whose log it is, is known before anything is in it."""

    def setUp(self) -> None:
        super().setUp()
        self.stop()
        self.reader.frames.clear()
        self.journal.close()
        self.journal = self.new_journal()
        self.addCleanup(self.journal.close)

    def test_the_first_stream_is_identified(self) -> None:
        """Keys of another account were not noticed until an outage; until then two accounts had one log."""
        self.new_process()
        self.advance(0)
        self.emit(1)
        self.advance(1)
        epoch = self.journal.epoch
        self.journal.identify(self.alpaca.exchange.account()["id"])
        self.assertEqual((self.told(), self.journal.epoch), ([(1, None)], epoch))
        self.journal.identify("another")
        self.assertNotEqual(self.journal.epoch, epoch)

    def test_events_wait_for_it_but_not_beyond_the_deadline(self) -> None:
        """And it is asked for again, for as long as it takes."""
        self.inject(FaultKind.REST_REFUSE, status=503, seconds=20.0)
        self.host.hanging = True
        self.new_process()
        self.advance(0)
        self.emit(1)
        self.advance(4.5)
        self.assertEqual(self.told(), [])
        self.advance(1)
        self.assertEqual((self.told(), tuple(self.account.gaps)), ([(1, None)], ()))
        self.host.hanging = False
        self.advance(60)
        self.assertIsNotNone(self.account.gaps.checked_through)

    def test_an_outage_after_the_account_was_another_is_one(self) -> None:
        """The log of the other account went, and with it all that was known to be complete."""
        self.journal.identify("another")
        self.journal.advance_dedup_horizon(round(self.clock.seconds()) * SECOND)
        self.new_process()
        self.advance(3)
        self.assertEqual((self.gap.outcome, self.gap.reason), (GapOutcome.LOST, ANOTHER_ACCOUNT))
        self.advance(600)
        self.outage(lambda: self.emit(7))
        self.advance(3)
        self.assertEqual(self.told(), [(7, None)])
        self.assertEqual(
            (self.gap.outcome, len(tuple(self.account.gaps))), (GapOutcome.RECOVERED, 2)
        )

    def test_an_account_that_turns_out_to_be_another_has_no_older_events(self) -> None:
        """It was not known yet when the history was first asked for."""
        self.journal.identify("another")
        self.journal.advance_dedup_horizon(round(self.clock.seconds()) * SECOND)
        self.inject(FaultKind.REST_REFUSE, status=503)
        self.inject(FaultKind.HISTORY_TRUNCATE, events=0)
        self.advance(1)
        self.emit(1)
        self.advance(1)
        self.new_process()
        self.advance(5)
        self.assertEqual((self.told(), self.gap.outcome), ([], GapOutcome.LOST))


class ClockTests(RecoveryTestCase):
    """Alpaca's time is Alpaca's, or none."""

    def test_a_gap_of_which_nothing_could_be_asked_is_open(self) -> None:
        """By a clock that lay behind, all was yet to come; that is no recovery."""

        def answer(request: Request) -> bytes | None:
            if request.path != b"/v2/account":
                return None
            request.setHeader("date", formatdate(self.clock.seconds() - 3600, usegmt=True))
            return b"{}"

        self.detour(answer)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(6)
        self.assertEqual((self.gap.outcome, self.told()), (GapOutcome.OPEN, [(0, None), (2, None)]))
        self.assertIn("Alpaca's clock", self.gap.reason)
        self.detour(lambda request: None)
        self.advance(MAX_RETRY)
        self.assertEqual((self.gap.outcome, self.told()[-1]), (GapOutcome.RECOVERED, (1, "events")))

    def test_without_a_date_nothing_is_recovered(self) -> None:
        """Our own clock could be wrong by anything; events go on all the same."""

        def answer(request: Request) -> bytes | None:
            if request.path != b"/v2/account":
                return None
            request.responseHeaders.removeHeader(b"date")
            return b"{}"

        self.detour(answer)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(6)
        self.assertEqual(
            (self.gap.outcome, self.gap.reason), (GapOutcome.OPEN, "an answer without a date")
        )
        self.assertEqual(self.told(), [(0, None), (2, None)])

    def test_a_log_that_began_by_a_clock_that_was_ahead(self) -> None:
        """The clock has been set right since; what came after the last event is missed all the same."""
        self.journal.complete_from += 3600 * SECOND
        self.advance(600)
        self.outage(lambda: self.emit(1))
        self.advance(3)
        self.assertEqual(
            (self.told(), self.gap.outcome), ([(0, None), (1, None)], GapOutcome.RECOVERED)
        )


class AheadTests(RecoveryTestCase):
    """A proxy whose clock is an hour ahead."""

    def our_clock(self) -> IReactorTime:
        return Ahead(self.clock, 3600)

    def test_a_log_without_events_is_complete_from_alpacas_time_on(self) -> None:
        """The gap began an hour too late, and what was missed in a long outage was not asked for."""
        self.stop()
        self.reader.frames.clear()
        self.journal = self.new_journal()
        self.addCleanup(self.journal.close)
        self.new_process()
        self.advance(600)
        self.outage(lambda: self.emit(1), 1200)
        self.advance(3)
        self.assertEqual((self.told(), self.gap.outcome), ([(1, None)], GapOutcome.RECOVERED))


class PortalTests(RecoveryTestCase):
    """What is not Alpaca does not answer for it."""

    def test_a_page_for_people_is_no_refusal(self) -> None:
        """A portal's login page took the place of every answer for a while."""
        self.detour(status(200, b"<html>log in</html>", content_type="text/html"))
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(10)
        self.assertEqual(self.gap.outcome, GapOutcome.OPEN)
        self.detour(lambda request: None)
        self.advance(MAX_RETRY)
        self.assertEqual((self.gap.outcome, self.told()[-1]), (GapOutcome.RECOVERED, (1, "events")))

    def test_a_history_without_an_end_is_asked_for_again(self) -> None:
        """A response said nothing but comments, for as long as anybody would listen."""

        def answer(request: Request) -> int | None:
            if request.path != b"/v2/events/trades":
                return None
            request.setHeader("content-type", "text/event-stream")
            for beat in range(100):
                self.clock.callLater(10 * beat, request.write, b": heartbeat\n\n")
            return NOT_DONE_YET

        self.detour(answer)
        self.outage(lambda: self.emit(1))
        self.advance(20)
        self.detour(lambda request: None)
        self.advance(20)
        self.assertEqual(
            (self.gap.outcome, self.told()), (GapOutcome.RECOVERED, [(0, None), (1, "events")])
        )


class TrimmedTests(RecoveryTestCase):
    """A journal that keeps little."""

    def new_journal(self) -> SqliteJournal:
        return memory_journal(self.clock, max_events=3)

    def test_a_gap_beyond_which_was_trimmed_is_lost(self) -> None:
        """What lies before the oldest event counts as known: it may have been delivered, and nobody knows."""
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


class DamagedTests(RecoveryTestCase):
    """A journal whose file is damaged: all goes on in a new one, which has no event yet."""

    def new_journal(self) -> SqliteJournal:
        self.connections = Connections()
        self.path = Path(self.mktemp()) / "paper.sqlite3"
        journal = journal_at(self.path, self.clock, connect=self.connections)
        journal.open()
        return journal

    def damage(self) -> None:
        epoch = self.journal.epoch
        self.connections.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connections.execute("PRAGMA shrink_memory")
        with self.path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (self.path.stat().st_size - 4096))
        self.assertIsNone(self.journal.find("anything"))
        self.assertNotEqual(self.journal.epoch, epoch)

    def test_what_was_missed_before_comes_and_what_was_known_does_not(self) -> None:
        """The new log began in the middle of the outage, and nothing older was asked for."""

        def happens() -> None:
            self.emit(1)
            self.advance(10)
            self.damage()
            self.emit(2)

        self.advance(5)
        self.outage(happens)
        self.advance(5)
        self.assertEqual(self.told(), [(0, None), (1, None), (2, None)])
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 2))

    def test_a_healthy_stream_loses_nothing_and_repeats_nothing(self) -> None:
        """The next check knows no event by its identity any more, but all of them by their time."""
        self.emit(*range(1, 10))
        self.advance(1)
        self.damage()
        self.advance(INTERVAL)
        self.assertEqual(self.told(), [(n, None) for n in range(10)])
