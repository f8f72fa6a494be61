"""How a node reads the log in Redis: entry by entry, or from the start if it is another log.

| situation                                              | action                            |
|--------------------------------------------------------|-----------------------------------|
| Redis is away                                          | retry, then compare the logs      |
| there is no log                                        | mark the target as unavailable    |
| same epoch, the last event read is still there         | read on                           |
| an epoch began exactly where this node is              | continue in it; read from its start |
| any other log, a wrong number, or an unknown epoch     | read from the start               |
| an entry is not one of the proxy's                     | a hole, if it is the next event's |
| entries are missing in the middle, again               | holes                             |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from tradeproxy.cluster.redis_client import RedisUnavailableError
from tradeproxy.cluster.redis_log import (
    EpochStart,
    EventEntry,
    InvalidEntry,
    LogEntry,
    LogState,
    RedisLog,
    StatusEntry,
)
from tradeproxy.hub.account import INTERNAL_ERROR
from tradeproxy.runtime.log_throttle import is_logged

RETRY_DELAY = 0.1
"""Seconds until Redis is asked again."""

AFTER_ERROR = 1.0
"""Seconds until the next attempt after an internal error."""

MAX_MISSING = 10_000
"""Entries in a row that can be missing from the middle of the log."""

MAX_GAPS = 1000
"""Places where entries are missing."""

NO_LOG = "no node has begun it yet"

_BEGINNING = b"0-0"


class TailTarget(Protocol):
    """The copy of the log that a LogTailer keeps up to date."""

    epoch: str
    """The epoch that was read; "" if nothing was read."""
    last: int
    """The number of the last event that was read."""

    def matches(self, log_state: LogState) -> bool:
        """Whether the last event read is in the log, or was the last one trimmed from it."""

    def read_from_start(self, log_state: LogState) -> None:
        """Clear the copy: the whole log follows."""

    def continue_in_epoch(self, epoch_start: EpochStart) -> bool:
        """Continue in another epoch; False, without a change, unless it began after `last`."""

    def apply_events(self, entries: Sequence[EventEntry]) -> None:
        """Append events: at least one, with the next numbers, of this epoch."""

    def apply_stream_state(self, stream_state: str) -> None:
        """Take over the stream state that another node published."""

    def mark_read_to(self, end: int | None) -> None:
        """Record that everything available was read; `end` is the log's last number, if known."""

    def mark_unavailable(self, reason: str) -> None:
        """Record why there is nothing to read."""


class LogTailer:
    """Reads the log into a target until stopped; it survives outages and internal errors."""

    _log = Logger()

    def __init__(
        self, account: str, log: RedisLog, target: TailTarget, clock: IReactorTime
    ) -> None:
        """`log` needs a connection of its own: reads block it for up to redis_log.BLOCK."""
        self._account = account
        self._redis_log = log
        self._target = target
        self._clock = clock
        self._at = _BEGINNING  # the id of the last entry read
        self._is_mismatched = self._must_recheck = False
        self._invalid = 0
        self._end = 0  # the log's last number when it was compared
        self._gaps: set[tuple[str, bytes]] = set()  # epochs and entries before which others lack
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        """Start to read."""
        self._running = Deferred.fromCoroutine(self._read_on())
        self._running.addErrback(self._failed)

    def stop(self) -> None:
        """Stop reading; does nothing if already stopped."""
        if self._running is not None:
            self._running.cancel()
            self._running = None

    def recheck(self) -> None:
        """Compare the log with the target again, after the read that is running."""
        self._must_recheck = True

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._log.failure(
            "{account}: reading the log in Redis failed", failure, account=self._account
        )
        self._is_mismatched = True  # an entry may be half applied: read from the start
        self._target.mark_unavailable(INTERNAL_ERROR)
        self._running = deferLater(self._clock, AFTER_ERROR, self.start)
        self._running.addErrback(lambda gone: gone.trap(CancelledError))

    async def _read_on(self) -> None:
        while True:
            try:
                if await self._sync():
                    while not self._is_mismatched and not self._must_recheck:
                        self._apply_entries(await self._redis_log.read_entries(self._at))
            except RedisUnavailableError:
                pass  # it may be another Redis after that, so _sync compares the logs first
            await deferLater(self._clock, RETRY_DELAY)

    async def _sync(self) -> bool:
        """Compare the log with the target, and choose where to read on; False if there is none.

        Raises RedisUnavailableError.
        """
        self._must_recheck = False
        target = self._target
        # With the last event read: its payload shows whether another one has its number now.
        log_state = await self._redis_log.read_state(target.last)
        if not log_state.metadata:
            target.mark_unavailable(NO_LOG)
            return False
        epoch = log_state.metadata["epoch"]
        if epoch != target.epoch or self._is_mismatched or not target.matches(log_state):
            self._is_mismatched = False
            self._at = _BEGINNING
            epoch_start = log_state.epoch_start
            if (
                epoch == target.epoch
                or epoch_start is None
                or epoch_start.epoch != epoch
                or not target.continue_in_epoch(epoch_start)
            ):
                target.read_from_start(log_state)
        # A node ignores its own stream state: the log has an older one than the node itself.
        if log_state.stream_state is not None and log_state.status_owner != self._redis_log.owner:
            target.apply_stream_state(log_state.stream_state)
        target.mark_read_to(log_state.last)
        self._end = log_state.last
        return True

    def _apply_entries(self, entries: Sequence[LogEntry]) -> None:
        """Apply entries in order; events that follow each other go to the target together."""
        batch: list[EventEntry] = []
        for each in entries:
            last = batch[-1].seq if batch else self._target.last
            entry = self._make_hole(each, last) if isinstance(each, InvalidEntry) else each
            if isinstance(entry, EventEntry):
                if self._is_behind_gap(entry, last):
                    batch += [entry._replace(seq=n, event=None) for n in range(last + 1, entry.seq)]
                elif entry.epoch != self._target.epoch or entry.seq != last + 1:
                    # It is another log, or the events in between were trimmed.
                    self._is_mismatched = True
                    break
                batch.append(entry)
            elif entry is not None:
                self._apply_batch(batch)
                batch = []
                self._apply_status(entry)
                if self._is_mismatched:
                    return
            self._at = each.id
        self._apply_batch(batch)
        if not self._is_mismatched:
            self._target.mark_read_to(None)

    def _is_behind_gap(self, entry: EventEntry, last: int) -> bool:
        """Whether the entries between number `last` and this one are no longer in the log.

        The first time they may have been trimmed before they were read. The log is then read from
        its start, which is behind them.
        """
        gap = entry.epoch, entry.id
        if (
            entry.epoch != self._target.epoch
            or not last + 1 < entry.seq <= min(self._end, last + 1 + MAX_MISSING)
            or len(self._gaps) >= MAX_GAPS
        ):
            return False
        if gap in self._gaps:
            return True
        self._gaps.add(gap)
        self._log.error(
            "{account}: entries {first} to {last} of the log in Redis may be missing",
            account=self._account,
            first=last + 1,
            last=entry.seq - 1,
        )
        return False

    def _make_hole(self, entry: InvalidEntry, last: int) -> EventEntry | None:
        """Return the hole that replaces an event; None if the entry is to be ignored."""
        self._invalid += 1
        if is_logged(self._invalid):
            self._log.error(
                "{account}: entry {id} of the log in Redis is not one of the proxy's"
                " ({count} so far)",
                account=self._account,
                id=entry.id.decode(),
                count=self._invalid,
            )
        if entry.seq is None or entry.seq <= last:
            return None
        return EventEntry(entry.id, entry.seq, None, self._target.epoch, 0)

    def _apply_batch(self, batch: list[EventEntry]) -> None:
        if batch:
            self._target.apply_events(batch)

    def _apply_status(self, entry: StatusEntry) -> None:
        if entry.stream_state is not None and entry.status_owner != self._redis_log.owner:
            self._target.apply_stream_state(entry.stream_state)
        epoch_start = entry.epoch_start
        if (
            epoch_start is not None
            and epoch_start.epoch != self._target.epoch
            and not self._target.continue_in_epoch(epoch_start)
        ):
            self._is_mismatched = True
