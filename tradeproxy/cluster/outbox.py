"""What the leader has to tell the log: kept until it is read back, and told again where that is in doubt."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from tradeproxy.cluster.redis_client import RedisUnavailableError
from tradeproxy.journal.backlog import Backlog, Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.cluster.redis_log import EpochStart, RedisLog, WriteResult
    from tradeproxy.wire.event import Event, OrderState

BATCH = 500
"""Events that are written at once."""

BATCH_BYTES = 1024 * 1024
"""Of payload, if that is more than one event."""

FENCED = "another node may have the lease by now"
LOG_SHORTENED = "the log in Redis has lost its end"
FULL = "more events wait for Redis than are kept"


class Outbox:
    """Writes one thing after the other, each with all that has come by then.

    What has been written is kept until it is read back: a Redis that comes back without it is told again.
    """

    _log = Logger()

    def __init__(self, log: RedisLog, clock: IReactorTime) -> None:
        self.on_written: Callable[[WriteResult, float], None] = lambda _written, _seconds: None
        """Called with what became of some events, and how long it took."""
        self.on_refused: Callable[[str], None] = lambda _: None
        """Called with the reason when what is to be written is not taken."""
        self._redis_log = log
        self._clock = clock
        self._events = Backlog()
        # Of the first events: how many were written together, and the log's last number then.
        self._written: deque[tuple[int, int]] = deque()
        self._token: str | None = None
        self._epoch_start: tuple[int, EpochStart] | None = None
        self._metadata: Mapping[str, str | None] = {}
        self._stream_state = ""
        self._read = 0
        self._is_full = False
        self._is_writing = False
        self._waiter: Deferred[None] | None = None

    @property
    def is_leading(self) -> bool:
        """Whether what is put in is written."""
        return self._token is not None

    @property
    def token(self) -> str | None:
        """By which it is written."""
        return self._token

    @property
    def is_empty(self) -> bool:
        """Whether no event waits to be read back."""
        return not len(self._events)

    def start(self, token: str, read: int, *, keep: bool) -> None:
        """Write from now on, behind number `read`; first what is left, if nobody else has led since."""
        if not keep:
            self.drop_events()
        self._token, self._read, self._is_full = token, read, False
        self._written.clear()

    def stop(self) -> None:
        """Write no more; what is left is kept, since it may be that nobody else leads next."""
        self._token = None
        self._epoch_start, self._metadata, self._stream_state = None, {}, ""
        self._written.clear()
        self._notify_waiter()

    def begin_epoch(self, last: int, begun: EpochStart) -> None:
        """Let another epoch begin before anything else is written."""
        self._epoch_start = last, begun
        self.flush()

    def drop_events(self) -> None:
        """Forget the events that wait."""
        self._events.clear()
        self._written.clear()

    def add(self, event: Event, received: int) -> bool:
        """Let an event be written, if this node leads; return whether it is kept until then."""
        if self.is_leading and not self._is_full and not self._events.has_room_for(event):
            self._is_full = True  # what follows would hide that one is missing
            self.on_refused(FULL)
        if not self.is_leading or self._is_full:
            return False
        self._events.add(Entry(0, event, None, received))
        return True

    def save_metadata(self, facts: Mapping[str, str | None]) -> None:
        """Let facts be saved, all of them."""
        self._metadata = facts
        self.flush()

    def publish_state(self, standing: str) -> None:
        """Let the log say how the stream is."""
        self._stream_state = standing
        self.flush()

    def has(self, event: Event) -> bool:
        """Whether this very event is kept here."""
        return self._events.has(event)

    @property
    def orders(self) -> list[OrderState]:
        """The newest state of each order that an event here tells of."""
        return list(self._events.orders)

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order that an event here tells of."""
        return self._events.order(order_id)

    # How it gets there.

    def flush(self) -> None:
        """Write, if there is something to write and nothing is being written."""
        if self._token is None or self._is_writing:
            return
        if (
            self._epoch_start is None
            and not self._metadata
            and not self._stream_state
            and not self._next_events()
        ):
            self._notify_waiter()
            return
        self._is_writing = True
        Deferred.fromCoroutine(self._write(self._token)).addErrback(
            lambda failure: self._log.failure("the shared log could not be written", failure)
        )

    def rewrite(self) -> None:
        """Write again what has not been read back: Redis was away."""
        self._written.clear()
        self.flush()

    def confirm(self, last: int, events: Sequence[Event] = ()) -> None:
        """Forget the events that have been met in the log, which has been read up to number `last`.

        What waits before one of `events`, the newest in the log, has been there before.
        """
        self._read = last
        self._forget(self._first_up_to(events))
        while self._written and self._written[0][1] <= last:
            self._forget(self._written[0][0])

    def _first_up_to(self, events: Sequence[Event]) -> int:
        met = {(event.identity, event.digest) for event in events if self._events.has(event)}
        waiting = enumerate(self._next_events(0) if met else ())
        return max(
            (index + 1 for index, it in waiting if (it.identity, it.digest) in met), default=0
        )

    def _forget(self, count: int) -> None:
        if count:
            self._events.drop(count)
        while count and self._written:
            number, last = self._written.popleft()
            if number > count:
                self._written.appendleft((number - count, last))
            count = max(count - number, 0)

    def when_written(self) -> Deferred[None]:
        """Return what fires when all has been written, or nothing is any more; for one caller."""
        if self._token is None:
            return succeed(None)
        waiting = self._waiter = Deferred()
        self.flush()
        return waiting

    async def _write(self, token: str) -> None:
        try:
            refused = await self._write_one(token)
        except RedisUnavailableError:
            return  # it is taken up by start_over
        finally:
            self._is_writing = False
        if not refused:
            self.flush()
        elif token == self._token:
            self._notify_waiter()
            self.on_refused(refused)

    async def _write_one(self, token: str) -> str:
        """Write what there is, or a part of it; return why that was not allowed, or nothing."""
        if self._epoch_start is not None:
            begun = self._epoch_start
            allowed = await self._redis_log.begin(
                token, round(self._clock.seconds() * 1_000_000), *begun
            )
            if self._epoch_start is begun:
                self._epoch_start = None
            return "" if allowed else FENCED
        events, are_all = self._next_batch()
        facts, standing = (
            (self._metadata, self._stream_state) if are_all else ({}, "")
        )  # true once all is there
        read = self._read
        began = self._clock.seconds()
        now = round(began * 1_000_000)
        written = await self._redis_log.write(token, now, events, facts, standing, read)
        if written is None:
            return FENCED
        if written.last < read:
            return LOG_SHORTENED
        if token != self._token:
            return ""
        if facts and self._metadata is facts:
            self._metadata = {}
        if self._stream_state is standing:
            self._stream_state = ""
        if events:
            waiting = sum(
                self._events.has(event) for event in events
            )  # the others have been met already
            if waiting:
                self._written.append((waiting, written.last))
            self.on_written(written, self._clock.seconds() - began)
        return ""

    def _next_events(self, begin: int | None = None) -> list[Event]:
        begin = sum(count for count, _ in self._written) if begin is None else begin
        entries = self._events.head(begin + BATCH)[begin:]
        return [entry.event for entry in entries if entry.event is not None]

    def _next_batch(self) -> tuple[list[Event], bool]:
        """Return what is written next, and whether nothing waits behind it."""
        events, size = self._next_events(), 0
        for count, event in enumerate(events):
            size += len(event.payload)
            if count and size > BATCH_BYTES:
                return events[:count], False
        return events, len(events) < BATCH

    def _notify_waiter(self) -> None:
        waiting, self._waiter = self._waiter, None
        if waiting is not None:
            waiting.callback(None)
