"""When to try Alpaca again, given how the last attempt ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INITIAL_CEILING = 1.0
"""Seconds: the most that the first attempt waits; it doubles with every further one."""

MAX_CEILING = 60.0
"""Seconds: the most that any attempt waits beyond its floor."""

STABLE_AFTER = 60.0
"""Seconds of streaming after which a session has worked, and the next failure is a first one again."""

MAX_RETRY_AFTER = 900.0
"""Seconds: a Retry-After beyond this is taken for a mistake."""


class DisconnectCause(Enum):
    """Why an attempt or a session ended. The value is the floor of the wait that follows, in seconds."""

    LOST = 0.0
    # People meet an `unauthorized` with new keys, not with patience; asking more often annoys Alpaca.
    REFUSED = 60.0
    # A half-dead connection is reported to hold the account's only slot for about 90 s.
    LIMITED = 90.0


@dataclass(frozen=True, slots=True)
class Disconnect:
    """How an attempt or a session ended."""

    cause: DisconnectCause
    reason: str
    streamed: float = 0.0
    """Seconds for which events could arrive."""
    retry_after: float | None = None
    """Seconds that Alpaca itself asked for. It knows best when a slot is free; not, when a key is mended."""

    @property
    def reconnect_reason(self) -> str:
        """Which of hub.account.SETBACKS it is."""
        if self.cause is DisconnectCause.LOST:
            return "lost" if self.streamed else "unreachable"
        return self.cause.name.lower()

    @property
    def floor(self) -> float:
        """The least that the wait afterwards takes, in seconds."""
        if self.retry_after is None:
            return self.cause.value
        return max(
            self.retry_after, self.cause.value if self.cause is DisconnectCause.REFUSED else 0.0
        )


class Backoff:
    """Full jitter under a ceiling of 1 s that doubles to 60 s, above the floor that the ending calls for.

    `random` yields floats from 0 to 1. Full jitter: Marc Brooker, "Exponential Backoff And Jitter" (AWS).
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._ceiling = INITIAL_CEILING

    def delay_after(self, ending: Disconnect) -> float:
        """Return the seconds to wait before the next attempt."""
        if ending.streamed >= STABLE_AFTER:
            self._ceiling = INITIAL_CEILING
        jitter = self._random() * self._ceiling
        self._ceiling = min(2 * self._ceiling, MAX_CEILING)
        return ending.floor + jitter


def parse_retry_after(value: str, now: float) -> float | None:
    """Read a Retry-After header: seconds, or a date (RFC 9110, 10.2.3) against `now` in Unix seconds.

    None if it is neither.
    """
    try:
        seconds = float(value) if value.strip().isdecimal() else _seconds_until(value, now)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _seconds_until(date: str, now: float) -> float:
    moment = parsedate_to_datetime(date)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
