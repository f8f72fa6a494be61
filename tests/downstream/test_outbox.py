"""Tests for tradeproxy.downstream.outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tradeproxy.downstream.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 10


class OutboxTests(SynchronousTestCase):
    """What is owed to one client that reads more slowly than events come."""

    def setUp(self) -> None:
        self.sent: list[str] = []
        self.overflows = 0
        self.on_send: Callable[[str], object] = lambda item: None
        self.outbox: Outbox[str] = Outbox(self.send, LIMIT, self.overflow)

    def send(self, item: str) -> None:
        """Stand for the transport, which may pause the outbox while it takes an item."""
        self.sent.append(item)
        self.on_send(item)

    def overflow(self) -> None:
        """Count it."""
        self.overflows += 1

    def put(self, *items: str, size: int = 1) -> None:
        """Put `items` of `size` bytes each."""
        for item in items:
            self.outbox.put(item, size)

    def test_is_a_push_producer(self) -> None:
        """Twisted may pause and resume it."""
        self.assertTrue(verifyObject(IPushProducer, self.outbox))

    def test_sends_at_once_while_the_client_reads(self) -> None:
        """Nothing is held back, and no size is too large."""
        self.put("a", "b")
        self.put("c", size=100 * LIMIT)
        self.assertEqual((self.sent, self.overflows), (["a", "b", "c"], 0))

    def test_nothing_overtakes_what_is_owed(self) -> None:
        """What is put while the debt is being paid comes after it."""
        self.outbox.pauseProducing()
        self.put("a", "b")
        self.on_send = lambda item: self.put("c") if item == "a" else None
        self.outbox.resumeProducing()
        self.assertEqual(self.sent, ["a", "b", "c"])

    def test_keeps_what_comes_during_a_pause_and_sends_it_in_order(self) -> None:
        """A pause delays events and neither loses nor reorders them."""
        self.put("a")
        self.outbox.pauseProducing()
        self.put("b", "c")
        self.assertEqual(self.sent, ["a"])
        self.outbox.resumeProducing()
        self.put("d")
        self.assertEqual(self.sent, ["a", "b", "c", "d"])

    def test_stops_where_the_transport_pauses_it_again(self) -> None:
        """What is owed goes out only as far as there is room, and newer events wait behind it."""
        self.outbox.pauseProducing()
        self.put("a", "b", "c", "d")
        self.on_send = lambda item: self.outbox.pauseProducing() if item in "bd" else None
        self.outbox.resumeProducing()
        self.assertEqual(self.sent, ["a", "b"])
        self.put("e")
        self.outbox.resumeProducing()
        self.assertEqual(self.sent, ["a", "b", "c", "d"])
        self.outbox.resumeProducing()
        self.assertEqual(self.sent, ["a", "b", "c", "d", "e"])

    def test_holds_back_what_follows_an_item_that_filled_the_transport(self) -> None:
        """A pause out of the very send of an item concerns the next one."""
        self.on_send = lambda item: self.outbox.pauseProducing()
        self.put("a", "b")
        self.assertEqual(self.sent, ["a"])

    def test_a_resume_without_debts_or_without_a_pause_is_harmless(self) -> None:
        """Twisted may resume a producer that it never paused."""
        self.outbox.resumeProducing()
        self.outbox.pauseProducing()
        self.outbox.resumeProducing()
        self.put("a")
        self.assertEqual(self.sent, ["a"])

    def test_overflows_once_more_than_the_limit_is_owed(self) -> None:
        """Exactly the limit may be owed; one byte more ends it, and is told once."""
        self.outbox.pauseProducing()
        self.put("a", "b", size=LIMIT // 2)
        self.assertEqual(self.overflows, 0)
        self.put("c", size=1)
        self.assertEqual(self.overflows, 1)
        self.put("d", size=LIMIT + 1)
        self.assertEqual(self.overflows, 1)

    def test_overflows_by_one_item_over_the_limit(self) -> None:
        """A single item can be too much."""
        self.outbox.pauseProducing()
        self.put("a", size=LIMIT + 1)
        self.assertEqual(self.overflows, 1)

    def test_sends_nothing_after_an_overflow(self) -> None:
        """A stream with a hole is worse than none: what was owed is gone, and what follows stays out."""
        self.outbox.pauseProducing()
        self.put("a", "b", size=LIMIT)
        self.outbox.resumeProducing()
        self.put("c")
        self.assertEqual(self.sent, [])

    def test_forgets_what_it_has_sent(self) -> None:
        """A client that catches up each time may be slow again and again."""
        for _ in range(3):
            self.outbox.pauseProducing()
            self.put("a", size=LIMIT)
            self.outbox.resumeProducing()
        self.assertEqual((self.sent, self.overflows), (["a"] * 3, 0))

    def test_owes_only_what_is_left_after_half_a_resume(self) -> None:
        """What went out before the next pause counts no more against the limit."""
        self.outbox.pauseProducing()
        self.put("a", "b", size=LIMIT // 2)
        self.on_send = lambda item: self.outbox.pauseProducing()
        self.outbox.resumeProducing()
        self.put("c", size=LIMIT // 2)
        self.assertEqual((self.sent, self.overflows), (["a"], 0))
        self.put("d", size=1)
        self.assertEqual(self.overflows, 1)

    def test_sends_nothing_after_a_stop(self) -> None:
        """The connection is ending: neither what was owed nor what comes then is sent, nor too much."""
        self.outbox.pauseProducing()
        self.put("a")
        self.outbox.stopProducing()
        self.outbox.resumeProducing()
        self.put("b", size=LIMIT + 1)
        self.outbox.pauseProducing()
        self.put("c", size=LIMIT + 1)
        self.outbox.stopProducing()
        self.assertEqual((self.sent, self.overflows), ([], 0))

    def test_a_stop_in_the_middle_of_a_resume_ends_it(self) -> None:
        """A send that ends the connection is the last one."""
        self.outbox.pauseProducing()
        self.put("a", "b")
        self.on_send = lambda item: self.outbox.stopProducing()
        self.outbox.resumeProducing()
        self.assertEqual(self.sent, ["a"])
