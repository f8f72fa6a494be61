"""A limit on the lines about events that strangers can cause, such as connections."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

PERIOD = 1.0
"""Seconds in which the number of lines is limited, and after which the others are reported; a
limit may have another period."""


class LineLimit:
    """Admits some lines in any period, and reports how many more there would have been."""

    def __init__(
        self,
        lines: int,
        clock: IReactorTime,
        report: Callable[[Counter[str]], None],
        period: float = PERIOD,
    ) -> None:
        """Create a limit.

        Args:
            lines: how many lines may be written in any period.
            clock: the reactor.
            report: gets the number of the lines that were left out, by kind. It is called at most
                once in a period, and only if there are some.
            period: in seconds.
        """
        self._written: deque[float] = deque(maxlen=lines)
        self._clock = clock
        self._report = report
        self._period = period
        self._left_out: Counter[str] = Counter()
        self._timer: IDelayedCall | None = None

    def admit(self, kind: str) -> bool:
        """Return whether a line may be written now; otherwise count it by its kind."""
        now = self._clock.seconds()
        written = self._written
        if len(written) < (written.maxlen or 0) or now - written[0] >= self._period:
            written.append(now)
            return True
        self._left_out[kind] += 1
        if self._timer is None:
            self._timer = self._clock.callLater(self._period, self.flush)
        return False

    def flush(self) -> None:
        """Report now what was left out."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        left_out, self._left_out = self._left_out, Counter()
        if left_out:
            self._report(left_out)
