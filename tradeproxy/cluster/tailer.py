"""How a node reads the log in Redis: entry by entry, or from the start if it is another log.

| situation                                              | action                            |
|--------------------------------------------------------|-----------------------------------|
| Redis is away                                          | retry, then compare the logs      |
| there is no log                                        | mark the target as unavailable    |
| same epoch, the last event read is still there         | read on                           |
| an epoch began exactly where this node is              | continue in it; read from its start |
| any other log                                          | read from the start               |
| an entry is not one of the proxy's                     | a hole, if it is the next event's |
| an entry does not follow, or the end is not there      | compare the logs; if it is still  |
|                                                        | this log, and these events were   |
|                                                        | not trimmed: holes for them       |
| more than MAX_MISSING events are not there             | read from the start, a minute     |
|                                                        | later                             |
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tradeproxy.cluster.log_entries import EventEntry, InvalidEntry, LogEntry, StatusEntry
from tradeproxy.cluster.redis_client import RedisUnavailableError
from tradeproxy.cluster.redis_log import LogState, RedisLog
from tradeproxy.hub.account import INTERNAL_ERROR
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.runtime.repeated_lines import is_logged

RETRY_DELAY = 0.1
"""Seconds until Redis is asked again."""

AFTER_ERROR = 1.0
"""Seconds until the next attempt after an internal error."""

AFTER_TOO_MANY = 60.0
"""Seconds until a log with more missing events than MAX_MISSING is read again."""

MAX_MISSING = 100_000
"""Events in a row that holes replace: about a second, and 10 MB."""

HOLES_PER_STEP = 200
"""Holes that one turn of the reactor adds: two to three milliseconds."""

NO_LOG = "no node has begun it yet"
TOO_MANY_MISSING = "too many events are missing in it"

_BEGINNING = b"0-0"


class _Comparison(Enum):
    """What the log is, compared with the target."""

    NONE = auto()
    """There is no log."""
    SAME = auto()
    """The target continues in it."""
    OTHER = auto()
    """It is read from its start."""


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

    def continue_in_epoch(self, log_state: LogState) -> bool:
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

    def __init__(
        self, account: str, log: RedisLog, target: TailTarget, clock: IReactorTime
    ) -> None:
        """`log` needs a connection of its own: reads block it for up to redis_log.BLOCK."""
        self._log = AccountLogger(self, account)
        self._redis_log = log
        self._target = target
        self._clock = clock
        self._at = _BEGINNING  # the id of the last entry read
        self._end = 0  # the log's last number when this tailer compared it last
        # The stream state at that end, until the events before it are read, and its node.
        self._state_at_end: tuple[str | None, str] = None, ""
        self._is_mismatched = self._must_recheck = False
        self._invalid = self._missing = 0
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
        self._log.failure("reading the log in Redis failed", failure)
        self._is_mismatched = True  # an entry may be half applied: read from the start
        self._target.mark_unavailable(INTERNAL_ERROR)
        self._running = deferLater(self._clock, AFTER_ERROR, self.start)
        self._running.addErrback(lambda gone: gone.trap(CancelledError))

    async def _read_on(self) -> None:
        while True:
            try:
                if await self._sync() is not _Comparison.NONE:
                    while not self._must_recheck:
                        await self._read_next()
            except RedisUnavailableError:
                pass  # it may be another Redis after that, so _sync compares the logs first
            await deferLater(self._clock, RETRY_DELAY)

    async def _sync(self) -> _Comparison:
        """Compare the log with the target, and choose where to read on.

        Raises RedisUnavailableError.
        """
        self._must_recheck = False
        target, found = self._target, _Comparison.SAME
        # With the last event read: its payload shows whether another one has its number now.
        log_state = await self._redis_log.read_state(target.last, target.epoch)
        if not log_state.metadata:
            target.mark_unavailable(NO_LOG)
            return _Comparison.NONE
        epoch = log_state.metadata["epoch"]
        if epoch != target.epoch or self._is_mismatched or not target.matches(log_state):
            self._is_mismatched, found = False, _Comparison.OTHER
            self._at = _BEGINNING
            if epoch == target.epoch or not target.continue_in_epoch(log_state):
                target.read_from_start(log_state)
        self._end = log_state.last
        self._state_at_end = log_state.stream_state, log_state.status_owner
        self._apply_state_at_end()
        target.mark_read_to(log_state.last)
        return found

    def _apply_state_at_end(self) -> None:
        """Apply the state that the comparison found, once every event before it is read.

        It may say that a gap is closed whose events are among them. If the log is lost before they
        are read, the gap must still be open here.
        """
        if self._target.last >= self._end:
            (state, owner), self._state_at_end = self._state_at_end, (None, "")
            self._apply_status(state, owner)

    async def _read_next(self) -> None:
        """Read and apply the next entries. Raises RedisUnavailableError."""
        end = self._end
        entries = await self._redis_log.read_entries(self._at)
        rest = self._apply_entries(entries)
        is_end_missing = not entries and self._target.last < end
        if not rest and not is_end_missing:
            self._mark_read()
            return
        # It may be another log, or what is missing was trimmed.
        found = await self._sync()
        if found is _Comparison.NONE:
            self._must_recheck = True  # the same entries would be read again at once
        elif found is _Comparison.SAME:
            while rest and await self._fill(_find_seq(rest[0]) - 1):
                rest = self._apply_entries(rest, is_checked=True)
            if is_end_missing and await self._lacks(end):
                await self._fill(end)
            self._mark_read()

    def _mark_read(self) -> None:
        self._apply_state_at_end()
        self._target.mark_read_to(None)

    async def _lacks(self, seq: int) -> bool:
        """Whether the log has had this event, and has it no more."""
        log_state = await self._redis_log.read_state(seq, self._target.epoch)
        is_same = log_state.metadata.get("epoch") == self._target.epoch
        return is_same and log_state.last >= seq and log_state.payload is None

    def _apply_entries(
        self, entries: Sequence[LogEntry], *, is_checked: bool = False
    ) -> Sequence[LogEntry]:
        """Apply entries in order; events that follow each other go to the target together.

        Returns those from the first one on that does not follow the one before. If they are checked
        to be of this log, only an event with too high a number does not.
        """
        batch: list[EventEntry] = []
        rest: Sequence[LogEntry] = ()
        for index, entry in enumerate(entries):
            last = batch[-1].seq if batch else self._target.last
            follows = self._follows(entry, last)
            if not follows and (not is_checked or _find_seq(entry) > last + 1):
                rest = entries[index:]
                break
            if isinstance(entry, StatusEntry):
                if batch:
                    self._target.apply_events(batch)
                batch = []
                if entry.stream_state is not None:
                    self._state_at_end = None, ""  # it is this one, or older
                self._apply_status(entry.stream_state, entry.status_owner)
            elif isinstance(entry, EventEntry) and follows:
                batch.append(entry)
            else:
                self._report_invalid(entry)
                if _find_seq(entry) == last + 1:
                    batch.append(self._make_hole(entry.id, last + 1))
            self._at = entry.id
        if batch:
            self._target.apply_events(batch)
        return rest

    def _follows(self, entry: LogEntry, last: int) -> bool:
        """Whether an entry can be applied after event `last`, as one of the target's epoch."""
        epoch = self._target.epoch
        match entry:
            case EventEntry():
                return (entry.epoch, entry.seq) == (epoch, last + 1)
            case StatusEntry():
                return entry.epoch_start is None or entry.epoch_start.epoch == epoch
            case InvalidEntry():
                return _find_seq(entry) <= last + 1

    async def _fill(self, through: int) -> bool:
        """Add holes up to a number; False, without a change, if that is too many."""
        first = self._target.last + 1
        if first > through:
            return True
        self._missing += 1
        if is_logged(self._missing):
            self._log.error(
                "events {first} to {last} are missing in the log in Redis"
                " ({count} such places so far)",
                first=first,
                last=through,
                count=self._missing,
            )
        if through - first >= MAX_MISSING:
            self._is_mismatched = self._must_recheck = True
            self._target.mark_unavailable(TOO_MANY_MISSING)
            await deferLater(self._clock, AFTER_TOO_MANY)
            return False
        while (last := self._target.last) < through:
            numbers = range(last + 1, min(last + HOLES_PER_STEP, through) + 1)
            self._target.apply_events([self._make_hole(b"%d-0" % seq, seq) for seq in numbers])
            await deferLater(self._clock, 0)
        return True

    def _make_hole(self, entry_id: bytes, seq: int) -> EventEntry:
        return EventEntry(entry_id, seq, None, self._target.epoch, 0)

    def _report_invalid(self, entry: LogEntry) -> None:
        self._invalid += 1
        if is_logged(self._invalid):
            self._log.error(
                "entry {id} of the log in Redis is not one of the proxy's ({count} so far)",
                id=entry.id.decode(),
                count=self._invalid,
            )

    def _apply_status(self, state: str | None, owner: str) -> None:
        """Pass on another node's stream state. Of its own, a node has a newer one than the log."""
        if state is not None and owner != self._redis_log.owner:
            self._target.apply_stream_state(state)


def _find_seq(entry: LogEntry) -> int:
    """Return the number of an event; 0 if the entry has none."""
    return 0 if isinstance(entry, StatusEntry) else entry.seq or 0
