"""Reads of the records that fail: what is asked for again has the same effect as without that."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

from tests.book.strategy_frames import START, UUID, frame, order, read, report_fill
from tradeproxy.book import fill_store, moves, strategy_book
from tradeproxy.book.fill_records import Opening
from tradeproxy.book.fill_store import FillStore
from tradeproxy.book.lots import OPENING, FillKey
from tradeproxy.book.strategy_book import StrategyBook
from tradeproxy.journal.base import UnreadableError
from tradeproxy.journal.tables import TemporaryTables
from tradeproxy.wire.strategy_rule import BeforeDash, StrategyRule, parse_rule

_T = TypeVar("_T")

ORDERS = 60


class FailingTables(TemporaryTables):
    """Tables of which some reads fail, as on a disk that fails now and then."""

    def __init__(self, seed: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self._random = Random(seed)

    def run(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool = False) -> _T:
        """See TemporaryTables."""
        if not writes and self._random.random() < self.rate:
            raise UnreadableError
        return super().run(work, writes=writes)


class Life:
    """A book that gets the same events, whatever fails."""

    def __init__(self, seed: int, rate: float) -> None:
        self.tables = FailingTables(seed, 0.0)
        self.store = FillStore(self.tables)
        self.make_book(BeforeDash())
        self.tables.rate = rate

    def make_book(self, rule: StrategyRule) -> None:
        """Have a book with the records."""
        self.book = StrategyBook(self.store, rule, lambda: None)
        self.book.settled_by = START, START + 3_600_000_000

    def repeat(self, ask: Callable[[], object]) -> None:
        """Ask until no read fails."""
        for _ in range(1000):
            try:
                ask()
            except UnreadableError:
                continue
            return
        raise AssertionError("it never ends")

    def save(self) -> None:
        """Write the records."""
        self.tables.run(self.store.save, writes=True)
        self.store.clear_changes()

    def finish(self) -> None:
        """Do all work, in small steps."""
        while not self.book.is_current:
            self.repeat(lambda: self.book.work(3))

    def begin(self) -> None:
        """Hold something at the start."""
        opening = Opening(
            "AAPL",
            "us_equity",
            Decimal(9),
            Decimal(2),
            Decimal(1),
            FillKey(OPENING, "", "", ""),
            Decimal(0),
        )
        self.finish()
        self.book.set_openings([opening])

    def trade(self, random: Random, number: int) -> None:
        """Take an event about a new or an earlier order."""
        name = random.choice(["alpha-1", "beta-1", UUID, ""])
        above = f"{random.randrange(ORDERS)}" if random.random() < 0.5 else None
        about = order(f"{number}", name, side=random.choice(["buy", "sell"]), replaces=above)
        ids = {"execution_id": f"e{random.randrange(ORDERS)}", "event_id": f"bust {number}"}
        if random.random() < 0.2:
            event = frame("trade_bust", about, timestamp="2026-11-30T15:00:00Z", **ids)
        else:
            qty, minute = f"{random.randint(1, 9)}", random.randrange(90)
            position = f"{random.randrange(50)}" if random.random() < 0.3 else None
            event = report_fill(about, f"e{number}", qty, "2", minute=minute, position_qty=position)
        taken = read(event)
        self.repeat(lambda: self.book.take(taken))

    def describe(self) -> dict[tuple[str, str], tuple[Decimal, Decimal, int]]:
        """Return what the book holds."""
        self.finish()
        held = self.book.holdings.items()
        return {place: (each.qty, each.realized, each.fills) for place, each in held if each.fills}

    def run(self, seed: int) -> list[dict[tuple[str, str], tuple[Decimal, Decimal, int]]]:
        """Return what the book holds after events and assignments, and under another rule."""
        random = Random(seed)
        numbers = random.sample(range(ORDERS), ORDERS) + random.choices(range(ORDERS), k=ORDERS)
        for count, number in enumerate(numbers):
            self.trade(random, number)
            if count == ORDERS // 2:
                self.begin()
            if count % 7 == 0:
                self.save()
            if count % 10 == 0:
                target = f"{random.randrange(ORDERS)}"
                self.repeat(lambda: self.book.orders.assign(target, "hand"))  # noqa: B023
            if count % 3 == 0:
                self.repeat(lambda: self.book.work(3))
        found = [self.describe()]
        self.save()
        self.make_book_again()
        return [*found, self.describe()]

    def make_book_again(self) -> None:
        """Continue with another rule, as after a restart."""
        rate, self.tables.rate = self.tables.rate, 0.0
        self.make_book(parse_rule("al,be"))
        self.tables.rate = rate
        self.book.rename()


class UnreadableStoreTests(SynchronousTestCase):
    """The same life with and without failures."""

    def setUp(self) -> None:
        for module, name, value in (
            (fill_store, "MAX_CACHED", 2),  # so that nearly every look-up is a read
            (fill_store, "MAX_FILLS", 2),
            (moves, "STEP", 3),
            (strategy_book, "STEP", 3),
        ):
            self.patch(module, name, value)

    def test_failed_reads_lose_nothing(self) -> None:
        """A failed read lost the rest of a move, or left a fill out of its holding."""
        for seed in range(12):
            expected = Life(seed, 0.0).run(seed)
            self.assertGreater(min(map(len, expected)), 2)
            self.assertEqual(Life(seed, 0.2).run(seed), expected, seed)
