"""Nodes with a book each, on one log in a real Redis."""

from __future__ import annotations

from tests.book.strategy_frames import order, report_fill
from tests.book.support import parse
from tests.support.holdings import group_holdings
from tests.support.nodes import LEASE_KEY, Member, NodesCase
from tests.support.ticks import Ticks
from tradeproxy.book.book import Book
from tradeproxy.book.strategies import Strategies


class BooksCase(NodesCase):
    """Two nodes with a book each; the first one leads."""

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

    def end(self, member: Member) -> None:
        """Kill a node, and let another one lead."""
        self.books[member].stop()
        member.kill()
        member.stop()
        self.advance(15)

    def publish(self, member: Member, order_id: str) -> None:
        """Receive a fill from Alpaca, and let every book apply it."""
        about = order(order_id, f"alpha-{order_id}")
        at = f"2026-09-21T12:00:0{order_id}Z"
        frame = report_fill(about, f"e{order_id}", "1", "2", timestamp=at, at=at)
        member.account.publish(parse(frame))
        member.account.flush()
        self.advance(2)
        for book in self.books.values():
            book.catch_up()

    def strategies(self, member: Member) -> Strategies:
        """Return a node's strategies, after the rows that wait: every question applies them."""
        self.books[member].catch_up()
        strategies = self.books[member].strategies
        assert strategies is not None
        return strategies

    def quantities(self, member: Member) -> dict[str, str]:
        """Return what each strategy holds on a node."""
        strategies = self.strategies(member)
        self.assertTrue(strategies.is_current())
        return {name: f"{own[0][1].qty}" for name, own in group_holdings(strategies.book).items()}

    # Redis loses its end: the last second before a restart.

    def restart_redis(self, dump: dict[bytes, bytes], seconds: float = 2) -> None:
        """Lose the connections and what Redis got since `dump`; `seconds` pass then."""
        for member in self.members:
            member.cut()
        lease = self.redis.dump().get(LEASE_KEY.encode())
        self.redis.roll_back(dump | ({} if lease is None else {LEASE_KEY.encode(): lease}))
        for member in self.members:
            member.restore()
        self.advance(seconds)
