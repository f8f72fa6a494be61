"""Tests for tradeproxy.journal.backlog."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import event, event_id_of, order_id_of, time_of
from tradeproxy.journal.backlog import Backlog, Entry
from tradeproxy.journal.base import Row


def entry(seq: int, max_time: int | None = None) -> Entry:
    """Return an entry for event `seq`."""
    return Entry(seq, event(seq), time_of(seq) if max_time is None else max_time, 0)


class BacklogTests(SynchronousTestCase):
    """The backlog holds entries in the order of their numbers, within two limits."""

    def test_has_room_for_at_either_limit_is_false(self) -> None:
        """Events and bytes are limited. Dropping an entry makes room again."""
        size = len(event(1).payload)
        for backlog in (Backlog(max_events=2), Backlog(max_bytes=2 * size)):
            for seq in (1, 2):
                self.assertTrue(backlog.has_room_for(event(seq)))
                backlog.add(entry(seq))
            self.assertFalse(backlog.has_room_for(event(3)))
            backlog.drop(1)
            self.assertTrue(backlog.has_room_for(event(3)))

    def test_drop_removes_entries_from_every_query(self) -> None:
        """Committed events are found in the file, not here."""
        backlog = Backlog()
        for seq in (3, 4, 5):
            backlog.add(entry(seq))
        self.assertEqual([e.seq for e in backlog.head(2)], [3, 4])
        backlog.drop(2)
        self.assertEqual(len(backlog), 1)
        self.assertEqual([backlog.has(event(seq)) for seq in (4, 5)], [False, True])
        self.assertEqual([backlog.find(event_id_of(seq)) for seq in (4, 5)], [None, 5])
        self.assertEqual([state.id for state in backlog.orders], [order_id_of(5)])
        self.assertIsNone(backlog.order(order_id_of(4)))
        self.assertEqual([row.seq for row in backlog.read(4, 9)], [5])
        backlog.clear()
        self.assertEqual((len(backlog), backlog.read(5, 9), backlog.first_since(0)), (0, [], None))

    def test_first_since_skips_entries_without_time(self) -> None:
        """Only the first entries can have no time."""
        backlog = Backlog()
        backlog.add(replace(entry(1), max_time=None))
        self.assertIsNone(backlog.first_since(-5))
        backlog.add(entry(2))
        backlog.add(entry(3))
        self.assertEqual([backlog.first_since(time) for time in (-5, time_of(3))], [2, 3])

    def test_widen_hole_last_entry_is_hole_returns_its_number(self) -> None:
        """Without entries, or after an event, there is no hole to widen."""
        backlog = Backlog()
        self.assertIsNone(backlog.widen_hole(7))
        backlog.add(entry(1, max_time=5))
        self.assertIsNone(backlog.widen_hole(7))
        backlog.add(Entry(2, None, 6, 0))
        self.assertEqual(backlog.widen_hole(7), 2)
        self.assertEqual(backlog.first_since(7), 2)
        self.assertEqual(backlog.read(1, 1), [Row(2, None, durable=False)])
