"""Tests for tradeproxy.runtime.fair_queue."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.fair_queue import FairQueue


def fill(queue: FairQueue[str, str], items: str) -> None:
    """Push items whose first letter is the key."""
    for item in items.split():
        queue.push(item[0], item)


def drain(queue: FairQueue[str, str]) -> str:
    """Pop all items."""
    return " ".join(queue.pop() for _ in range(len(queue)))


class FairQueueTests(SynchronousTestCase):
    """A key with many items does not delay the others."""

    def test_keys_are_served_in_turn(self) -> None:
        """A later key with one item comes before the second item of the first."""
        queue = FairQueue[str, str]()
        fill(queue, "a1 a2 a3 b1 c1 c2")
        self.assertEqual(drain(queue), "a1 b1 c1 a2 c2 a3")
        self.assertEqual(len(queue), 0)

    def test_newest_first_is_the_order_within_a_key(self) -> None:
        """The order of the keys stays."""
        queue = FairQueue[str, str](newest_first=True)
        fill(queue, "a1 a2 a3 b1 b2")
        self.assertEqual(drain(queue), "a3 b2 a2 b1 a1")

    def test_served_key_that_returns_comes_last(self) -> None:
        """An item that is pushed again does not come before keys that wait."""
        queue = FairQueue[str, str]()
        fill(queue, "a1 b1 c1")
        queue.push("a", queue.pop())
        self.assertEqual(drain(queue), "b1 c1 a1")

    def test_discarded_item_is_not_served(self) -> None:
        """Nor does a key without items take a turn."""
        queue = FairQueue[str, str]()
        fill(queue, "a1 b1 b2 c1")
        for item in ("a1", "b1", "a1", "x1"):
            queue.discard(item)
        self.assertEqual(("a1" in queue, "b2" in queue, len(queue)), (False, True, 2))
        self.assertEqual(drain(queue), "b2 c1")

    def test_item_that_waits_keeps_its_place(self) -> None:
        """It waits once."""
        queue = FairQueue[str, str]()
        fill(queue, "a1 a2 a1")
        self.assertEqual(drain(queue), "a1 a2")

    def test_pop_of_empty_queue_is_an_error(self) -> None:
        """A caller asks for the length first."""
        self.assertRaises(KeyError, FairQueue[str, str]().pop)
