"""Tests for tradeproxy.hub.broadcaster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tradeproxy.hub.broadcaster import Broadcaster
from tradeproxy.journal.base import Batch, Row

if TYPE_CHECKING:
    from collections.abc import Callable

ONE = Batch((Row(1, frames.NEW),))
TWO = Batch((Row(2, frames.PARTIAL_FILL), Row(3, frames.FILL)))


class FakeSubscriber:
    """A subscriber that records what it gets, then calls `on_delivery`."""

    size = 1

    def __init__(
        self, deliveries: list[FakeSubscriber], on_delivery: Callable[[], object] = lambda: None
    ) -> None:
        self.batches: list[Batch] = []
        self.statuses: list[bytes] = []
        self.aborts = 0
        self._deliveries = deliveries
        self._on_delivery = on_delivery

    def deliver(self, batch: Batch) -> None:
        """Record `batch`."""
        self._deliveries.append(self)
        self.batches.append(batch)
        self._on_delivery()

    def announce(self, status: bytes) -> None:
        """Record `status`."""
        self.statuses.append(status)
        self._on_delivery()

    def abort(self) -> None:
        """Count the call."""
        self.aborts += 1


class UnabortableSubscriber(FakeSubscriber):
    """A subscriber whose `abort` raises."""

    def abort(self) -> None:
        """Count the call and raise OSError."""
        super().abort()
        raise OSError("cannot be aborted")


def divide_by_zero() -> None:
    """Raise ZeroDivisionError, which no other code here raises."""
    _ = 1 // 0


class BroadcasterTests(SynchronousTestCase):
    """The broadcaster delivers every item to every subscriber."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.broadcaster = Broadcaster(self.clock)
        self.deliveries: list[FakeSubscriber] = []
        """The subscriber of each delivery, in order."""

    def registered(self, subscriber: FakeSubscriber) -> FakeSubscriber:
        """Register `subscriber` and return it."""
        self.broadcaster.register(subscriber)
        return subscriber

    def test_publish_delivers_every_batch_in_order_of_registration(self) -> None:
        """Every subscriber gets every batch in the order of publishing."""
        subscribers = [self.registered(FakeSubscriber(self.deliveries)) for _ in range(3)]
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        self.assertEqual([subscriber.batches for subscriber in subscribers], [[ONE, TWO]] * 3)
        self.assertEqual(self.deliveries, subscribers * 2)

    def test_publish_delivers_the_same_batch_object_to_all(self) -> None:
        """Batches are not copied, so that encoders can cache their output in the batch."""
        subscribers = [self.registered(FakeSubscriber(self.deliveries)) for _ in range(2)]
        self.broadcaster.publish(TWO)
        for subscriber in subscribers:
            self.assertIs(subscriber.batches[0], TWO)

    def test_register_twice_counts_and_delivers_once(self) -> None:
        """The length is the number of clients. A second registration has no effect."""
        subscriber = self.registered(FakeSubscriber(self.deliveries))
        self.registered(FakeSubscriber(self.deliveries))
        self.registered(subscriber)
        self.assertEqual(len(self.broadcaster), 2)
        self.broadcaster.publish(ONE)
        self.assertEqual(subscriber.batches, [ONE])

    def test_register_after_publish_delivers_from_next_batch(self) -> None:
        """Earlier batches are not delivered."""
        self.broadcaster.publish(ONE)
        subscriber = self.registered(FakeSubscriber(self.deliveries))
        self.broadcaster.publish(TWO)
        self.assertEqual(subscriber.batches, [TWO])

    def test_unregister_delivers_nothing_more(self) -> None:
        """Unregistering twice, or without a registration, has no effect."""
        subscriber, other = (
            self.registered(FakeSubscriber(self.deliveries)),
            self.registered(FakeSubscriber(self.deliveries)),
        )
        self.broadcaster.unregister(subscriber)
        self.broadcaster.unregister(subscriber)
        self.broadcaster.unregister(FakeSubscriber(self.deliveries))
        self.broadcaster.publish(ONE)
        self.assertEqual((subscriber.batches, other.batches), ([], [ONE]))
        self.assertEqual(subscriber.aborts, 0)

    def test_register_during_delivery_delivers_from_next_batch(self) -> None:
        """The current batch goes only to the subscribers that were registered at its start."""
        late = FakeSubscriber(self.deliveries)
        first = self.registered(
            FakeSubscriber(self.deliveries, lambda: self.broadcaster.register(late))
        )
        last = self.registered(FakeSubscriber(self.deliveries))
        self.broadcaster.publish(ONE)
        self.assertEqual(self.deliveries, [first, last])
        self.broadcaster.publish(TWO)
        self.assertEqual(late.batches, [TWO])

    def test_unregister_other_during_delivery_skips_it(self) -> None:
        """A delivery may close another client, which then gets nothing after its close frame."""
        removed = FakeSubscriber(self.deliveries)
        first = self.registered(
            FakeSubscriber(self.deliveries, lambda: self.broadcaster.unregister(removed))
        )
        self.registered(removed)
        last = self.registered(FakeSubscriber(self.deliveries))
        self.broadcaster.publish(ONE)
        self.assertEqual(self.deliveries, [first, last])
        self.assertEqual(len(self.broadcaster), 2)

    def test_unregister_self_during_delivery_serves_the_others(self) -> None:
        """A client whose buffer overflows unregisters during its own delivery."""
        subscriber = FakeSubscriber(
            self.deliveries, lambda: self.broadcaster.unregister(subscriber)
        )
        self.registered(subscriber)
        last = self.registered(FakeSubscriber(self.deliveries))
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        self.assertEqual((subscriber.batches, last.batches), ([ONE], [ONE, TWO]))

    def test_publish_delivery_raises_aborts_that_subscriber_only(self) -> None:
        """A failed delivery is a hole in that client's stream. The others are served."""
        before = self.registered(FakeSubscriber(self.deliveries))
        failing = self.registered(FakeSubscriber(self.deliveries, divide_by_zero))
        after = self.registered(FakeSubscriber(self.deliveries))
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        self.assertEqual(
            [subscriber.batches for subscriber in (before, failing, after)],
            [[ONE, TWO], [ONE], [ONE, TWO]],
        )
        self.assertEqual([subscriber.aborts for subscriber in (before, failing, after)], [0, 1, 0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_announce_subscriber_raises_aborts_that_subscriber_only(self) -> None:
        """The other subscribers get every status frame."""
        failing = self.registered(FakeSubscriber(self.deliveries, divide_by_zero))
        last = self.registered(FakeSubscriber(self.deliveries))
        self.broadcaster.publish(b"down")
        self.broadcaster.publish(b"up")
        self.assertEqual((failing.statuses, failing.aborts), ([b"down"], 1))
        self.assertEqual(last.statuses, [b"down", b"up"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_publish_abort_raises_serves_the_others(self) -> None:
        """The error of `abort` is logged, and the subscriber gets nothing more."""
        unabortable = self.registered(UnabortableSubscriber(self.deliveries, divide_by_zero))
        last = self.registered(FakeSubscriber(self.deliveries))
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        self.assertEqual((unabortable.batches, unabortable.aborts), ([ONE], 1))
        self.assertEqual(last.batches, [ONE, TWO])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_drop_all_aborts_every_subscriber(self) -> None:
        """An error of one `abort` does not protect the others. Later subscribers are served."""
        subscribers = [
            self.registered(subscriber)
            for subscriber in (
                FakeSubscriber(self.deliveries),
                UnabortableSubscriber(self.deliveries),
            )
        ]
        self.broadcaster.drop_all()
        self.assertEqual([subscriber.aborts for subscriber in subscribers], [1, 1])
        self.assertEqual(len(self.broadcaster), 0)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        late = self.registered(FakeSubscriber(self.deliveries))
        self.broadcaster.publish(ONE)
        self.assertEqual(late.batches, [ONE])


class ChunkedFanOutTests(SynchronousTestCase):
    """A fan-out to more subscribers than one turn of the reactor serves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.broadcaster = Broadcaster(self.clock)
        self.deliveries: list[FakeSubscriber] = []
        self.subscribers = [FakeSubscriber(self.deliveries) for _ in range(4001)]
        for subscriber in self.subscribers:
            self.broadcaster.register(subscriber)

    def test_publish_many_subscribers_takes_several_turns(self) -> None:
        """Pings and new connections are served between two chunks. No time passes."""
        self.broadcaster.publish(ONE)
        self.assertEqual(len(self.deliveries), 2000)
        [call] = self.clock.getDelayedCalls()
        self.assertEqual(call.getTime(), self.clock.seconds())
        self.clock.advance(0)
        self.assertEqual(self.deliveries, self.subscribers)

    def test_publish_during_fan_out_delivers_afterwards_in_order(self) -> None:
        """Every subscriber gets batches and status frames in the same order."""
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(b"down")
        self.broadcaster.publish(TWO)
        self.clock.advance(0)
        self.assertEqual(self.deliveries, self.subscribers * 2)
        for subscriber in self.subscribers:
            self.assertEqual((subscriber.batches, subscriber.statuses), ([ONE, TWO], [b"down"]))

    def test_unregister_during_fan_out_skips_that_subscriber(self) -> None:
        """The other subscribers are served."""
        self.broadcaster.publish(ONE)
        self.broadcaster.unregister(self.subscribers[-1])
        self.clock.advance(0)
        self.assertEqual(self.deliveries, self.subscribers[:-1])

    def test_register_again_after_fan_out_gets_next_batch(self) -> None:
        """A client that stops listening and starts again must not be skipped forever."""
        last = self.subscribers[-1]
        self.broadcaster.publish(ONE)
        self.broadcaster.unregister(last)
        self.clock.advance(0)
        self.broadcaster.register(last)
        self.broadcaster.publish(TWO)
        self.clock.advance(0)
        self.assertEqual(last.batches, [TWO])

    def test_publish_beyond_queue_limit_drops_the_oldest_that_waits(self) -> None:
        """Subscribers then read the fewest batches in the journal."""
        batches = [Batch((Row(seq, frames.NEW),)) for seq in range(1, 67)]
        for batch in batches:
            self.broadcaster.publish(batch)
        self.clock.advance(0)
        self.assertEqual(self.subscribers[0].batches, [batches[0], *batches[3:]])

    def test_announce_beyond_queue_limit_drops_all_but_newest_batch(self) -> None:
        """Status frames are in no journal, so batches make room for them."""
        three = Batch((Row(4, frames.NEW),))
        for batch in (ONE, TWO, three):
            self.broadcaster.publish(batch)
        for _ in range(64):
            self.broadcaster.publish(b"down")
        self.clock.advance(0)
        self.assertEqual(self.subscribers[0].batches, [ONE, three])

    def test_announce_beyond_queue_limit_keeps_newest_batch(self) -> None:
        """Only the newest batch shows a subscriber that rows are missing."""
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        for _ in range(128):
            self.broadcaster.publish(b"down")
        self.clock.advance(0)
        self.assertEqual(self.subscribers[-1].batches, [ONE, TWO])
        self.assertEqual(len(self.subscribers[-1].statuses), 128)

    def test_publish_beyond_queue_limit_keeps_batch_before_status(self) -> None:
        """A `hello` has the position after it: a client must not store a cursor too far ahead."""
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        self.broadcaster.publish(b"hello")
        for seq in range(4, 68):
            self.broadcaster.publish(Batch((Row(seq, frames.NEW),)))
        self.clock.advance(0)
        self.assertEqual(self.subscribers[-1].batches[:2], [ONE, TWO])

    def test_publish_beyond_queue_limit_drops_batches_that_the_journal_has(self) -> None:
        """The newest batch, overflow batches and status frames are kept."""
        self.broadcaster.publish(ONE)
        overflow = Batch((Row(1, frames.FILL),), overflow=True)
        self.broadcaster.publish(overflow)
        batches = [Batch((Row(seq, frames.NEW),)) for seq in range(2, 67)]
        self.broadcaster.publish(b"down")
        for batch in batches:
            self.broadcaster.publish(batch)
        self.clock.advance(0)
        received = self.subscribers[0].batches
        self.assertEqual((received[:2], received[-1]), ([ONE, overflow], batches[-1]))
        self.assertEqual(len(received), 63)
        self.assertEqual(self.subscribers[0].statuses, [b"down"])

    def test_drop_all_during_fan_out_discards_queued_items(self) -> None:
        """Aborted subscribers get nothing more. A later subscriber gets later batches only."""
        idle: list[int] = []
        self.broadcaster.on_idle = lambda: idle.append(1)
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        self.broadcaster.drop_all()
        self.assertEqual({subscriber.aborts for subscriber in self.subscribers}, {1})
        late = FakeSubscriber(self.deliveries)
        self.broadcaster.register(late)
        self.clock.advance(0)
        self.assertEqual((len(self.deliveries), idle), (2000, [1]))
        self.broadcaster.publish(TWO)
        self.assertEqual(late.batches, [TWO])
