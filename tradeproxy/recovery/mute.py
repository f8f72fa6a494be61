"""A mute stream: it answers pings and brings no events (alpaca-py, issue 740).

Only the history shows that events are missing. A new connection may bring them again:

    event                                              effect
    -------------------------------------------------  -----------------------------------------
    a check finds the stream mute                      open it again at once
    the next checks find it mute too                   open it again after 5, 10, 20, 40, 60 min
    the stream brings an event                         begin again, but not within 5 min
"""

from __future__ import annotations

from math import inf

from tradeproxy.hub.account import Account
from tradeproxy.runtime.dates import SECOND

REOPEN_AFTER, MAX_REOPEN_AFTER = 300.0, 3600.0
"""Seconds between two reopenings: the first delay, and the maximum. It doubles each time."""


class MuteDetector:
    """Judges one account's stream, and limits how often it is opened again."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._clock = account.dates.clock
        self._up_at = -inf
        self._reopened_at = -inf
        self._delay = 0.0
        self._newest_streamed = account.newest_streamed

    def stream_up(self) -> None:
        """Record that a connection begins to stream now."""
        self._up_at = self._clock()

    def is_mute(self, newest_found: int) -> bool:
        """Whether the stream brings nothing, by the newest event that a check found missing.

        A mute stream has brought no event of the same or a later time (microseconds since 1970).
        Events from before the connection do not count: it could not bring them.
        """
        if newest_found <= self._account.newest_streamed:
            return False
        up = self._account.dates.alpaca_at(self._up_at)
        return up is None or newest_found >= up * SECOND

    @property
    def wait(self) -> float:
        """Seconds until the stream may be opened again; 0.0 if it may be now."""
        delay = max(self._delay, REOPEN_AFTER)
        return max(self._reopened_at + delay - self._clock(), 0.0)

    def may_reopen(self) -> bool:
        """Handle a stream that was found mute: return whether to open it again now."""
        newest = self._account.newest_streamed
        if newest > self._newest_streamed:
            self._newest_streamed, self._delay = newest, 0.0
        if self.wait > 0:
            return False
        self._reopened_at = self._clock()
        self._delay = min(2 * self._delay, MAX_REOPEN_AFTER) if self._delay else REOPEN_AFTER
        return True
