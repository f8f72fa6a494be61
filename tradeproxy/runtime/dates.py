"""Dates: what time it is, by this machine's clock and by Alpaca's, which is estimated.

A machine's clock can be wrong by years, for example on a Raspberry Pi before NTP has set it. So can
a single Date header. The estimate of Alpaca's clock needs two sources that agree:

    Date header                                              effect
    -------------------------------------------------------  ------------------------------
    near the estimate                                        accepted as the new estimate
    near this machine's clock                                accepted as the new estimate
    agrees with another one, CONFIRM_AFTER seconds or older  accepted as the new estimate
    any other                                                kept until another one agrees

The times of events never change the estimate.
"""

from __future__ import annotations

from collections.abc import Callable

TOLERANCE = 300.0
"""Seconds by which an accepted Date may differ from the estimate. A backfill overlaps as much."""

CONFIRM_AFTER = 30.0
"""Seconds between two answers that confirm each other. A cached answer would repeat its Date."""

AGREEMENT = 10.0
"""Seconds by which two such answers may differ, the time between them considered."""

CLIENT_SKEW = 60.0
"""Seconds by which a client's clock may be ahead of Alpaca's."""

UNKNOWN_SKEW = 86_400.0
"""Seconds by which this machine's clock may be behind, while there is no estimate."""

SECOND = 1_000_000
"""In microseconds."""


class Dates:
    """The dates of one account. Seconds are Unix time; microseconds are since 1970."""

    def __init__(self, clock: Callable[[], float], own: Callable[[], float]) -> None:
        """Begin without an estimate."""
        self.clock = clock
        """Seconds of the clock that measures intervals."""
        self.own = own
        """Unix time in seconds, by this machine's clock."""
        # A Date header, and the time of `clock` at which it came.
        self._accepted: tuple[float, float] | None = None
        self._candidate: tuple[float, float] | None = None
        # The limit of a moment ago. It only rises, until there is a new estimate.
        self._past_limit = 0.0

    def observe(self, date: float) -> bool:
        """Take the Date header of one of Alpaca's answers (Unix time in seconds).

        Return whether it is accepted.
        """
        now = self.clock()
        # On some systems the clock of intervals stops while the machine sleeps. The estimate is
        # then behind, and this machine's own clock is the second source.
        if self.is_right(date) or abs(date - self.own()) <= TOLERANCE or self._is_confirmed(date):
            self._accepted, self._candidate, self._past_limit = (date, now), None, 0.0
            return True
        if self._candidate is None or abs(date - self._extrapolate(self._candidate)) > AGREEMENT:
            self._candidate = date, now
        return False

    def alpaca(self) -> float | None:
        """Return the estimate of Alpaca's clock (Unix time in seconds); None if there is none."""
        return None if self._accepted is None else self._extrapolate(self._accepted)

    def alpaca_at(self, moment: float) -> float | None:
        """Return what Alpaca's clock was at a time of `clock` (Unix time in seconds), or None."""
        now = self.alpaca()
        return None if now is None else now - (self.clock() - moment)

    def now(self) -> float:
        """Return the best date that is known: Alpaca's, or this machine's without an estimate."""
        now = self.alpaca()
        return self.own() if now is None else now

    def now_microseconds(self) -> int:
        """Return `now` in microseconds."""
        return round(self.now() * SECOND)

    def past(self) -> int:
        """Return a time that is over by both clocks (microseconds), as far as they are plausible.

        A Date that is some minutes ahead is accepted, and the machine's clock may be the right one.
        """
        now, own = self.now(), self.own()
        return round((min(now, own) if abs(now - own) <= TOLERANCE else now) * SECOND)

    def is_right(self, date: float) -> bool:
        """Whether a date (Unix time in seconds) is near the estimate. False without one."""
        now = self.alpaca()
        return now is not None and abs(date - now) <= TOLERANCE

    def event_limit(self) -> int | None:
        """Return the latest time that an event can have (microseconds); None if it is unknown."""
        now = self.alpaca()
        return None if now is None else round((now + TOLERANCE) * SECOND)

    def is_future(self, time: int) -> bool:
        """Whether a time (microseconds) is later than that. False if that is unknown."""
        if self._accepted is None or time <= self._past_limit:
            return False
        self._past_limit = (self.now() + TOLERANCE) * SECOND
        return time > self._past_limit

    def is_ahead(self, time: int) -> bool:
        """Whether a time (microseconds) is later than any clock can be, if the best date is right.

        Without an estimate it may be wrong: see `since_limit`.
        """
        return time > (self.now() + CLIENT_SKEW) * SECOND

    def since_limit(self) -> float:
        """Return the latest time from which a client may ask for events (Unix time in seconds)."""
        now = self.alpaca()
        return self.own() + UNKNOWN_SKEW if now is None else now + CLIENT_SKEW

    def _extrapolate(self, sample: tuple[float, float]) -> float:
        date, moment = sample
        return date + self.clock() - moment

    def _is_confirmed(self, date: float) -> bool:
        if self._candidate is None or self.clock() - self._candidate[1] < CONFIRM_AFTER:
            return False
        return abs(date - self._extrapolate(self._candidate)) <= AGREEMENT
