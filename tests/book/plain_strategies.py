"""A plain model of the book per strategy: every fill at once, unit by unit, in fractions.

It shares no code with tradeproxy.book. It is slow, and obvious.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fractions import Fraction


@dataclass(frozen=True)
class PlainFill:
    """A fill that counts."""

    strategy: str
    symbol: str
    order: tuple[int, str, str, str]
    """Fills are sorted by it; it begins with the time."""
    day: date
    units: int
    """Whole units; negative if sold."""
    price: Fraction


@dataclass
class PlainHolding:
    """What some fills of one symbol add up to."""

    lots: list[tuple[int, int, Fraction]]
    """Time, units and price, oldest first. Neighbours of one fill are one lot."""
    realized: dict[date, Fraction]
    average: Fraction | None
    """On `today`."""


def add_up(fills: list[PlainFill], today: date) -> PlainHolding:
    """Return what fills of one strategy and symbol add up to, of one unit each."""
    fills = sorted(fills, key=lambda fill: fill.order)
    held: list[tuple[PlainFill, int]] = []  # one element a unit: its fill, and 1 or -1
    realized: dict[date, Fraction] = {}
    for fill in fills:
        sign = 1 if fill.units > 0 else -1
        for _ in range(abs(fill.units)):
            if held and held[0][1] != sign:
                opened, side = held.pop(0)
                gain = (fill.price - opened.price) * side
                realized[fill.day] = realized.get(fill.day, Fraction(0)) + gain
            else:
                held.append((fill, sign))
    lots: list[tuple[int, int, Fraction]] = []
    previous = None
    for fill, sign in held:
        if fill is previous:
            time, units, price = lots[-1]
            lots[-1] = (time, units + sign, price)
        else:
            lots.append((fill.order[0], sign, fill.price))
        previous = fill
    return PlainHolding(lots, realized, _average(fills, today))


def _average(fills: list[PlainFill], today: date) -> Fraction | None:
    """Return what Alpaca shows: compressed FIFO of earlier days, and the mean of today's units."""
    mean = _compressed([fill for fill in fills if fill.day < today])
    for fill in (fill for fill in fills if fill.day == today):
        sign = 1 if fill.units > 0 else -1
        for _ in range(abs(fill.units)):
            if mean and mean[0][1] != sign:
                average = _mean(mean)
                mean = [(average, -sign)] * (len(mean) - 1)
            else:
                mean = [*mean, (fill.price, sign)]
    return _mean(mean) if mean else None


def _mean(units: list[tuple[Fraction, int]]) -> Fraction:
    return sum((price for price, _ in units), Fraction(0)) / len(units)


def _compressed(fills: list[PlainFill]) -> list[tuple[Fraction, int]]:
    """Return a price and a side for each unit that is held after some whole days."""
    held: list[tuple[Fraction, int]] = []
    for day in sorted({fill.day for fill in fills}):
        opened: list[tuple[Fraction, int]] = []
        closed = 0
        for fill in (fill for fill in fills if fill.day == day):
            sign = 1 if fill.units > 0 else -1
            for _ in range(abs(fill.units)):
                side = (held or opened or [(Fraction(0), sign)])[0][1]
                if side == sign:
                    opened.append((fill.price, sign))
                    continue
                closed += 1
                if closed == len(held) + len(opened):  # flat: what follows is a new position
                    held, opened, closed = [], [], 0
        if opened:
            opened = [(_mean(opened), opened[0][1])] * len(opened)
        held = (held + opened)[closed:]
    return held
