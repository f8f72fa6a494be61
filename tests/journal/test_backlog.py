"""Tests for tradeproxy.journal.backlog."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import (
    ORDER_STATES,
    event,
    event_id_of,
    order_id_of,
    time_of,
)
from tradeproxy.journal.backlog import Backlog, Entry
from tradeproxy.journal.base import Row
from tradeproxy.wire.event import OrderState


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
            backlog.clear()
            for seq in (1, 2):
                self.assertTrue(backlog.has_room_for(event(seq)))
                backlog.add(entry(seq))
            self.assertFalse(backlog.has_room_for(event(3)))

    def test_default_limits_are_10000_events_of_16_mib(self) -> None:
        """docs/operations.md names them. A hole takes the place of an event, but no bytes."""
        small = replace(event(1), payload=b"x" * 1000)
        backlog = Backlog()
        for seq in range(1, 10_000):
            backlog.add(Entry(seq, small, None, 0))
        self.assertTrue(backlog.has_room_for(replace(small, payload=bytes(6_778_216))))
        self.assertFalse(backlog.has_room_for(replace(small, payload=bytes(6_778_217))))
        backlog.add(Entry(10_000, None, None, 0))
        self.assertFalse(backlog.has_room_for(small))
        backlog.clear()
        self.assertTrue(backlog.has_room_for(replace(small, payload=bytes(16_777_216))))
        self.assertFalse(backlog.has_room_for(replace(small, payload=bytes(16_777_217))))

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
        self.assertEqual(list(backlog.orders), [order_id_of(5)])
        self.assertIsNone(backlog.find_order(order_id_of(4)))
        self.assertEqual([row.seq for row in backlog.read(4, 9)], [5])
        backlog.clear()
        self.assertEqual((len(backlog), backlog.read(5, 9), backlog.first_since(0)), (0, [], None))
        for seq in (6, 7):
            backlog.add(entry(seq))
        self.assertTrue(all(backlog.has(event(seq)) for seq in (6, 7)))

    def test_read_returns_256_kib_at_most(self) -> None:
        """But always one row. A hole has no bytes."""
        for size, count in ((131_072, 3), (131_073, 2), (262_145, 2)):
            backlog = Backlog()
            for seq, length in ((1, 131_072), (2, None), (3, size)):
                payload = None if length is None else replace(event(seq), payload=bytes(length))
                backlog.add(replace(entry(seq), event=payload))
            self.assertEqual(len(backlog.read(0, 9)), count, size)
            self.assertEqual(len(backlog.read(2, 9)), 1, size)

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
        backlog.add(entry(3, max_time=8))
        backlog.add(Entry(4, None, 8, 0))
        self.assertEqual((backlog.widen_hole(9), backlog.first_since(9)), (4, 4))
        self.assertEqual([each.seq for each in backlog.read(0, 9)], [1, 2, 3, 4])

    def test_remember_event_of_hole_at_the_end(self) -> None:
        """Its key goes with that hole. Other events stay unknown."""
        backlog = Backlog()
        for seq in (1, 3, 5):
            backlog.add(entry(seq))
            backlog.add(Entry(seq + 1, None, time_of(seq), 0))
            backlog.remember(event(10 * seq))
        keys = [(event(10 * seq).key_hash,) for seq in (1, 3, 5)]
        self.assertEqual([each.unstored for each in backlog.head(6)[1::2]], keys)
        self.assertEqual([each.unstored for each in backlog.head(4)[1::2]], keys[:2])
        self.assertEqual([backlog.has(event(n)) for n in (1, 2, 10, 11)], [True, False] * 2)
        backlog.drop(3)
        self.assertEqual([backlog.has(event(n)) for n in (1, 10, 30, 50)], [False] * 2 + [True] * 2)
        backlog.drop(2)
        self.assertEqual([backlog.has(event(n)) for n in (30, 50)], [False, True])
        backlog.drop(1)
        self.assertFalse(backlog.has(event(50)))

    def test_remember_beyond_100000_events_forgets_the_oldest_tenth(self) -> None:
        """A hash takes 100 bytes. A check of Alpaca's history asks for the newest events."""
        backlog = Backlog()
        backlog.add(Entry(1, None, None, 0))
        some = event(1)
        first, *others = (replace(some, identity=str(n)) for n in range(100_001))
        for each in (first, *others[:-1]):
            backlog.remember(each)
        self.assertTrue(backlog.has(first))
        backlog.remember(others[-1])
        self.assertEqual([backlog.has(others[n]) for n in (9_999, 10_000)], [False, True])

    def test_read_continues_behind_any_number(self) -> None:
        """The first entry may have any number, too."""
        backlog = Backlog()
        self.assertEqual(backlog.read(0, 9), [])
        for seq in (7, 8, 9):
            backlog.add(entry(seq))
        found = [[row.seq for row in backlog.read(after, 2)] for after in (6, 7, 8, 9, 12)]
        self.assertEqual(found, [[7, 8], [8, 9], [9], [], []])

    def test_find_by_time_returns_first_entry_of_exactly_that_time(self) -> None:
        """Holes and events without a time are left out."""
        backlog = Backlog()
        backlog.add(Entry(1, None, None, 0))
        for seq, each in enumerate((event(4, at=None), event(5), event(3), event(3)), 2):
            backlog.add(Entry(seq, each, None, 0))
        found = [backlog.first_at(time_of(n)) for n in (3, 4, 5)]
        self.assertEqual(found, [4, None, 3])
        found = [backlog.find_max_time(time_of(n)) for n in (2, 3, 4, 5, 6)]
        expected = [None, 3, 3, 5, 5]
        self.assertEqual(found, [None if n is None else time_of(n) for n in expected])
        found = [backlog.find(event_id_of(n)) for n in (3, 5, 6)]
        self.assertEqual(found, [4, 3, None])

    def test_order_keeps_the_newer_state(self) -> None:
        """Events of an order can be late, or without a time."""
        for known, state, expected in ORDER_STATES:
            backlog = Backlog()
            for seq, each in enumerate((known, state), 1):
                backlog.add(Entry(seq, replace(event(seq), order=each), None, 0))
            self.assertEqual(backlog.find_order("o"), expected, (known, state))

    def test_order_continues_from_the_state_before(self) -> None:
        """A late state counts by what is filled. A later one that is less late must not hide it."""
        backlog = Backlog()
        known, more, less = (
            OrderState("o", "new", filled, time)
            for filled, time in (("5", 100), ("6", 90), ("3", 95))
        )
        for seq, each in enumerate((more, less), 1):
            backlog.add(Entry(seq, replace(event(seq), order=each), None, 0))
        self.assertEqual(backlog.find_order("o", known), replace(more, time=100))
        self.assertEqual(backlog.find_order("o"), less)

    def test_find_max_time_counts_holes_and_earlier_epochs(self) -> None:
        """As the database does. Both are only in the entry's `max_time`."""
        backlog = Backlog()
        backlog.add(Entry(1, event(3), time_of(5), 0))
        backlog.add(Entry(2, None, time_of(7), 0))
        found = [backlog.find_max_time(time_of(n)) for n in (4, 6, 8)]
        self.assertEqual(found, [time_of(3), time_of(5), time_of(7)])
