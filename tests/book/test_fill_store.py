"""What the records of the strategies cost in the tables, and what earlier commits left there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from msgspec.json import encode
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.book.strategy_frames import frame, order, read
from tradeproxy.book.executions import Execution
from tradeproxy.book.fill_records import BookedFill, OrderRecord
from tradeproxy.book.fill_store import MAX_FILLS, FillStore
from tradeproxy.journal import tables
from tradeproxy.journal.schema import BOOK_TABLES, MIGRATIONS
from tradeproxy.journal.tables import TemporaryTables

_T = TypeVar("_T")


class CountingTables(TemporaryTables):
    """Tables that count what is read of them."""

    reads = 0

    def run(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool = False) -> _T:
        """See TemporaryTables."""
        self.reads += not writes
        return super().run(work, writes=writes)


def bust(number: int) -> Execution:
    """Return an amendment of an unknown fill."""
    payload = frame("trade_bust", order("1"), execution_id=f"{number}")
    [execution] = read(payload).executions
    return execution


def make_fill(order_id: str, number: int) -> BookedFill:
    """Return a fill of an order that has `number` others before it."""
    place = "alpha", "AAPL", "us_equity"
    amounts = Decimal(1), Decimal(2), Decimal(1), Decimal(0)
    return BookedFill(order_id, f"e{number}", *place, number, "", *amounts, f"{number + 1}")


class FillStoreTests(SynchronousTestCase):
    """One store in tables of its own."""

    def setUp(self) -> None:
        self.tables = CountingTables()
        self.addCleanup(self.tables.close)

    def save(self, store: FillStore) -> int:
        """Save, and return how many rows were written."""
        before = self.tables.run(lambda sql: sql.total_changes)
        self.tables.run(store.save, writes=True)
        store.clear_changes()
        return self.tables.run(lambda sql: sql.total_changes) - before

    def test_note_is_written_without_the_others(self) -> None:
        """All were one text of some 300 KB, which each write of the book wrote again."""
        store = FillStore(self.tables)
        for number in range(100):
            store.add_unbooked(bust(number))
        self.save(store)
        store.add_unbooked(bust(100))
        self.assertEqual(self.save(store), 1)
        store.remove_unbooked(bust(7))
        self.assertEqual(self.save(store), 1)
        expected = [bust(number) for number in range(101) if number != 7]
        self.assertEqual(FillStore(self.tables).list_unbooked(), expected)

    def test_notes_of_an_earlier_commit_are_read(self) -> None:
        """They are in one text there."""
        text = encode([bust(1), bust(2)]).decode()
        self.tables.run(
            lambda sql: sql.execute("INSERT INTO strategy_meta VALUES ('unbooked', ?)", (text,)),
            writes=True,
        )
        store = FillStore(self.tables)
        store.remove_unbooked(bust(1))
        self.save(store)
        self.assertEqual(FillStore(self.tables).list_unbooked(), [bust(2)])

    def test_new_order_is_not_looked_up_in_empty_tables(self) -> None:
        """Two look-ups for each new order were a fifth of building a book."""
        store = FillStore(self.tables)
        self.tables.reads = 0
        self.assertIsNone(store.get_order("1"))
        store.put_order(OrderRecord("1", "alpha-1"), None)
        self.save(store)
        self.tables.reads = 0
        for number in range(2, 300):
            store.put_order(OrderRecord(f"{number}"), None)
        self.assertEqual(self.tables.reads, 0)
        self.assertEqual(store.get_order("1"), OrderRecord("1", "alpha-1"))
        store.forget_seen()
        self.assertEqual(store.get_order("1"), OrderRecord("1", "alpha-1"))
        self.assertIsNone(store.get_order("300"))
        self.assertEqual(FillStore(self.tables).get_order("1"), OrderRecord("1", "alpha-1"))

    def count_indexed(self) -> int:
        """Return how many fills are in the index of their `ref`."""
        query = "SELECT count(*) FROM strategy_fills INDEXED BY strategy_fills_by_ref"
        [count] = self.tables.run(lambda sql: sql.execute(f"{query} WHERE extra = 1").fetchone())
        assert isinstance(count, int)
        return count

    def change_fills(self, store: FillStore, count: int) -> None:
        """Find the fills of order "large" in each way, and change some of them."""
        for number in (0, 7, MAX_FILLS - 1, MAX_FILLS, count - 1):
            known = store.get_fill("large", f"e{number}")
            assert known is not None, number
            self.assertEqual(known.time, number)
            self.assertEqual(store.find_filled("large", f"{number + 1}"), known)
            store.put_fill(replace(known, alias=f"c{number}", price=Decimal(9)), known)
        self.save(store)
        store = FillStore(self.tables)
        for number in (0, 7, MAX_FILLS - 1, MAX_FILLS, count - 1):
            for ref in f"e{number}", f"c{number}":
                known = store.get_fill("large", ref)
                assert known is not None, ref
                self.assertEqual((known.time, known.price), (number, Decimal(9)))
        self.assertIsNone(store.get_fill("large", f"e{count}"))
        self.assertIsNone(store.find_filled("large", f"{count + 1}"))

    def test_fills_of_most_orders_are_in_few_indexes(self) -> None:
        """Two indexes of random ids had every fill, for orders with thousands of them."""
        store = FillStore(self.tables)
        for number in range(300):
            store.put_order(OrderRecord(f"{number}"), None)
            store.put_fill(make_fill(f"{number}", 0), None)
        self.save(store)
        self.assertEqual(self.count_indexed(), 0)

    def test_fills_of_a_large_order_are_found(self) -> None:
        """Its first ones are read together, the others by index."""
        store, count = FillStore(self.tables), 3 * MAX_FILLS
        store.put_order(OrderRecord("large"), None)
        for number in range(count):
            store.put_fill(make_fill("large", number), None)
            if number % 50 == 0:
                self.save(store)
        self.save(store)
        self.assertEqual(self.count_indexed(), count - MAX_FILLS)
        self.change_fills(FillStore(self.tables), count)

    def test_fills_of_an_earlier_version_are_found(self) -> None:
        """Its file has every fill in the indexes, and no mark."""
        before = next(n for n, script in enumerate(MIGRATIONS) if "extra" in script)
        old = BOOK_TABLES.removesuffix(MIGRATIONS[before])
        self.patch(tables, "BOOK_TABLES", old)
        self.tables = CountingTables()
        self.addCleanup(self.tables.close)
        count = 2 * MAX_FILLS
        fills = [("large", n) for n in range(count)]
        fills += [(f"small {n}", n) for n in range(count)]  # ids that end alike
        fills += [(f"{n:04} other", n) for n in range(count)]

        def insert(sql: sqlite3.Connection) -> None:
            for order_id, number in fills:
                fill = make_fill(order_id, number)
                values = order_id, fill.ref, "alpha", "AAPL", "us_equity", number, ""
                sql.execute(
                    "INSERT INTO strategy_fills VALUES"
                    " (?, ?, ?, ?, ?, ?, ?, '1', '2', '1', '0', ?, '', 0, 0)",
                    (*values, fill.filled),
                )

        self.tables.run(insert, writes=True)
        self.tables.run(lambda sql: sql.executescript(MIGRATIONS[before]))
        self.assertEqual(self.count_indexed(), count - MAX_FILLS)
        store = FillStore(self.tables)
        self.assertEqual(store.get_fill("0009 other", "e9"), make_fill("0009 other", 9))
        self.change_fills(store, count)
