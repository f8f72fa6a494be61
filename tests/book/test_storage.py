"""Tests for tradeproxy.book: the stored state, and what becomes of the log that it is of."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from typing import Any

from twisted.internet.task import Clock

from tests.book.strategy_frames import order, report_fill
from tests.book.support import BookCase, make_snapshot, parse
from tests.support.journals import Connections, memory_journal
from tests.support.trading import Trading
from tradeproxy.book import positions
from tradeproxy.book.book import Book
from tradeproxy.book.builder import WRITE_EVERY
from tradeproxy.book.executions import OrderLinks
from tradeproxy.book.positions import Position
from tradeproxy.book.store import load_meta, load_positions, save_meta
from tradeproxy.book.views import EventQuery, OrderQuery, OrderScope
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Tables
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.journal.schema import APPLICATION_ID, BOOK_TABLES, MIGRATIONS


class LogTests(BookCase):
    """A stored state is used only with the log that it is of."""

    def test_other_account_begins_again(self) -> None:
        """The keys may be replaced by another account's."""
        self.account.identify("one")
        self.live(50)
        self.account.identify("two")
        self.build()
        self.trading = Trading(2)
        self.live(40)
        self.assert_is_account()

    def test_lost_file_begins_again(self) -> None:
        """The journal begins a new one, and the book with it."""
        self.live(50)
        self.settle()
        self.path.unlink()
        self.clock.pump([2.0, 0.1, 0.1])
        self.trading = Trading(2)
        self.live(20)
        self.build()
        self.assert_is_account()

    def test_log_that_lost_its_end_is_read_again(self) -> None:
        """A power cut may take the spool, whose rows the book had."""
        self.live(30)
        self.settle()
        self.clock.advance(WRITE_EVERY)  # soon after it, the database gets what the spool has
        for frame in self.trading.take(6):
            self.account.publish(parse(frame))
            self.account.flush()  # few rows go to the spool
        self.book.catch_up()
        self.book.save()
        before = self.book.seq
        (self.path.parent / "paper.spool").unlink()
        self.kill()
        self.assertLess(self.book.seq, before)
        self.assertEqual(self.book.seq, self.journal.last)

    def test_kill_in_the_middle_of_building(self) -> None:
        """A half of a state has no cursor."""
        self.book.stop()
        self.live(1000)
        tables = self.journal.tables
        assert tables is not None
        tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)
        clock = Clock()
        self.book = Book(self.account, clock)
        self.book.start()
        while self.book.seq < 500:
            call = clock.calls.pop(0)
            call.called = 1
            call.func()
        self.assertTrue(self.book.is_building)
        self.kill()
        self.assert_is_account()

    def test_memory_journal_has_a_temporary_database(self) -> None:
        """So has a node with Redis, whose log is in memory."""
        self.stop()
        self.start(memory_journal(self.clock))
        self.live(100)
        self.assert_is_account()

    def test_journal_of_the_version_before_is_migrated(self) -> None:
        """It has no tables of the book, and its events make one."""
        self.live(100)
        self.stop()
        with closing(sqlite3.connect(self.path)) as connection:
            tables = re.findall("CREATE TABLE ([a-z_]+)", BOOK_TABLES)
            for name in tables:
                connection.execute(f"DROP TABLE {name}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            version = next(n for n, script in enumerate(MIGRATIONS) if "book_meta" in script)
            connection.execute(f"PRAGMA user_version = {version}")
            connection.commit()
        self.start()
        self.assert_is_account()


class AnswerTests(BookCase):
    """Alpaca's answer about many positions, which took a second of one turn with 10,000."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(positions, "SAVED_ANSWERS", 2)
        self.answer(5)

    def answer(self, qty: int) -> None:
        """Have Alpaca answer that so much is held of five symbols."""
        seed = self.book.seeding.begin()
        assert seed is not None
        documents = [(f"S{n}", b'{"symbol":"S%d","qty":"%d"}' % (n, qty)) for n in range(5)]
        self.book.seeding.take_positions(seed, documents)
        self.book.seeding.finish(seed)

    def load(self) -> list[Position]:
        """Return the positions that a crash now would leave."""
        tables = self.journal.tables
        assert tables is not None
        return tables.run(load_positions)

    def read_stored(self) -> dict[str, str]:
        """Return their quantities."""
        return {each.symbol: each.qty for each in self.load()}

    def test_answer_is_written_in_parts(self) -> None:
        """Clients read all of it at once."""
        counts = [len(self.book.positions())]
        for _ in range(4):
            counts.append(len(self.read_stored()))
            self.clock.advance(WRITE_EVERY)
            self.clock.advance(0)
        self.assertEqual(counts, [5, 2, 4, 5, 5])

    def test_rest_is_written_while_nothing_else_happens(self) -> None:
        """It waited for the next event, question or check, after every answer but the first."""
        for _ in range(2):
            self.settle()
        self.answer(6)
        for _ in range(2):
            self.settle()
        self.assertEqual([each.differs for each in self.load()], ["6"] * 5)

    def test_stop_writes_all_of_it(self) -> None:
        """Only the first part of a large answer was written at a stop in order."""
        self.book.stop()
        self.assertEqual(len(self.read_stored()), 5)

    def test_position_that_an_event_moves_is_written_with_its_row(self) -> None:
        """The row is not applied again after a crash."""
        waiting = next(f"S{n}" for n in range(5) if f"S{n}" not in self.read_stored())
        self.publish(report_fill(order("1", symbol=waiting), "e1", "1", "7"))
        self.book.catch_up()
        self.book.save()
        self.assertEqual(self.read_stored()[waiting], "6")


class FailureTests(BookCase):
    """A failing disk delays no event, and the book catches up with it."""

    def setUp(self) -> None:
        self.connections = Connections()
        super().setUp()

    def open(self, **options: Any) -> Any:
        return super().open(**{"connect": self.connections, **options})

    @property
    def tables(self) -> Tables:
        """The tables of the journal."""
        tables = self.journal.tables
        assert tables is not None
        return tables

    def test_snapshot_works_while_the_disk_fails(self) -> None:
        """What the disk does not have is in memory, for a search too."""
        self.live(20)
        self.connections.fail("BEGIN", sqlite3.SQLITE_FULL)
        self.live(30)
        self.clock.pump([1.0, 1.0])
        self.assertEqual(make_snapshot(self.book).seq, 50)
        self.assert_is_account()
        self.connections.fail("BEGIN", None)
        self.clock.pump([1.0, 1.0, 1.0])
        self.assert_is_account()

    def test_start_that_cannot_read_one_row_is_repeated(self) -> None:
        """The strategies' cursor was read last. If that failed, nothing was written any more."""
        self.live(60)
        self.settle()
        cursor = self.account.cursor_at(30) or ""  # as a kill leaves it during a build
        self.tables.run(lambda sql: save_meta(sql, {"strategies": cursor}), writes=True)
        self.stop()
        self.journal = self.open()
        self.account = Account("paper", self.journal, self.clock)
        self.connections.fail("SELECT seq, payload", sqlite3.SQLITE_IOERR, 29, 1)
        self.book = Book(self.account, self.clock, self.ticks)
        self.book.start()
        self.clock.advance(0)
        self.connections.fail("SELECT seq, payload", None, 29, 1)
        self.build()
        self.live(60)
        self.settle()
        self.assertEqual(self.tables.run(load_meta)["cursor"], self.account.cursor_at(120))

    def test_damaged_row_begins_a_new_log(self) -> None:
        """The book finds the damage as it parses: the journal does not look at its rows before."""
        order = "replace(payload, '\"order\":{', '\"order\":[')"
        spoiled = "x'7b'", "'{}'", "x'7b7d'", order, "substr(payload, 1, 300)"
        for value in spoiled:
            self.live(20)
            self.settle()
            self.clock.advance(WRITE_EVERY)  # soon after it, the database has the rows
            epoch, seq = self.journal.epoch, self.book.seq - 5
            payload = f"CAST({value} AS BLOB)" if "payload" in value else value
            self.connections.execute(f"UPDATE events SET payload = {payload} WHERE seq = {seq}")
            self.rebuild()
            if value == "x'7b7d'":
                self.assertEqual(self.journal.epoch, epoch)  # an object without an event
                continue
            self.assertNotEqual(self.journal.epoch, epoch, value)
            self.trading = Trading(2)
            self.live(20)
            self.assert_is_account()

    def test_tables_of_the_book_that_are_wrong_are_built_again(self) -> None:
        """The journal is not replaced for it: its events are right."""
        self.live(20)
        self.settle()
        epoch = self.journal.epoch
        self.connections.execute("ALTER TABLE book_orders RENAME COLUMN symbols TO other")
        self.live(1)
        self.clock.pump([1.0, 0.1])
        self.connections.execute("ALTER TABLE book_orders RENAME COLUMN other TO symbols")
        self.clock.pump([61.0, 0.1, 0.1, 0.1])
        self.build()
        self.assert_is_account()
        self.assertEqual(self.journal.epoch, epoch)

    def test_values_that_the_proxy_did_not_write_are_built_again(self) -> None:
        """They raised in a timer: no snapshot was answered until a restart, nor after it."""
        self.live(20)
        self.settle()
        for key in "next_num", "high", "fills":
            self.book.stop()
            self.connections.execute(f"UPDATE book_meta SET value = 'x' WHERE key = '{key}'")
            self.book = Book(self.account, self.clock, self.ticks)
            self.book.start()
            self.clock.pump([0.1, 0.1, 0.1, 61.0])
            self.build()
            self.settle()
            self.assert_is_account()
            self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1, key)

    def test_what_cannot_be_written_is_left_out(self) -> None:
        """Each write raised in its timer, for ever: the book stood still until a restart."""
        self.live(20)
        assert self.book.strategies is not None
        self.book.strategies.book.orders.link(
            OrderLinks("id", "\ud800")
        )  # SQLite raises no sqlite3.Error
        self.book.save()
        self.assertEqual(len(self.flushLoggedErrors(UnicodeEncodeError)), 1)
        self.live(20)
        self.clock.pump([61.0, 0.1, 0.1, 0.1])
        self.build()
        self.settle()
        self.kill()
        self.assert_is_account()


class TrimTests(BookCase):
    """What the journal has trimmed is dropped, but for open orders."""

    def test_closed_orders_leave_with_their_last_event(self) -> None:
        """Before and after a restart, and in the tables too."""
        self.stop()
        del self.path
        self.trading = Trading(5)
        self.start(max_events=50)
        self.live(600)
        open_before = {view.id: view.document for view in make_snapshot(self.book).list_orders()}
        for _ in range(5):
            self.clock.advance(TRIM_EVERY)
        self.live(1)
        for _ in range(5):
            self.settle()
        self.assertGreater(self.journal.first, 500)
        after = {view.id: view.document for view in make_snapshot(self.book).list_orders()}
        self.assertTrue(set(after) <= set(open_before) | set(self.trading.orders))
        self.assertTrue(
            self.trading.open_ids
            <= {
                order["id"]
                for document in map(json.loads, after.values())
                for order in (document, *(document["legs"] or ()))
            }
        )
        page = self.book.orders(OrderQuery(OrderScope.ALL), None, 100)
        self.assertIsNone(page.next)
        for view in page.orders:
            last = max(entry.seq for entry in self.book.timeline(view.id, 0, 100).entries or [view])
            self.assertTrue(view.is_open or last >= self.journal.first, view)
        tables = self.journal.tables
        assert tables is not None
        [count] = tables.run(lambda sql: sql.execute("SELECT count(*) FROM book_orders").fetchone())
        self.assertLess(count, 60)
        before = self.describe()
        self.stop()
        self.start(max_events=50)
        self.assertEqual(self.describe(), before)


class SearchTests(BookCase):
    """Pages of orders and events are complete, whatever their size."""

    def setUp(self) -> None:
        super().setUp()
        self.live(400)

    def list_orders(self, query: OrderQuery, limit: int) -> list[str]:
        found: list[str] = []
        key = None
        while True:
            page = self.book.orders(query, key, limit)
            self.assertLessEqual(len(page.orders), limit)
            found += [view.id for view in page.orders]
            if (key := page.next) is None:
                return found

    def list_events(self, query: EventQuery, limit: int) -> list[int]:
        found: list[int] = []
        before = None
        while True:
            page = self.book.events(query, before, limit)
            found += [row.seq for row in page.rows]
            if (before := page.next) is None:
                return found

    def test_pages_of_orders_are_the_list(self) -> None:
        """Open and closed ones are all of them, each once."""
        every = self.list_orders(OrderQuery(OrderScope.ALL), 100)
        self.assertEqual(self.list_orders(OrderQuery(OrderScope.ALL), 7), every)
        self.assertEqual(len(set(every)), len(every))
        some = [
            self.list_orders(OrderQuery(scope), 5) for scope in (OrderScope.OPEN, OrderScope.CLOSED)
        ]
        self.assertEqual(sorted([*some[0], *some[1]]), sorted(every))

    def test_orders_by_symbol_prefix_and_time(self) -> None:
        """Legs count for the symbol; the slash of a crypto pair does not."""
        for symbol in ("BTCUSD", "AAPL250321P00200000"):
            query = OrderQuery(OrderScope.ALL, frozenset({symbol}))
            found = set(self.list_orders(query, 9))
            orders = self.trading.orders
            wanted = {
                self.trading.parents.get(order["id"], order["id"])
                for order in orders.values()
                if order["symbol"].replace("/", "") == symbol
            }
            self.assertEqual(found, wanted)
        found = set(self.list_orders(OrderQuery(OrderScope.ALL, frozenset(), "bot-1"), 9))
        self.assertTrue(found)
        for order_id in found:
            self.assertTrue(self.trading.orders[order_id]["client_order_id"].startswith("bot-1"))
        views = self.book.orders(OrderQuery(OrderScope.ALL), None, 100).orders
        middle = views[50].submitted
        query = OrderQuery(OrderScope.ALL, after=middle)
        self.assertEqual(
            len(self.list_orders(query, 9)), sum(view.submitted > middle for view in views)
        )

    def test_events_by_kind_order_and_time(self) -> None:
        """Times select rows, late ones too."""
        rows = self.book.events(EventQuery(), None, 100).rows
        self.assertEqual([row.seq for row in rows], list(range(400, 300, -1)))
        kinds = self.list_events(EventQuery(kinds=frozenset({"fill", "partial_fill"})), 7)
        self.assertEqual(len(kinds), self.trading.fills)
        late = json.loads(self.trading.take(1)[0])
        late["data"]["at"] = "2026-09-21T14:13:21.000000Z"
        self.publish(json.dumps(late).encode())
        middle = rows[50].time or 0
        expected = [
            row.seq
            for seq in range(401, 0, -1)
            if (row := self.journal.row(seq)) is not None and (row.time or 0) <= middle
        ]
        self.assertEqual(self.list_events(EventQuery(until=middle), 30), expected)
        self.assertIn(401, expected)
        since = self.list_events(EventQuery(since=middle), 30)
        self.assertEqual(since, list(range(400, rows[50].seq - 1, -1)))

    def test_events_of_a_leg_have_those_of_its_parent(self) -> None:
        """Fills of a multi-leg order are events of the parent."""
        leg, parent = next(iter(self.trading.parents.items()))
        self.assertTrue(
            set(self.list_events(EventQuery(order_id=parent), 10))
            <= set(self.list_events(EventQuery(order_id=leg), 10))
        )
        view = self.book.order(leg)
        assert view is not None
        self.assertEqual(view.parent_id, parent)
        self.assertIsNone(self.book.order("no such order"))
        self.assertEqual(self.book.timeline("no such order", 0, 10).entries, ())
