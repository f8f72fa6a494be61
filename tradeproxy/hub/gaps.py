"""The gaps in Alpaca's stream: where each began, whether it has ended, and what became of it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from tradeproxy.wire.status import Gap, Outcome, encode_gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tradeproxy.hub.journal import Journal

GAPS_KEPT = 20
"""How many gaps a client that asks is told of, the last ones."""

_OPEN_SINCE = "open gap since"
_COMPLETE_FROM = "complete from"


class Gaps:
    """One account's gaps, of which the last one may still be open; another outage then only makes it longer.

    That one's begin is kept in the journal, so that a crash does not make it forgotten.
    """

    def __init__(self, journal: Journal, announce: Callable[[bytes], None]) -> None:
        self._journal = journal
        self._announce = announce
        self._gaps: deque[Gap] = deque(maxlen=GAPS_KEPT)

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps)

    @property
    def current(self) -> Gap | None:
        """The gap of which something may still come."""
        return self._gaps[-1] if self._gaps and not self._gaps[-1].is_closed else None

    def begin(self) -> None:
        """Begin a gap at the last moment that is known to be complete.

        Nothing happens where no moment is: before the very first stream there is nothing to miss.
        """
        if (gap := self.current) is not None:
            self._change(replace(gap, end=None))
            return
        begin = self._complete_through()
        if begin is not None:
            self._gaps.append(Gap(begin))
            self._remember(self._gaps[-1])
            self._announce(encode_gap(self._gaps[-1]))

    def end(self, now: int) -> None:
        """Note that the stream is back, at `now` (microseconds since 1970)."""
        if (gap := self.current) is not None:
            self._change(replace(gap, end=max(now, gap.begin)))
        elif self._complete_through() is None:
            self._journal.remember(_COMPLETE_FROM, str(now))

    def found(self, events: int) -> None:
        """Count events of the gap."""
        if (gap := self.current) is not None:
            self._gaps[-1] = replace(gap, events=gap.events + events)

    def settle(self, outcome: Outcome, reason: str = "") -> None:
        """Note what has become of the gap, if there is one."""
        gap = self.current
        if gap is not None and (gap.outcome, gap.reason) != (outcome, reason):
            self._change(replace(gap, outcome=outcome, reason=reason))

    def _change(self, gap: Gap) -> None:
        self._gaps[-1] = gap
        self._remember(gap)
        self._announce(encode_gap(gap))

    def _remember(self, gap: Gap) -> None:
        self._journal.remember(_OPEN_SINCE, None if gap.is_closed else str(gap.begin))

    def _complete_through(self) -> int | None:
        if (since := self._journal.recall(_OPEN_SINCE)) is not None:
            return int(since)
        moments = (self._journal.latest, self._journal.horizon, self._journal.recall(_COMPLETE_FROM))
        return max((int(moment) for moment in moments if moment is not None), default=None)
