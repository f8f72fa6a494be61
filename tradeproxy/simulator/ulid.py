"""ULIDs: ids of 26 characters that sort by the millisecond in which they were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32, which leaves out I, L, O and U (github.com/ulid/spec)."""

_RANDOM_BITS = 80
_CHARACTERS = 26


class UlidSequence:
    """Makes ULIDs each of which sorts after the one before.

    In one millisecond they count up from a random start, as the specification has it. Should the clock go
    back, they keep the last millisecond until it has caught up.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._last = 0

    def next(self, milliseconds: int) -> str:
        """Make the next one, for a time in milliseconds since 1970."""
        # The top bit of the random part stays clear, so that counting up cannot reach into the time.
        fresh = (milliseconds << _RANDOM_BITS) | self._random.getrandbits(_RANDOM_BITS - 1)
        same_millisecond = milliseconds <= self._last >> _RANDOM_BITS
        self._last = self._last + 1 if same_millisecond else fresh
        return _text(self._last)


def milliseconds_of(ulid: str) -> int:
    """Read the time back out of a ULID, in milliseconds since 1970."""
    number = 0
    for character in ulid:
        number = number << 5 | ALPHABET.index(character)
    return number >> _RANDOM_BITS


def _text(number: int) -> str:
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(_CHARACTERS)))
