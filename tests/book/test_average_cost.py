"""The average price as Alpaca shows it: the examples of its documentation, and their edges."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.book.average_cost import AverageCost

DAY_1 = date(2026, 11, 30)
DAY_2, DAY_3, DAY_4 = (DAY_1 + timedelta(days=days) for days in (1, 2, 3))


def average(*trades: tuple[date | None, int, int], on: date) -> str | None:
    """Return the average price on a day after some trades, with two decimals."""
    cost = AverageCost()
    for day, qty, price in trades:
        cost.apply(day, Decimal(qty), Decimal(price))
    found = cost.price(on)
    return None if found is None else f"{found:.2f}"


EXAMPLE = ((DAY_1, 100, 10), (DAY_1, 50, 12), (DAY_2, 30, 15), (DAY_3, -120, 20))
"""What Alpaca's page "Position Average Entry Price Calculation" computes with."""


class AverageCostTests(SynchronousTestCase):
    """Each example has the number that Alpaca's page gives."""

    def test_day_of_the_sale_shows_the_weighted_average(self) -> None:
        """A sale takes its part of the cost of all that is held: 683.33 / 60."""
        self.assertEqual(average(*EXAMPLE, on=DAY_3), "11.39")

    def test_next_day_shows_compressed_fifo(self) -> None:
        """The sale took from the first day's 150 shares, which are one lot: 770 / 60."""
        self.assertEqual(average(*EXAMPLE, on=DAY_4), "12.83")

    def test_day_is_compressed_whole(self) -> None:
        """What is bought after a sale of the same day counts for what was sold: 1500 / 150."""
        day = ((DAY_1, 100, 10), (DAY_1, 50, 9), (DAY_1, -50, 20), (DAY_1, 50, 11))
        self.assertEqual(average(*day, on=DAY_2), "10.00")
        self.assertEqual(average(*day, on=DAY_1), "10.11")

    def test_flat_position_has_no_average(self) -> None:
        """Nothing is held, on the same day and later."""
        trades = ((DAY_1, 10, 10), (DAY_1, -10, 12))
        self.assertIsNone(average(*trades, on=DAY_1))
        self.assertIsNone(average(*trades, on=DAY_2))

    def test_position_that_was_flat_begins_again(self) -> None:
        """What was closed before has no part in the average of what is held."""
        trades = ((DAY_1, 10, 10), (DAY_1, -10, 12), (DAY_1, 5, 20))
        self.assertEqual(average(*trades, on=DAY_1), "20.00")
        self.assertEqual(average(*trades, on=DAY_2), "20.00")

    def test_position_that_crosses_zero_has_the_price_of_the_sale(self) -> None:
        """Only what is beyond zero is held."""
        trades = ((DAY_1, 10, 10), (DAY_2, -15, 12), (DAY_2, -5, 14))
        self.assertEqual(average(*trades, on=DAY_2), "13.00")
        self.assertEqual(average(*trades, on=DAY_3), "13.00")

    def test_what_was_held_at_the_start_is_a_day_of_its_own(self) -> None:
        """It comes before every day."""
        trades = ((None, 10, 10), (DAY_1, 10, 20), (DAY_1, -10, 30))
        self.assertEqual(average(*trades, on=DAY_1), "15.00")
        self.assertEqual(average(*trades, on=DAY_2), "20.00")

    def test_sale_of_more_than_the_oldest_day_takes_from_the_next_one(self) -> None:
        """What is left the day after is 5 of the second day and 10 of the third: 400 / 15."""
        bought = ((DAY_1, 10, 10), (DAY_2, 10, 20), (DAY_3, 10, 30))
        self.assertEqual(average(*bought, (DAY_3, -15, 40), on=DAY_4), "26.67")
