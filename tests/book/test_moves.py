"""Orders that get another strategy: the work of each step, whatever the orders are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

from tests.book.strategy_frames import UUID, frame, order, read, report_fill
from tradeproxy.book.fill_store import MAX_CACHED, MAX_FILLS, FillStore
from tradeproxy.book.moves import MAX_CIRCLE
from tradeproxy.book.strategies import WORK_FILLS
from tradeproxy.book.strategy_book import StrategyBook
from tradeproxy.journal.tables import TemporaryTables
from tradeproxy.wire.strategy_rule import BeforeDash, StrategyRule, parse_rule

_T = TypeVar("_T")

UNIT = 10
"""Instructions of SQLite's virtual machine that are counted as one: about those of a row."""

MAX_EVENT = 400
"""Units of an event: it reads MAX_FILLS fills at most, in about 300."""

MAX_STEP = 2500
"""Units of a step of `work`: what WORK_FILLS fills need. 1,500 orders need 50,000."""

MAX_WRITTEN = 160
"""Records after which they are saved, as BookWriter does."""


class MeasuredTables(TemporaryTables):
    """Tables that count the instructions that SQLite executes to read them."""

    units = 0

    def run(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool = False) -> _T:
        """See TemporaryTables."""

        def measure(connection: sqlite3.Connection) -> _T:
            connection.set_progress_handler(None if writes else self._count, UNIT)
            return work(connection)

        return super().run(measure, writes=writes)

    def _count(self) -> int:
        self.units += 1
        return 0


class MoveTests(SynchronousTestCase):
    """One book in tables."""

    def setUp(self) -> None:
        self.tables = MeasuredTables()
        self.addCleanup(self.tables.close)
        self.rule: StrategyRule = BeforeDash()
        self.longest_event = self.longest_step = self.steps = 0
        self.open()

    def open(self) -> None:
        """Begin with what is saved, as after a kill."""
        self.store = FillStore(self.tables)
        self.book = StrategyBook(self.store, self.rule, self.fail)

    def save(self) -> None:
        """Write the records."""
        self.tables.run(self.store.save, writes=True)
        self.store.clear_changes()

    def take(self, *payloads: bytes) -> None:
        """Apply events, and note how much the longest one read."""
        for payload in payloads:
            event, before = read(payload), self.tables.units
            self.book.take(event)
            self.longest_event = max(self.longest_event, self.tables.units - before)
            if self.store.unsaved >= MAX_WRITTEN:
                self.save()

    def step(self) -> bool:
        """Do a step of work; note how much it read."""
        before = self.tables.units
        has_more = self.book.work(WORK_FILLS)
        self.longest_step = max(self.longest_step, self.tables.units - before)
        self.steps += 1
        if self.store.unsaved >= MAX_WRITTEN:
            self.save()
        return has_more

    def finish(self) -> None:
        """Do all work."""
        while self.step():
            pass

    def quantities(self) -> dict[str, str]:
        """Return what each strategy holds."""
        self.finish()
        return {name: f"{held.qty:f}" for (name, _), held in self.book.holdings.items() if held.qty}

    def assert_bounded(self) -> None:
        """Compare the longest event and the longest step with their bounds."""
        self.assertLess(self.longest_event, MAX_EVENT)
        self.assertLess(self.longest_step, MAX_STEP)

    def make_chain(self, count: int) -> list[bytes]:
        """Return a fill for each order of a chain of replacements, oldest first."""
        return [self.make_link(n, f"mom-{n}") for n in range(count)]

    def make_link(self, n: int, name: str) -> bytes:
        """Return a fill of the nth order of a chain."""
        about = order(f"{n:08}", name, replaces=f"{n - 1:08}" if n else None)
        return report_fill(about, f"e{n}", "1", "2", minute=n)

    def test_chain_that_is_assigned_moves_in_steps(self) -> None:
        """A bot had repriced an order 1,500 times. One assignment stopped the proxy for 6.8 s."""
        self.take(*self.make_chain(1500))
        self.finish()
        self.book.orders.assign(f"{0:08}", "other")
        self.assertEqual(self.book.orders.find_strategy(f"{0:08}"), "other")
        self.assertFalse(self.book.is_current)
        self.assertEqual(self.quantities(), {"other": "1500"})
        self.assertGreater(self.steps, 50)
        self.assert_bounded()

    def test_order_with_many_fills_moves_in_steps(self) -> None:
        """5,000 partial fills took 1.4 s, and each further one read all of them."""
        self.take(*(report_fill(order("1"), f"e{n}", "1", "2", minute=n) for n in range(5000)))
        self.finish()
        self.book.orders.assign("1", "other")
        self.assertEqual(self.quantities(), {"other": "5000"})
        self.take(report_fill(order("1", "beta-1"), "e0", "1", "2"))
        self.book.orders.assign("1", "")
        self.assertEqual(self.quantities(), {"beta": "5000"})
        self.assert_bounded()

    def test_order_with_many_fills_is_amended_without_reading_all(self) -> None:
        """Its fills are found by the execution, by that of a correction, and by the quantity."""
        count = 16 * MAX_FILLS
        self.take(
            *(
                report_fill(order("1", filled_qty=f"{n + 1}"), f"e{n}", "1", "2", minute=n)
                for n in range(count)
            )
        )
        self.save()
        self.open()
        correct = {"event": "trade_correct", "previous_execution_id": "e7"}
        self.take(
            report_fill(order("1"), "c7", "3", "2", **correct),
            report_fill(order("1", filled_qty="9"), "", "1", "2", event_id="of an order"),
        )
        self.save()
        self.take(
            frame("trade_bust", order("1"), execution_id="c7"),
            frame("trade_bust", order("1"), execution_id="e8"),
            frame("trade_bust", order("1"), execution_id="e8"),
            report_fill(order("1", filled_qty="9"), "", "1", "2", event_id="another", minute=-1),
            report_fill(order("1", filled_qty="9"), "e8", "1", "2"),
        )
        self.assertEqual(self.quantities(), {"alpha": f"{count - 2 + 1}"})
        self.assertEqual(self.book.notes, [])
        self.assert_bounded()

    def test_chain_that_arrives_newest_first_moves_in_steps(self) -> None:
        """Each event moved all orders below its own: 1,000 orders stopped the proxy for 8.9 s."""
        for n in reversed(range(300)):
            self.take(self.make_link(n, f"s{n}-1"))
            if n % 20 == 0:
                self.step()
        self.assertEqual(self.quantities(), {"s0": "300"})
        self.assert_bounded()

    def test_circle_of_orders_ends(self) -> None:
        """2,000 orders in a circle hung the proxy for minutes. Each has a name of the circle."""
        for count in (1, 2, MAX_CIRCLE, 3 * MAX_CIRCLE):
            ids = [f"{count:04}-{n:04}" for n in range(count)]
            for n in range(count):
                about = order(ids[n], f"c{count}.{n}-1", replaces=ids[(n + 1) % count])
                self.take(report_fill(about, f"e{n}", "1", "2"))
            legs = [order(ids[0], f"c{count}.0-1"), order(ids[-1], f"c{count}.{count - 1}-1")]
            self.take(frame("replaced", order(ids[0], f"c{count}.0-1", legs=legs)))
            self.finish()
            found = {self.book.orders.find_strategy(each) for each in ids}
            self.assertTrue(all(each.startswith(f"c{count}.") for each in found), found)
            self.book.orders.assign(ids[0], "hand")
            self.finish()
            self.book.orders.assign(ids[0], "")
        self.assertEqual(sum(map(Decimal, self.quantities().values())), 3 + 4 * MAX_CIRCLE)
        self.assertLess(self.longest_step, MAX_STEP)
        # A link is followed upwards for MAX_CIRCLE orders at most.
        self.assertLess(self.longest_event, MAX_EVENT + 20 * MAX_CIRCLE)

    def test_move_goes_on_after_a_kill(self) -> None:
        """In the middle of the chain, and of the fills of one order."""
        self.take(*self.make_chain(200))
        self.take(
            *(
                report_fill(order(f"{100:08}", ""), f"f{n}", "1", "2", minute=n)
                for n in range(2 * MAX_FILLS)
            )
        )
        self.finish()
        self.book.orders.assign(f"{0:08}", "other")
        self.save()
        lives = 0
        while self.store.list_moving() and lives < 200:
            self.open()
            self.assertFalse(self.book.is_current)
            for _ in range(8):
                self.book.work(1)
            self.save()
            lives += 1
        self.assertLess(lives, 200)
        self.assertGreater(lives, 40)
        self.assertEqual(self.quantities(), {"other": f"{200 + 2 * MAX_FILLS}"})

    def test_orders_below_one_move_in_steps(self) -> None:
        """An order with thousands of others that name it is nothing that Alpaca has."""
        count = 3 * MAX_CACHED
        self.take(report_fill(order("1"), "e", "1", "2"))
        for n in range(count):
            self.take(report_fill(order(f"l{n}", UUID, replaces="1"), f"e{n}", "1", "2"))
        self.finish()
        self.book.orders.assign("1", "other")
        self.assertEqual(self.quantities(), {"other": f"{count + 1}"})
        self.assert_bounded()

    def test_other_rule_names_every_order_in_steps(self) -> None:
        """A link of an order without a fill counts, too: its replacement may come later."""
        self.take(*self.make_chain(400))
        self.save()
        self.rule = parse_rule("mo")
        self.open()
        self.book.rename()
        self.assertEqual(self.quantities(), {"mo": "400"})
        self.assert_bounded()

    def test_unsaved_records_are_moved_with_the_saved_ones(self) -> None:
        """Half of the chain and of the fills of an order are in memory only."""
        chain = self.make_chain(20)
        self.take(*chain[:10], report_fill(order(f"{0:08}", "mom-0"), "x", "1", "2"))
        self.save()
        self.take(*chain[10:], report_fill(order(f"{0:08}", "mom-0"), "y", "1", "2"))
        self.book.orders.assign(f"{0:08}", "other")
        self.assertEqual(self.quantities(), {"other": "22"})
        self.save()
        self.open()
        self.assertEqual(self.quantities(), {"other": "22"})
