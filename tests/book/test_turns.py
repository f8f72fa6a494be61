"""What one turn of the reactor takes of a book, whoever asks it."""

from __future__ import annotations

from twisted.internet.task import Clock

from tests.book.support import BookCase, make_snapshot, parse
from tradeproxy.book.book import Book
from tradeproxy.book.builder import READ_ROWS
from tradeproxy.book.fill_sql import clear_strategies
from tradeproxy.book.writer import WRITE_ROWS


class TurnTests(BookCase):
    """Each look at the timer takes a millisecond."""

    def setUp(self) -> None:
        super().setUp()
        self.live(100)
        self.settle()
        self.ticks.tick = 0.001

    def burst(self, count: int) -> None:
        """Publish events, which the book does not apply yet."""
        for frame in self.trading.take(count):
            self.account.publish(parse(frame))
        self.account.flush()

    def test_question_applies_rows_for_a_bounded_time(self) -> None:
        """300 fills took 20 ms. The next turns go on, and other questions wait for them too."""
        self.burst(300)
        self.assertFalse(self.book.catch_up())
        behind = self.book.rows_behind
        self.assertTrue(0 < behind < 300, behind)
        self.assertFalse(self.book.catch_up())
        self.assertEqual(self.book.rows_behind, behind)
        for _ in range(300 // READ_ROWS):
            self.clock.advance(0)
        self.assertTrue(self.book.catch_up())
        self.assert_is_account()

    def test_snapshot_is_made_in_turns(self) -> None:
        """Its clients share it, and events that come meanwhile are behind it."""
        self.stop()
        del self.path
        self.trading = type(self.trading)(3, active=150)
        self.start()
        self.ticks.tick = 0.0
        self.live(400)
        expected = make_snapshot(self.book)
        self.assertGreater(len(list(expected.list_orders())), 60)
        self.restart_book()
        self.ticks.tick = 0.001
        pending = self.book.snapshot()
        self.assertIs(self.book.snapshot(), pending)
        self.assertIsNone(pending.made)
        self.burst(100)
        for _ in range(100):
            self.clock.advance(0.01)
        self.assertEqual(pending.made, expected)
        self.assertGreater(self.book.seq, expected.seq)

    def restart_book(self) -> None:
        """Have a book that has made no snapshot."""
        self.book.stop()
        self.new_book()

    def test_holdings_are_not_computed_before_the_end_of_the_log(self) -> None:
        """Each correction of a fill made one begin again: a third of what building took."""
        statements: list[str] = []
        self.book.stop()
        tables = self.journal.tables
        assert tables is not None
        tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)
        tables.run(lambda sql: sql.set_trace_callback(statements.append))
        clock = Clock()
        self.book = Book(self.account, clock, self.ticks)
        self.book.start()
        steps = 0
        while self.book.is_building:
            if self.book.rows_behind:
                self.assertFalse([each for each in statements if "ORDER BY time, event_id" in each])
                steps += bool(self.book.seq)
            call = clock.calls.pop(0)
            call.called = 1
            call.func()
        self.assertGreater(steps, 1)

    def test_new_strategies_look_at_no_order_again(self) -> None:
        """Once the log was read, the rule was applied to each order again, with three reads."""
        statements: list[str] = []
        self.book.stop()
        tables = self.journal.tables
        assert tables is not None
        tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)
        tables.run(clear_strategies, writes=True)
        tables.run(lambda sql: sql.set_trace_callback(statements.append))
        self.ticks.tick = 0
        self.new_book()
        self.settle()
        strategies = self.book.strategies
        assert strategies is not None
        self.assertTrue(strategies.is_current())
        self.assertEqual(sum("ORDER BY rowid" in each for each in statements), 0)
        self.assert_is_account()

    def test_end_of_a_build_writes_many_rows_in_two_transactions(self) -> None:
        """Up to 256 rows were in one, the strategies' part too: twice as much as between events."""
        self.live(WRITE_ROWS - 50)
        self.settle()
        self.book.stop()
        tables = self.journal.tables
        assert tables is not None
        tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)
        tables.run(clear_strategies, writes=True)
        statements: list[str] = []
        tables.run(lambda sql: sql.set_trace_callback(statements.append))
        self.ticks.tick = 0
        self.new_book()
        self.settle()
        transactions = "\n".join(statements).split("COMMIT")
        self.assertTrue(any("INTO strategy_fills" in each for each in transactions))
        for each in transactions:
            rows = each.count("INTO book_events")
            self.assertFalse(rows > WRITE_ROWS and "INTO strategy_fills" in each, rows)
        self.assert_is_account()
