"""Lots: first in, first out."""

from __future__ import annotations

import tracemalloc
from datetime import date
from decimal import Decimal

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.book.lots import MANY_LOTS, MAX_MARKS, FillKey, Holding, Trade
from tradeproxy.wire.event import parse_time

MONDAY = date(2026, 11, 30)


def at(time: str) -> int:
    """Return a time of Monday (UTC) in microseconds since 1970."""
    return parse_time(f"2026-11-30T{time}Z")


def trade(time: int, qty: str, price: str, multiplier: str = "1", fee: str = "0") -> Trade:
    """Return a trade; its key is its time."""
    key = FillKey(time, "", "", "")
    return Trade(key, Decimal(qty), Decimal(price), Decimal(multiplier), Decimal(fee))


def hold(*trades: Trade) -> Holding:
    """Return what some trades add up to."""
    holding = Holding()
    for each in trades:
        holding.apply(each)
    return holding


def lots(holding: Holding) -> list[tuple[str, str]]:
    """Return the quantities and prices of the lots, oldest first."""
    return [(f"{lot.qty:f}", f"{lot.price:f}") for lot in holding.lots]


class LotTests(SynchronousTestCase):
    """What is left of each fill, and what closing it realised."""

    def test_sale_of_two_lots_closes_the_older_one_first(self) -> None:
        """A sale takes the oldest lot whole, and the rest of the next one."""
        holding = hold(
            trade(at("15:00"), "10", "100"),
            trade(at("15:01"), "10", "110"),
            trade(at("15:02"), "-15", "120"),
        )
        self.assertEqual(lots(holding), [("5", "110")])
        self.assertEqual(holding.realized, Decimal(10 * 20 + 5 * 10))
        self.assertEqual(holding.qty, Decimal(5))

    def test_short_sale_gains_when_the_price_falls(self) -> None:
        """A lot that was sold short is bought back at a lower price."""
        holding = hold(trade(at("15:00"), "-10", "100"), trade(at("15:01"), "4", "90"))
        self.assertEqual(lots(holding), [("-6", "100")])
        self.assertEqual(holding.realized, Decimal(40))

    def test_sale_of_more_than_is_held_opens_a_short_lot(self) -> None:
        """What is beyond zero is a lot at the price of the sale."""
        holding = hold(trade(at("15:00"), "10", "100"), trade(at("15:01"), "-25", "101"))
        self.assertEqual(lots(holding), [("-15", "101")])
        self.assertEqual(holding.realized, Decimal(10))
        self.assertEqual(holding.average_price(MONDAY), Decimal(101))

    def test_option_counts_a_hundred_times(self) -> None:
        """The price of an option is that of one share of a hundred."""
        holding = hold(
            trade(at("15:00"), "2", "1.60", "100"), trade(at("15:01"), "-2", "1.75", "100")
        )
        self.assertEqual(holding.realized, Decimal(30))

    def test_crypto_keeps_all_decimals(self) -> None:
        """Nine decimals of the quantity and three of the price give twelve of the result."""
        holding = hold(
            trade(at("15:00"), "0.000175822", "83643.107"),
            trade(at("15:01"), "-0.000175821", "83643.108"),
        )
        self.assertEqual(lots(holding), [("0.000000001", "83643.107")])
        self.assertEqual(holding.realized, Decimal("0.000000175821"))

    def test_numbers_at_the_bounds_stay_exact(self) -> None:
        """The largest and the smallest number that an amount may be can be added and multiplied."""
        large, small = "9" * 40 + "e30", "0." + "0" * 38 + "1e-30"
        holding = hold(
            trade(at("15:00"), large, small),
            trade(at("15:01"), small, large),
            trade(at("15:02"), f"-{large}", large),
        )
        self.assertEqual(lots(holding), [(f"{Decimal(small):f}", f"{Decimal(large):f}")])

    def test_gain_counts_on_the_trade_date_of_the_sale(self) -> None:
        """A sale at 20:00 in New York belongs to the next trade date."""
        holding = hold(
            trade(at("15:00"), "10", "100"),
            trade(parse_time("2026-12-01T00:59:59Z"), "-1", "101"),
            trade(parse_time("2026-12-01T01:00:00Z"), "-1", "103"),
        )
        self.assertEqual(holding.realized_on(MONDAY), Decimal(1))
        self.assertEqual(holding.realized_on(date(2026, 12, 1)), Decimal(3))
        self.assertEqual(holding.realized, Decimal(4))

    def test_fees_are_beside_the_gain(self) -> None:
        """A fee does not change what is realised."""
        holding = hold(
            trade(at("15:00"), "1", "100", fee="0.5"), trade(at("15:01"), "-1", "101", fee="0.25")
        )
        self.assertEqual((holding.realized, holding.fees), (Decimal(1), Decimal("0.75")))

    def test_many_closing_trades_keep_the_sum_of_the_line(self) -> None:
        """A day's line has a bounded number of points, and ends at what the day realised."""
        holding = hold(trade(at("15:00"), "9000", "100"))
        for number in range(5 * MAX_MARKS):
            holding.apply(trade(at("15:01") + number, "-1", "101"))
        marks = holding.marks_on(MONDAY)
        self.assertLessEqual(len(marks), MAX_MARKS)
        self.assertEqual(sum(gain for _, gain in marks), 5 * MAX_MARKS)
        self.assertEqual(marks[-1][0], at("15:01") + 5 * MAX_MARKS - 1)
        self.assertEqual(holding.marks_on(date(2026, 12, 1)), [])

    def test_many_lots_close_oldest_first(self) -> None:
        """They are kept in another way than a few."""
        count = 3 * MANY_LOTS
        holding = hold(*(trade(at("15:00") + n, "2", str(n)) for n in range(count)))
        for number in range(count - 1):
            holding.apply(trade(at("16:00") + number, "-2", "0"))
        holding.apply(trade(at("17:00"), "-1", "0"))
        self.assertEqual(lots(holding), [("1", str(count - 1))])
        holding.apply(trade(at("17:01"), "-2", "7"))
        self.assertEqual(lots(holding), [("-1", "7")])

    def test_holding_of_one_fill_is_small(self) -> None:
        """Of 20,000 symbols, empty deques and the dicts of attributes took 20 MB."""
        one, count = trade(at("15:00"), "1", "2"), 1000
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        holdings = [hold(one) for _ in range(count)]
        size = (tracemalloc.get_traced_memory()[0] - before) / len(holdings)
        self.assertLess(size, 1400)
