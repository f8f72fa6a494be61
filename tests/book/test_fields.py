"""Tests for tradeproxy.book.fields: how much of an event is read."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.book.strategy_frames import frame, order
from tradeproxy.book.fields import MAX_LEGS, BookOrder, read_event, read_order

PAD = "x" * 10_000
DEPTH = 100


def nest(**fields: Any) -> dict[str, Any]:
    """Return an order with a leg that has a leg, and so on; the last one is large."""
    about = order("last", pad=PAD)
    for level in range(DEPTH):
        about = order(f"level {level}", legs=[about], **fields)
    return about


def read(about: dict[str, Any], **fields: Any) -> BookOrder:
    """Return what is read of the order in a frame."""
    event = read_event(frame("new", about, **fields))
    assert event is not None
    assert event.order is not None
    return event.order


def list_family(about: BookOrder) -> list[BookOrder]:
    """Return an order and all orders below it."""
    return [about, *(below for leg in about.legs for below in list_family(leg))]


class NestedLegsTests(SynchronousTestCase):
    """An event of 0.9 MB with 300 levels of legs took 260 MB, and 250 ms."""

    def assert_is_small(self, about: BookOrder) -> None:
        """Assert that the order and its leg are all that is kept."""
        family = list_family(about)
        self.assertEqual([each.id for each in family], ["level 99", "level 98"])
        size = len(json.dumps(nest()))
        self.assertLess(sum(len(each.document) for each in family), 3 * size)

    def test_legs_of_legs_are_not_read(self) -> None:
        """Alpaca has none. Each level was a copy of all levels below it."""
        self.assert_is_small(read(nest()))
        answered = read_order(json.dumps(nest()).encode())
        assert answered is not None
        self.assert_is_small(answered)

    def test_legs_of_legs_with_odd_values_are_not_read(self) -> None:
        """The other parser copied them too."""
        self.assert_is_small(read(nest(filled_qty=float("nan"))))

    def test_object_of_a_leg_stays_as_it_came(self) -> None:
        """What the book does not read is passed on."""
        [leg] = read(nest()).legs
        self.assertEqual(json.loads(leg.document), nest()["legs"][0])


class ManyTests(SynchronousTestCase):
    """Lists in one event are bounded, whichever parser reads it."""

    def test_legs_and_positions_are_bounded(self) -> None:
        """9,000 positions of one event were as many rows of the store."""
        names = [f"leg {number}" for number in range(50)]
        for odd in (None, float("nan")):
            about = order("parent", legs=[order(name) for name in names], odd=odd)
            event = read_event(
                frame(
                    "fill",
                    about,
                    qty=odd,
                    legs=[{"order_id": name} for name in names],
                    position_qtys=dict.fromkeys(names, "1"),
                )
            )
            assert event is not None
            assert event.order is not None
            expected = names[:MAX_LEGS]
            self.assertEqual([leg.id for leg in event.order.legs], expected)
            self.assertEqual([leg.order_id for leg in event.legs], expected)
            self.assertEqual(list(event.position_qtys), expected)
