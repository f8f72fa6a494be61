"""The limit for REST requests to Alpaca, kept below the one that Alpaca enforces."""

from __future__ import annotations

from collections import deque

MAX_REQUESTS = 60
"""Requests in any PERIOD. Alpaca allows 200 a minute per account; the user's bots share them."""

PERIOD = 60.0
"""Seconds."""


class RateLimiter:
    """Limits one account's REST requests in a sliding window. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._sent: deque[float] = deque(maxlen=MAX_REQUESTS)
        self._blocked_until = 0.0

    def delay(self, now: float) -> float:
        """Return the seconds until the next request is allowed; 0.0 if it is allowed now."""
        is_full = len(self._sent) == self._sent.maxlen
        free_at = self._sent[0] + PERIOD if is_full else now
        return max(free_at, self._blocked_until, now) - now

    def count_request(self, now: float) -> None:
        """Record that a request is sent at `now`."""
        self._sent.append(now)

    def block_until(self, time: float) -> None:
        """Allow no request before `time`, as Alpaca's Retry-After demands. The latest time wins."""
        self._blocked_until = max(self._blocked_until, time)
