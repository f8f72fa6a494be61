"""The time and the ids of events: monotonic, in UTC, and in Alpaca's formats."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from tradeproxy.wire.event import EPOCH

_LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) * 1000

_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class EventClock:
    """Timestamps for events and orders.

    `seconds` returns Unix time. If that goes backwards, the clock stops until it catches up.
    """

    def __init__(self, seconds: Callable[[], float], random: Random) -> None:
        self._seconds = seconds
        self._random = random
        self._ulids = UlidSequence(random)
        self._last = EPOCH

    def stamp(self) -> tuple[str, str]:
        """Return `at` and `event_id`. Ids strictly ascend and contain the millisecond of `at`."""
        time = self._time()
        return f"{_text(time)}Z", self._ulids.next((time - EPOCH) // timedelta(milliseconds=1))

    def timestamp(self, days: int = 0) -> str:
        """Return the time in `days` days with nine decimals of a second.

        The last three are random.
        """
        return f"{_text(self._time() + timedelta(days))}{self._random.randrange(1000):03}Z"

    def _time(self) -> datetime:
        self._last = max(self._last, datetime.fromtimestamp(self._seconds(), UTC))
        return self._last


def nanoseconds(text: object) -> int | None:
    """Parse an RFC 3339 time as nanoseconds since 1970; None for any other value."""
    parts = _RFC_3339.fullmatch(text) if isinstance(text, str) else None
    if parts is None:
        return None
    day, time, fraction, zone = parts.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{zone.upper()}").astimezone(UTC)
    except (ValueError, OverflowError):  # such as the 30th of February, or year 10,000 in UTC
        return None
    seconds = (moment - EPOCH) // timedelta(seconds=1)
    return seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def is_between(time: int, after: int | None, until: int | None) -> bool:
    """Whether a time is between two others, exclusive; None is no limit."""
    return (after is None or time > after) and (until is None or time < until)


def compact(time: int) -> str:
    """Format a time in nanoseconds since 1970 as the prefix of activity ids: to the millisecond."""
    moment = EPOCH + timedelta(microseconds=time // 1000)
    return f"{moment.year:04}{moment:%m%d%H%M%S}{moment.microsecond // 1000:03}"


def format_time(time: int) -> str:
    """Format a time in nanoseconds since 1970 as Alpaca does, with six or nine decimals.

    A time before 1970 or after the year 9999 becomes the first or last one in that range.
    """
    microseconds, finer = divmod(min(max(time, 0), _LAST), 1000)
    text = _text(EPOCH + timedelta(microseconds=microseconds))
    return f"{text}{finer:03}Z" if finer else f"{text}Z"


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%f")


ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32, without I, L, O and U (github.com/ulid/spec)."""

_RANDOM_BITS = 80
_LENGTH = 26
_TIME_LENGTH = 10
_ULID = re.compile(f"[0-7][{ALPHABET}]{{{_LENGTH - 1}}}")


def random_uuid(random: Random) -> str:
    """Build a version 4 UUID from `random`, so that a seed reproduces it."""
    return str(UUID(int=random.getrandbits(128), version=4))


def ulid_milliseconds(text: str) -> int | None:
    """Return the time in a ULID, in milliseconds since 1970; None if `text` is not a ULID."""
    if _ULID.fullmatch(text) is None:
        return None
    milliseconds = 0
    for character in text[:_TIME_LENGTH]:
        milliseconds = milliseconds << 5 | ALPHABET.index(character)
    return milliseconds


def move_ulid(text: str, milliseconds: int) -> str:
    """Return a ULID with another time, in milliseconds since 1970. Other text is unchanged."""
    if _ULID.fullmatch(text) is None:
        return text
    time = min(max(milliseconds, 0), (1 << 48) - 1)
    digits = (ALPHABET[time >> 5 * index & 31] for index in reversed(range(_TIME_LENGTH)))
    return "".join(digits) + text[_TIME_LENGTH:]


class UlidSequence:
    """Builds strictly ascending ULIDs for times that never decrease.

    Within one millisecond they increment from a random start, as the specification requires.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._last = 0

    def next(self, milliseconds: int) -> str:
        """Build the next ULID, for a time in milliseconds since 1970."""
        # The top bit of the random part stays 0, so that increments cannot overflow into the time.
        fresh = (milliseconds << _RANDOM_BITS) | self._random.getrandbits(_RANDOM_BITS - 1)
        self._last = self._last + 1 if milliseconds == self._last >> _RANDOM_BITS else fresh
        return "".join(ALPHABET[self._last >> 5 * index & 31] for index in reversed(range(_LENGTH)))
