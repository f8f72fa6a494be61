"""Tests for tradeproxy.recovery: the journal is lost while the proxy is stopped."""

from __future__ import annotations

from pathlib import Path

from twisted.web.server import Request

from tests.recovery.recovery_case import RecoveryTestCase
from tests.support.journals import journal_at
from tradeproxy.config.settings import RecoveryMode
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.recovery.backfill import OVERLAP
from tradeproxy.runtime.dates import SECOND, Dates
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.event import parse_time
from tradeproxy.wire.proxy_status import GapOutcome

UNKNOWN_BEGIN = (
    "the journal was replaced, or its clock was wrong: the time of its last event is unknown"
)


class LostJournalCase(RecoveryTestCase):
    """A proxy that stops and starts again, with a journal on the disk."""

    def new_journal(self) -> SqliteJournal:
        if not hasattr(self, "path"):
            self.path = Path(self.mktemp()) / "paper.sqlite3"
        dates = Dates(self.clock.seconds, self.clock.seconds)
        journal = journal_at(self.path, self.clock, dates=dates)
        journal.open()
        return journal

    def stop_for_two_minutes(self, *numbers: int) -> None:
        """Stop the proxy, and emit these events while it is stopped."""
        self.stop()
        self.journal.close()
        self.advance(60)
        self.emit(*numbers)
        self.advance(60)

    def start_again(self) -> None:
        self.journal = self.new_journal()
        self.addCleanup(self.journal.close)
        self.start_new_process()
        self.advance(3)

    def lose_everything(self) -> None:
        """Damage the journal and remove its bookmark."""
        self.path.write_bytes(b"nonsense" * 1000)
        self.path.with_suffix(".bookmark").unlink()


class LostJournalTests(LostJournalCase):
    """With the bookmark, no event is lost."""

    def test_events_of_downtime_come_marked_once(self) -> None:
        """The new log asks from the last event of the lost one, which is not repeated."""
        self.emit(100)
        self.advance(700)
        self.stop_for_two_minutes(*range(1, 21))
        self.path.unlink()
        self.start_again()
        marked = [(n, "events") for n in range(1, 21)]
        self.assertEqual(self.delivered(), [(0, None), (100, None), *marked])
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 20))
        self.emit(21)
        self.advance(1)
        self.assertEqual(self.delivered()[-1], (21, None))

    def test_account_without_any_event_gets_those_of_downtime(self) -> None:
        """The lost log was compared with Alpaca's history, and that was empty."""
        self.stop()
        self.journal.close()
        self.path.unlink()
        bookmark = self.path.with_suffix(".bookmark")
        bookmark.unlink()
        self.start_again()
        self.recorder.frames.clear()
        self.stop_for_two_minutes(1, 2)
        self.assertNotIn("latest", bookmark.read_text())
        self.path.unlink()
        self.start_again()
        self.assertEqual(self.delivered(), [(1, "events"), (2, "events")])

    def test_history_is_asked_with_the_usual_overlap(self) -> None:
        """The new log began later, which limited the request."""
        self.advance(700)
        asked: list[int] = []

        def record(request: Request) -> None:
            if request.path == b"/v2/events/trades":
                asked.append(parse_time(request.args[b"since"][0].decode()) or 0)

        self.stop_for_two_minutes(1)
        known = self.account.completeness.backfill_from
        assert known is not None
        self.path.unlink()
        self.override(record)
        self.start_again()
        self.assertEqual(asked, [known - OVERLAP])


class UnknownBeginTests(LostJournalCase):
    """Without the bookmark, a gap is declared, and what the new log misses is found."""

    def test_gap_is_lost_once_alpacas_clock_is_known(self) -> None:
        """It survives a crash before that, and the log is complete from then on."""
        self.stop_for_two_minutes(1)
        self.lose_everything()
        self.new_journal().close()  # a crash before the first stream
        self.advance(60)
        self.emit(2)
        self.start_again()
        self.assertEqual(
            (self.gap.begin, self.gap.outcome, self.gap.reason),
            (None, GapOutcome.LOST, UNKNOWN_BEGIN),
        )
        self.assertEqual(self.delivered(), [(0, None), (2, None)])
        self.outage(lambda: self.emit(3))
        self.advance(3)
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)
        self.assertEqual(self.delivered()[2:], [(3, None)])

    def test_gap_stays_open_without_answer(self) -> None:
        """Events that the stream misses meanwhile are found in the end."""
        self.stop_for_two_minutes(1)
        self.lose_everything()
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=30)
        self.start_again()
        self.advance(5)
        self.assertEqual((self.gap.begin, self.gap.outcome), (None, GapOutcome.OPEN))
        self.outage(lambda: self.emit(2))
        self.advance(120)
        self.assertEqual((self.gap.outcome, self.gap.reason), (GapOutcome.LOST, UNKNOWN_BEGIN))
        self.assertIn(2, [number for number, _ in self.delivered()])
        self.assertLess(self.account.completeness.backfill_from or 0, self.clock.seconds() * SECOND)

    def test_first_start_asks_for_nothing(self) -> None:
        """There is neither journal nor bookmark."""
        self.stop_for_two_minutes(1)
        self.path.unlink()
        self.path.with_suffix(".bookmark").unlink()
        self.start_again()
        self.assertEqual((list(self.account.gaps), self.delivered()), ([], [(0, None)]))


class UnknownBeginWithoutRecoveryTests(LostJournalCase):
    """PROXY_RECOVERY=off."""

    mode = RecoveryMode.OFF

    def test_gap_of_unknown_begin_is_lost(self) -> None:
        """A later loss of the stream is a gap too."""
        self.stop_for_two_minutes(1)
        self.lose_everything()
        self.start_again()
        self.assertEqual((self.gap.begin, self.gap.outcome), (None, GapOutcome.LOST))
        self.outage(lambda: None)
        self.assertEqual(len(list(self.account.gaps)), 2)
