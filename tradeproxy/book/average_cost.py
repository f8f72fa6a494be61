"""The average price of a position as Alpaca shows it in `avg_entry_price`. Pure.

Alpaca, "Position Average Entry Price Calculation", names two methods:

    the fills of            method              a closing fill takes from the cost
    ----------------------  ------------------  -------------------------------------------------
    the current trade date  weighted average    its quantity at the average of all that is held
    earlier trade dates     compressed FIFO     the oldest day's quantity at that day's average

So `avg_entry_price` can change from one day to the next without a fill. Compressed means: what was
opened on one day is one lot, at the average of all of that day, also of what was opened after a
closing fill. Alpaca does not say what counts after a position was flat or changed its side within a
day; here only what was opened since then does. Alpaca changes the method in the morning, here the
trade date does.
"""

from __future__ import annotations

from datetime import date
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow

_ZERO = Decimal(0)

_CONTEXT = Context(prec=200, traps=[DivisionByZero, InvalidOperation, Overflow])
"""An average has no end of digits. It is cut where no shown digit can change."""

# To look up a method of a context takes longer than to call it.
_add, _subtract, _minus = _CONTEXT.add, _CONTEXT.subtract, _CONTEXT.minus
_multiply, _divide = _CONTEXT.multiply, _CONTEXT.divide


class AverageCost:
    """The cost of what is held of one symbol. Quantities are negative if sold short."""

    __slots__ = ("_closed", "_cost", "_day", "_days", "_opened", "_opened_cost", "_qty")

    def __init__(self) -> None:
        self._days: list[tuple[Decimal, Decimal]] = []
        # What is left of each earlier day: its quantity and its cost, oldest first.
        self._day: date | None = None
        self._opened, self._opened_cost, self._closed = _ZERO, _ZERO, _ZERO
        self._qty, self._cost = _ZERO, _ZERO

    def apply(self, day: date | None, qty: Decimal, price: Decimal) -> None:
        """Apply a trade of a date; None for what was held at the start. Dates never decrease."""
        if day != self._day:
            self._days = self._compress()
            self._qty, self._cost = _sum(self._days)
            self._opened = self._opened_cost = self._closed = _ZERO
            self._day = day
        if self._qty and (self._qty > 0) != (qty > 0):
            qty = self._close(qty)
        if qty:
            cost = _multiply(qty, price)
            self._opened = _add(self._opened, qty)
            self._opened_cost = _add(self._opened_cost, cost)
            self._qty = _add(self._qty, qty)
            self._cost = _add(self._cost, cost)

    def price(self, day: date) -> Decimal | None:
        """Return the average price on a trade date, the newest fill's or later; None if flat."""
        qty, cost = self._qty, self._cost
        if day != self._day:
            qty, cost = _sum(self._compress())
        return _divide(cost, qty) if qty else None

    def _close(self, qty: Decimal) -> Decimal:
        """Close up to all that is held, and return the rest of the quantity."""
        left = _add(self._qty, qty)
        if not left or (left > 0) == (qty > 0):
            self._days = []
            self._opened = self._opened_cost = self._closed = _ZERO
            self._qty = self._cost = _ZERO
            return left
        self._cost = _divide(_multiply(self._cost, left), self._qty)
        self._closed = _subtract(self._closed, qty)
        self._qty = left
        return _ZERO

    def _compress(self) -> list[tuple[Decimal, Decimal]]:
        """Return what the days leave once the current one is over."""
        days = list(self._days)
        if self._opened:
            days.append((self._opened, self._opened_cost))
        rest = self._closed
        for index, (qty, cost) in enumerate(days):
            if not rest:
                return days[index:]
            left = _subtract(qty, rest)
            if left and (left > 0) == (qty > 0):
                part = _divide(_multiply(cost, left), qty)
                return [(left, part), *days[index + 1 :]]
            rest = _minus(left)
        return []


def _sum(days: list[tuple[Decimal, Decimal]]) -> tuple[Decimal, Decimal]:
    qty = cost = _ZERO
    for part, its_cost in days:
        qty, cost = _add(qty, part), _add(cost, its_cost)
    return qty, cost
