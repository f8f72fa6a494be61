"""What the leader writes to the log in Redis, kept until this node has read it back.

A reply can get lost after the write, and Redis can lose a write after the reply. Only reading the
log shows what is in it. So after a reconnect the outbox writes everything again that was not read
back; the script drops events that the log already has.

| event   | when                                       | it is then               |
|---------|--------------------------------------------|--------------------------|
| waiting | a write that contains it is acknowledged   | written                  |
| written | Redis reconnects before it was read back   | waiting                  |
| either  | the tailer reads it                        | removed                  |
| either  | another node led, or the log lost its end  | dropped: backfill has it |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from tradeproxy.cluster.log_entries import EpochStart
from tradeproxy.cluster.redis_client import RedisUnavailableError
from tradeproxy.cluster.redis_log import RedisLog, WriteResult
from tradeproxy.journal.backlog import Backlog, Entry
from tradeproxy.wire.event import Event

BATCH = 500
"""Events per write, at most. Redis executes nothing else while it runs a script."""

BATCH_BYTES = 1024 * 1024
"""Bytes of payload per write, at most; a single event may be larger."""

FENCED = "another node may have the lease by now"
LOG_SHORTENED = "the log in Redis has lost its end"
LOG_RETURNED = "the log in Redis was away, and is there again"
FULL = "more events wait for Redis than are kept"


class Outbox:
    """Writes one batch at a time; each batch has everything that arrived during the last write."""

    _log = Logger()

    def __init__(self, log: RedisLog, clock: IReactorTime, wall_clock: Callable[[], float]) -> None:
        """Create an outbox that writes nothing yet. `wall_clock` returns Unix time in seconds."""
        self.on_written: Callable[[WriteResult, float], None] = lambda _written, _seconds: None
        """Called with the result of a write that had events, and the seconds it took."""
        self.on_rejected: Callable[[str], None] = lambda _: None
        """Called with FENCED, LOG_SHORTENED, LOG_RETURNED or FULL.

        Events cannot be written then, or be kept.
        """
        self._redis_log = log
        self._clock = clock
        self._wall_clock = wall_clock
        self.events = Backlog()
        """The events that were not read back from the log yet."""
        self.token: str | None = None
        """The fencing token of every write; None while this node does not lead."""
        # Covers the first events: how many one write had, and the log's last number after it.
        self._written: deque[tuple[int, int]] = deque()
        self._epoch_start: tuple[int, EpochStart, Sequence[bytes], bool] | None = None
        self._metadata: Mapping[str, str | None] = {}
        self._stream_state = ""
        self._read = 0
        self._is_full = False
        self._is_writing = False
        self._waiter: Deferred[None] | None = None
        self._unsaved: list[Deferred[bool]] = []

    @property
    def is_leading(self) -> bool:
        """Whether new events are accepted and written."""
        return self.token is not None

    def start(self, token: str, read: int) -> None:
        """Start to write with the lease's fencing token, after number `read` of the log.

        The events of the last term come first, unless they were dropped.
        """
        self.token, self._read, self._is_full = token, read, False
        self._written.clear()

    def stop(self) -> None:
        """Stop writing. Events stay, for the case that this node is the next leader too."""
        self.token = None
        self._epoch_start, self._metadata, self._stream_state = None, {}, ""
        self._written.clear()
        self._notify_waiter()
        self._confirm_saves(self._unsaved, is_saved=False)

    def begin_epoch(
        self,
        last: int,
        epoch_start: EpochStart,
        delivered: Sequence[bytes] = (),
        *,
        is_lost: bool = False,
    ) -> None:
        """Begin another epoch after event `last`, before anything else is written.

        `epoch_start` has all metadata. `delivered` has the encoded keys of earlier events, which
        the epoch drops. With `is_lost`, a log that is there again by then stays.
        """
        self._epoch_start = last, epoch_start, delivered, is_lost
        self._metadata = {}  # of the log before: its bounds would replace the new ones
        self.flush()

    def drop_events(self) -> None:
        """Drop every event."""
        self.events.clear()
        self._written.clear()

    def add(self, event: Event, received: int) -> bool:
        """Add an event to be written; False, without adding it, while not leading or full.

        `received` is in microseconds since 1970. Call `flush` after the last event of a batch.
        """
        if self.is_leading and not self._is_full and not self.events.has_room_for(event):
            # Stays full for this term: a later event in the log would hide the missing one.
            self._is_full = True
            self.on_rejected(FULL)
        if not self.is_leading or self._is_full:
            return False
        self.events.add(Entry(0, event, None, received))
        return True

    def save_metadata(self, metadata: Mapping[str, str | None]) -> None:
        """Save metadata with the next write. None deletes a key."""
        self._metadata = {**self._metadata, **metadata}
        self.flush()

    def when_saved(self) -> Deferred[bool]:
        """Return a Deferred that fires with whether all metadata up to now is in Redis.

        Without a reply it waits for the next attempt. False, if writing stops before: then a write
        may have happened nevertheless.
        """
        if self.token is None:
            return succeed(False)
        waiting: Deferred[bool] = Deferred()
        self._unsaved.append(waiting)
        self.flush()
        return waiting

    def publish_state(self, stream_state: str) -> None:
        """Publish the encoded stream state with the next write; replaces an unwritten one.

        Ignored while not leading.
        """
        if self.is_leading:
            self._stream_state = stream_state
            self.flush()

    # Writing.

    def flush(self) -> None:
        """Start a write, unless one is running or there is nothing to write."""
        if self.token is None or self._is_writing:
            return
        has_others = self._epoch_start is not None or self._metadata or self._stream_state
        if not has_others and not self._next_events():
            self._notify_waiter()
            self._confirm_saves(self._unsaved)
            return
        self._is_writing = True
        Deferred.fromCoroutine(self._write(self.token)).addErrback(
            lambda failure: self._log.failure("writing to the log in Redis failed", failure)
        )

    def rewrite(self) -> None:
        """Write every event again that was not read back; call it when Redis reconnects."""
        self._written.clear()
        self.flush()

    def confirm(self, last: int, events: Sequence[Event] = ()) -> None:
        """Remove the events that the log has, which has been read up to number `last`.

        `events` are the newest that were read. An event that was added before one of them is in
        the log too, since writes keep their order.
        """
        self._read = last
        self._forget(self._first_up_to(events))
        while self._written and self._written[0][1] <= last:
            self._forget(self._written[0][0])

    def _first_up_to(self, events: Sequence[Event]) -> int:
        found = {event.key for event in events if self.events.has(event)}
        waiting = enumerate(self._next_events(0) if found else ())
        return max((index + 1 for index, it in waiting if it.key in found), default=0)

    def _forget(self, count: int) -> None:
        if count:
            self.events.drop(count)
        while count and self._written:
            number, last = self._written.popleft()
            if number > count:
                self._written.appendleft((number - count, last))
            count = max(count - number, 0)

    def when_written(self) -> Deferred[None]:
        """Return a Deferred that fires when everything is written, or writing stops.

        Only one caller can wait at a time.
        """
        if self.token is None:
            return succeed(None)
        waiting = self._waiter = Deferred()
        self.flush()
        return waiting

    async def _write(self, token: str) -> None:
        try:
            rejected = await self._write_one(token)
        except RedisUnavailableError:
            return  # `rewrite` continues after the reconnect
        finally:
            self._is_writing = False
        if not rejected:
            self.flush()
        elif token == self.token:
            self._notify_waiter()
            self.on_rejected(rejected)

    async def _write_one(self, token: str) -> str:
        """Write the next batch; return "", or why Redis rejected it: see `on_rejected`.

        Raises RedisUnavailableError.
        """
        if self._epoch_start is not None:
            # Alone and first: the events that follow belong to the new epoch.
            epoch_start = self._epoch_start
            has_begun = await self._redis_log.begin_epoch(
                token, round(self._wall_clock() * 1_000_000), *epoch_start
            )
            if self._epoch_start is epoch_start:
                self._epoch_start = None
            if has_begun is None:
                return FENCED
            return "" if has_begun else LOG_RETURNED
        events, are_all = self._next_batch()
        # Metadata and stream state describe the log with all events: they go with the last batch.
        # A crash in between would make the next leader take a gap for settled.
        metadata, stream_state = (self._metadata, self._stream_state) if are_all else ({}, "")
        unsaved = self._unsaved[:] if are_all else []
        read = self._read
        began = self._clock.seconds()
        now = round(self._wall_clock() * 1_000_000)
        written = await self._redis_log.write(token, now, events, metadata, stream_state, read)
        if written is None:
            return FENCED
        if written.last < read:
            return LOG_SHORTENED
        if token != self.token:
            return ""  # another term has begun; what to write is no longer the same
        # By identity: newer values may have been set during the write.
        if metadata and self._metadata is metadata:
            self._metadata = {}
        self._confirm_saves(unsaved)
        if self._stream_state is stream_state:
            self._stream_state = ""
        if events:
            # The tailer's connection may have been faster than this reply.
            waiting = sum(self.events.has(event) for event in events)
            if waiting:
                self._written.append((waiting, written.last))
            self.on_written(written, self._clock.seconds() - began)
        return ""

    def _next_events(self, begin: int | None = None) -> list[Event]:
        begin = sum(count for count, _ in self._written) if begin is None else begin
        entries = self.events.head(begin + BATCH)[begin:]
        return [entry.event for entry in entries if entry.event is not None]

    def _next_batch(self) -> tuple[list[Event], bool]:
        """Return the events to write next, and whether no others wait."""
        # Both limits bound the time for which the script blocks Redis.
        events, size = self._next_events(), 0
        for count, event in enumerate(events):
            size += len(event.payload)
            if count and size > BATCH_BYTES:
                return events[:count], False
        return events, len(events) < BATCH

    def _confirm_saves(self, saves: Sequence[Deferred[bool]], *, is_saved: bool = True) -> None:
        self._unsaved = [each for each in self._unsaved if each not in saves]
        for each in saves:
            each.callback(is_saved)

    def _notify_waiter(self) -> None:
        waiting, self._waiter = self._waiter, None
        if waiting is not None:
            waiting.callback(None)
