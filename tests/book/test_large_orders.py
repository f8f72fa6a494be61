"""Tests for tradeproxy.book: open orders and fills whose JSON is large."""

from __future__ import annotations

from tests.book.strategy_frames import frame, order
from tests.book.support import BookCase, make_snapshot
from tradeproxy.book import orders, reader, state, store, writer
from tradeproxy.book.views import EventQuery, OrderKey, OrderQuery, OrderScope

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


class LargeAnswerTests(BookCase):
    """One call read 50 orders or events, or 100 of a timeline: 50 MB of objects of 1 MB."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(reader, "MAX_BYTES", 3 * SIZE)
        for number in range(20):
            self.publish(report(f"order {number:02}", "canceled"))
            self.publish(report("busy", f"kind {number:02}"))
        self.settle()

    def test_orders_end_a_page_with_their_bytes(self) -> None:
        """The next page continues behind it."""
        for scope, count in {OrderScope.ALL: 21, OrderScope.OPEN: 1}.items():
            found: list[str] = []
            key: OrderKey | None = None
            while True:
                page = self.book.orders(OrderQuery(scope), key, 100)
                self.assertLess(sum(len(view.document) for view in page.orders), 5 * SIZE)
                found += [view.id for view in page.orders]
                if (key := page.next) is None:
                    break
            self.assertEqual(len(found), count)
            self.assertEqual(len(set(found)), count)

    def test_small_orders_in_large_events_end_a_page_too(self) -> None:
        """Each event is parsed for its order: 50 of 1 MB took more than a second in one turn."""
        for number in range(10):
            canceled = order(f"small {number}", "small", status="canceled")
            self.publish(frame("canceled", canceled, event_id=f"small {number}", pad="x" * SIZE))
        self.settle()
        query = OrderQuery(OrderScope.ALL, client_order_id_prefix="small")
        page = self.book.orders(query, None, 100)
        self.assertLess(len(page.orders), 5)
        self.assertIsNotNone(page.next)

    def test_events_end_a_page_with_their_bytes(self) -> None:
        """None is left out, and none comes twice."""
        found: list[int] = []
        before: int | None = None
        while True:
            page = self.book.events(EventQuery(), before, 100)
            self.assertLess(sum(len(row.payload or b"") for row in page.rows), 5 * SIZE)
            found += [row.seq for row in page.rows]
            if (before := page.next) is None:
                break
        self.assertEqual(found, [*range(40, 0, -1)])

    def test_timeline_ends_a_page_with_the_bytes_that_it_read(self) -> None:
        """Each row is parsed: 100 of 1 MB took seconds in one turn."""
        found: list[str] = []
        after: int | None = 0
        while after is not None:
            page = self.book.timeline("busy", after, 100)
            self.assertLess(len(page.entries), 5)
            found += [entry.kind for entry in page.entries]
            after = page.next
        self.assertEqual(found, [f"kind {number:02}" for number in range(20)])

    def test_leg_that_is_in_no_event_of_its_parent_takes_many_calls(self) -> None:
        """All events of the parent were read in one turn: 60,000 took three seconds."""
        parent = order("parent", status="new", legs=[order("leg", status="new")])
        self.publish(frame("new", parent, event_id="first"))
        for number in range(10):
            self.publish(
                frame("replaced", order("parent", status="new"), event_id=f"without {number}")
            )
        page = self.book.timeline("leg", 41, 4)
        self.assertEqual((page.entries, page.next), ((), 45))
        page = self.book.timeline("leg", 45, 100)
        self.assertEqual((page.entries, page.next), ((), None))
