"""Tests for tradeproxy.hub.broadcaster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tradeproxy.hub.broadcaster import CHUNK, MAX_QUEUED, Broadcaster
from tradeproxy.journal.base import Batch, Row

if TYPE_CHECKING:
    from collections.abc import Callable

ONE = Batch((Row(1, frames.NEW),))
TWO = Batch((Row(2, frames.PARTIAL_FILL), Row(3, frames.FILL)))


class Reader:
    """A subscriber that keeps what it is handed, and then does `on_delivery`."""

    size = 1

    def __init__(
        self, diary: list[Reader], on_delivery: Callable[[], object] = lambda: None
    ) -> None:
        self.bursts: list[Batch] = []
        self.statuses: list[bytes] = []
        self.severed = 0
        self._diary = diary
        self._on_delivery = on_delivery

    def deliver(self, burst: Batch) -> None:
        """Keep `burst`."""
        self._diary.append(self)
        self.bursts.append(burst)
        self._on_delivery()

    def announce(self, status: bytes) -> None:
        """Keep `status`."""
        self.statuses.append(status)
        self._on_delivery()

    def abort(self) -> None:
        """Count it."""
        self.severed += 1


class Stubborn(Reader):
    """A subscriber that can be neither served nor ended."""

    def abort(self) -> None:
        """Fail."""
        super().abort()
        raise OSError("cannot be ended")


def divide_by_zero() -> None:
    """Fail in a way of its own."""
    _ = 1 // 0


class BroadcasterTests(SynchronousTestCase):
    """One account's fan-out."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.broadcaster = Broadcaster(self.clock)
        self.diary: list[Reader] = []
        """Who was served, in order."""

    def registered(self, reader: Reader) -> Reader:
        """Register `reader` and return it."""
        self.broadcaster.register(reader)
        return reader

    def test_hands_every_burst_to_every_subscriber_in_order(self) -> None:
        """All get all bursts in the order of publishing, and are served in the order of registration."""
        readers = [self.registered(Reader(self.diary)) for _ in range(3)]
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        self.assertEqual([reader.bursts for reader in readers], [[ONE, TWO]] * 3)
        self.assertEqual(self.diary, readers * 2)

    def test_hands_all_the_same_burst_object(self) -> None:
        """Nothing is copied: whoever frames a burst may do so once for all, by its identity."""
        readers = [self.registered(Reader(self.diary)) for _ in range(2)]
        self.broadcaster.publish(TWO)
        for reader in readers:
            self.assertIs(reader.bursts[0], TWO)

    def test_counts_its_subscribers(self) -> None:
        """Its length is the number of subscribers; one that registers twice is one and is served once."""
        reader = self.registered(Reader(self.diary))
        self.registered(Reader(self.diary))
        self.registered(reader)
        self.assertEqual(len(self.broadcaster), 2)
        self.broadcaster.publish(ONE)
        self.assertEqual(reader.bursts, [ONE])

    def test_serves_a_late_subscriber_from_the_next_burst_on(self) -> None:
        """What was published before a registration is not delivered."""
        self.broadcaster.publish(ONE)
        reader = self.registered(Reader(self.diary))
        self.broadcaster.publish(TWO)
        self.assertEqual(reader.bursts, [TWO])

    def test_serves_nobody_who_has_left(self) -> None:
        """After unregister nothing comes any more; a second unregister, or a stranger's, is harmless."""
        reader, other = self.registered(Reader(self.diary)), self.registered(Reader(self.diary))
        self.broadcaster.unregister(reader)
        self.broadcaster.unregister(reader)
        self.broadcaster.unregister(Reader(self.diary))
        self.broadcaster.publish(ONE)
        self.assertEqual((reader.bursts, other.bursts), ([], [ONE]))
        self.assertEqual(reader.severed, 0)

    def test_somebody_who_comes_during_a_burst_is_served_from_the_next(self) -> None:
        """A registration out of a delivery disturbs neither the burst nor the others."""
        newcomer = Reader(self.diary)
        host = self.registered(Reader(self.diary, lambda: self.broadcaster.register(newcomer)))
        last = self.registered(Reader(self.diary))
        self.broadcaster.publish(ONE)
        self.assertEqual(self.diary, [host, last])
        self.broadcaster.publish(TWO)
        self.assertEqual(newcomer.bursts, [TWO])

    def test_somebody_who_leaves_during_a_burst_is_not_served_it(self) -> None:
        """One subscriber's delivery may close another, which then gets nothing after its close frame."""
        gone = Reader(self.diary)
        first = self.registered(Reader(self.diary, lambda: self.broadcaster.unregister(gone)))
        self.registered(gone)
        last = self.registered(Reader(self.diary))
        self.broadcaster.publish(ONE)
        self.assertEqual(self.diary, [first, last])
        self.assertEqual(len(self.broadcaster), 2)

    def test_somebody_who_leaves_out_of_its_own_delivery_harms_nobody(self) -> None:
        """A client that overflows unregisters itself in the middle of the burst."""
        leaver = Reader(self.diary, lambda: self.broadcaster.unregister(leaver))
        self.registered(leaver)
        last = self.registered(Reader(self.diary))
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        self.assertEqual((leaver.bursts, last.bursts), ([ONE], [ONE, TWO]))

    def test_ends_the_subscriber_that_fails_and_no_other(self) -> None:
        """A failed delivery is a hole in that client's stream: it is severed, the others go on."""
        before = self.registered(Reader(self.diary))
        failing = self.registered(Reader(self.diary, divide_by_zero))
        after = self.registered(Reader(self.diary))
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        self.assertEqual(
            [reader.bursts for reader in (before, failing, after)], [[ONE, TWO], [ONE], [ONE, TWO]]
        )
        self.assertEqual([reader.severed for reader in (before, failing, after)], [0, 1, 0])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_hands_a_status_to_everybody_with_the_same_care(self) -> None:
        """One that fails is ended, the others are told."""
        failing = self.registered(Reader(self.diary, divide_by_zero))
        last = self.registered(Reader(self.diary))
        self.broadcaster.announce(b"down")
        self.broadcaster.announce(b"up")
        self.assertEqual((failing.statuses, failing.severed), ([b"down"], 1))
        self.assertEqual(last.statuses, [b"down", b"up"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_subscriber_that_cannot_be_ended_harms_nobody(self) -> None:
        """The failure to sever is logged too, and contained as the first one was."""
        stubborn = self.registered(Stubborn(self.diary, divide_by_zero))
        last = self.registered(Reader(self.diary))
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        self.assertEqual((stubborn.bursts, stubborn.severed), ([ONE], 1))
        self.assertEqual(last.bursts, [ONE, TWO])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_ends_all_when_nothing_leads_on(self) -> None:
        """One that cannot be ended keeps none of the others; who comes afterwards is served."""
        readers = [self.registered(reader) for reader in (Reader(self.diary), Stubborn(self.diary))]
        self.broadcaster.drop_all()
        self.assertEqual([reader.severed for reader in readers], [1, 1])
        self.assertEqual(len(self.broadcaster), 0)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        late = self.registered(Reader(self.diary))
        self.broadcaster.publish(ONE)
        self.assertEqual(late.bursts, [ONE])


class CrowdTests(SynchronousTestCase):
    """More subscribers than one turn of the reactor serves."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.broadcaster = Broadcaster(self.clock)
        self.diary: list[Reader] = []
        self.readers = [Reader(self.diary) for _ in range(2 * CHUNK + 1)]
        for reader in self.readers:
            self.broadcaster.register(reader)

    def test_are_served_in_turns(self) -> None:
        """So that pings and new connections need not wait for all of them."""
        self.broadcaster.publish(ONE)
        self.assertEqual(len(self.diary), CHUNK)
        self.clock.advance(0)
        self.assertEqual(self.diary, self.readers)

    def test_what_comes_meanwhile_comes_after(self) -> None:
        """Bursts and status frames, to everybody in the same order."""
        self.broadcaster.publish(ONE)
        self.broadcaster.announce(b"down")
        self.broadcaster.publish(TWO)
        self.clock.advance(0)
        self.assertEqual(self.diary, self.readers * 2)
        for reader in self.readers:
            self.assertEqual((reader.bursts, reader.statuses), ([ONE, TWO], [b"down"]))

    def test_who_leaves_meanwhile_is_not_served(self) -> None:
        """Nor does it keep the others from being served."""
        self.broadcaster.publish(ONE)
        self.broadcaster.unregister(self.readers[-1])
        self.clock.advance(0)
        self.assertEqual(self.diary, self.readers[:-1])

    def test_the_newest_burst_comes_however_many_statuses_follow(self) -> None:
        """It alone tells a subscriber that something is missing."""
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        for _ in range(2 * MAX_QUEUED):
            self.broadcaster.announce(b"down")
        self.clock.advance(0)
        self.assertEqual(self.readers[-1].bursts, [ONE, TWO])
        self.assertEqual(len(self.readers[-1].statuses), 2 * MAX_QUEUED)

    def test_what_is_too_much_is_found_in_the_journal(self) -> None:
        """The newest burst comes in any case, and shows that some are missing; no status is lost."""
        self.broadcaster.publish(ONE)
        lost = Batch((Row(1, frames.FILL),), overflow=True)
        self.broadcaster.publish(lost)
        bursts = [Batch((Row(seq, frames.NEW),)) for seq in range(2, 3 + MAX_QUEUED)]
        self.broadcaster.announce(b"down")
        for burst in bursts:
            self.broadcaster.publish(burst)
        self.clock.advance(0)
        got = self.readers[0].bursts
        self.assertEqual((got[:2], got[-1]), ([ONE, lost], bursts[-1]))
        self.assertEqual(len(got), MAX_QUEUED - 1)
        self.assertEqual(self.readers[0].statuses, [b"down"])

    def test_are_all_ended_in_the_middle_of_a_burst(self) -> None:
        """Nobody of them is served any more; who comes then gets what comes then, and only that."""
        idle: list[int] = []
        self.broadcaster.on_idle = lambda: idle.append(1)
        self.broadcaster.publish(ONE)
        self.broadcaster.publish(TWO)
        self.broadcaster.drop_all()
        self.assertEqual({reader.severed for reader in self.readers}, {1})
        late = Reader(self.diary)
        self.broadcaster.register(late)
        self.clock.advance(0)
        self.assertEqual((len(self.diary), idle), (CHUNK, [1]))
        self.broadcaster.publish(TWO)
        self.assertEqual(late.bursts, [TWO])
