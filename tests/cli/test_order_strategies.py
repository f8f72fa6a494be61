"""The column `strategy` of `tradeproxy export`, beside the proxy's book."""

from __future__ import annotations

import csv
import io
import os
import sys
from argparse import ArgumentParser

from tests.book.strategy_frames import START, UUID, frame, order, report_fill
from tests.book.support import parse
from tests.support.journals import SqliteCase
from tests.support.ticks import Ticks
from tradeproxy.book.book import Book
from tradeproxy.book.builder import WRITE_EVERY
from tradeproxy.cli import export
from tradeproxy.hub.account import Account
from tradeproxy.journal.retention import TRIM_EVERY


class ExportStrategyTests(SqliteCase):
    """A bracket, a replaced order, one that was assigned by hand, and one without a fill."""

    now = START / 1_000_000

    def setUp(self) -> None:
        super().setUp()
        self.account = Account("paper", self.open(), self.clock)
        self.environ = {"PROXY_DATA_DIR": str(self.path.parent.resolve())}
        self.patch(os, "environ", self.environ)

    def trade(self) -> None:
        """Publish the events."""
        leg = order("2", UUID, side="sell")
        for each in (
            frame("new", order("9", "delta-9")),
            frame("new", order("1", legs=[leg])),
            report_fill(order("1", legs=[leg]), "a", "5", "2"),
            report_fill(leg, "b", "2", "3"),
            report_fill(order("4", UUID, replaces="3"), "c", "1", "2"),
            frame("replaced", order("3", "beta-1", replaced_by="4")),
            report_fill(order("5", "gamma-1"), "d", "1", "2"),
        ):
            self.account.publish(parse(each))
        self.clock.advance(0)
        self.clock.advance(0)

    def follow(self) -> Book:
        """Have a book that is current."""
        book = Book(self.account, self.clock, Ticks())
        book.start()
        while book.is_building:
            self.clock.advance(0)
        return book

    def export(self, **environment: str) -> dict[str, str]:
        """Return the strategy of each order."""
        self.patch(os, "environ", self.environ | environment)
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", io.StringIO())
        parser = ArgumentParser()
        export.add_arguments(parser)
        arguments = (
            "--format",
            "csv",
            "--kind",
            "all",
            "--from",
            "2026-11-01",
            "--until",
            "2027-01-01",
        )
        export.main(parser.parse_args(arguments))
        rows = list(csv.DictReader(io.StringIO(out.getvalue())))
        self.assertEqual([*rows[0]][-1], "strategy")
        return {row["order_id"]: row["strategy"] for row in rows}

    def test_strategy_is_that_of_the_book(self) -> None:
        """Legs, replacements and assignments count, and the rule for what has no fill."""
        book = self.follow()
        self.trade()
        strategies = book.strategies
        assert strategies is not None
        book.catch_up()
        strategies.assign("5", "=hand")
        self.clock.advance(max(WRITE_EVERY, TRIM_EVERY))
        found = self.export()
        own = {"1": "alpha", "2": "alpha", "3": "beta", "4": "beta", "5": "'=hand"}
        self.assertEqual(found, own | {"9": "delta"})

    def test_lone_surrogates_are_read_as_the_book_does(self) -> None:
        """SQLite refuses such an id: the export ended with a traceback."""
        odd = report_fill(order("id", "name-1"), "a", "5", "2")
        for word in (b"id", b"name-1"):
            odd = odd.replace(b'"%b"' % word, rb'"\ud800-1"')
        self.account.publish(parse(odd))
        self.clock.advance(0)
        book = self.follow()
        self.clock.advance(WRITE_EVERY)
        self.assertEqual(list(self.export().values()), ["?"])
        book.stop()

    def test_without_a_book_the_rule_counts(self) -> None:
        """PROXY_BOOK=0, or a book that has not been written yet."""
        self.trade()
        by_rule = {"1": "alpha", "2": "(none)", "3": "beta", "4": "(none)", "5": "gamma"}
        self.assertEqual(self.export(), by_rule | {"9": "delta"})
        book = self.follow()
        book.stop()
        self.assertEqual(self.export(PROXY_BOOK="0"), by_rule | {"9": "delta"})
        self.assertEqual(self.export(PROXY_BOOK="0", PROXY_STRATEGIES="gam")["5"], "gam")
