"""Tests for tradeproxy.recovery.found, with a journal in memory."""

from __future__ import annotations

from tests.support.journals import MemoryCase, event, time_of
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch
from tradeproxy.recovery.found import MAX_SEEN, FoundEvents
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.frame import Recovered, extract_data

KNOWN = 10
"""The number of the newest event in the log."""


class FoundEventsTests(MemoryCase):
    """Events that a backfill or a check finds, in a log whose newest event is number 10."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open()
        self.account = Account("paper", self.journal, self.clock)
        self.delivered: list[bytes] = []
        self.journal.complete_from = time_of(1)
        self.account.publish(event(KNOWN))
        self.account.flush()
        self.journal.on_committed = self.record
        self.found = FoundEvents(self.account)

    def record(self, batch: Batch) -> None:
        self.delivered += [row.payload or b"" for row in batch.rows]

    def deliver(self, *found: Event, source: Recovered = Recovered.EVENTS) -> list[str | None]:
        """Deliver what was found, and return the marks of what clients get."""
        self.delivered.clear()
        for each in found:
            self.found.deliver(each, source)
        self.account.flush()
        return [extract_data(payload)[1] for payload in self.delivered]

    def find_newest(self, *found: Event, source: Recovered = Recovered.EVENTS) -> int | None:
        """Begin a search that finds these events, and return the newest that shows silence."""
        self.found.begin_search()
        self.deliver(*found, source=source)
        return self.found.newest

    def test_known_and_repeated_events_are_dropped(self) -> None:
        """The journal gets none of them, not even in the turn in which the first one comes."""
        self.assertEqual(self.deliver(event(KNOWN)), [])
        self.assertEqual(len(self.deliver(event(11), event(11), event(12))), 2)
        self.found.count()
        self.assertEqual((self.found.total, self.journal.duplicates), (2, 0))

    def test_many_events_are_committed_while_more_arrive(self) -> None:
        """A history without an end kept the keys of all its events. None is delivered twice."""
        last = KNOWN + MAX_SEEN
        for number in range(KNOWN + 1, last + 1):
            self.found.deliver(event(number), Recovered.EVENTS)
        self.assertEqual(self.delivered, [])
        self.found.deliver(event(last + 1), Recovered.EVENTS)
        self.assertEqual(len(self.delivered), MAX_SEEN)
        self.assertEqual(len(self.deliver(event(last), event(last + 1), event(last + 2))), 2)
        self.found.count()
        self.assertEqual((self.found.total, self.journal.duplicates), (MAX_SEEN + 2, 0))

    def test_event_up_to_horizon_is_dropped_unless_made_of_order(self) -> None:
        """An order shows what is missing, whatever its time."""
        self.journal.advance_dedup_horizon(time_of(12))
        self.assertEqual(self.deliver(event(11), event(12), event(13)), ["events"])
        self.assertEqual(self.deliver(event(11), source=Recovered.ORDERS), ["orders"])

    def test_event_made_of_order_is_recorded(self) -> None:
        """The history will have the same change, as another event."""
        self.deliver(event(11))
        self.assertIsNone(self.account.gaps.synthetic_until)
        self.deliver(event(12), source=Recovered.ORDERS)
        self.assertIsNotNone(self.account.gaps.synthetic_until)

    def test_each_search_counts_from_zero(self) -> None:
        """An event that is buffered too was not missed. `count` counts each event once."""
        self.account.start_buffering()
        self.account.publish(event(12))
        self.deliver(event(11), event(12))
        self.found.count()
        self.found.count()
        self.assertEqual((self.found.total, self.account.gaps.found_by_checks), (1, 1))
        self.found.begin_search()
        self.assertEqual((self.found.total, self.found.newest), (0, None))
        self.deliver(event(13))
        self.found.count()
        self.assertEqual((self.found.total, self.account.gaps.found_by_checks), (1, 2))

    def test_newest_event_of_history_shows_silence(self) -> None:
        """It is the newest one, in whatever order they come."""
        self.assertEqual(self.find_newest(event(11), event(13), event(12)), time_of(13))

    def test_event_that_proves_nothing_shows_no_silence(self) -> None:
        """The stream may have brought its change, without ids or in another way."""
        same = {"order_id": "one", "status": "new", "filled_qty": "1"}
        self.account.publish(event(11, **same))
        self.account.flush()
        late = time_of(10**6)
        rows: list[tuple[str, Event, int | None]] = [
            ("the known state of an order", event(12, **same), None),
            ("another status", event(13, **{**same, "status": "held"}), time_of(13)),
            ("another quantity", event(14, **{**same, "filled_qty": "2"}), time_of(14)),
            ("an unknown order", event(15), time_of(15)),
            ("no order", event(16, order_id=None), time_of(16)),
            ("no time", event(17, at=None), None),
            ("a time that lies in the future", event(10**6), None),
        ]
        self.assertTrue(self.account.dates.is_future(late))
        for name, found, newest in rows:
            self.assertEqual(self.find_newest(found), newest, name)
        self.assertIsNone(self.find_newest(event(18), source=Recovered.ORDERS))

    def test_event_in_its_place_has_no_mark(self) -> None:
        """It precedes every newer event. Without a certain time, its place is unknown."""
        rows: list[tuple[Event, str | None]] = [
            (event(9), "events"),
            (event(11, at=format_time(time_of(KNOWN))), None),
            (event(12), None),
            (event(13, at=None), "events"),
            (event(10**6), "events"),
        ]
        self.account.start_buffering()
        self.assertEqual(self.deliver(*(found for found, _ in rows)), [mark for _, mark in rows])
        self.assertEqual(self.deliver(event(14), source=Recovered.ORDERS), ["orders"])

    def test_newer_event_is_marked_unless_others_wait(self) -> None:
        """Without buffering, an event of the stream may have come before it."""
        self.assertEqual(self.deliver(event(11)), ["events"])
        self.account.start_buffering()
        self.found.begin_search()
        self.assertEqual(self.deliver(event(12)), [None])

    def test_event_after_earlier_search_is_marked_if_older_than_the_stream(self) -> None:
        """Each search compares with the log as it is when the search finds its first event."""
        self.account.start_buffering()
        self.assertEqual(self.deliver(event(11), event(12)), [None, None])
        self.account.stop_buffering()
        self.account.publish(event(20))
        self.account.flush()
        self.account.start_buffering()
        self.found.begin_search()
        self.assertEqual(self.deliver(event(15), event(14), event(21)), ["events", "events", None])

    def test_event_of_lost_log_is_marked(self) -> None:
        """It is older than the log, which is empty."""
        self.journal.identify("one")
        self.journal.identify("another")
        self.journal.complete_from = time_of(5)
        self.account.start_buffering()
        marks = self.deliver(event(4), event(5), event(6), event(7, at=None))
        self.assertEqual(marks, ["events", None, None, None])
