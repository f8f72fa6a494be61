"""Tests for tradeproxy.book.strategy_views."""

from __future__ import annotations

import itertools
from datetime import date
from decimal import Decimal

from twisted.trial.unittest import SynchronousTestCase

from tests.support.holdings import finish
from tradeproxy.book.lots import FillKey, Holding, Trade
from tradeproxy.book.strategy_views import MAX_POINTS, STEP_MARKS, draw_line
from tradeproxy.wire.event import format_time

NOON = 1_780_000_000_000_000
DAY = date(2026, 5, 28)


def trade_all_day(number: int, sales: int) -> Holding:
    """Return a holding that was sold one by one, each for a profit of 1, every 20 seconds."""
    holding = Holding()
    for sale in range(-1, sales):
        qty, price = (Decimal(sales), Decimal(1)) if sale < 0 else (Decimal(-1), Decimal(2))
        key = FillKey(NOON + sale * 20_000_000 + number, "", "", f"{sale}")
        holding.apply(Trade(key, qty, price, Decimal(1), Decimal(0)))
    return holding


class LineTests(SynchronousTestCase):
    """A strategy's line of the day."""

    def test_line_of_many_fills_is_drawn_in_steps(self) -> None:
        """250,000 closing fills took two seconds of one turn: an account's, for one request."""
        own = [(f"S{number}", trade_all_day(number, 200)) for number in range(50)]
        steps = sum(1 for _ in draw_line(own, DAY))
        self.assertEqual(steps, 50 * 200 // STEP_MARKS)
        line = finish(draw_line(own, DAY))
        self.assertEqual(len(line), 239)
        self.assertLessEqual(len(line), MAX_POINTS)
        self.assertEqual(line[-1], [format_time(NOON + 199 * 20_000_000 + 49), "10000"])
        self.assertEqual(line, sorted(line))
        gains = [int(gain) for _, gain in line]
        self.assertEqual({b - a for a, b in itertools.pairwise(gains)}, {42})

    def test_line_of_few_fills_has_each(self) -> None:
        """Those of several symbols are in the order of time."""
        own = [(f"S{number}", trade_all_day(number, 2)) for number in range(2)]
        line = finish(draw_line(own, DAY))
        self.assertEqual([gain for _, gain in line], ["1", "2", "3", "4"])
        self.assertEqual(finish(draw_line([], DAY)), [])
