"""Tests for how a journal, of either kind, forgets what is old."""

from __future__ import annotations

from typing import Any

from tests.support.journals import (
    Connections,
    JournalCase,
    JournalListener,
    event,
    events,
    order_id_of,
    time_of,
)
from tests.support.redisjournals import InRedis
from tradeproxy.journal.base import TRIM_AGAIN, TRIM_EVERY, TRIM_STEP, Journal, TrimmedError
from tradeproxy.journal.disk import RETRY_EVERY

HOUR = 3600.0


class TrimmingCase(JournalCase):
    """Has journals that keep ten events, or an hour."""

    def begin(self, **options: Any) -> Journal:
        return self.open(**{"max_events": 10, "max_age": HOUR, **options})

    def bounds(self, journal: Journal) -> dict[str, Any]:
        names = ("epoch", "first", "last", "complete_from", "latest_time", "dedup_horizon")
        return {name: getattr(journal, name) for name in names}


class TrimmingTests(TrimmingCase):
    """Old events go; what is known of them stays."""

    def test_keeps_so_many_events(self) -> None:
        """What is gone is refused, by number and by time; it is still known as had."""
        journal = self.begin()
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

    def test_keeps_events_for_so_long(self) -> None:
        """Since they came here, whatever their own time is."""
        journal = self.begin()
        journal.append(events(1, 2))
        self.clock.advance(HOUR / 2)
        journal.append(events(3))
        self.clock.advance(HOUR / 2)
        self.assertEqual(journal.first, 1)
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(self.read_seqs(journal, 2), [3])
        self.assertEqual(journal.first, 3)

    def test_an_empty_log_goes_on_where_it_was(self) -> None:
        """All is trimmed, and the proxy restarted: no number comes twice, and nothing is forgotten."""
        journal = self.begin()
        journal.append(events(1, 2))
        journal.advance_dedup_horizon(time_of(7))
        self.clock.advance(2 * HOUR)
        self.assertEqual((journal.first, journal.last, journal.dedup_horizon), (3, 2, time_of(7)))
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

    def test_an_event_that_came_late_does_not_move_the_bounds_back(self) -> None:
        """`begins` is behind the newest of what is gone, not behind the last."""
        journal = self.begin(max_events=1)
        journal.append(events(9, 2, 10))
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(
            (journal.first, journal.complete_from, journal.dedup_horizon),
            (3, time_of(9) + 1, time_of(9)),
        )

    def test_events_without_a_time_move_only_the_first_number(self) -> None:
        """Nothing is known of when they were."""
        journal = self.begin(max_events=1)
        created = journal.complete_from
        journal.append([event(n, at=None) for n in (1, 2)])
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(
            (journal.first, journal.complete_from, journal.dedup_horizon), (2, created, None)
        )

    def test_goes_in_small_steps(self) -> None:
        """The reactor is never held up for long; the steps follow each other until all is done."""
        journal = self.begin()
        journal.append([event(n) for n in range(2 * TRIM_STEP + 100)])
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(journal.first, TRIM_STEP + 1)
        self.clock.advance(TRIM_AGAIN)
        self.assertEqual(journal.first, 2 * TRIM_STEP + 1)
        self.clock.advance(TRIM_AGAIN)
        self.assertEqual(journal.first, 2 * TRIM_STEP + 91)
        times = [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()]
        self.assertEqual(times.count(TRIM_EVERY), 1)
        self.assertNotIn(TRIM_AGAIN, times)

    def test_forgets_orders_that_are_closed(self) -> None:
        """An open order stays known, however old its last event is."""
        journal = self.begin(max_events=1)
        journal.append([event(1), event(2, status="filled"), event(3, status="filled")])
        self.clock.advance(TRIM_EVERY)
        self.assertEqual([state.id for state in journal.open_orders()], [order_id_of(1)])
        self.assertIsNone(journal.order(order_id_of(2)))
        self.assertIsNotNone(journal.order(order_id_of(3)))

    def test_leaves_no_timer_behind(self) -> None:
        """Nothing happens after it has been closed."""
        self.begin().close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class TrimmingInRedisTests(InRedis, TrimmingTests):
    """The same, where the leader trims what all nodes share."""


class TrimmingOnABadDiskTests(TrimmingCase):
    """What cannot be trimmed now is trimmed later."""

    def setUp(self) -> None:
        super().setUp()
        self.connections = Connections()
        self.journal = self.begin(connect=self.connections)

    def test_a_step_that_fails_changes_nothing(self) -> None:
        """The bounds are those of what is on the disk, also after a restart."""
        self.journal.append(events(*range(1, 16)))
        before = self.bounds(self.journal)
        self.connections.refuse_writing()
        self.clock.advance(TRIM_EVERY)
        self.assertFalse(self.journal.status.durable)
        self.assertEqual(self.bounds(self.journal), before)
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        again = self.reopen(self.journal, max_events=10)
        self.assertEqual(self.bounds(again), before)
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(again.first, 6)

    def test_what_waits_for_the_disk_stays(self) -> None:
        """A full disk takes no events, but gives room up: only what is there can be trimmed."""
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
