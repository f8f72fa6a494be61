"""The gaps in Alpaca's stream: the beginning, the end and the outcome of each.

A gap is a period in which events may have been missed:

    gap            event                                next state of the gap
    -------------  -----------------------------------  ---------------------------------
    none           the stream is lost                   PENDING without an end
    PENDING, OPEN  the stream is back                   the same, with an end
    PENDING, OPEN  the stream is lost again             the same, without an end: it grows
    PENDING        the backfill fails, or is too slow   OPEN: late events are marked recovered
    PENDING, OPEN  all missed events are found          RECOVERED (closed)
    PENDING, OPEN  only final order states are found    ORDERS (closed)
    PENDING, OPEN  nothing more can be found            LOST (closed)
    none           a check leaves an event out          LOST (closed)

After a journal that is lost with its bookmark, or in Redis before this node has read it, the first
gap has no known beginning; nor has it after a stream without an event that an earlier process had
with a wrong clock. A backfill then finds what came after the new journal began, and the gap is
LOST.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tradeproxy.hub.completeness import Completeness
from tradeproxy.journal.base import Journal
from tradeproxy.journal.metadata import OPEN_SINCE, UNKNOWN
from tradeproxy.runtime.dates import SECOND
from tradeproxy.wire.proxy_status import Gap, GapOutcome, encode_gap

GAPS_KEPT = 20
"""How many gaps a hello frame lists: the last ones."""

FOUND_AGAIN = 300 * SECOND
"""Microseconds for which checks may find an event again: by so much they overlap."""


class Gaps:
    """The gaps of one account. Only the last one can be open.

    The beginning of an open gap is saved in the journal, so that it survives a crash. All times
    are microseconds since 1970.
    """

    def __init__(
        self, journal: Journal, completeness: Completeness, announce: Callable[[bytes], None]
    ) -> None:
        self._journal = journal
        self._dates = journal.dates
        self.completeness = completeness
        self._announce = announce
        self._gaps: deque[Gap] = deque(maxlen=GAPS_KEPT)
        self.outcomes: Counter[GapOutcome] = Counter()
        """How many gaps have reached each outcome. PENDING counts every gap that began."""
        self.found = Counter(gap=0, check=0)
        """Missed events that were found in a gap, or by a check of a healthy stream."""

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps)

    @property
    def current(self) -> Gap | None:
        """The open gap, whose events may still be found; None if there is none."""
        return self._gaps[-1] if self._gaps and not self._gaps[-1].is_closed else None

    def may_precede_stream(self, time: int) -> bool:
        """Whether an event may be older than the first stream, if this process had that one.

        After a gap this is not asked any more: what is found then may be of the gap.
        """
        return not self._gaps and self.completeness.may_precede_stream(time)

    def begin_gap(self) -> None:
        """Begin a gap at `complete_through`, or reopen the end of the current gap.

        Before the first stream nothing can be missed, so there is no gap.
        """
        if (gap := self.current) is not None:
            self._change(replace(gap, end=None))
            return
        is_unknown = self.completeness.is_unknown
        begin = None if is_unknown else self.completeness.complete_through
        if is_unknown or begin is not None:
            self._gaps.append(Gap(begin))
            self.outcomes[GapOutcome.PENDING] += 1
            self._change(self._gaps[-1])

    def end_gap(self, now: int) -> None:
        """Record that the stream is back.

        If nothing is known of an earlier one, record when the first stream began.
        """
        is_first = self.completeness.complete_through is None
        if (gap := self.current) is not None:
            is_first = gap.begin is None
            # Alpaca's clock may be ahead of ours: a gap must not end before it begins.
            self._change(replace(gap, end=now if gap.begin is None else max(now, gap.begin)))
        if is_first:
            self.completeness.begin_stream(now)

    def correct_times(self) -> None:
        """Move the beginning of the open gap to a time that is not in the future.

        Call it when there is a new estimate of Alpaca's clock. If neither an event before the gap
        nor a stream is known, the gap begins now: only its end can be wrong then.
        """
        gap = self.current
        if gap is None or gap.begin is None or not self._dates.is_future(gap.begin):
            return
        if self.completeness.is_unknown:
            self._change(replace(gap, begin=None))
            return
        begin = self.completeness.complete_through
        begin = self._dates.now_microseconds() if begin is None else begin
        self._change(
            replace(gap, begin=begin, end=None if gap.end is None else max(gap.end, begin))
        )

    def replicate(self, gaps: Iterable[Gap]) -> None:
        """Replace the gaps by those of the leader, and announce the ones that are new.

        The open gap is saved here too: this node may be the next leader.
        """
        known = set(self._gaps)
        self._gaps = deque(gaps, maxlen=GAPS_KEPT)
        for gap in self._gaps:
            if gap not in known:
                self._announce(encode_gap(gap))
        self._save_open_gap()

    def count_found(self, events: int) -> None:
        """Count missed events that were found: in the gap, or by a check if there is no gap."""
        if (gap := self.current) is not None:
            self._gaps[-1] = replace(gap, events=gap.events + events)
            self.found["gap"] += events
        else:
            self.found["check"] += events

    def settle(self, outcome: GapOutcome, reason: str = "") -> None:
        """Set the outcome of the current gap. Has no effect if there is none."""
        gap = self.current
        if gap is not None and (gap.outcome, gap.reason) != (outcome, reason):
            if gap.outcome is not outcome:
                self.outcomes[outcome] += 1
            self._change(replace(gap, outcome=outcome, reason=reason))

    def declare_lost(self, begin: int | None, end: int, reason: str) -> None:
        """Report that a healthy stream omitted an event that nothing brings, while no gap is open.

        The next check may find the same one: then the gap becomes longer. An older gap stays as it
        is: nothing is missing in between.
        """
        if self.current is not None:
            return
        last = self._gaps[-1] if self._gaps else None
        is_same = last is not None and (last.outcome, last.reason) == (GapOutcome.LOST, reason)
        if last is None or not is_same or (begin or 0) > (last.end or 0) + FOUND_AGAIN:
            self.outcomes.update((GapOutcome.PENDING, GapOutcome.LOST))
            last = Gap(begin, outcome=GapOutcome.LOST, reason=reason)
            self._gaps.append(last)
        elif begin is None or last.begin is None:
            begin = None
        else:
            begin = min(begin, last.begin)
        self._change(replace(last, begin=begin, end=max(end, last.end or 0, begin or 0)))

    def _change(self, gap: Gap) -> None:
        self._gaps[-1] = gap
        self._save_open_gap()
        self._announce(encode_gap(gap))

    def _save_open_gap(self) -> None:
        gap = self.current
        begin = UNKNOWN if gap is None or gap.begin is None else str(gap.begin)
        self._journal.set_metadata(OPEN_SINCE, None if gap is None else begin)
