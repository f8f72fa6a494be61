"""A book with its account, for tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.support.journals import SqliteCase
from tests.support.ticks import Ticks
from tests.support.trading import BEGIN, Trading
from tradeproxy.book.book import Book
from tradeproxy.book.builder import WRITE_EVERY
from tradeproxy.book.old_documents import OldDocuments
from tradeproxy.book.views import (
    BookSnapshot,
    EventQuery,
    OrderKey,
    OrderQuery,
    OrderScope,
    OrderView,
)
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Journal, Row
from tradeproxy.wire.event import Event
from tradeproxy.wire.messages import TradeUpdate, parse_server


def parse(frame: bytes) -> Event:
    """Return the event of a frame."""
    message = parse_server(frame)
    assert isinstance(message, TradeUpdate), message
    return message.event


def make_snapshot(book: Book) -> BookSnapshot:
    """Return the snapshot of a book without waiting for its steps."""
    pending = book.snapshot()
    while pending.made is None:
        pending.step()
    return pending.made


def describe(book: Book) -> dict[str, Any]:
    """Return all that a book answers."""
    snapshot = make_snapshot(book)
    orders: list[OrderView] = []
    key: OrderKey | None = None
    while True:
        page = book.orders(OrderQuery(OrderScope.ALL), key, 100)
        orders += page.orders
        if (key := page.next) is None:
            break
    events: list[Row] = []
    before: int | None = None
    while True:
        found = book.events(EventQuery(), before, 100)
        events += found.rows
        if (before := found.next) is None:
            break
    return {
        "seq": snapshot.seq,
        "cursor": snapshot.cursor,
        "open": tuple(snapshot.list_orders()),
        "positions": snapshot.positions,
        "fills": snapshot.fills,
        "strategies": [each.document for each in snapshot.strategies],
        "orders": orders,
        "events": events,
        "timelines": {order.id: book.timeline(order.id, 0, 100).entries for order in orders},
    }


class BookCase(SqliteCase):
    """A base class with an account, its journal on the disk, and its book, which is current."""

    now = BEGIN / 1_000_000

    def setUp(self) -> None:
        super().setUp()
        self.trading = Trading(1)
        self.ticks = Ticks()
        self.start()

    def start(self, journal: Journal | None = None, **options: Any) -> None:
        """Begin a life of the process."""
        self.journal = self.open(**options) if journal is None else journal
        self.account = Account("paper", self.journal, self.clock)
        self.book = Book(self.account, self.clock, self.ticks)
        self.book.start()
        self.build()

    def new_book(self, old: OldDocuments | None = None) -> None:
        """Have another book in place of one that was stopped."""
        self.book = Book(self.account, self.clock, self.ticks, old=old)
        self.book.start()
        self.build()

    def rebuild(self) -> None:
        """Have a book that reads the whole log, with nothing of the stored state."""
        self.book.stop()
        tables = self.journal.tables
        assert tables is not None
        tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)
        self.new_book()

    def build(self) -> None:
        """Let the book build its state."""
        for _ in range(200):
            self.clock.advance(0)
            if not self.book.is_building:
                return
            self.clock.advance(0.1)
        raise AssertionError("the book was not built")

    def stop(self) -> None:
        """End the process in order."""
        self.book.stop()
        self.account.close()

    def kill(self) -> None:
        """Continue with the files as they are now, as after a kill -9."""
        directory = Path(self.mktemp())
        shutil.copytree(self.path.parent, directory)
        self.path = directory / self.path.name
        self.start()

    def publish(self, *frames: bytes) -> None:
        """Publish events, and let the book apply them."""
        for frame in frames:
            self.account.publish(parse(frame))
        self.clock.advance(0)  # the account commits
        self.clock.advance(WRITE_EVERY)
        for _ in range(100):  # a slow machine applies few rows in a step
            self.clock.advance(0)
            if not self.book.rows_behind:
                return

    def live(self, events: int) -> None:
        """Publish the next events of the account's life."""
        frames = self.trading.take(events)
        self.clock.advance(max(self.trading.time / 1_000_000 - self.clock.seconds(), 0.0))
        self.publish(*frames)

    def settle(self) -> None:
        """Let the book write what is due."""
        for seconds in (WRITE_EVERY, WRITE_EVERY, 0):
            self.clock.advance(seconds)

    def describe(self) -> dict[str, Any]:
        """Return all that the book answers."""
        return describe(self.book)

    def assert_is_account(self) -> None:
        """Assert that the book has what the account's events add up to."""
        trading, described = self.trading, self.describe()
        found = {}
        for view in described["orders"]:
            document = json.loads(view.document)
            for order in (document, *(document["legs"] or ())):
                found[order["id"]] = {**order, "legs": None}
        self.assertEqual(found, trading.orders)
        open_ids = {
            order["id"]
            for view in described["open"]
            for document in [json.loads(view.document)]
            for order in (document, *(document["legs"] or ()))
        }
        self.assertTrue(trading.open_ids <= open_ids)
        self.assertEqual(
            {each.symbol: json.loads(each.document)["qty"] for each in described["positions"]},
            {symbol: f"{qty.normalize():f}" for symbol, qty in trading.positions.items() if qty},
        )
        self.assertEqual(len(described["fills"]), min(trading.fills, 50))
        for order_id, expected in trading.timelines.items():
            found_events = [
                (entry.kind, entry.status) for entry in self.book.timeline(order_id, 0, 100).entries
            ]
            self.assertEqual(found_events, expected, order_id)
