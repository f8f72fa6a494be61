"""Ids as Alpaca makes them: UUIDs, and for events ULIDs, which sort by the millisecond of their making."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from random import Random

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32, which leaves out I, L, O and U (github.com/ulid/spec)."""

_RANDOM_BITS = 80
_CHARACTERS = 26
_TIME_CHARACTERS = 10
_ULID = re.compile(f"[0-7][{ALPHABET}]{{{_CHARACTERS - 1}}}")


def random_uuid(random: Random) -> str:
    """Make a UUID of version 4 from `random` alone."""
    return str(UUID(int=random.getrandbits(128), version=4))


def ulid_milliseconds(text: str) -> int | None:
    """Return the time that a ULID holds, in milliseconds since 1970; None for what is not a ULID."""
    if _ULID.fullmatch(text) is None:
        return None
    milliseconds = 0
    for character in text[:_TIME_CHARACTERS]:
        milliseconds = milliseconds << 5 | ALPHABET.index(character)
    return milliseconds


class UlidSequence:
    """Makes ULIDs each of which sorts after the one before, for times that never go back.

    Within one millisecond they count up from a random start, as the specification has it.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._last = 0

    def next(self, milliseconds: int) -> str:
        """Make the next one, for a time in milliseconds since 1970."""
        # The top bit of the random part stays clear, so that counting up cannot reach into the time.
        fresh = (milliseconds << _RANDOM_BITS) | self._random.getrandbits(_RANDOM_BITS - 1)
        self._last = self._last + 1 if milliseconds == self._last >> _RANDOM_BITS else fresh
        return "".join(ALPHABET[self._last >> 5 * place & 31] for place in reversed(range(_CHARACTERS)))
