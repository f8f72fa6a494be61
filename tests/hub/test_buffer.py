"""Tests for tradeproxy.hub.buffer."""

from __future__ import annotations

from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import event, time_of
from tradeproxy.hub.buffer import MAX_BUFFERED, MAX_BUFFERED_BYTES, EventBuffer
from tradeproxy.wire.event import Event, format_time

NOW = time_of(100)


class EventBufferTests(SynchronousTestCase):
    """Events that wait, in the order of the stream."""

    def setUp(self) -> None:
        self.buffer = EventBuffer()

    def append(self, *events: Event) -> None:
        for each in events:
            self.buffer.append(each, None)

    def take_before(self, taken: Event) -> list[Event]:
        return [buffered.event for buffered in self.buffer.take_before(taken, NOW)]

    def test_take_all_returns_events_with_the_times_of_their_receipt(self) -> None:
        """The latency is measured from there."""
        self.buffer.append(event(2), 0.5)
        self.buffer.append(event(1), 0.75)
        self.assertEqual(self.buffer.take_all(), [(event(2), 0.5), (event(1), 0.75)])
        self.assertEqual((self.buffer.events, event(1) in self.buffer), ((), False))

    def test_take_before_returns_what_the_history_did_not_bring_in_between(self) -> None:
        """An event without a time, and one whose time is not over, may be in no history."""
        no_time, future = event(2, at=None), event(101)
        self.append(event(1), no_time, future, event(3), event(4))
        self.assertEqual(self.take_before(event(3)), [event(1), no_time, future])
        self.assertEqual(self.take_before(event(3)), [])
        self.assertEqual(self.buffer.events, (event(3), event(4)))

    def test_take_before_unknown_event_returns_nothing(self) -> None:
        """The stream did not bring it, so it has no place in the stream."""
        self.append(event(1))
        self.assertEqual(self.take_before(event(2)), [])
        self.assertEqual(self.take_before(event(2, at=None)), [])

    def test_take_before_repeat_of_older_event_returns_nothing(self) -> None:
        """Events that were missed between the two would follow newer ones."""
        self.append(event(3), event(101), event(1), event(4))
        self.assertEqual(self.take_before(event(1)), [])
        self.assertEqual(self.take_before(event(4)), [event(3), event(101), event(1)])

    def test_take_before_ends_with_the_present(self) -> None:
        """A time that is `now` is over: the history has that event, and it can be the newer one."""
        self.append(event(1), event(100))
        self.assertEqual(self.take_before(event(100)), [])
        self.append(event(101), event(3))
        self.assertEqual(self.take_before(event(3)), [])

    def test_take_before_event_of_the_same_time_returns_it(self) -> None:
        """It is not newer. Alpaca often reports several changes at one time."""
        beside = event(2, at=format_time(time_of(3)))
        self.append(event(101), beside, event(3))
        self.assertEqual(self.take_before(event(3)), [event(101), beside])

    def test_take_before_event_without_a_time_returns_those_before_it(self) -> None:
        """It shows only its place in the stream."""
        no_time = event(2, at=None)
        self.append(event(1), event(101), no_time)
        self.assertEqual(self.take_before(no_time), [event(1), event(101)])

    def test_take_before_without_an_event_of_the_future_returns_nothing(self) -> None:
        """The history has all of them, and missed ones may belong between them."""
        self.append(event(1), event(2), event(4))
        self.assertEqual(self.take_before(event(4)), [])

    def test_repeated_event_is_taken_twice(self) -> None:
        """The journal counts and drops the repeat."""
        self.append(event(1), event(101), event(2), event(1))
        self.assertEqual(self.take_before(event(2)), [event(1), event(101)])
        self.assertEqual([each for each, _ in self.buffer.take_all()], [event(2), event(1)])

    def test_buffer_is_full_at_either_limit_until_events_are_taken(self) -> None:
        """Events that are released make room for others."""
        self.append(*(event(n) for n in range(MAX_BUFFERED - 1)))
        self.assertFalse(self.buffer.is_full)
        self.append(event(MAX_BUFFERED))
        self.assertTrue(self.buffer.is_full)
        self.take_before(event(1))
        self.assertFalse(self.buffer.is_full)
        self.buffer.take_all()
        self.append(replace(event(0), payload=b"{}".ljust(MAX_BUFFERED_BYTES - 1)))
        self.assertFalse(self.buffer.is_full)
        self.buffer.take_all()
        self.append(replace(event(0), payload=b"{}".ljust(MAX_BUFFERED_BYTES)))
        self.assertTrue(self.buffer.is_full)
        self.take_before(event(0))
        self.assertTrue(self.buffer.is_full)
        self.buffer.take_all()
        self.assertFalse(self.buffer.is_full)
