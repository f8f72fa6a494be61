"""The delay before the next connection attempt, computed from how the last one ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tradeproxy.upstream.http_date import parse_date

INITIAL_CEILING = 1.0
"""Seconds: the maximum jitter after the first failure. It doubles with every further failure."""

MAX_CEILING = 60.0
"""Seconds: the maximum jitter after any failure. The floor is added to it."""

STABLE_AFTER = 60.0
"""Seconds of streaming after which a session counts as stable and resets the backoff."""

MAX_RETRY_AFTER = 900.0
"""Seconds: a longer Retry-After is treated as a mistake and is cut to this."""


class DisconnectCause(Enum):
    """Why an attempt or a session ended. The value is the floor of the next delay, in seconds."""

    LOST = 0.0
    # Waiting does not fix a rejected key: a person has to replace it. Frequent attempts only add
    # load at Alpaca.
    REFUSED = 60.0
    # Alpaca allows one connection per account. A half-closed connection is reported to occupy it
    # for about 90 s.
    LIMITED = 90.0


@dataclass(frozen=True, slots=True)
class Disconnect:
    """How an attempt or a session ended."""

    cause: DisconnectCause
    reason: str
    """A fixed phrase or a status. It is safe to log and to publish."""
    streamed: float = 0.0
    """Seconds between `StreamUp` and the end; 0 if the session never streamed."""
    retry_after: float | None = None
    """Seconds from Alpaca's Retry-After header.

    They replace the floor of LIMITED, because Alpaca has the connection count. They only raise
    the floor of REFUSED, because Alpaca cannot predict when a key is replaced.
    """

    is_reopening: bool = False
    """Whether the proxy itself ended the session to begin another one at once."""
    quote: str = ""
    """What Alpaca said, if the reason does not tell: for the log only, bounded and escaped."""

    @property
    def reconnect_reason(self) -> str:
        """Return the matching value of hub.account.RECONNECT_REASONS."""
        if self.is_reopening:
            return "mute"
        if self.cause is DisconnectCause.LOST:
            return "lost" if self.streamed else "unreachable"
        return self.cause.name.lower()

    @property
    def floor(self) -> float:
        """Return the minimum of the next delay, in seconds."""
        if self.retry_after is None:
            return self.cause.value
        return max(
            self.retry_after, self.cause.value if self.cause is DisconnectCause.REFUSED else 0.0
        )


class Backoff:
    """Compute delays: a floor that depends on the disconnect, plus full jitter below a ceiling.

    The ceiling starts at 1 s and doubles to 60 s. `random` returns floats from 0 to 1. Full jitter
    is from Marc Brooker, "Exponential Backoff And Jitter" (AWS): it spreads the reconnects of many
    proxies that lost Alpaca at the same time.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._ceiling = INITIAL_CEILING

    def delay_after(self, disconnect: Disconnect) -> float:
        """Return the seconds to wait before the next attempt, and double the ceiling."""
        if disconnect.is_reopening:
            return 0.0
        if disconnect.streamed >= STABLE_AFTER:
            self._ceiling = INITIAL_CEILING
        jitter = self._random() * self._ceiling
        self._ceiling = min(2 * self._ceiling, MAX_CEILING)
        return disconnect.floor + jitter


def parse_retry_after(value: str, now: float) -> float | None:
    """Parse a Retry-After header (RFC 9110, 10.2.3): seconds, or a date relative to `now`.

    `now` is Unix time in seconds. The result is from 0 to MAX_RETRY_AFTER; it is None if the value
    is neither a number nor a date.
    """
    if value.strip().isdecimal():
        seconds = float(value)
    elif (date := parse_date(value)) is not None:
        seconds = date - now
    else:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
