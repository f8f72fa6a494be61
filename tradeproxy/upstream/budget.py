"""How many requests Alpaca is asked to answer: few, since the user's bots share its limit."""

from __future__ import annotations

from collections import deque

REQUESTS = 60
"""In any PERIOD; Alpaca allows 200 a minute and account, for the proxy and the bots together."""

PERIOD = 60.0
"""Seconds."""


class Budget:
    """One account's requests. Times are seconds of one clock."""

    def __init__(self, requests: int = REQUESTS) -> None:
        self._spent: deque[float] = deque(maxlen=requests)
        self._closed_until = 0.0

    def delay(self, now: float) -> float:
        """Return in how many seconds the next request may go; 0.0 for at once."""
        full = len(self._spent) == self._spent.maxlen
        free_at = self._spent[0] + PERIOD if full else now
        return max(free_at, self._closed_until, now) - now

    def spend(self, now: float) -> None:
        """Note that a request goes now."""
        self._spent.append(now)

    def close_until(self, time: float) -> None:
        """Let no request go before `time`: Alpaca said so."""
        self._closed_until = max(self._closed_until, time)
