"""Assignments by hand and imports with several nodes on one log in a real Redis."""

from __future__ import annotations

from tests.book.strategy_frames import order, report_fill
from tests.book.support import parse
from tests.support.nodes import Member, NodesCase
from tests.support.ticks import Ticks
from tradeproxy.book.book import Book
from tradeproxy.book.strategy_views import group_holdings


class SharedAssignmentTests(NodesCase):
    """Two nodes with a book each."""

    def setUp(self) -> None:
        super().setUp()
        self.books: dict[Member, Book] = {}
        self.leader, self.node = self.start_with_book(), self.start_with_book()
        self.assertTrue(self.leader.is_leader)
        self.publish(self.leader, "1")

    def start_with_book(self) -> Member:
        """Return a node that competes for the lease, with its book."""
        member = self.start_node()
        book = self.books[member] = Book(member.account, self.clock, Ticks())
        book.start()
        self.addCleanup(book.stop)
        self.advance(2)
        return member

    def publish(self, member: Member, order_id: str) -> None:
        """Receive a fill from Alpaca."""
        about = order(order_id, f"alpha-{order_id}")
        at = f"2026-09-21T12:00:0{order_id}Z"
        frame = report_fill(about, f"e{order_id}", "1", "2", timestamp=at, at=at)
        member.account.publish(parse(frame))
        member.account.flush()
        self.advance(2)

    def assign(self, member: Member, order_id: str, name: str) -> None:
        """Assign an order on a node."""
        strategies = self.books[member].strategies
        assert strategies is not None
        strategies.assign(order_id, name)
        self.advance(2)

    def quantities(self, member: Member) -> dict[str, str]:
        """Return what each strategy holds on a node."""
        strategies = self.books[member].strategies
        assert strategies is not None
        self.assertTrue(strategies.is_current())
        return {name: f"{own[0][1].qty}" for name, own in group_holdings(strategies.book).items()}

    def test_assignments_survive_the_leader(self) -> None:
        """The next leader has them when its term begins, and assigns further ones."""
        self.assign(self.leader, "1", "beta")
        self.books[self.leader].stop()
        self.leader.kill()
        self.leader.stop()
        self.advance(15)
        self.assertTrue(self.node.is_leader)
        self.assertEqual(self.quantities(self.node), {"beta": "1"})
        self.publish(self.node, "2")
        self.assign(self.node, "2", "gamma")
        third = self.start_with_book()
        self.books[self.node].stop()
        self.node.stop()
        self.advance(15)
        self.assertTrue(third.is_leader)
        self.assertEqual(self.quantities(third), {"beta": "1", "gamma": "1"})
        self.assign(third, "1", "")
        self.assertEqual(self.quantities(third), {"alpha": "1", "gamma": "1"})

    def test_follower_has_assignments_once_it_reads_the_metadata(self) -> None:
        """That is at its start. One that runs has them when it leads."""
        self.assign(self.leader, "1", "beta")
        self.assertEqual(self.quantities(self.leader), {"beta": "1"})
        self.assertEqual(self.quantities(self.node), {"alpha": "1"})
        third = self.start_with_book()
        self.assertEqual(self.quantities(third), {"beta": "1"})
