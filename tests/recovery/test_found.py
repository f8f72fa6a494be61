"""Tests for tradeproxy.recovery.found, with a journal in memory."""

from __future__ import annotations

import json

from tests.support.journals import NOW, MemoryCase, event, time_of
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch
from tradeproxy.recovery.found import MAX_SEEN, FoundEvents
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.frame import Recovered, extract_data

KNOWN = 10
"""The number of the newest event in the log."""


class FoundCase(MemoryCase):
    """A log whose newest event is number 10, and a search."""

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


class FoundEventsTests(FoundCase):
    """Events that a backfill or a check finds."""

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
        self.assertIsNone(self.account.completeness.synthetic_until)
        self.deliver(event(12), source=Recovered.ORDERS)
        self.assertIsNotNone(self.account.completeness.synthetic_until)

    def test_each_search_counts_from_zero(self) -> None:
        """An event that is buffered too was not missed. `count` counts each event once."""
        self.account.start_buffering()
        self.account.publish(event(12))
        self.deliver(event(11), event(12))
        self.found.count()
        self.found.count()
        self.assertEqual((self.found.total, self.account.gaps.found["check"]), (1, 1))
        self.found.begin_search()
        self.assertEqual((self.found.total, self.found.newest), (0, None))
        self.deliver(event(13))
        self.found.count()
        self.assertEqual((self.found.total, self.account.gaps.found["check"]), (1, 2))

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


class StreamOrderTests(FoundCase):
    """The stream's events wait in the buffer, and the history brings some of them earlier."""

    def setUp(self) -> None:
        super().setUp()
        self.clock.advance(30 + NOW - self.clock.seconds())
        self.account.dates.observe(self.clock.seconds())
        self.account.start_buffering()

    def stream(self, *events: Event) -> None:
        for each in events:
            self.account.publish(each)

    def reach(self, *found: Event) -> list[tuple[str, str | None]]:
        """Deliver what was found; return the ids of what clients get, with the marks."""
        self.deliver(*found)
        return self.read_delivered()

    def release(self) -> list[tuple[str, str | None]]:
        """End the buffering; return the ids of what clients get, with the marks."""
        self.delivered.clear()
        self.account.stop_buffering()
        self.account.flush()
        return self.read_delivered()

    def read_delivered(self) -> list[tuple[str, str | None]]:
        events = [extract_data(payload) for payload in self.delivered]
        return [(json.loads(data)["event_id"][-3:].lstrip("0"), mark) for data, mark in events]

    def test_event_that_no_history_has_stays_before_those_that_followed_it(self) -> None:
        """One of a future time came without a mark behind the events that had followed it."""
        future = event(900, at=format_time(time_of(10**6)))
        self.stream(event(12), future, event(13), event(14))
        self.assertEqual(
            self.reach(event(11), event(12), event(13)),
            [("11", None), ("12", None), ("900", None), ("13", None)],
        )
        self.assertEqual(self.release(), [("14", None)])

    def test_released_events_are_not_counted_as_missed(self) -> None:
        """The stream brought them. The history may reach them later, and before the commit."""
        future = event(900, at=format_time(time_of(10**6)))
        self.stream(event(13), event(12), future, event(14))
        delivered = self.reach(event(14), event(12), event(13))
        self.assertEqual(delivered, [("13", None), ("12", None), ("900", None), ("14", None)])
        self.found.count()
        self.assertEqual((self.found.total, self.release()), (0, []))

    def test_event_found_before_the_stream_brings_it_is_not_counted(self) -> None:
        """Its copy may have been released before the events are counted."""
        self.reach(event(12))
        self.stream(event(12), event(13))
        self.reach(event(13))
        self.found.count()
        self.assertEqual(self.found.total, 0)

    def test_missed_event_behind_a_released_newer_one_is_marked(self) -> None:
        """The time of the receipt counts for an event of the future. The stream's own have none."""
        future = event(900, at=format_time(time_of(10**6)))
        self.stream(future, event(12), event(14))
        self.assertEqual(
            self.reach(event(12), event(13), event(14)),
            [("900", None), ("12", None), ("13", "events"), ("14", None)],
        )

    def test_next_search_compares_with_the_log(self) -> None:
        """What an earlier search released is in the log then."""
        self.stream(event(12, at=None), event(13))
        self.reach(event(13))
        self.found.begin_search()
        self.assertEqual(self.reach(event(14)), [("14", None)])

    def test_repeat_of_missed_event_releases_nothing(self) -> None:
        """The stream repeated event 11 behind event 13, but event 12 belongs between them."""
        self.stream(event(13), event(11), event(14))
        self.assertEqual(
            self.reach(event(11), event(12), event(13), event(14)),
            [("11", None), ("12", None), ("13", None), ("14", None)],
        )

    def test_late_event_releases_nothing(self) -> None:
        """Its mark says that its place is not the stream's."""
        future = event(900, at=format_time(time_of(10**6)))
        self.stream(future, event(9))
        self.assertEqual(self.reach(event(9)), [("9", "events")])
        self.assertEqual(self.release(), [("900", None)])
