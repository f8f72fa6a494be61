"""The time as events tell it: in UTC, never backwards, and written as Alpaca writes it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class EventClock:
    """Stamps events and orders; `seconds` gives Unix time. It stands still while that has gone back."""

    def __init__(self, seconds: Callable[[], float], random: Random) -> None:
        self._seconds = seconds
        self._random = random
        self._ulids = UlidSequence(random)
        self._last = _EPOCH

    def stamp(self) -> tuple[str, str]:
        """Return `at` and `event_id`: ids ascend strictly, and hold the millisecond of `at`."""
        time = self._time()
        return f"{_text(time)}Z", self._ulids.next((time - _EPOCH) // timedelta(milliseconds=1))

    def timestamp(self, days: int = 0) -> str:
        """Return the time some `days` from now, with nine digits of a second, the last three made up."""
        return f"{_text(self._time() + timedelta(days))}{self._random.randrange(1000):03}Z"

    def _time(self) -> datetime:
        self._last = max(self._last, datetime.fromtimestamp(self._seconds(), UTC))
        return self._last


def nanoseconds(text: object) -> int | None:
    """Read a time as RFC 3339 writes it, in nanoseconds since 1970; None for anything else."""
    parts = _RFC_3339.fullmatch(text) if isinstance(text, str) else None
    if parts is None:
        return None
    day, time, fraction, zone = parts.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{zone.upper()}")
    except ValueError:  # such as the 30th of February
        return None
    return (moment - _EPOCH) // timedelta(seconds=1) * 1_000_000_000 + int(
        (fraction or "").ljust(9, "0")
    )


def compact(time: int) -> str:
    """Write a time in nanoseconds since 1970 as the ids of account activities begin: to the millisecond."""
    moment = _EPOCH + timedelta(microseconds=time // 1000)
    return f"{moment:%Y%m%d%H%M%S}{moment.microsecond // 1000:03}"


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%f")


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
        return "".join(
            ALPHABET[self._last >> 5 * place & 31] for place in reversed(range(_CHARACTERS))
        )
