"""Tests for tradeproxy.book.book."""

from __future__ import annotations

from tests.book.support import BookCase, make_snapshot, parse
from tests.support.threads import Threads
from tests.support.trading import Trading
from tradeproxy.book import builder, store, writer
from tradeproxy.book.book import Book
from tradeproxy.book.builder import APPLY_ROWS, CHECKPOINT_WAIT, MAX_WAITS, READ_ROWS, WRITE_EVERY
from tradeproxy.book.writer import WRITE_ROWS
from tradeproxy.journal.wal_checkpoints import CHANGES


class LifeTests(BookCase):
    """The book is what the events add up to, whatever they are."""

    def test_events_one_by_one_or_in_bursts_add_up(self) -> None:
        """Any mix of single, multi-leg and bracket orders, replacements and busts."""
        for _ in range(60):
            self.live(1)
        self.live(300)
        self.assert_is_account()
        self.settle()
        self.assert_is_account()

    def test_many_lives_add_up(self) -> None:
        """Other seeds have other orders."""
        for seed in range(2, 8):
            self.stop()
            del self.path
            self.trading = Trading(seed)
            self.start()
            self.live(150)
            self.assert_is_account()

    def test_restart_continues(self) -> None:
        """The stored state and its cursor are of one moment."""
        self.live(200)
        before = self.describe()
        self.stop()
        self.start()
        self.assertEqual(self.describe(), before)
        self.live(100)
        self.assert_is_account()

    def test_journal_without_a_book_is_read_from_the_beginning(self) -> None:
        """So is one of an earlier version, and one that was used with PROXY_BOOK=0."""
        self.book.stop()
        self.live(500)
        self.new_book()
        self.assert_is_account()


class KillTests(BookCase):
    """After a kill at any moment the book equals that of a process that was not killed."""

    def test_kill_at_any_moment(self) -> None:
        """Rows may be in the spool only, and the book behind them."""
        for number in range(30):
            self.live(number % 7)
            if number % 3 == 0:
                self.settle()
            self.kill()
        self.assert_is_account()
        killed = self.describe()
        self.rebuild()
        self.assertEqual(self.describe(), killed)


class CostTests(BookCase):
    """What is not needed at once is done for many events together."""

    def count_changes(self) -> int:
        """Return how many rows of its tables the book has written."""
        tables = self.journal.tables
        assert tables is not None
        return tables.run(lambda sql: sql.total_changes)

    def stored_cursor(self) -> str:
        """Return how far the stored state is."""
        tables = self.journal.tables
        assert tables is not None
        return tables.run(store.load_meta)["cursor"]

    def test_events_wait_for_one_step(self) -> None:
        """Each would take a turn of the reactor between two deliveries otherwise.

        At 5 events a second, the process woke up for the book each second, and to write after five.
        """
        self.settle()
        for frame in self.trading.take(5):
            self.account.publish(parse(frame))
            self.clock.advance(WRITE_EVERY / 10)
        self.assertEqual(self.book.rows_behind, 5)
        self.clock.advance(WRITE_EVERY)
        self.assertEqual(self.book.rows_behind, 0)
        self.assertEqual(self.stored_cursor(), self.book.cursor)

    def test_write_waits_for_a_checkpoint(self) -> None:
        """A COMMIT took up to 16 ms meanwhile: the disk is synced. A thread may hang for ever."""
        threads = Threads()
        self.stop()
        self.start(in_thread=threads)
        self.live(1)
        for has_hung in (False, True):
            self.settle()
            self.begin_checkpoint()
            self.assertEqual(len(threads.waiting), 1)
            before = self.stored_cursor()
            self.live(1)
            self.assertEqual((self.book.rows_behind, self.stored_cursor()), (0, before))
            if not has_hung:
                threads.run()
            self.clock.pump([CHECKPOINT_WAIT] * (MAX_WAITS if has_hung else 1))
            self.assertEqual(self.stored_cursor(), self.book.cursor)

    def test_build_goes_on_during_a_checkpoint(self) -> None:
        """A fifth of its time was spent waiting. It does not go on for ever: the memory is full."""
        self.patch(builder, "BUILD_READ_ROWS", READ_ROWS)
        self.patch(writer, "BUILD_ROWS", 3 * READ_ROWS)
        self.patch(writer, "BUSY_ROWS", 6 * READ_ROWS)
        self.stop()
        self.start(in_thread=Threads())
        self.live(10 * READ_ROWS)
        self.settle()
        self.book.stop()
        tables = self.journal.tables
        assert tables is not None
        tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)
        self.begin_checkpoint()
        self.book = Book(self.account, self.clock, self.ticks)
        self.book.start()
        self.clock.advance(0)
        self.assertEqual(self.book.seq, 6 * READ_ROWS)
        self.build()
        self.assert_is_account()

    def begin_checkpoint(self) -> None:
        """Change so many rows that a checkpoint is due."""
        rows = [(f"{n}", "") for n in range(CHANGES)]
        tables = self.journal.tables
        assert tables is not None
        tables.run(
            lambda sql: sql.executemany("REPLACE INTO strategy_meta VALUES (?, ?)", rows),
            writes=True,
        )

    def test_many_events_do_not_wait(self) -> None:
        """A step for the events of a second would delay the next delivery."""
        for frame in self.trading.take(APPLY_ROWS):
            self.account.publish(parse(frame))
            self.account.flush()
        self.clock.advance(0)
        self.assertEqual(self.book.rows_behind, 0)

    def test_questions_do_not_make_the_next_write_large(self) -> None:
        """580 rows, which many questions had applied, took 15 ms of one turn."""
        self.live(20)
        self.settle()
        before = self.stored_cursor()
        for _ in range(2 * WRITE_ROWS // 20):
            for frame in self.trading.take(20):
                self.account.publish(parse(frame))
            self.account.flush()
            self.book.catch_up()
        self.clock.advance(0)
        self.assertNotEqual(self.stored_cursor(), before)

    def test_question_writes_nothing(self) -> None:
        """Many clients may ask, and each event would be a transaction otherwise."""
        self.settle()
        for frame in self.trading.take(20):
            self.account.publish(parse(frame))
        self.account.flush()
        before = self.count_changes()
        self.assertTrue(self.book.catch_up())
        self.assert_is_account()
        self.assertEqual(self.count_changes(), before)
        self.settle()
        self.assertGreater(self.count_changes(), before)

    def test_snapshot_is_made_once_for_many_clients(self) -> None:
        """All of them connect again after a restart."""
        self.live(20)
        snapshot = self.book.snapshot()
        self.assertIs(self.book.snapshot(), snapshot)
        self.live(1)
        self.assertEqual(make_snapshot(self.book).seq, 21)
