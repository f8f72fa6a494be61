"""How long the stream was down, for the log."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from tradeproxy.runtime.dates import SECOND
from tradeproxy.wire.proxy_status import Gap


class Outage:
    """Measures from the loss of a stream to its return.

    A stream that is lost again before its events are recovered makes the same outage longer. The
    outage before the first stream began in an earlier process, at an unknown time.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._is_open = True
        self._since: float | None = None
        self._until = 0.0

    def stream_lost(self) -> None:
        """Begin an outage, unless one is open."""
        if not self._is_open:
            self._is_open, self._since = True, self._clock.seconds()

    def stream_up(self) -> None:
        """Take now as the end of the outage that is open."""
        self._until = self._clock.seconds()

    def close(self) -> None:
        """End the outage: its events are recovered, or are lost."""
        self._is_open = False

    def describe(self, gap: Gap) -> str:
        """Return the seconds as text; before the first stream, those of the gap at most.

        The gap begins with the last event that is known, which is earlier.
        """
        if self._since is not None:
            return f"{self._until - self._since:.1f} s"
        if gap.begin is None or gap.end is None:
            return "an unknown time"
        return f"at most about {(gap.end - gap.begin) / SECOND:.0f} s"
