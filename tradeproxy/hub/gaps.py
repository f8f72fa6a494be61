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

After a journal that is lost with its bookmark, the first gap has no known beginning. A backfill
then finds what came after the new journal began, and the gap is LOST.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING

from tradeproxy.journal.metadata import OPEN_SINCE, UNKNOWN, read_time
from tradeproxy.runtime.dates import SECOND
from tradeproxy.wire.proxy_status import Gap, GapOutcome, encode_gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tradeproxy.journal.base import Journal

GAPS_KEPT = 20
"""How many gaps a hello frame lists: the last ones."""

SYNTHETIC_AHEAD = 60 * SECOND
"""Microseconds by which the time of events made of orders is saved in advance."""

STREAM_BEGIN_ERROR = 2 * SECOND
"""Microseconds by which the first stream may begin later than the estimate of Alpaca's clock says.

A Date header is truncated to a second, and the answer is on its way for some time.
"""

# Metadata keys in the journal. The values are microseconds since 1970.

_FIRST_STREAM = "complete from"
"""When the first stream began, by this machine's clock. Alpaca's clock is not known then.

The key is older than the name.
"""

_CHECKED_THROUGH = "checked through"

_ORDERS_THROUGH = "orders through"

_SYNTHETIC_UNTIL = "synthetic until"


class Gaps:
    """The gaps of one account. Only the last one can be open.

    The beginning of an open gap is saved in the journal, so that it survives a crash. All times
    are microseconds since 1970.
    """

    def __init__(self, journal: Journal, announce: Callable[[bytes], None]) -> None:
        self._journal = journal
        self._dates = journal.dates
        # When the first stream began, by `dates.clock`; None if an earlier process had it.
        self._streamed_at: float | None = None
        self._announce = announce
        self._gaps: deque[Gap] = deque(maxlen=GAPS_KEPT)
        self.outcomes: Counter[GapOutcome] = Counter()
        """How many gaps have reached each outcome. PENDING counts every gap that began."""
        self.found_in_gaps = 0
        """Missed events that a backfill found in a gap."""
        self.found_by_checks = 0
        """Missed events that a regular check found while the stream seemed healthy."""

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps)

    @property
    def current(self) -> Gap | None:
        """The open gap, whose events may still be found; None if there is none."""
        return self._gaps[-1] if self._gaps and not self._gaps[-1].is_closed else None

    @property
    def complete_through(self) -> int | None:
        """The time up to which the log is complete; None before the first stream.

        Events that a healthy stream omitted are not considered: see `backfill_from`. Times that
        lie in the future are ignored: a wrong time of an event or a wrong Date has set them.
        """
        if self._journal.get_metadata(OPEN_SINCE) == UNKNOWN:
            # Earlier events are lost with the old log. From its beginning on, the new one can be
            # completed.
            return self._drop_future(self._journal.complete_from)
        if (since := self._read_time(OPEN_SINCE)) is not None:
            return since
        horizon = self._drop_future(self._journal.dedup_horizon)
        times = (self._journal.newest_time, horizon, self.checked_through)
        # These are by Alpaca's clock. Our own clock, which may be wrong, is the last resort.
        known = max((time for time in times if time is not None), default=None)
        return self._first_stream if known is None else known

    @property
    def _first_stream(self) -> int | None:
        if self._streamed_at is not None:
            began = self._dates.alpaca_at(self._streamed_at)
            if began is not None:
                return round(began * SECOND)
        return self._read_time(_FIRST_STREAM)

    def may_precede_stream(self, time: int) -> bool:
        """Whether an event may be older than the first stream, if this process had that one.

        After a gap this is not asked any more: what is found then may be of the gap.
        """
        if self._streamed_at is None or self._gaps:
            return False
        began = self._dates.alpaca_at(self._streamed_at)
        return began is not None and time < began * SECOND + STREAM_BEGIN_ERROR

    @property
    def checked_through(self) -> int | None:
        """The time, by Alpaca's clock, up to which the log was compared with Alpaca's history."""
        return self._read_time(_CHECKED_THROUGH)

    @property
    def orders_through(self) -> int | None:
        """The time, by Alpaca's clock, up to which the log was compared with Alpaca's orders."""
        return self._read_time(_ORDERS_THROUGH)

    @property
    def synthetic_until(self) -> int | None:
        """The time, by Alpaca's clock, up to which the log may have events made of orders."""
        return self._read_time(_SYNTHETIC_UNTIL)

    @property
    def backfill_from(self) -> int | None:
        """The time from which a backfill must start; None if no event can have been missed."""
        known, checked = self.complete_through, self.checked_through
        return known if known is None or checked is None else min(known, checked)

    def check_through(self, time: int) -> None:
        """Record that the log was compared with Alpaca's history up to `time`."""
        if (known := self.checked_through) is None or time > known:
            self._journal.set_metadata(_CHECKED_THROUGH, str(time))

    def check_orders_through(self, time: int) -> None:
        """Record that the log was compared with Alpaca's orders up to `time`."""
        if (known := self.orders_through) is None or time > known:
            self._journal.set_metadata(_ORDERS_THROUGH, str(time))

    def record_synthetic(self, time: int) -> None:
        """Record, before it is delivered, that an event is made of an order at `time`.

        It is saved in advance, so that a gap of many orders costs one commit.
        """
        if (known := self.synthetic_until) is None or time > known:
            self._journal.set_metadata(_SYNTHETIC_UNTIL, str(time + SYNTHETIC_AHEAD))

    def begin_gap(self) -> None:
        """Begin a gap at `complete_through`, or reopen the end of the current gap.

        Before the first stream nothing can be missed, so there is no gap.
        """
        if (gap := self.current) is not None:
            self._change(replace(gap, end=None))
            return
        is_unknown = self._journal.get_metadata(OPEN_SINCE) == UNKNOWN
        begin = None if is_unknown else self.complete_through
        if is_unknown or begin is not None:
            self._gaps.append(Gap(begin))
            self.outcomes[GapOutcome.PENDING] += 1
            self._change(self._gaps[-1])

    def end_gap(self, now: int) -> None:
        """Record that the stream is back.

        If nothing is known of an earlier one, record when the first stream began.
        """
        is_first = self.complete_through is None
        if (gap := self.current) is not None:
            is_first = gap.begin is None
            # Alpaca's clock may be ahead of ours: a gap must not end before it begins.
            self._change(replace(gap, end=now if gap.begin is None else max(now, gap.begin)))
        if is_first:
            self._streamed_at = self._dates.clock()
            self._journal.set_metadata(_FIRST_STREAM, str(now))

    def correct_times(self) -> None:
        """Move the beginning of the open gap to a time that is not in the future.

        Call it when there is a new estimate of Alpaca's clock. If no event before the gap is known,
        the gap begins now: only its end can be wrong then.
        """
        gap = self.current
        if gap is None or gap.begin is None or not self._dates.is_future(gap.begin):
            return
        begin = self.complete_through
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
            self.found_in_gaps += events
        else:
            self.found_by_checks += events

    def settle(self, outcome: GapOutcome, reason: str = "") -> None:
        """Set the outcome of the current gap. Has no effect if there is none."""
        gap = self.current
        if gap is not None and (gap.outcome, gap.reason) != (outcome, reason):
            if gap.outcome is not outcome:
                self.outcomes[outcome] += 1
            self._change(replace(gap, outcome=outcome, reason=reason))

    def _change(self, gap: Gap) -> None:
        self._gaps[-1] = gap
        self._save_open_gap()
        self._announce(encode_gap(gap))

    def _save_open_gap(self) -> None:
        gap = self.current
        begin = UNKNOWN if gap is None or gap.begin is None else str(gap.begin)
        self._journal.set_metadata(OPEN_SINCE, None if gap is None else begin)

    def _read_time(self, key: str) -> int | None:
        return self._drop_future(read_time(self._journal.get_metadata(key)))

    def _drop_future(self, time: int | None) -> int | None:
        return None if time is None or self._dates.is_future(time) else time
