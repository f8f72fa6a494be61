"""Lots: what is held of one symbol, first in, first out, and what closing it has realised. Pure.

All sums are exact: `tradeproxy.wire.amount` bounds every number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import MutableSequence
from copy import copy
from datetime import date
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from typing import NamedTuple

from msgspec import Struct

from tradeproxy.book.average_cost import AverageCost
from tradeproxy.wire.trade_date import trade_date

ZERO, ONE = Decimal(0), Decimal(1)

EXACT = Context(prec=1000, traps=[DivisionByZero, Inexact, InvalidOperation, Overflow])
"""A quantity, a price and a multiplier span 140 digits each, and a sum of many some more."""

# To look up a method of a context takes longer than to call it.
_add, _subtract, _multiply, _minus = EXACT.add, EXACT.subtract, EXACT.multiply, EXACT.minus

MAX_MARKS = 256
"""Steps of a day's line that a holding keeps. Beyond it, two neighbours become one."""


MANY_LOTS = 64
"""Lots from which they are in a deque: without any, it takes 600 bytes more than a list."""


class FillKey(NamedTuple):
    """The order in which fills count, whenever they arrive."""

    time: int
    """Microseconds since 1970; OPENING for what was held at the start."""
    event_id: str
    order_id: str
    execution: str


OPENING = -(2**63)
"""The time of a lot that was held at the start: before every fill."""


class Trade(Struct, frozen=True, gc=False):
    """What a fill changes in a holding."""

    key: FillKey
    qty: Decimal
    """Bought; negative if sold. Never 0."""
    price: Decimal
    """Of one unit, in USD."""
    multiplier: Decimal
    """Units of the underlying in one: 100 for most options, else 1."""
    fee: Decimal
    """In USD."""
    asset_class: str = ""


class Lot(Struct, frozen=True, gc=False):
    """What one fill opened and no later one has closed."""

    time: int
    """Microseconds since 1970, or OPENING."""
    qty: Decimal
    """Negative if sold short. Never 0."""
    price: Decimal


class Holding:
    """The lots of one symbol, and what was realised. Trades are applied in the order of keys.

    An account may have 20,000, nearly all of them with a few lots.
    """

    __slots__ = (
        "_average",
        "_marks",
        "_marks_date",
        "_realized_by_date",
        "asset_class",
        "fees",
        "fills",
        "last",
        "lots",
        "multiplier",
        "qty",
        "realized",
    )

    def __init__(self) -> None:
        self.lots: MutableSequence[Lot] = []
        """Oldest first. All are long, or all are short."""
        self.qty = ZERO
        self.multiplier = ONE
        self.asset_class = ""
        self.realized = ZERO
        """In USD, in all, before fees."""
        self.fees = ZERO
        self.fills = 0
        self.last: FillKey | None = None
        """The newest trade that was applied."""
        self._realized_by_date: dict[date, Decimal] = {}
        self._average = AverageCost()
        self._marks: list[tuple[int, Decimal]] = []
        self._marks_date: date | None = None

    def apply(self, trade: Trade) -> None:
        """Apply a trade that is newer than `last`."""
        key = self.last = trade.key
        day = None if key.time == OPENING else trade_date(key.time)
        self.multiplier = trade.multiplier
        self.asset_class = trade.asset_class or self.asset_class
        if trade.fee:
            self.fees = _add(self.fees, trade.fee)
        self.fills += day is not None
        self._average.apply(day, trade.qty, trade.price)
        rest, gain = trade.qty, ZERO
        while rest and self.lots and (self.lots[0].qty > 0) != (rest > 0):
            lot = self.lots[0]
            left = _add(lot.qty, rest)
            # What is closed has the sign of the lot, so a short one gains when the price falls.
            is_whole = not left or (left > 0) == (rest > 0)
            closed = lot.qty if is_whole else _minus(rest)
            if is_whole:
                del self.lots[0]
                rest = left
            else:
                self.lots[0] = Lot(lot.time, left, lot.price)
                rest = ZERO
            change = _multiply(closed, _subtract(trade.price, lot.price))
            gain = _add(gain, _multiply(change, trade.multiplier))
        if rest:
            if len(self.lots) == MANY_LOTS:
                self.lots = deque(self.lots)
            self.lots.append(Lot(key.time, rest, trade.price))
        self.qty = _add(self.qty, trade.qty)
        if rest != trade.qty and day is not None:
            self._realize(day, key.time, gain)

    def skip(self, key: FillKey) -> None:
        """Pass a fill that does not count."""
        self.last = key

    def is_before(self, key: FillKey) -> bool:
        """Whether every fill that was applied or passed is older than this one."""
        return self.last is None or self.last < key

    def copy(self) -> Holding:
        """Return what is here now: other trades can be applied to it."""
        other = Holding()
        for name in self.__slots__:
            setattr(other, name, copy(getattr(self, name)))
        return other

    def realized_on(self, day: date) -> Decimal:
        """Return what was realised on a trade date, in USD, before fees."""
        return self._realized_by_date.get(day, ZERO)

    def marks_on(self, day: date) -> list[tuple[int, Decimal]]:
        """Return the day's closing trades: the time, and what was realised then. At most MAX_MARKS.

        Only the newest date that has any is kept.
        """
        return list(self._marks) if day == self._marks_date else []

    def average_price(self, day: date) -> Decimal | None:
        """Return the average price as Alpaca shows it on a trade date; None if nothing is held."""
        return self._average.price(day)

    def has_fill_on(self, day: date) -> bool:
        """Whether the newest fill is of this trade date."""
        last = self.last
        return last is not None and last.time != OPENING and trade_date(last.time) == day

    def _realize(self, day: date, time: int, gain: Decimal) -> None:
        self.realized = _add(self.realized, gain)
        self._realized_by_date[day] = _add(self.realized_on(day), gain)
        if day != self._marks_date:
            self._marks, self._marks_date = [], day
        self._marks.append((time, gain))
        if len(self._marks) > MAX_MARKS:
            # The later time of two: the line never shows a gain before it was made.
            pairs = zip(self._marks[::2], self._marks[1::2], strict=False)
            odd = self._marks[-1:] if len(self._marks) % 2 else []
            self._marks = [(b[0], _add(a[1], b[1])) for a, b in pairs] + odd
