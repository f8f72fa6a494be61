"""Tests for tradeproxy.journal: the events of holes stay known, and holes can be found."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import DiskCase, event, events, time_of
from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.backlog import MAX_BYTES, Backlog, Entry
from tradeproxy.journal.base import UnreadableError
from tradeproxy.journal.disk import RETRY_EVERY
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.journal.schema import MIGRATIONS
from tradeproxy.journal.store import Store
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.position import AfterTime, FromTime

EXECUTION = {"event": "fill", "execution_id": "x", "qty": "1", "price": "2.5"}


def large(n: int, **fields: Any) -> Event:
    """Return an event that leaves no room for a second one of its size in the backlog."""
    return replace(event(n, **fields), payload=b"{}".ljust(MAX_BYTES // 2 + 1))


class HoleCase(DiskCase):
    """A journal with events 1 and 2, whose disk fails, and control of the end of the failure."""

    def setUp(self) -> None:
        super().setUp()
        self.connections.refuse_writing()

    def heal(self) -> None:
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)

    def restart(self, **options: Any) -> None:
        self.journal.close()
        self.journal = self.open_on_disk(**options)


class RepeatTests(HoleCase):
    """Alpaca's history repeats events that were delivered but not stored: clients got them again.

    A regular check asks for the last minutes, every time. In a run with 600 such events, every
    client got each of them eight times.
    """

    def assert_all_known(self, *repeats: Event) -> None:
        """Assert that the events count as duplicates, for the recovery and for the stream."""
        self.assertEqual([self.journal.has(each) for each in repeats], [True] * len(repeats))
        last, duplicates = self.journal.last, self.journal.duplicates
        self.journal.append(repeats)
        self.assertEqual(self.journal.last, last)
        self.assertEqual(self.journal.duplicates, duplicates + len(repeats))

    def test_repeat_of_event_at_hole_is_duplicate_during_after_and_after_restart(self) -> None:
        """A fill counts by its execution: Alpaca's history has it under another id."""
        stream = large(5, event_id=None, at=None, **EXECUTION)
        self.journal.append([large(3), large(4), stream, large(6)])
        repeats = [event(4), event(5, **EXECUTION), event(6)]
        for change in (lambda: None, self.heal, self.restart):
            change()
            self.assert_all_known(*repeats)
        corrected = event(5, **{**EXECUTION, "price": "2.6"})
        self.assertFalse(self.journal.has(corrected))
        self.journal.append([corrected, event(7)])
        self.assertEqual(self.journal.last, 6)

    def test_repeat_is_known_with_any_number_of_holes(self) -> None:
        """A backlog that has room for small events only alternates between events and holes."""
        self.journal.append([large(3)])
        for n in range(10, 20):
            self.journal.append([large(n)])
            self.journal.append(events(n + 100))
        numbers = [*range(10, 20), *range(110, 120)]
        self.assert_all_known(*events(*numbers))
        self.heal()
        self.assert_all_known(*events(*numbers))

    def test_repeat_after_trim_of_hole_is_before_horizon(self) -> None:
        """The keys of a trimmed hole are removed, and its times count as delivered."""
        self.journal.append([large(3), large(4), large(8)])
        self.heal()
        self.journal.append(events(6, 20))
        self.restart(max_events=2)
        self.clock.advance(TRIM_EVERY)
        self.assertEqual((self.journal.first, self.journal.last), (5, 6))
        self.assertEqual(self.connections.query_value("SELECT count(*) FROM unstored"), 0)
        self.assertEqual([self.journal.has(event(n)) for n in (4, 8, 9)], [True, True, False])
        self.journal.append(events(8))
        self.assertEqual(self.journal.last, 7)  # the stream's own events have no horizon

    def test_row_that_repeats_event_at_hole_keeps_its_number(self) -> None:
        """The disk could not be read when it came. It was delivered, so the log has it."""
        self.journal.append([large(3), large(4)])
        self.heal()
        self.connections.refuse_everything()
        self.journal.append([event(4)])
        self.connections.refuse_everything(False)
        self.clock.advance(RETRY_EVERY)
        self.assertEqual(self.read_disk()[4:], [(5, event(4).payload)])

    def test_identify_another_account_forgets_events_at_holes(self) -> None:
        """They are in another account's log."""
        self.journal.identify("one")
        self.journal.append([large(3), large(4)])
        self.journal.identify("two")
        self.assertFalse(self.journal.has(event(4)))

    def test_upgrade_from_version_2_keeps_rows_and_holes(self) -> None:
        """The new table is empty: the upgrade reads no row. Events at older holes are unknown."""
        self.journal.append([large(3), large(4)])
        self.heal()
        self.journal.close()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executescript(
                "DROP TABLE unstored; DROP TABLE book_meta; DROP TABLE book_positions;"
                " DROP TABLE book_events; DROP TABLE book_orders; DROP TABLE strategy_meta;"
                " DROP TABLE strategy_names; DROP TABLE strategy_orders; DROP TABLE strategy_fills;"
                " DROP TABLE strategy_openings; PRAGMA user_version = 2"
            )
        self.journal = self.open_on_disk()
        self.assertEqual(self.read_seqs(self.journal, 0), [1, 2, 3, 4])
        self.assertEqual((self.journal.has(event(4)), self.journal.next_hole(0)), (False, 4))
        self.assertEqual(self.connections.query_value("PRAGMA user_version"), len(MIGRATIONS))


class RememberedKeyTests(SynchronousTestCase):
    """The backlog remembers the events of its holes, up to a limit."""

    def test_remember_beyond_limit_forgets_the_oldest(self) -> None:
        """A check of the history asks for the newest events."""
        backlog = Backlog(max_unstored=20)
        backlog.add(Entry(1, None, None, 0))
        for n in range(21):
            backlog.remember(event(n))
        self.assertEqual([n for n in range(21) if not backlog.has(event(n))], [0, 1, 2])
        (hole,) = backlog.head(1)
        self.assertEqual(hole.unstored, tuple(event(n).key_hash for n in range(3, 21)))

    def test_head_and_drop_divide_keys_by_hole(self) -> None:
        """Each transaction stores the keys of its own holes."""
        backlog = Backlog()
        for seq in range(1, 6):
            backlog.add(Entry(seq, event(seq) if seq % 2 else None, None, 0))
            if seq % 2 == 0:
                backlog.remember(event(seq))
                backlog.remember(event(10 * seq))
        hashes = {seq: tuple(event(n).key_hash for n in (seq, 10 * seq)) for seq in (2, 4)}
        self.assertEqual([each.unstored for each in backlog.head(3)], [(), hashes[2], ()])
        self.assertEqual([backlog.next_hole(after) for after in (0, 2, 4)], [2, 4, None])
        backlog.drop(2)
        self.assertEqual([each.unstored for each in backlog.head(9)], [(), hashes[4], ()])
        self.assertEqual(
            [backlog.has(event(n)) for n in (2, 20, 4, 40)], [False, False, True, True]
        )
        backlog.clear()
        self.assertFalse(backlog.has(event(4)))


class NextHoleTests(HoleCase):
    """The first hole behind a row is found on the disk and in the backlog."""

    def test_next_hole_is_the_first_one_behind_a_row(self) -> None:
        """During the failure, after it, and after a restart."""
        self.journal.append([large(3), large(4)])
        self.journal.append(events(5))
        self.journal.append([large(6)])
        expected = [4, 4, 4, 4, 6, 6, None]
        for change in (lambda: None, self.heal, self.restart):
            change()
            self.assertEqual([self.journal.next_hole(after) for after in range(7)], expected)

    def test_next_hole_disk_unreadable_raises_unless_it_is_in_the_backlog(self) -> None:
        """A hole on the disk may be before the one in the backlog."""
        self.journal.append([large(3), large(4)])
        self.connections.refuse_everything()
        self.assertRaises(UnreadableError, self.journal.next_hole, 1)
        self.assertEqual(self.journal.next_hole(2), 4)

    def test_next_hole_reads_no_other_rows(self) -> None:
        """Every connection with a position asks for it, and a log may have a million rows."""
        statements: list[str] = []
        connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(connection.close)
        store = Store(connection, full_sync=False)
        connection.set_trace_callback(statements.append)
        self.assertIsNone(store.next_hole(5))
        connection.set_trace_callback(None)
        (statement,) = statements
        (step,) = connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        self.assertIn("COVERING INDEX", step[3])
        self.assertIn("(identity=? AND digest=? AND rowid>?)", step[3])


class TimePositionTests(HoleCase):
    """A position that is a time never skips the events of a hole."""

    def setUp(self) -> None:
        super().setUp()
        self.account = Account("paper", self.journal, self.clock)

    def test_time_of_an_event_at_hole_is_a_position_before_it(self) -> None:
        """A client of the Go SDK resumes from its last event, which was one of the hole's.

        Later events of the same hole may be older: its stream began behind the hole then, and it
        never learnt of them.
        """
        late = large(0, at=format_time(time_of(4)))
        self.journal.append([large(3), large(5), late])
        for change in (lambda: None, self.heal):
            change()
            self.assertEqual(locate(self.account, AfterTime(time_of(5))), 3)
            self.assertEqual(locate(self.account, AfterTime(time_of(4))), 3)
            self.assertEqual(locate(self.account, AfterTime(time_of(3))), 3)
            self.assertEqual(locate(self.account, AfterTime(time_of(6))), 4)
        # An event behind the hole has the time of the client's event.
        self.journal.append([event(6, at=format_time(time_of(5))), event(7)])
        self.assertEqual(locate(self.account, AfterTime(time_of(5))), 3)
        self.assertEqual(locate(self.account, AfterTime(time_of(7))), 6)

    def test_time_of_a_trimmed_hole_is_unknown(self) -> None:
        """The log counted as complete from the last trimmed row on: the hole was skipped."""
        self.journal.append([large(3), large(4), large(8)])
        self.heal()
        self.journal.append(events(9, 10))
        self.restart(max_events=2)
        self.account = Account("paper", self.journal, self.clock)
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(self.journal.first, 5)
        for time in (FromTime(time_of(4)), FromTime(time_of(8)), AfterTime(time_of(8))):
            self.assertRaises(UnrecoverablePositionError, locate, self.account, time)
        self.assertEqual(locate(self.account, FromTime(time_of(9))), 4)
