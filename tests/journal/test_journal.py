"""Tests for the behaviour of every Journal: here on SQLite, in tests/cluster in Redis."""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

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
from tradeproxy.journal import store
from tradeproxy.journal.base import Batch, Journal, TrimmedError
from tradeproxy.wire.event import OrderState, format_time

LIVE = "wss://api.alpaca.markets/stream"


class AppendTests(JournalCase):
    """New events get consecutive numbers; duplicates get none."""

    def test_append_new_events_passes_one_batch(self) -> None:
        """The batch has the rows that a reader finds, in the order of the events."""
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

    def test_callbacks_may_be_left_unset(self) -> None:
        """A program that only reads the log needs none."""
        journal = self.open()
        journal.append(events(1))
        journal.on_status(journal.status)
        journal.on_new_epoch()
        journal.on_replaced()
        self.assertEqual(journal.last, 1)

    def test_append_duplicates_drops_and_counts_them(self) -> None:
        """This holds within a batch, across batches and across a restart."""
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

    def test_append_correction_without_event_id_adds_it(self) -> None:
        """Without an event_id the content counts too. `find` returns the first event."""
        journal = self.open()
        bare = {"event_id": None, "execution_id": "x"}
        original, corrected = event(1, qty="1", **bare), event(1, qty="2", **bare)
        journal.append([original, corrected, original])
        self.assertEqual((journal.last, journal.duplicates), (2, 1))
        self.assertEqual(
            (original.identity, journal.find(original.identity)), (corrected.identity, 1)
        )

    def test_append_copies_of_one_execution_adds_one(self) -> None:
        """The stream's copy had no ids and the history's had both: clients got two fills."""
        bare = {"event": "fill", "execution_id": "x", "qty": "1", "price": "2.5"}
        stream = event(1, event_id=None, at=None, timestamp="2026-07-24T14:42:50Z", **bare)
        history, reissued = event(1, **bare), event(1, **{**bare, "event_id": "another"})
        journal = self.open()
        journal.append([stream, history])
        journal.append([reissued])
        self.assertEqual((journal.last, journal.duplicates), (1, 2))
        journal = self.reopen(journal)
        self.assertTrue(journal.has(history))
        journal.append([history, reissued, event(2, **{**bare, "execution_id": "y"})])
        self.assertEqual((journal.last, journal.duplicates), (2, 2))

    def test_append_corrected_execution_under_one_id_adds_it_once(self) -> None:
        """Its event_id is then a position behind the first: a client may have only that one."""
        bare = {"event": "fill", "execution_id": "x", "qty": "1"}
        original, corrected = event(1, price="2.5", **bare), event(1, price="2.6", **bare)
        journal = self.open()
        journal.append([original, event(2), corrected, corrected, original])
        self.assertEqual((journal.last, journal.duplicates), (3, 2))
        journal = self.reopen(journal)
        journal.append([corrected, original])
        self.assertEqual((journal.last, journal.duplicates), (3, 2))
        self.assertEqual(journal.find(event_id_of(1)), 1)

    def test_append_bust_and_correction_under_one_id_adds_both(self) -> None:
        """Alpaca's documentation of server-sent events shows one id for both."""
        bust, correction = event(1, event="trade_bust"), event(1, event="trade_correct")
        journal = self.open()
        journal.append([bust, correction, bust])
        self.assertEqual((journal.last, journal.duplicates), (2, 1))

    def test_first_at_returns_first_event_of_exactly_that_time(self) -> None:
        """It may come after a later one, and several events may share a microsecond."""
        journal = self.open()
        same = format_time(time_of(5))
        journal.append([event(3), event(5), event(4), event(6, at=same), event(7)])
        for reopened in (False, True):
            journal = self.reopen(journal) if reopened else journal
            for n, seq in ((3, 1), (5, 2), (4, 3), (7, 5)):
                self.assertEqual(journal.first_at(time_of(n)), seq, n)
            self.assertIsNone(journal.first_at(time_of(6)))
            self.assertIsNone(journal.first_at(time_of(5) + 1))

    def test_newest_time_leaves_out_times_in_the_future(self) -> None:
        """Gaps begin there. A time years ahead is wrong; it is kept for `since` only."""
        journal = self.open()
        self.assertIsNone(journal.newest_time)
        far = "2999-01-01T00:00:00Z"
        for each, newest in (
            (event(1, at=far), None),
            (event(3), time_of(3)),
            (event(4, at=far), time_of(3)),
            (event(2), time_of(3)),
            (event(5), time_of(5)),
        ):
            journal.append([each])
            self.assertEqual(journal.newest_time, newest)
        self.assertEqual(self.reopen(journal).newest_time, time_of(5))

    def test_append_event_without_time_or_order_adds_row_only(self) -> None:
        """It gets a number, but changes neither times nor orders."""
        journal = self.open()
        plain = replace(event(1, at=None), order=None)
        journal.append([plain])
        self.assertEqual((journal.last, journal.latest_time, journal.open_orders()), (1, None, []))
        self.assertIsNone(journal.first_since(0))
        journal.append([event(2), plain])
        self.assertEqual((journal.latest_time, journal.first_since(0)), (time_of(2), 2))


class JournalReadTests(JournalCase):
    """The log can be read by number, identity and time."""

    def test_read_returns_at_most_limit_rows(self) -> None:
        """Reading starts behind any number and stops at the end."""
        journal = self.open()
        journal.append(events(*range(1, 11)))
        batch = journal.read(3, 4)
        assert batch is not None
        self.assertEqual((batch.first, batch.last), (4, 7))
        self.assertEqual(self.read_seqs(journal, 8), [9, 10])
        self.assertIsNone(journal.read(10, 4))
        self.assertIsNone(journal.read(99, 4))

    def test_read_large_events_returns_about_256_kib(self) -> None:
        """The memory per client is bounded. A single larger event is returned alone."""
        journal = self.open()
        sizes = (100_000, 100_000, 100_000, 400_000, 100)
        journal.append([event(n, note="x" * size) for n, size in enumerate(sizes)])
        self.assertEqual([len(batch.rows) for batch in self.read_batches(journal)], [2, 1, 1, 1])

    def read_batches(self, journal: Journal) -> list[Batch]:
        found: list[Batch] = []
        while (batch := journal.read(found[-1].last if found else 0, 100)) is not None:
            found.append(batch)
        return found

    def test_row_returns_row_or_none(self) -> None:
        """A number that is not in use has no row."""
        journal = self.open()
        journal.append(events(1, 2))
        self.assertEqual(journal.row(2), row(2, event(2)))
        self.assertEqual([journal.row(seq) for seq in (-1, 0, 3)], [None] * 3)

    def test_find_identity_returns_its_number(self) -> None:
        """Clients of Alpaca's API know only Alpaca's ids."""
        journal = self.open()
        journal.append(events(1, 2))
        self.assertEqual(journal.find(event_id_of(2)), 2)
        self.assertIsNone(self.find(journal, event_id_of(3)))
        for name in ("", "é", "\ud800"):  # the last one has no UTF-8 form
            self.assertIsNone(self.find(journal, name))

    def test_first_since_with_late_events_returns_first_number(self) -> None:
        """An event that arrived late does not hide earlier rows."""
        journal = self.open()
        journal.append(events(10, 30, 20, 40))
        expected = ((0, 1), (10, 1), (11, 2), (20, 2), (25, 2), (30, 2), (31, 4), (40, 4))
        for n, seq in expected:
            self.assertEqual(journal.first_since(time_of(n)), seq, n)
        self.assertIsNone(journal.first_since(time_of(41)))

    def test_has_stored_event_or_time_up_to_horizon_is_true(self) -> None:
        """An event without a time is compared with stored events only."""
        journal = self.open()
        journal.append(events(5))
        self.assertTrue(journal.has(event(5)))
        self.assertFalse(journal.has(event(4)))
        journal.advance_dedup_horizon(time_of(4))
        self.assertTrue(journal.has(event(4)))
        self.assertFalse(journal.has(event(6)))
        self.assertFalse(journal.has(event(1, at=None)))

    def test_append_event_before_horizon_adds_it(self) -> None:
        """The dedup horizon is for events of the history. Events of the stream are always added."""
        journal = self.open()
        journal.advance_dedup_horizon(time_of(9))
        journal.append(events(1))
        self.assertEqual(journal.last, 1)


class JournalOrderTests(JournalCase):
    """The journal holds the newest state of each order."""

    def test_open_orders_follow_events_until_order_is_closed(self) -> None:
        """The states survive a restart."""
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

    def test_open_orders_are_the_newest(self) -> None:
        """A flood of events opens any number of orders: reading all would delay every client."""
        self.patch(store, "MAX_OPEN_ORDERS", 2)
        journal = self.open()
        journal.append([event(1), event(2), event(3)])
        journal = self.reopen(journal)
        ids = [state.id for state in journal.open_orders()]
        self.assertEqual(ids, [order_id_of(2), order_id_of(3)])

    def test_order_late_event_keeps_newer_state(self) -> None:
        """At equal times the later number wins."""
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

    def test_order_with_an_unreadable_quantity_is_stored(self) -> None:
        """Such a quantity stays text, and a late event is not newer for it.

        One that was no number once raised an error in the backlog.
        """
        journal = self.open()
        for n, filled in enumerate(("1e-999999999", "1e50000000", "abc", "9" * 128), 1):
            append, first = partial(self.append_filled, journal, order_id_of(n)), 10 * n
            self.assertEqual(append(first + 3, "1"), "1")
            self.assertEqual(append(first + 2, filled), "1")
            self.assertEqual(append(first + 4, filled), filled)
            self.assertEqual(append(first + 1, "2"), filled)
            journal = self.reopen(journal)
            self.assertEqual(self.append_filled(journal, order_id_of(n), first, "3"), filled)
        self.assertEqual(journal.last, 20)

    def append_filled(self, journal: Journal, order_id: str, number: int, filled: str) -> str:
        """Append an event, and return the filled quantity of its order."""
        status = "partially_filled"
        journal.append([event(number, order_id=order_id, status=status, filled_qty=filled)])
        state = journal.order(order_id)
        assert state is not None
        return state.filled_qty

    def test_order_event_without_time_is_newest(self) -> None:
        """A time outside the calendar counts as none; the order must not stay open for good.

        The state keeps the last known time, so that a late event does not replace it.
        """
        journal = self.open()
        one = order_id_of(1)
        journal.append([event(2, order_id=one)])
        bad = "9999-12-31T23:59:59-23:59"
        journal.append([event(3, order_id=one, status="filled", filled_qty="1", at=bad)])
        journal.append([event(1, order_id=one, status="pending_new")])
        journal = self.reopen(journal)
        self.assertEqual(journal.order(one), OrderState(one, "filled", "1", time_of(2)))


class JournalRestartTests(JournalCase):
    """A restarted journal continues where it was."""

    def test_reopen_keeps_numbers_epoch_bounds_and_metadata(self) -> None:
        """The next event gets the next number."""
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

    def test_reopen_keeps_what_was_saved_last(self) -> None:
        """The horizon and each note are saved at once, not with the next change."""
        journal = self.open()
        journal.advance_dedup_horizon(time_of(1))
        journal = self.reopen(journal)
        self.assertEqual(journal.dedup_horizon, time_of(1))
        journal.set_metadata("open gap since", "7")
        self.assertEqual(self.reopen(journal).get_metadata("open gap since"), "7")

    def test_reopen_without_events_keeps_epoch(self) -> None:
        """The epoch is that of the first start."""
        journal = self.open()
        self.assertEqual(self.reopen(journal).epoch, journal.epoch)


class JournalEpochTests(JournalCase):
    """Positions in another account's log are invalid."""

    def test_identify_another_account_begins_epoch_and_continues_numbers(self) -> None:
        """The keys under the same name may be another account's."""
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

    def test_open_another_base_url_begins_epoch_and_continues_numbers(self) -> None:
        """Times, horizon and metadata of the other account are discarded."""
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
