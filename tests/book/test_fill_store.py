"""What the records of the strategies cost in the tables, and what earlier commits left there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from msgspec.json import encode
from twisted.trial.unittest import SynchronousTestCase

from tests.book.strategy_frames import frame, order, read
from tradeproxy.book.executions import Execution
from tradeproxy.book.fill_records import OrderRecord
from tradeproxy.book.fill_store import FillStore
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
