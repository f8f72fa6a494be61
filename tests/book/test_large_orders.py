"""Tests for tradeproxy.book: open orders and fills whose JSON is large."""

from __future__ import annotations

from tests.book.strategy_frames import frame, order
from tests.book.support import BookCase, make_snapshot
from tradeproxy.book import orders, state, store, writer

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


class LargeFillTests(BookCase):
    """The newest fills are bounded in bytes too: 50 of 1 MB took 100 MB, with a snapshot 150."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(state, "MAX_FILL_BYTES", 5 * SIZE)

    def list_fills(self) -> list[int]:
        """Return the rows of a snapshot's fills."""
        return [fill.seq for fill in make_snapshot(self.book).fills]

    def test_oldest_fills_are_left_out(self) -> None:
        """After a restart too, which reads them from the log."""
        self.publish(*[report(f"order {number:02}", "fill") for number in range(20)])
        found = self.list_fills()
        self.assertEqual(found, list(range(21 - len(found), 21)))
        self.assertIn(len(found), (4, 5))
        self.settle()
        self.stop()
        self.start()
        self.assertEqual(self.list_fills(), found)

    def test_newest_fill_stays_however_large(self) -> None:
        """A snapshot has at least the last one, and the usual number once they are small again."""
        self.patch(state, "MAX_FILL_BYTES", SIZE // 2)
        self.publish(report("first", "fill"), report("second", "fill"))
        self.assertEqual(self.list_fills(), [2])
        small = [
            frame("fill", order(f"order {number}"), event_id=f"small {number}")
            for number in range(4)
        ]
        self.publish(*small)
        self.assertEqual(self.list_fills(), [3, 4, 5, 6])
