"""Tests for what every journal does, wherever it is kept: order, reading, and what a restart finds."""

from __future__ import annotations

from dataclasses import replace

from tests.support.journals import (
    NOW,
    JournalCase,
    JournalListener,
    event,
    event_id_of,
    events,
    order_id_of,
    row,
    time_of,
)
from tests.support.redisjournals import InRedis
from tradeproxy.journal.base import Batch, Journal, TrimmedError
from tradeproxy.wire.event import OrderState

LIVE = "wss://api.alpaca.markets/stream"


class AppendTests(JournalCase):
    """Events get successive numbers, once."""

    def test_hands_on_what_is_new_as_one_burst(self) -> None:
        """The rows are those that a reader finds, in the order in which the events came."""
        journal = self.open()
        listener = JournalListener(journal)
        first, second = events(1, 2)
        journal.append([second, first])
        journal.append(events(3))
        self.assertEqual(
            listener.calls, [Batch((row(1, second), row(2, first))), Batch((row(3, event(3)),))]
        )
        self.assertEqual((journal.first, journal.last, journal.latest_time), (1, 3, time_of(3)))
        self.assertEqual(journal.read(0, 2), listener.batches[0])

    def test_drops_what_has_been_before(self) -> None:
        """Earlier, in the same burst, or in another life; nothing new is no burst."""
        journal = self.open()
        journal.append(events(1, 2))
        listener = JournalListener(journal)
        journal.append(events(2, 3, 3, 1))
        self.assertEqual(listener.batches, [Batch((row(3, event(3)),))])
        self.assertEqual(journal.duplicates, 3)
        journal = self.reopen(journal)
        listener = JournalListener(journal)
        journal.append(events(1, 2, 3))
        self.assertEqual((listener.calls, journal.last, journal.duplicates), ([], 3, 3))

    def test_takes_a_correction_for_another_event(self) -> None:
        """Without an event_id the content counts too; the last one is found under the identity."""
        journal = self.open()
        bare = {"event_id": None, "execution_id": "x"}
        told, corrected = event(1, qty="1", **bare), event(1, qty="2", **bare)
        journal.append([told, corrected, told])
        self.assertEqual((journal.last, journal.duplicates), (2, 1))
        self.assertEqual((told.identity, journal.find(told.identity)), (corrected.identity, 2))

    def test_takes_an_event_without_time_or_order(self) -> None:
        """Such an event has its place, and moves nothing else."""
        journal = self.open()
        plain = replace(event(1, at=None), order=None)
        journal.append([plain])
        self.assertEqual((journal.last, journal.latest_time, journal.open_orders()), (1, None, []))
        self.assertIsNone(journal.first_since(0))
        journal.append([event(2), plain])
        self.assertEqual((journal.latest_time, journal.first_since(0)), (time_of(2), 2))


class ReadTests(JournalCase):
    """The log is read by number, identity and time."""

    def test_reads_at_most_what_was_asked_for(self) -> None:
        """From any number on, up to the end."""
        journal = self.open()
        journal.append(events(*range(1, 11)))
        burst = journal.read(3, 4)
        assert burst is not None
        self.assertEqual((burst.first, burst.last), (4, 7))
        self.assertEqual(self.read_seqs(journal, 8), [9, 10])
        self.assertIsNone(journal.read(10, 4))
        self.assertIsNone(journal.read(99, 4))

    def test_reads_some_256_kib_at_once(self) -> None:
        """A client's buffer is not filled with a thousand large events; one is read whatever its size."""
        journal = self.open()
        sizes = (100_000, 100_000, 100_000, 400_000, 100)
        journal.append([event(n, note="x" * size) for n, size in enumerate(sizes)])
        self.assertEqual([len(burst.rows) for burst in self.bursts(journal)], [2, 1, 1, 1])

    def bursts(self, journal: Journal) -> list[Batch]:
        found: list[Batch] = []
        while (burst := journal.read(found[-1].last if found else 0, 100)) is not None:
            found.append(burst)
        return found

    def test_finds_one_row(self) -> None:
        """By its number, if it is there."""
        journal = self.open()
        journal.append(events(1, 2))
        self.assertEqual(journal.row(2), row(2, event(2)))
        self.assertEqual([journal.row(seq) for seq in (-1, 0, 3)], [None] * 3)

    def test_finds_an_event_by_its_identity(self) -> None:
        """That is what a client names which knows Alpaca's ids only."""
        journal = self.open()
        journal.append(events(1, 2))
        self.assertEqual(journal.find(event_id_of(2)), 2)
        self.assertIsNone(self.find(journal, event_id_of(3)))
        for name in ("", "é", "\ud800"):  # the last cannot be written in UTF-8
            self.assertIsNone(self.find(journal, name))

    def test_finds_the_first_event_since_a_time(self) -> None:
        """An event that came late has its number where it came, and hides none before it."""
        journal = self.open()
        journal.append(events(10, 30, 20, 40))
        expected = ((0, 1), (10, 1), (11, 2), (20, 2), (25, 2), (30, 2), (31, 4), (40, 4))
        for n, seq in expected:
            self.assertEqual(journal.first_since(time_of(n)), seq, n)
        self.assertIsNone(journal.first_since(time_of(41)))

    def test_knows_what_it_has(self) -> None:
        """The very event, or anything up to the horizon."""
        journal = self.open()
        journal.append(events(5))
        self.assertTrue(journal.has(event(5)))
        self.assertFalse(journal.has(event(4)))
        journal.advance_dedup_horizon(time_of(4))
        self.assertTrue(journal.has(event(4)))
        self.assertFalse(journal.has(event(6)))
        self.assertFalse(journal.has(event(1, at=None)))

    def test_the_horizon_does_not_keep_the_streams_events_out(self) -> None:
        """What Alpaca sends now goes through, however old it says that it is."""
        journal = self.open()
        journal.advance_dedup_horizon(time_of(9))
        journal.append(events(1))
        self.assertEqual(journal.last, 1)


class OrderTests(JournalCase):
    """The journal knows each order's newest state."""

    def test_follows_an_order(self) -> None:
        """From its first event to its end, after which it is open no more."""
        journal = self.open()
        one = order_id_of(1)
        journal.append([event(1, order_id=one), event(2)])
        filled = event(3, order_id=one, status="partially_filled", filled_qty="0.5")
        journal.append([filled])
        self.assertEqual(journal.order(one), OrderState(one, "partially_filled", "0.5", time_of(3)))
        self.assertEqual([state.id for state in journal.open_orders()], [order_id_of(2), one])
        journal.append([event(4, order_id=one, status="filled", filled_qty="1")])
        self.assertEqual([state.id for state in journal.open_orders()], [order_id_of(2)])
        journal = self.reopen(journal)
        self.assertEqual(journal.open_orders(), [event(2).order])
        self.assertIsNone(journal.order("unknown"))

    def test_an_event_that_comes_late_sets_nothing_back(self) -> None:
        """At the same time the later number counts."""
        journal = self.open()
        one = order_id_of(1)
        journal.append(
            [event(5, order_id=one, status="filled"), event(3, order_id=one, status="new")]
        )
        journal.append([event(4, order_id=one, status="partially_filled")])
        self.assertEqual(journal.open_orders(), [])
        same = event(6, order_id=one, status="replaced", at="2026-09-21T14:13:25Z")
        journal.append([same])
        state = journal.order(one)
        assert state is not None
        self.assertEqual((state.status, state.time), ("replaced", time_of(5)))


class RestartTests(JournalCase):
    """What was known is known after a restart."""

    def test_goes_on_where_it_was(self) -> None:
        """Numbers, epoch, bounds, and what was remembered."""
        journal = self.open()
        self.assertEqual(journal.complete_from, NOW * 1_000_000)
        self.assertRegex(journal.epoch, "^[0-9a-f]{16}$")
        journal.append(events(1, 2))
        journal.advance_dedup_horizon(time_of(1))
        journal.advance_dedup_horizon(time_of(0))
        journal.set_metadata("open gap since", "7")
        journal.set_metadata("complete from", "8")
        journal.set_metadata("complete from", None)
        before = (
            journal.epoch,
            journal.first,
            journal.last,
            journal.complete_from,
            journal.latest_time,
            journal.dedup_horizon,
        )
        self.clock.advance(100)
        journal = self.reopen(journal)
        after = (
            journal.epoch,
            journal.first,
            journal.last,
            journal.complete_from,
            journal.latest_time,
            journal.dedup_horizon,
        )
        self.assertEqual(after, before)
        self.assertEqual(journal.dedup_horizon, time_of(1))
        self.assertEqual(
            (journal.get_metadata("open gap since"), journal.get_metadata("complete from")),
            ("7", None),
        )
        listener = JournalListener(journal)
        journal.append(events(3))
        self.assertEqual(listener.batches[0].first, 3)

    def test_a_journal_of_no_events_goes_on_too(self) -> None:
        """The epoch is that of the first start."""
        journal = self.open()
        self.assertEqual(self.reopen(journal).epoch, journal.epoch)


class EpochTests(JournalCase):
    """Positions of another account's log must mean nothing."""

    def test_another_account_begins_a_new_epoch(self) -> None:
        """Keys of another account under the same name: its events go on behind the old numbers."""
        journal = self.open()
        journal.identify("one")
        epoch = journal.epoch
        journal.append(events(1, 2))
        journal.identify("one")
        journal = self.reopen(journal)
        journal.identify("one")
        self.assertEqual(journal.epoch, epoch)
        listener = JournalListener(journal)
        journal.identify("two")
        self.assertNotEqual(journal.epoch, epoch)
        journal.append(events(2))
        self.assertEqual(listener.calls, [Batch((row(3, event(2)),))])
        epoch = journal.epoch
        journal = self.reopen(journal)
        journal.identify("two")
        self.assertEqual((journal.epoch, journal.first, journal.last), (epoch, 3, 3))

    def test_another_address_begins_a_new_epoch(self) -> None:
        """The numbers go on; what belonged to the other account's events is not carried over."""
        journal = self.open()
        journal.append(events(1, 2))
        journal.advance_dedup_horizon(time_of(5))
        journal.set_metadata("complete from", "7")
        journal.identify("account")
        self.clock.advance(60)
        other = self.reopen(journal, base_url=LIVE)
        self.assertNotEqual(other.epoch, journal.epoch)
        self.assertEqual((other.first, other.last), (3, 2))
        self.assertEqual(other.complete_from, (NOW + 60) * 1_000_000)
        self.assertEqual(
            (other.latest_time, other.dedup_horizon, other.get_metadata("complete from")),
            (None, None, None),
        )
        self.assertFalse(other.has(event(2)))
        self.assertRaises(TrimmedError, other.read, 0, 1)
        other.append(events(2))
        again = self.reopen(other, base_url=LIVE)
        self.assertEqual((again.epoch, again.first, again.last), (other.epoch, 3, 3))


class AppendInRedisTests(InRedis, AppendTests):
    """The same in Redis."""


class ReadInRedisTests(InRedis, ReadTests):
    """The same in Redis, where what is not here might yet come, until this node has looked."""


class OrderInRedisTests(InRedis, OrderTests):
    """The same in Redis."""


class RestartInRedisTests(InRedis, RestartTests):
    """The same in Redis, for another process that leads."""


class EpochInRedisTests(InRedis, EpochTests):
    """The same in Redis."""
