"""Tests for tradeproxy.book.orders: open orders whose JSON is large."""

from __future__ import annotations

from tests.book.strategy_frames import frame, order
from tests.book.support import BookCase, make_snapshot
from tradeproxy.book import orders, store, writer

SIZE = 20_000
"""Bytes of an order, about."""


def report(order_id: str, event: str = "new") -> bytes:
    """Return the frame of an order that is open, or was canceled."""
    status = "new" if event == "new" else event
    return frame(
        event, order(order_id, status=status, pad="x" * SIZE), event_id=f"{event} {order_id}"
    )


class LargeOrderTests(BookCase):
    """The book is bounded in bytes too: 400 open orders of 1 MB took 400 MB."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(orders, "MAX_OPEN_BYTES", 5 * SIZE)
        self.patch(writer, "WRITE_BYTES", 2 * SIZE)
        self.patch(store, "LOAD_BYTES", SIZE)

    def list_open(self) -> list[str]:
        """Return the orders of a snapshot."""
        return sorted(view.id for view in make_snapshot(self.book).list_orders())

    def test_oldest_orders_are_on_the_disk_only(self) -> None:
        """Without waiting for the next write, which 160 rows would have come before."""
        names = [f"order {number:02}" for number in range(20)]
        for name in names:
            self.publish(report(name))
        kept = self.list_open()
        self.assertEqual(kept, names[-len(kept) :])
        self.assertLess(len(kept), 8)
        self.assertFalse(self.book.is_complete)
        for name in names:
            view = self.book.order(name)
            assert view is not None
            self.assertGreater(len(view.document), SIZE)

    def test_restart_loads_no_more_than_the_bound(self) -> None:
        """A restart read all of them."""
        for number in range(20):
            self.publish(report(f"order {number:02}"))
        self.settle()
        self.stop()
        self.start()
        self.assertLess(len(self.list_open()), 8)

    def test_orders_within_the_bound_stay_whatever_comes_and_goes(self) -> None:
        """What was closed, or came again, does not count."""
        self.publish(report("first"))
        for number in range(20):
            name = f"order {number:02}"
            self.publish(report(name), report(name, "canceled"), report("first"))
        self.settle()
        self.assertEqual(self.list_open(), ["first"])
        self.stop()
        self.start()
        self.assertEqual(self.list_open(), ["first"])
