"""Up to which time an account's log is complete: by the stream, by checks, and by orders.

Recovery decides from it where a backfill begins. It is saved in the metadata of the log, so that it
survives a crash. All times are microseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable

from tradeproxy.journal.base import Journal
from tradeproxy.journal.metadata import FIRST_STREAM, OPEN_SINCE, ORDERS_THROUGH, UNKNOWN, read_time
from tradeproxy.runtime.dates import SECOND

SYNTHETIC_AHEAD = 60 * SECOND
"""Microseconds by which the time of events made of orders is saved in advance."""

STREAM_BEGIN_ERROR = 2 * SECOND
"""Microseconds by which the first stream may begin later than the estimate of Alpaca's clock says.

A Date header is truncated to a second, and the answer is on its way for some time.
"""

# Metadata keys in the journal. The values are microseconds since 1970.

_CHECKED_THROUGH = "checked through"

_SYNTHETIC_UNTIL = "synthetic until"


class Completeness:
    """What is known about the events of one account's log."""

    def __init__(self, journal: Journal, flush: Callable[[], None] = lambda: None) -> None:
        """Create it; `flush` commits the events that are published but pending."""
        self._journal = journal
        self._flush = flush
        self._dates = journal.dates
        # When the first stream began, by `dates.clock`; None if an earlier process had it.
        self._streamed_at: float | None = None

    def begin_stream(self, now: int) -> None:
        """Record that the first stream of this log begins at `now`."""
        self._streamed_at = self._dates.clock()
        self._journal.set_metadata(FIRST_STREAM, str(now))

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
        if known is None:
            return self._first_stream
        # If Redis loses the end of the log, these are dropped: a gap that begins now has them too.
        unread = [event.time for event in self._journal.unread if event.time is not None]
        return min([known, *(time - 1 for time in unread)])

    @property
    def _first_stream(self) -> int | None:
        if self._streamed_at is not None:
            began = self._dates.alpaca_at(self._streamed_at)
            if began is not None:
                return round(began * SECOND)
        return self._read_time(FIRST_STREAM)

    @property
    def is_unknown(self) -> bool:
        """Whether it is unknown up to which time the log is complete.

        It is, after a log that is lost with that time. It is too if another process had a stream
        that has brought nothing yet, and that process' clock has put its begin into the future.
        """
        if self._journal.get_metadata(OPEN_SINCE) == UNKNOWN:
            return True
        has_streamed = read_time(self._journal.get_metadata(FIRST_STREAM)) is not None
        return has_streamed and self.complete_through is None

    def may_precede_stream(self, time: int) -> bool:
        """Whether an event may be older than the first stream, if this process had that one."""
        if self._streamed_at is None:
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
        return self._read_time(ORDERS_THROUGH)

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
        """Record that the log was compared with Alpaca's history up to `time`.

        The found events are committed first. After a crash in between, they would count as
        delivered and would never be requested again.
        """
        self._flush()
        if (known := self.checked_through) is None or time > known:
            self._journal.set_metadata(_CHECKED_THROUGH, str(time))

    def check_orders_through(self, time: int) -> None:
        """Record that the log was compared with Alpaca's orders up to `time`."""
        self._flush()
        if (known := self.orders_through) is None or time > known:
            self._journal.set_metadata(ORDERS_THROUGH, str(time))

    def record_synthetic(self, time: int) -> None:
        """Record, before it is delivered, that an event is made of an order at `time`.

        It is saved in advance, so that a gap of many orders costs one commit.
        """
        if (known := self.synthetic_until) is None or time > known:
            self._journal.set_metadata(_SYNTHETIC_UNTIL, str(time + SYNTHETIC_AHEAD))

    def supersede_history(self, through: int) -> None:
        """Let events of the history up to `through` count as duplicates of synthetic ones.

        The history has different events for the same changes. A Date that is a bit ahead must not
        drop what a backfill finds until then.
        """
        self._flush()  # pending events would count as duplicates too
        self._journal.advance_dedup_horizon(min(through, self._dates.past()))

    def _read_time(self, key: str) -> int | None:
        return self._drop_future(read_time(self._journal.get_metadata(key)))

    def _drop_future(self, time: int | None) -> int | None:
        return None if time is None or self._dates.is_future(time) else time
