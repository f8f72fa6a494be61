"""Quantities and prices as others write them: numbers with bounds, before any arithmetic.

Decimal accepts any exponent, and Python's arithmetic then takes gigabytes, seconds or an exception.
A number beyond the bounds stays the text that it is, and nothing is computed with it.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

MAX_DIGITS = 40
"""Digits as written, before and after the point, without those of the exponent."""

MAX_EXPONENT = 30
"""The exponent as written, in either direction. Alpaca writes none: 9 decimals at most."""

_NUMBER = re.compile(
    rf"[+-]?(?:\.?[0-9]){{1,{MAX_DIGITS}}}\.?(?:[eE](?P<exponent>[+-]?[0-9]{{1,3}}))?"
)


_NORMAL = re.compile(r"[1-9][0-9]{0,11}(?:\.[0-9]{0,11}[1-9])?")
"""What `normalize_amount` need not change, unless it is a whole number that ends in 0."""


def parse_amount(text: str) -> Decimal | None:
    """Return a number within the bounds; None for any other text."""
    match = _NUMBER.fullmatch(text)
    if match is None or abs(int(match["exponent"] or 0)) > MAX_EXPONENT:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # two points
        return None


def normalize_amount(text: str) -> str:
    """Return a quantity or a price such that 10, "10" and "10.0" are equal; "" for none."""
    if _NORMAL.fullmatch(text) and text[-1] != "0":
        return text  # most prices: Decimal would take three times as long
    number = parse_amount(text)
    if number is None:
        return text
    return str(number.normalize()) if number else "0"


def is_more(text: str, other: str) -> bool:
    """Whether both are numbers within the bounds, and the first is the larger one."""
    number, than = parse_amount(text), parse_amount(other)
    return number is not None and than is not None and number > than


def read_int(text: str) -> int | str:
    """Return a whole number of a JSON document; beyond the bounds its text."""
    return int(text) if len(text) <= MAX_DIGITS else text


def read_float(text: str) -> float | str:
    """Return another number of a JSON document; beyond the bounds its text."""
    return text if parse_amount(text) is None else float(text)
