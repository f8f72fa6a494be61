"""Tests for tradeproxy.book.importing: the pages of an import, and a book that takes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.book.strategy_frames import order, read, report_fill
from tests.book.support import BookCase, make_snapshot
from tests.support.holdings import group_holdings
from tradeproxy.book.importing import ImportPage


def make_page(name: str) -> ImportPage:
    """Return a page with a fill of one share."""
    event = read(report_fill(order(f"old {name}", "old-1"), f"x {name}", "1", "2"))
    return ImportPage(event.orders, event.executions, {"import place": name})


class PageTests(SynchronousTestCase):
    """Anyone with Redis' password can write a page."""

    def test_page_is_read_as_written(self) -> None:
        """With a position, and without."""
        page = make_page("a")
        [fill] = page.fills
        for position in (None, Decimal("-1.5"), Decimal(0)):
            fills = (msgspec.structs.replace(fill, position=position),)
            changed = msgspec.structs.replace(page, fills=fills)
            self.assertEqual(ImportPage.decode(changed.encode()), changed)

    def test_position_that_is_no_amount_is_refused(self) -> None:
        """The book sets what was held at the start by it, and ended with InvalidOperation."""
        page = make_page("a")
        [fill] = page.fills
        for position in ("NaN", "sNaN", "Infinity", "1E+99"):
            fills = (msgspec.structs.replace(fill, position=Decimal(position)),)
            with self.assertRaises(ValueError):
                ImportPage.decode(msgspec.structs.replace(page, fills=fills).encode())

    def test_progress_under_a_key_of_the_book_is_refused(self) -> None:
        """Under `opened` and `rule` the book keeps its own state."""
        for key in ("opened", "rule", "", "assignments", "base_url"):
            page = ImportPage(progress={"import place": "", key: "x"})
            with self.assertRaises(ValueError):
                ImportPage.decode(page.encode())


class FixedImportLog:
    """Implements journal.base.ImportLog with pages that are there at the start."""

    def __init__(self, pages: list[bytes], on_read: Callable[[], None]) -> None:
        self.generation = 0
        self.is_copied = True
        self.on_pages: Callable[[], None] = lambda: None
        self._pages = pages
        self._on_read = on_read

    @property
    def count(self) -> int:
        return len(self._pages)

    def read(self, number: int) -> bytes:
        self._on_read()
        return self._pages[number]

    async def sync(self) -> None: ...

    async def append(self, page: bytes) -> None:
        self._pages.append(page)
        self.on_pages()


class SharedPagesTests(BookCase):
    """A book with a log whose imports nodes share."""

    def setUp(self) -> None:
        super().setUp()
        self.answers: list[bool] = []
        self.book.stop()
        self.log = FixedImportLog([make_page(f"{n}").encode() for n in range(20)], self.ask)
        self.journal.import_log = self.log
        self.new_book()

    def ask(self) -> None:
        """Note whether the strategies can be shown."""
        if self.book.strategies is not None:
            self.answers.append(self.book.strategies.is_current())

    def quantities(self) -> list[str]:
        """Return what the strategies hold."""
        strategies = self.book.strategies
        assert strategies is not None
        self.assertTrue(strategies.is_current())
        return [
            f"{each.qty}" for _, own in group_holdings(strategies.book).items() for _, each in own
        ]

    def test_book_is_not_current_before_the_last_page(self) -> None:
        """Each page is a step. After a start it showed the holdings of the first ones."""
        self.clock.advance(1)
        self.assertEqual(self.quantities(), ["20"])
        self.assertGreater(len(self.answers), 10)
        self.assertFalse(any(self.answers))

    def test_book_is_not_current_while_pages_of_another_list_are_left(self) -> None:
        """They are counted from the start again; there may be fewer of them than before."""
        self.clock.advance(1)
        del self.answers[:]
        self.log.generation += 1
        self.ask()
        self.assertEqual(self.answers, [False])
        self.log.on_pages()
        self.clock.advance(1)
        self.assertFalse(any(self.answers))
        self.assertEqual(self.quantities(), ["20"])

    def test_book_is_not_current_before_the_pages_are_copied(self) -> None:
        """How many there are is known only then."""
        self.clock.advance(1)
        self.log.is_copied = False
        del self.answers[:]
        self.ask()
        self.assertEqual(self.answers, [False])


class ShownTests(BookCase):
    """What a snapshot has of a page."""

    def test_page_with_newer_fills_changes_the_next_snapshot(self) -> None:
        """It had the sums from before the page until the next event came."""
        strategies = self.book.strategies
        assert strategies is not None
        for minute, quantity in enumerate(["1", "2", "3"]):
            about = order("old", "old-1")
            event = read(report_fill(about, f"x {minute}", "1", "2", minute=minute))
            strategies.take_page(ImportPage(event.orders, event.executions))
            self.book.save()
            self.clock.advance(0)
            [document] = make_snapshot(self.book).strategies
            [position] = json.loads(document.document)["positions"]
            self.assertEqual(position["qty"], quantity)
