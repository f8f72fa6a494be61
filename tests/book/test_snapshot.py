"""What the snapshots of one book share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.book.support import BookCase, make_snapshot, parse
from tests.support.state import order_event
from tradeproxy.book.snapshot import GROUP_NUMS, Renderings
from tradeproxy.journal.base import UnreadableError

if TYPE_CHECKING:
    from tradeproxy.book.views import BookSnapshot

BRACKETS = 300


def bracket(n: int, order_id: int) -> bytes:
    """Return event `n`: a bracket that is open."""
    legs = [{"id": f"{order_id}-{leg}", "symbol": "AAPL", "status": "held"} for leg in "ab"]
    return order_event(n, str(order_id), legs=legs)


def count_own(new: BookSnapshot, old: BookSnapshot) -> tuple[int, int]:
    """Return what only the new snapshot has: bytes of documents, and groups of orders."""

    def list_documents(each: BookSnapshot) -> list[bytes]:
        views: list[Any] = [*each.list_orders(), *each.positions, *each.fills]
        return [*[view.document for view in views], *each.strategies]

    known = set(map(id, list_documents(old)))
    groups = set(map(id, old.groups))
    return (
        sum(len(each) for each in list_documents(new) if id(each) not in known),
        sum(id(group) not in groups for group in new.groups),
    )


class SharedSnapshotTests(BookCase):
    """A client that does not read keeps its snapshot while events make further ones."""

    def setUp(self) -> None:
        super().setUp()
        self.publish(*[bracket(n, 1000 + n) for n in range(BRACKETS)])
        self.publish(*[order_event(500 + n, str(2000 + n), "fill") for n in range(60)])

    def test_event_later_snapshot_has_little_of_its_own(self) -> None:
        """Each snapshot was a copy of the whole state: a hundred readers pinned 800 MB."""
        old = make_snapshot(self.book)
        self.publish(bracket(600, 1005))
        new = make_snapshot(self.book)
        self.assertGreater(new.seq, old.seq)
        [changed] = [view for view in new.list_orders() if view.id == "1005"]
        self.assertEqual(count_own(new, old), (len(changed.document), 1))
        self.assertIs(new.fills, old.fills)
        self.assertIs(new.positions, old.positions)
        self.assertIs(new.strategies, old.strategies)

    def test_closed_order_changes_one_group(self) -> None:
        """The orders behind it in the list stay in their groups."""
        old = make_snapshot(self.book)
        self.publish(order_event(601, "1005", "canceled", legs=[]))
        self.publish(order_event(602, "1005-a", "canceled"), order_event(603, "1005-b", "canceled"))
        new = make_snapshot(self.book)
        ids = [view.id for view in new.list_orders()]
        self.assertEqual(ids, [str(1000 + n) for n in range(BRACKETS) if n != 5])
        self.assertEqual(count_own(new, old)[1], 1)
        self.assertLess(max(map(len, new.groups)), GROUP_NUMS)

    def test_changed_leg_is_shown(self) -> None:
        """The order itself is as it was."""
        make_snapshot(self.book)
        self.publish(order_event(604, "1005-b", "canceled"))
        [view] = [view for view in make_snapshot(self.book).list_orders() if view.id == "1005"]
        self.assertIn(b'"status":"canceled"', view.document)

    def test_next_one_begins_when_the_first_is_made(self) -> None:
        """Each has a copy of the list of orders until it is made."""
        self.ticks.tick = 0.001
        first = self.book.snapshot()
        self.account.publish(parse(bracket(605, 1005)))
        self.account.flush()
        self.assertTrue(self.book.catch_up())
        self.assertIs(self.book.snapshot(), first)
        while first.made is None:
            first.step()
        second = self.book.snapshot()
        self.assertEqual(second.seq, first.seq + 1)

    def test_failed_one_does_not_delay_the_next(self) -> None:
        """Its clients get an error; they waited for it without an end."""

        def fail(*_: object) -> None:
            raise ValueError

        view = Renderings.view
        self.patch(Renderings, "view", fail)
        pending = self.book.snapshot()
        self.assertTrue(pending.has_ended)
        self.assertRaises(UnreadableError, lambda: pending.made)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.patch(Renderings, "view", view)
        # Not only after the next event: a quiet account had no snapshot for hours.
        self.assertEqual(make_snapshot(self.book).seq, self.book.seq)
        self.publish(bracket(606, 1005))
        self.assertEqual(make_snapshot(self.book).seq, self.book.seq)
