"""The strategies are stored with the book: restarts, kills, other rules and other accounts."""

from __future__ import annotations

import json
import shutil
import sqlite3
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.task import Clock

from tests.book.strategy_frames import START, UUID, frame, order, read, report_fill
from tests.support.holdings import describe_strategy, group_holdings
from tests.support.journals import DAY, Connections, SqliteCase
from tests.support.ticks import Ticks
from tradeproxy.book import builder, writer
from tradeproxy.book.book import Book
from tradeproxy.book.builder import READ_ROWS, WRITE_EVERY
from tradeproxy.book.executions import read_activity, read_order_links
from tradeproxy.book.fill_sql import clear_strategies
from tradeproxy.book.fill_store import FillStore
from tradeproxy.book.importing import ImportPage
from tradeproxy.book.store import load_meta
from tradeproxy.book.strategies import (
    ASSIGN_STEP,
    MAX_ASSIGNMENTS,
    AssignmentError,
    Strategies,
    UnknownOrderError,
)
from tradeproxy.book.strategy_book import StrategyBook
from tradeproxy.hub.account import Account
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.journal.tables import TemporaryTables
from tradeproxy.wire.event import format_time
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.strategy_rule import BeforeDash, parse_rule
from tradeproxy.wire.trade_date import trade_date

TODAY = trade_date(START)


def trade(random: Random, number: int) -> bytes:
    """Return a random frame: a fill, or an amendment, replacement or leg of an earlier order."""
    name = random.choice(["alpha-1", "beta-1", UUID])
    about = order(
        f"{number}",
        name,
        symbol=random.choice(["AAPL", "BTC/USD"]),
        side=random.choice(["buy", "sell"]),
        replaces=f"{random.randrange(number)}" if number and random.random() < 0.2 else None,
    )
    if number and random.random() < 0.1:
        target = random.randrange(number)
        return frame(
            "trade_bust",
            order(f"{target}"),
            execution_id=f"e{target}",
            event_id=f"bust {number}",
            timestamp="2026-11-30T16:00:00Z",
        )
    minute = random.randrange(100)
    qty, price = f"{random.randint(1, 5)}", f"{random.randint(1, 500) / 100}"
    return report_fill(about, f"e{number}", qty, price, minute=minute)


def describe(book: StrategyBook) -> list[dict[str, Any]]:
    """Return all that a book says."""
    while book.work(1000):
        pass
    return [describe_strategy(name, own, TODAY, {}) for name, own in group_holdings(book).items()]


class KeptTests(SqliteCase):
    """One account."""

    now = START / 1_000_000

    def setUp(self) -> None:
        super().setUp()
        self.rule = ""
        self.connections = Connections()
        self.begin()

    def begin(self) -> None:
        """Begin a life of the process."""
        self.journal = self.open(connect=self.connections)
        self.account = Account("paper", self.journal, self.clock)
        self.book = Book(self.account, self.clock, Ticks(), parse_rule(self.rule))
        self.book.start()
        self.build()

    def build(self) -> None:
        """Wait for the book."""
        for _ in range(500):
            self.clock.advance(0)
            if not self.book.is_building and self.strategies.book.is_current:
                return
            self.clock.advance(0.1)
        raise AssertionError("the book was not built")

    @property
    def strategies(self) -> Strategies:
        """The strategies of the account."""
        found = self.book.strategies
        assert found is not None
        return found

    def kill(self) -> None:
        """Continue with the files as they are now, as after a kill -9."""
        directory = Path(self.mktemp())
        shutil.copytree(self.path.parent, directory)
        self.path = directory / self.path.name
        self.begin()

    def restart(self) -> None:
        """Stop in order, and begin again."""
        self.book.stop()
        self.account.close()
        self.begin()

    def publish(self, *frames: bytes) -> None:
        """Publish events, and let the book apply them."""
        for each in frames:
            message = parse_server(each)
            assert isinstance(message, TradeUpdate)
            self.account.publish(message.event)
        self.clock.advance(0)  # the account commits
        self.clock.advance(WRITE_EVERY)
        for _ in range(100):  # a slow machine applies few rows in a step
            self.clock.advance(0)
            if not self.book.rows_behind:
                return

    def quantities(self) -> dict[str, str]:
        """Return what each strategy holds."""
        return {
            entry["name"]: entry["positions"][0]["qty"]
            for entry in describe(self.strategies.book)
            if entry["positions"]
        }

    def test_kills_at_any_moment_leave_the_same_book(self) -> None:
        """Whatever was written by then, the log has the rest."""
        random = Random(26)
        tables = TemporaryTables()
        self.addCleanup(tables.close)
        plain = StrategyBook(FillStore(tables), BeforeDash(), self.fail)
        number = 0
        for _ in range(40):
            for _ in range(random.randrange(8)):
                payload = trade(random, number)
                number += 1
                plain.take(read(payload))
                self.publish(payload)
                if random.random() < 0.3:
                    self.clock.advance(random.choice([0.1, WRITE_EVERY, 20.0]))
            self.kill()
        # What only the spool had is there, too.
        self.assertEqual(json.dumps(describe(self.strategies.book)), json.dumps(describe(plain)))
        self.assertGreater(number, 100)

    def test_kill_between_the_transactions_of_a_write_applies_no_row_twice(self) -> None:
        """While the book is built, the strategies are written before the rest.

        A correction that was applied twice would be noted as one of an unknown fill: the next one
        has replaced the id that it names.
        """
        self.patch(builder, "BUILD_READ_ROWS", READ_ROWS)
        self.patch(writer, "BUILD_ROWS", READ_ROWS)
        corrections = [
            report_fill(order("x"), new, "4", "2", event="trade_correct", previous_execution_id=old)
            for old, new in pairwise("abcd")
        ]
        fill, random = report_fill(order("x"), "a", "5", "2"), Random(1)
        others = [trade(random, number) for number in range(3 * READ_ROWS)]
        first, later = others[: READ_ROWS - 2], others[READ_ROWS - 2 :]
        self.publish(fill, corrections[0], *first, *corrections[1:], *later)
        expected = describe(self.strategies.book)
        self.book.stop()
        tables = self.journal.tables
        assert tables is not None
        tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)
        tables.run(clear_strategies, writes=True)
        clock = Clock()
        self.book = Book(self.account, clock, Ticks())
        self.book.start()
        meta: dict[str, str] = {}
        while not meta.get("cursor") or meta["strategies"] == meta["cursor"]:
            call = clock.calls.pop(0)
            call.called = 1
            call.func()
            meta = tables.run(load_meta)
        self.assertTrue(self.book.is_building)
        self.kill()
        self.assertEqual(describe(self.strategies.book), expected)
        self.assertEqual(self.strategies.book.notes, [])

    def test_rows_that_must_wait_reach_the_strategies_once(self) -> None:
        """The strategies take several rows before the rest of the book, which may fail to read.

        A correction that came again was noted as one of an unknown fill, as above: in the same
        life, and after a kill too if the strategies were written meanwhile.
        """
        for name, is_killed in (("x", False), ("y", True)):
            about = order(name)
            corrections = [
                report_fill(about, new, "4", "2", event="trade_correct", previous_execution_id=old)
                for old, new in pairwise("abcd")
            ]
            self.publish(report_fill(about, "a", "5", "2"), corrections[0])
            self.clock.advance(WRITE_EVERY)  # the closed order is in the file only
            self.connections.fail("SELECT num, id", sqlite3.SQLITE_IOERR)
            self.publish(*corrections[1:])
            self.clock.advance(WRITE_EVERY)
            self.assertEqual(self.book.rows_behind, 2)
            self.assertFalse(self.book.save())
            self.connections.fail("SELECT num, id", None)
            if is_killed:
                self.kill()
            self.clock.advance(WRITE_EVERY)
            self.assertEqual(self.book.rows_behind, 0)
            self.assertEqual(self.strategies.book.notes, [], name)
        self.assertEqual(self.quantities(), {"alpha": "8"})

    def test_assignment_by_hand_survives_a_kill(self) -> None:
        """It is in the journal's metadata, which other nodes read too."""
        self.publish(report_fill(order("1"), "a", "5", "2"))
        self.strategies.assign("1", "grün")
        self.assertEqual(self.quantities(), {"grün": "5"})
        self.kill()
        self.assertEqual(self.quantities(), {"grün": "5"})
        self.strategies.assign("1", "")
        self.restart()
        self.assertEqual(self.quantities(), {"alpha": "5"})

    def test_lone_surrogates_in_an_event_do_not_end_the_book(self) -> None:
        """They have no UTF-8. One stopped the book and each of its pages, after restarts too."""
        odd = rb'"\ud800"'
        about = order("order", "client-1", symbol="SYMBOL", other=["other"])
        payload = report_fill(about, "execution", "1", "2")
        for word in ("order", "client-1", "SYMBOL", "execution", "2", "buy", "other"):
            self.publish(payload.replace(f'"{word}"'.encode(), odd))
        self.publish(report_fill(order("1"), "a", "5", "2"))
        self.assertEqual(self.quantities()["alpha"], "5")
        self.assertEqual(self.book.rows_behind, 0)
        self.kill()
        self.assertEqual(self.quantities()["alpha"], "5")

    def test_lone_surrogates_in_an_import_do_not_end_the_book(self) -> None:
        """SQLite refuses them: each later write raised, and nothing was stored until a restart."""
        odd = "a-\ud800"
        links = {"id": odd, "client_order_id": "\ud800-1", "replaces": odd, "legs": [{"id": odd}]}
        fill = {
            "id": odd,
            "order_id": odd,
            "transaction_time": "2026-11-30T15:00:00Z",
            "type": "fill",
            "symbol": odd,
            "asset_class": odd,
            "side": "buy",
            "qty": "5",
            "price": "2",
        }
        execution = read_activity(fill)
        assert execution is not None
        page = ImportPage(tuple(read_order_links(links)), (execution,))
        self.assertEqual(ImportPage.decode(page.encode()), page)
        self.strategies.take_page(page)
        self.book.save()
        self.publish(report_fill(order("1"), "a", "5", "2"))
        expected = {"alpha": "5", "?": "5"}
        self.assertEqual(self.quantities(), expected)
        self.clock.advance(WRITE_EVERY)
        self.kill()
        self.assertEqual(self.quantities(), expected)

    def test_many_assignments_are_applied_in_steps(self) -> None:
        """A node that started had 4,000 to apply: that took 23 ms, and 19 ms to write."""
        self.publish(*(report_fill(order(f"{n}"), f"e{n}", "1", "2") for n in range(3)))
        self.clock.advance(WRITE_EVERY)
        many = {f"{n}": "hand" for n in range(3 * ASSIGN_STEP)}
        self.journal.set_metadata("strategy assignments", json.dumps(many))
        self.assertFalse(self.strategies.is_current())
        self.assertEqual(self.strategies.records.unsaved, ASSIGN_STEP)
        self.clock.advance(0)  # all further steps: neither a page nor an event is needed
        self.assertEqual(self.quantities(), {"hand": "3"})

    def test_assignments_that_change_before_all_are_applied(self) -> None:
        """What these have reached is undone, after a kill too; a single one counts at once."""
        self.publish(report_fill(order("0"), "a", "5", "2"), report_fill(order("x"), "b", "1", "2"))
        many = {f"{n}": "hand" for n in range(3 * ASSIGN_STEP)}
        for text, is_killed in (("{}", False), (None, True), ('{"0":""}', True)):
            self.journal.set_metadata("strategy assignments", json.dumps(many))
            self.assertFalse(self.strategies.is_current())
            self.assertEqual(self.strategies.book.orders.find_strategy("0"), "hand")
            self.strategies.assign("x", "other")
            self.assertEqual(self.strategies.book.orders.find_strategy("x"), "other")
            self.assertFalse(self.strategies.is_current())
            self.journal.set_metadata("strategy assignments", text)
            if is_killed:
                self.book.save()
                self.kill()
            for _ in range(4):
                self.strategies.is_current()
            self.assertEqual(self.quantities(), {"alpha": "6"}, text)

    def test_wrong_assignment_is_refused(self) -> None:
        """With the reason."""
        self.publish(report_fill(order("1"), "a", "5", "2"))
        with self.assertRaises(UnknownOrderError):
            self.strategies.assign("2", "beta")
        for name in ("(other)", "a\nb", "x" * 129):
            with self.assertRaises(AssignmentError):
                self.strategies.assign("1", name)
        many = {f"{number:036}": "x" * 128 for number in range(MAX_ASSIGNMENTS)}
        self.journal.set_metadata("strategy assignments", json.dumps(many))
        with self.assertRaises(AssignmentError):
            self.strategies.assign("1", "beta")
        # With names that are not ASCII, one assignment took 1.2 s, and the text had 3 MB.
        many = {f"{number:036}": "\N{BLACK STAR}" * 128 for number in range(1100)}
        self.journal.set_metadata("strategy assignments", json.dumps(many))
        with self.assertRaisesRegex(AssignmentError, "too long together"):
            self.strategies.assign("1", "beta")

    def test_other_rule_after_a_restart_moves_the_fills(self) -> None:
        """The setting needs a restart, and holds for all fills."""
        self.publish(report_fill(order("1"), "a", "5", "2"))
        self.rule = "^(al)"
        self.restart()
        self.assertEqual(self.quantities(), {"al": "5"})
        self.rule = "^(al)"
        self.kill()
        self.assertEqual(self.quantities(), {"al": "5"})

    def test_kill_while_another_rule_is_applied_loses_no_fill(self) -> None:
        """The rule counts as applied once every fill is looked at, and not before."""
        for number in range(3):
            about = order(f"{number}", "alpha-1", symbol=f"S{number}")
            self.publish(report_fill(about, f"e{number}", "5", "2"))
        self.clock.advance(WRITE_EVERY)
        self.book.stop()
        self.account.close()
        self.rule = "al"
        self.journal = self.open()
        tables = self.journal.tables
        assert tables is not None
        account = Account("paper", self.journal, self.clock)
        tables.run(Strategies(account, tables, parse_rule("al"), self.fail).save, writes=True)
        self.kill()
        holdings = self.strategies.book.holdings
        self.assertEqual({name for (name, _), held in holdings.items() if held.qty}, {"al"})

    def test_positions_of_the_start_belong_to_none(self) -> None:
        """Alpaca's first answer counts, later ones do not."""
        position = {"symbol": "AAPL", "asset_class": "us_equity", "avg_entry_price": "7"}
        for qty in ("5", "6"):
            seed = self.book.seeding.begin()
            assert seed is not None
            document = json.dumps(position | {"qty": qty}).encode()
            self.book.seeding.take_positions(seed, [("AAPL", document)])
            self.book.seeding.finish(seed)
            self.clock.advance(2)
        self.assertEqual(self.quantities(), {"(none)": "5"})
        self.kill()
        self.assertEqual(self.quantities(), {"(none)": "5"})

    def test_trimmed_rows_leave_the_lots(self) -> None:
        """The fills are records of the strategies' own, and a copy of one is not booked again."""
        fill = report_fill(order("1"), "a", "5", "2", at=format_time(START))
        self.publish(fill)
        self.strategies.assign("1", "beta")
        self.clock.advance(WRITE_EVERY)
        self.clock.advance(8 * DAY)
        self.publish(
            report_fill(order("2"), "b", "1", "2", at=format_time(START + 8 * 86_400_000_000))
        )
        for _ in range(3):
            self.clock.advance(TRIM_EVERY)
        self.assertGreater(self.journal.first, 1)
        for begin_again in (self.restart, self.kill):
            begin_again()
            self.strategies.book.take(read(fill))
            self.assertEqual(self.quantities(), {"alpha": "1", "beta": "5"})

    def test_other_account_begins_without_fills(self) -> None:
        """The strategies of one account say nothing of another one's."""
        self.account.identify("account-1")
        self.publish(report_fill(order("1"), "a", "5", "2"))
        self.clock.advance(WRITE_EVERY)
        self.restart()
        self.assertEqual(self.quantities(), {"alpha": "5"})
        self.account.identify("account-2")
        self.assertFalse(self.book.catch_up())  # nothing is left of the other account at once
        self.assertTrue(self.book.is_building)
        self.publish(report_fill(order("2"), "b", "1", "2"))
        self.build()
        self.assertEqual(self.quantities(), {"alpha": "1"})
