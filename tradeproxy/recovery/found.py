"""The events that a search finds: delivered once, marked where they are late, and counted.

An event that may be older than the first stream is not counted: nothing has omitted it.
"""

from __future__ import annotations

from msgspec.structs import replace

from tradeproxy.hub.account import Account
from tradeproxy.wire.event import Event
from tradeproxy.wire.frame import Recovered, with_mark

MAX_SEEN = 10_000
"""Events of a search whose keys are kept. Those before them are in the journal."""


class FoundEvents:
    """What one account's backfills and checks find. A search is one of them, retries included."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.total = 0
        """The events that this search has found, and `count` has counted."""
        self.newest: int | None = None
        """The time of the newest one from the history that shows a mute stream (microseconds)."""
        # The newest event of the log before this search found any.
        self._newest_before: int | None = None
        # The newest event of the stream that was released before its place in the history.
        self._newest_released: int | None = None
        self._is_first = True
        self._seen: set[tuple[str, bytes]] = set()
        self._uncounted: set[tuple[str, bytes]] = set()

    def begin_search(self) -> None:
        """Begin another search."""
        self._seen.clear()
        self._is_first = True
        self._newest_released = None
        self.total = 0
        self.newest = None

    def deliver(self, event: Event, source: Recovered) -> None:
        """Deliver an event of the history or of an order, unless the log has it."""
        # A continued response repeats events, and the overlap repeats those in the journal. An
        # order shows what is missing whatever its time: see find_missed_events for the horizon.
        log = self._account.log
        is_known = log.has if source is Recovered.EVENTS else log.contains
        if event.key in self._seen or is_known(event):
            return
        if source is Recovered.ORDERS:
            # Saved before the event: after a crash in between, the history must not repeat it.
            self._account.completeness.record_synthetic(self._account.dates.now_microseconds())
        if self._is_first:
            self._is_first = False
            # Before Alpaca's answer, a time that lies in the future may not be known as such.
            self._newest_before = log.newest_time
        if len(self._seen) >= MAX_SEEN:
            self._forget()
        self._seen.add(event.key)
        time = event.time
        if time is None or not self._account.may_precede_stream(time):
            self._uncounted.add(event.key)
            if source is Recovered.EVENTS and time is not None and not self._is_known_state(event):
                self.newest = time if self.newest is None else max(time, self.newest)
        # A synthetic event is always marked. One from the history is marked only if it is late:
        # in its place it looks like the event of the stream that it is.
        if source is Recovered.ORDERS or self._is_late(event):
            event = replace(event, payload=with_mark(event.payload, source))
        else:
            self._release_before(event)
        self._account.publish_recovered(event)

    def count(self) -> None:
        """Count the events found, without those that the stream delivered too (now buffered)."""
        missed = self._uncounted - {event.key for event in self._account.buffered}
        self._uncounted.clear()
        self.total += len(missed)
        self._account.count_found(len(missed))

    def _release_before(self, event: Event) -> None:
        """Keep the stream's order: the history may lack events that it brought before this one."""
        now = self._account.dates.now_microseconds()
        for released in self._account.release_buffered_before(event):
            self._seen.add(released.key)
            self._uncounted.discard(released.key)
            if released.time is not None:
                self._newest_released = max(min(released.time, now), self._newest_released or 0)

    def _forget(self) -> None:
        """Leave it to the journal to know the events: Alpaca may send them without end."""
        self._account.flush()
        self.count()
        self._seen.clear()

    def _is_known_state(self, event: Event) -> bool:
        """Whether the log has this state of the event's order, or its time cannot be right.

        Without ids, the stream's copy of an event may not be recognised. It was brought, though.
        """
        if event.time is None or self._account.dates.is_future(event.time):
            return True
        state = event.order
        known = None if state is None else self._account.log.order(state.id)
        if state is None or known is None:
            return False
        return (known.status, known.filled_qty) == (state.status, state.filled_qty)

    def _is_late(self, event: Event) -> bool:
        """Whether clients already got newer events, after or before the buffering."""
        if not self._account.is_buffering:
            return True
        time = event.time
        if time is not None and time < self._account.log.complete_from:
            return True  # the log that had its place is lost
        newest = self._newest_before
        if self._newest_released is not None and not self._account.has_buffered(event):
            newest = max(newest or 0, self._newest_released)
        if newest is None:
            return False
        return time is None or time < newest or self._account.dates.is_future(time)
