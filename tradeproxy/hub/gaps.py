"""The gaps in Alpaca's stream: where each began, whether it has ended, and what became of it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING

from tradeproxy.journal.metadata import OPEN_SINCE
from tradeproxy.wire.proxy_status import Gap, GapOutcome, encode_gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tradeproxy.journal.base import Journal

GAPS_KEPT = 20
"""How many gaps a client that asks is told of, the last ones."""

_COMPLETE_FROM = "complete from"
"""By our own clock, which does where nothing is known of Alpaca's."""

_CHECKED_THROUGH = "checked through"


class Gaps:
    """One account's gaps, of which the last one may still be open; another outage then only makes it longer.

    That one's begin is kept in the journal, so that a crash does not make it forgotten.
    """

    def __init__(self, journal: Journal, announce: Callable[[bytes], None]) -> None:
        self._journal = journal
        self._announce = announce
        self._gaps: deque[Gap] = deque(maxlen=GAPS_KEPT)
        self.outcomes: Counter[GapOutcome] = Counter()
        """How many gaps have begun, which is PENDING, and how many have come to each of the others."""
        self.found_in_gaps = 0
        self.found_by_checks = 0
        """Events that a healthy stream had left out."""

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps)

    @property
    def current(self) -> Gap | None:
        """The gap of which something may still come."""
        return self._gaps[-1] if self._gaps and not self._gaps[-1].is_closed else None

    @property
    def complete_through(self) -> int | None:
        """The last moment that is known to be complete, but for what a healthy stream left out."""
        if (since := self._journal.get_metadata(OPEN_SINCE)) is not None:
            return int(since)
        moments = (self._journal.latest_time, self._journal.dedup_horizon, self.checked_through)
        known = max((moment for moment in moments if moment is not None), default=None)
        return self._moment(_COMPLETE_FROM) if known is None else known

    @property
    def checked_through(self) -> int | None:
        """The moment, by Alpaca's clock, up to which Alpaca was asked whether all is there."""
        return self._moment(_CHECKED_THROUGH)

    @property
    def backfill_from(self) -> int | None:
        """From when on Alpaca is to be asked for what is not here; None if nothing can have been missed."""
        known, checked = self.complete_through, self.checked_through
        return known if known is None or checked is None else min(known, checked)

    def check_through(self, moment: int) -> None:
        """Note that Alpaca was asked up to a moment; a later one that is known stays."""
        if (known := self.checked_through) is None or moment > known:
            self._journal.set_metadata(_CHECKED_THROUGH, str(moment))

    def start_log(self, now: int) -> None:
        """Note that the log begins now, by Alpaca's clock, as another account's: nothing older is missing."""
        self.check_through(now)

    def begin_gap(self) -> None:
        """Begin a gap at the last moment that is known to be complete.

        Nothing happens where no moment is: before the very first stream there is nothing to miss.
        """
        if (gap := self.current) is not None:
            self._change(replace(gap, end=None))
            return
        begin = self.complete_through
        if begin is not None:
            self._gaps.append(Gap(begin))
            self.outcomes[GapOutcome.PENDING] += 1
            self._remember(self._gaps[-1])
            self._announce(encode_gap(self._gaps[-1]))

    def end_gap(self, now: int) -> None:
        """Note that the stream is back, at `now` (microseconds since 1970)."""
        if (gap := self.current) is not None:
            self._change(replace(gap, end=max(now, gap.begin)))
        elif self.complete_through is None:
            self._journal.set_metadata(_COMPLETE_FROM, str(now))

    def replicate(self, gaps: Iterable[Gap]) -> None:
        """Have these gaps, which the node that holds the stream has told of; this one may hold it next."""
        known = set(self._gaps)
        self._gaps = deque(gaps, maxlen=GAPS_KEPT)
        for gap in self._gaps:
            if gap not in known:
                self._announce(encode_gap(gap))
        current = self.current
        self._journal.set_metadata(OPEN_SINCE, None if current is None else str(current.begin))

    def count_found(self, events: int) -> None:
        """Count events of the gap; while there is none, events that the stream had left out."""
        if (gap := self.current) is not None:
            self._gaps[-1] = replace(gap, events=gap.events + events)
            self.found_in_gaps += events
        else:
            self.found_by_checks += events

    def settle(self, outcome: GapOutcome, reason: str = "") -> None:
        """Note what has become of the gap, if there is one."""
        gap = self.current
        if gap is not None and (gap.outcome, gap.reason) != (outcome, reason):
            if gap.outcome is not outcome:
                self.outcomes[outcome] += 1
            self._change(replace(gap, outcome=outcome, reason=reason))

    def _change(self, gap: Gap) -> None:
        self._gaps[-1] = gap
        self._remember(gap)
        self._announce(encode_gap(gap))

    def _remember(self, gap: Gap) -> None:
        self._journal.set_metadata(OPEN_SINCE, None if gap.is_closed else str(gap.begin))

    def _moment(self, key: str) -> int | None:
        text = self._journal.get_metadata(key)
        return None if text is None else int(text)
