"""Tests for trimming in every Journal: here on SQLite, in tests/cluster in Redis."""

from __future__ import annotations

from typing import Any

from tests.support.journals import (
    Connections,
    JournalCase,
    JournalListener,
    event,
    event_id_of,
    events,
    order_id_of,
    time_of,
)
from tradeproxy.journal.base import Journal, TrimmedError
from tradeproxy.journal.disk import RETRY_EVERY
from tradeproxy.journal.metadata import TrimmedEvent
from tradeproxy.journal.retention import TRIM_AGAIN, TRIM_EVERY

HOUR = 3600.0


class TrimmingCase(JournalCase):
    """A base class whose journals keep ten events, or events for an hour."""

    def open_bounded(self, **options: Any) -> Journal:
        return self.open(**{"max_events": 10, "max_age": HOUR, **options})

    def bounds(self, journal: Journal) -> dict[str, Any]:
        names = ("epoch", "first", "last", "complete_from", "latest_time", "dedup_horizon")
        return {name: getattr(journal, name) for name in names}


class TrimmingTests(TrimmingCase):
    """Old events are deleted, but still count as delivered."""

    def test_trim_by_count_keeps_last_events(self) -> None:
        """Trimmed rows cannot be read by number or time, and count as delivered."""
        journal = self.open_bounded()
        created = journal.complete_from
        journal.append(events(*range(1, 16)))
        self.assertEqual((journal.first, journal.complete_from), (1, created))
        self.clock.advance(TRIM_EVERY)
        self.assertEqual((journal.first, journal.last, journal.latest_time), (6, 15, time_of(15)))
        self.assertEqual(
            (journal.complete_from, journal.dedup_horizon), (time_of(5) + 1, time_of(5))
        )
        self.assertEqual(self.read_seqs(journal, 5), list(range(6, 16)))
        self.assertRaises(TrimmedError, journal.read, 4, 1)
        self.assertIsNone(journal.row(5))
        self.assertTrue(journal.has(event(5)))
        self.assertTrue(journal.has(event(3)))
        self.assertEqual(journal.first_since(journal.complete_from), 6)
        before = self.bounds(journal)
        self.assertEqual(self.bounds(self.reopen(journal)), before)

    def test_trim_by_age_counts_from_receipt(self) -> None:
        """The age is the time since receipt, not since the event's own time."""
        journal = self.open_bounded()
        journal.append(events(1, 2))
        self.clock.advance(HOUR / 2)
        journal.append(events(3))
        self.clock.advance(HOUR / 2)
        self.assertEqual(journal.first, 1)
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(self.read_seqs(journal, 2), [3])
        self.assertEqual(journal.first, 3)

    def test_reopen_after_all_old_rows_were_trimmed_keeps_the_newest(self) -> None:
        """Its id stays a valid position, whatever its age: on day 8 it was closed with 4010."""
        journal = self.open_bounded()
        journal.append(events(1, 2))
        journal.advance_dedup_horizon(time_of(7))
        self.clock.advance(2 * HOUR)
        self.assertEqual((journal.first, journal.last, journal.dedup_horizon), (2, 2, time_of(7)))
        self.assertIsNone(journal.read(2, 1))
        self.clock.advance(TRIM_EVERY)
        before = self.bounds(journal)
        journal = self.reopen(journal)
        self.assertEqual(self.bounds(journal), before)
        self.assertEqual(journal.latest_time, time_of(2))
        listener = JournalListener(journal)
        journal.append(events(8))
        self.assertEqual(listener.batches[0].first, 3)
        self.assertEqual(self.reopen(journal).read(2, 1), listener.batches[0])

    def test_trim_keeps_the_newest_trimmed_event_as_position(self) -> None:
        """A client that has read everything up to it has missed nothing, even after a restart."""
        journal = self.open_bounded(max_events=2)
        journal.append(events(1, 2, 3, 4))
        self.clock.advance(TRIM_EVERY)
        for reopened in (False, True):
            journal = self.reopen(journal, max_events=2) if reopened else journal
            self.assertEqual((journal.first, journal.find(event_id_of(2))), (3, 2))
            self.assertIsNone(self.find(journal, event_id_of(1)))
            self.assertEqual(journal.newest_trimmed, TrimmedEvent(2, event_id_of(2), time_of(2)))

    def test_trim_event_of_the_future_moves_no_bound(self) -> None:
        """Every missed event counted as a duplicate once such an event was trimmed."""
        journal = self.open_bounded(max_events=1)
        journal.append([event(1), event(2, at="2999-01-01T00:00:00Z"), event(3), event(4)])
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(
            (journal.first, journal.complete_from, journal.dedup_horizon),
            (4, time_of(3) + 1, time_of(3)),
        )
        self.assertFalse(journal.has(event(5)))

    def test_trim_late_event_does_not_move_bounds_back(self) -> None:
        """`complete_from` is behind the newest trimmed event, not behind the last one."""
        journal = self.open_bounded(max_events=1)
        journal.append(events(9, 2, 10))
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(
            (journal.first, journal.complete_from, journal.dedup_horizon),
            (3, time_of(9) + 1, time_of(9)),
        )

    def test_trim_events_without_time_moves_first_number_only(self) -> None:
        """Their times are unknown."""
        journal = self.open_bounded(max_events=1)
        created = journal.complete_from
        journal.append([event(n, at=None) for n in (1, 2)])
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(
            (journal.first, journal.complete_from, journal.dedup_horizon), (2, created, None)
        )

    def test_trim_many_rows_takes_several_steps(self) -> None:
        """Each step blocks the reactor only shortly. The next one follows soon."""
        journal = self.open_bounded()
        journal.append([event(n) for n in range(2100)])
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(journal.first, 1001)
        self.clock.advance(TRIM_AGAIN)
        self.assertEqual(journal.first, 2001)
        self.clock.advance(TRIM_AGAIN)
        self.assertEqual(journal.first, 2091)
        times = [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()]
        self.assertEqual(times.count(TRIM_EVERY), 1)
        self.assertNotIn(TRIM_AGAIN, times)

    def test_trim_deletes_closed_orders_only(self) -> None:
        """An open order is kept, however old its last event is."""
        journal = self.open_bounded(max_events=1)
        journal.append([event(1), event(2, status="filled"), event(3, status="filled")])
        self.clock.advance(TRIM_EVERY)
        self.assertEqual([state.id for state in journal.open_orders()], [order_id_of(1)])
        self.assertIsNone(journal.order(order_id_of(2)))
        self.assertIsNotNone(journal.order(order_id_of(3)))

    def test_close_leaves_no_timer(self) -> None:
        """No step runs after the journal was closed."""
        self.open_bounded().close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TrimmingOnFailingDiskTests(TrimmingCase):
    """Rows that cannot be trimmed now are trimmed later."""

    def setUp(self) -> None:
        super().setUp()
        self.connections = Connections()
        self.journal = self.open_bounded(connect=self.connections, max_spooled=0)

    def test_trim_write_fails_keeps_bounds(self) -> None:
        """The bounds match the rows on the disk, after a restart too."""
        self.journal.append(events(*range(1, 16)))
        before = self.bounds(self.journal)
        self.connections.refuse_writing()
        self.clock.advance(TRIM_EVERY)
        self.assertFalse(self.journal.status.durable)
        self.assertEqual(self.bounds(self.journal), before)
        # A log that a wrong clock began can still be corrected.
        self.assertNotEqual(self.journal.correct_complete_from(0), self.journal.complete_from)
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        again = self.reopen(self.journal, max_events=10)
        self.assertEqual(self.bounds(again), before)
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(again.first, 6)

    def test_trim_full_disk_keeps_backlog(self) -> None:
        """A full disk accepts no events, but rows on it can be deleted."""
        self.journal.append(events(1))
        self.connections.fill_disk()
        self.journal.append(events(*range(2, 30)))
        self.clock.advance(TRIM_EVERY)
        self.assertFalse(self.journal.status.durable)
        self.assertEqual((self.journal.first, self.journal.last), (2, 29))
        self.assertEqual(self.read_seqs(self.journal, 1), list(range(2, 30)))
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(self.journal.first, 2)
        self.connections.free_disk()
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(
            self.read_seqs(self.reopen(self.journal, max_events=10), 19), list(range(20, 30))
        )
