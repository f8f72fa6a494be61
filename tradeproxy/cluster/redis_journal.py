"""The journal of an account that lives in Redis: what the leader appends, and every node reads back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tradeproxy.cluster.outbox import LOG_SHORTENED, Outbox
from tradeproxy.cluster.redis_client import RedisUnavailableError
from tradeproxy.cluster.redis_log import EpochStart, RedisLog
from tradeproxy.cluster.redis_status import RedisStatus
from tradeproxy.cluster.replica import Replica, max_optional
from tradeproxy.cluster.tailer import RETRY_DELAY, LogTailer
from tradeproxy.journal.backlog import newer_state
from tradeproxy.journal.base import TRIM_STEP, Batch, Trimmer
from tradeproxy.journal.metadata import Metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.cluster.redis_client import RedisClient
    from tradeproxy.cluster.redis_log import EventEntry, LeaseState, LogState, WriteResult
    from tradeproxy.wire.event import Event, OrderState
    from tradeproxy.wire.proxy_status import JournalStatus

BOUND_KEYS = ("epoch", "base_url", "trimmed", "begins")
"""Facts that change only where an epoch begins, or rows are trimmed."""

NOT_READ = "it has not all been read yet"


class RedisJournal(Replica):
    """One account's log, in Redis; implements hub.journal.Journal, which says what may be relied on.

    It is read here from a replica of the whole log, which this node fills by itself. What is appended, if
    this node leads, is handed on when it is read back: so every node has one order of events.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        links: tuple[RedisClient, RedisClient],
        owner: str,
        clock: IReactorTime,
        *,
        base_url: str,
        max_age: float,
        max_events: int,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Of the links, one is for what takes no time, the other waits for what comes."""
        super().__init__(base_url)
        self.name = name
        self.on_stream_state: Callable[[str], None] = lambda _: None
        """Called with what the leader says of the stream."""
        self.on_reached: Callable[[], None] = lambda: None
        """Called when Redis can be asked again, before anything is written."""
        self.is_loaded = False
        self.end = 0
        """The newest number in the log, as it was when this node last looked."""
        self._configured_url = base_url
        self._clock = clock
        self._max_age = round(max_age * 1_000_000)
        self._max_events = max_events
        self._random_bytes = random_bytes
        self._redis_status = RedisStatus(name, links, clock, self._is_reached, self._status_changed)
        self.status = self._redis_status.status
        self.redis_log = RedisLog(name, owner, links[0])
        self._tailer = LogTailer(name, RedisLog(name, owner, links[1]), self, clock)
        self.outbox = Outbox(self.redis_log, clock)
        self.outbox.on_written = self._written
        self._is_starting_epoch = False  # another epoch, in which what is here counts for nothing
        self._trimmer = Trimmer(clock, self._trim)
        self._token: str | None = None
        self._last_stream_state = ""  # since this node led last

    # Opening and closing.

    def open(self) -> None:
        """Begin to follow the log; raises nothing: a Redis that is away may come."""
        self._redis_status.open()
        self._tailer.start()
        self._trimmer.start()

    def close(self) -> None:
        """Let go; harmless if that has been done. What is not written by now is given up."""
        self._trimmer.stop()
        self._tailer.stop()
        self._redis_status.close()
        super().close()

    # Leading. What cluster.leadership.Leadership calls.

    def may_lead(self, look: LeaseState | None) -> bool:
        """Whether this node has all that the log has, as far as it knows."""
        if look is None or not self._redis_status.is_up:
            return False
        return look.epoch is None or (
            self.is_loaded and look.epoch == self.epoch and look.last <= self.last
        )

    def lease_seen(self, look: LeaseState, asked: frozenset[object], last: int) -> None:
        """Take notice of where the log ends; `asked` and `last` are `absent.asked` and `last` from before."""
        self.end = look.last
        if look.epoch != self.epoch or look.last < last:
            self._tailer.recheck()
        if look.owner not in (None, self.redis_log.owner):
            self.outbox.drop_events()  # that node finds them by itself
        if look.epoch == self.epoch:
            self.missing.record_log_end(asked, look.last)
            self.missing.record_read_to(self.last)

    async def lead(self, look: LeaseState, *, on: bool = False) -> None:
        """Write from now on; done when all that the log holds has been read, and it is this account's.

        `on` is for a node that has led until now, so that it knows best. Fails with AwayError.
        """
        assert look.token is not None
        self._token, self._last_stream_state = look.token, ""
        while True:
            place = await self.redis_log.read_state(0)
            if self._token != look.token:
                raise RedisUnavailableError("the log has been read anew meanwhile")
            if not place.metadata or place.metadata["base_url"] != self._configured_url:
                self._open_epoch(look)
                return
            if self.is_loaded and (place.metadata["epoch"], place.last) == (self.epoch, self.last):
                break
            await deferLater(self._clock, RETRY_DELAY)
        if not on:
            self.adopt(place.metadata)
        self._begin_to_write(look)
        self._save()

    def _open_epoch(self, look: LeaseState) -> None:
        if self.base_url != self._configured_url:
            self.reset_account(self._configured_url)
        self._begin_to_write(look)
        self._start_epoch()

    def _begin_to_write(self, look: LeaseState) -> None:
        assert look.token is not None
        keep = look.previous in (
            "",
            self.redis_log.owner,
        )  # then what is left has been met by nobody
        if not keep:
            self.reset_latest_time()
        self.outbox.start(look.token, self.last, keep=keep)

    def stop_leading(self) -> None:
        """Write no more."""
        self._token = None
        self.outbox.stop()

    def publish_state(self, standing: str) -> None:
        """Tell every node how the stream is; nothing happens unless this node leads."""
        if self.outbox.is_leading:
            self.outbox.publish_state(standing)

    # The way in.

    def append(self, events: Sequence[Event]) -> None:
        """Let new events be written; they are handed to `on_committed` when they are read back."""
        now = self._now()
        for event in events:
            if self._contains(event):
                self.duplicates += 1
            elif self.outbox.add(event, now):
                self.latest_time = max_optional(self.latest_time, event.time)
        self.outbox.flush()

    def _written(self, written: WriteResult, seconds: float) -> None:
        self.duplicates += written.dropped
        self.commit_seconds.observe(seconds)
        self.outbox.confirm(self.last)

    def _is_reached(self) -> None:
        self.on_reached()
        self.outbox.rewrite()

    # What the follower calls.

    def matches(self, place: LogState) -> bool:
        """Whether the row read last is in the log, or has been the last to be trimmed from it."""
        trimmed = int(place.metadata["trimmed"])
        if place.last < self.last:
            return False
        if self.last <= trimmed:
            return self.last == trimmed
        row = self.row(self.last)
        return row is None or row.payload == place.payload

    def read_from_start(self, place: LogState) -> None:
        """Read the whole log, which is not the one that was read before."""
        was_empty, own = not self.epoch, self.encode_present()
        self.is_loaded = self._is_starting_epoch = False
        self.restart(place.metadata)
        if was_empty and self.outbox.is_leading:
            self.adopt(own)  # it has begun this log, and moved on since
        elif not was_empty:
            self._log.warn(
                "{account}: the log in Redis is another one than before: it is read anew",
                account=self.name,
            )
            self._stop_writing()
            self.on_replaced()

    def _stop_writing(self) -> None:
        """Write nothing more to a log that has lost its end: what is missing is to be found first."""
        self.outbox.drop_events()
        self._token = None
        if self.outbox.is_leading:
            self.outbox.stop()
            self.outbox.on_refused(LOG_SHORTENED)

    def continue_in_epoch(self, begun: EpochStart) -> bool:
        """Go on in another epoch, and return whether that is possible: it must begin where this node is."""
        if not self.epoch or (begun.after_epoch, begun.after) != (self.epoch, self.last):
            return False
        own = self.encode_present()
        if "latest" in begun.metadata:
            self.start_epoch(begun.metadata)
        else:  # another account's, or there was nothing yet
            self.restart(begun.metadata)
        if self.outbox.is_leading:
            self.adopt(own)  # it has moved on since
        self._is_starting_epoch = False
        self.on_new_epoch()
        return True

    def apply_events(self, told: Sequence[EventEntry]) -> None:
        """Take what comes next, and hand it on."""
        rows = self.extend(told)
        if self.outbox.is_leading:
            self.event_counts.update([each.event.kind for each in told])
        self.outbox.confirm(self.last, [each.event for each in told])
        if self.is_loaded:
            came = told[0].received / 1_000_000 if self.outbox.is_leading else self._clock.seconds()
            self.on_committed(Batch(rows, received_at=came))

    def apply_stream_state(self, standing: str) -> None:
        """Pass on how another node says the stream is; if this one leads, once it knows that it does not."""
        self._last_stream_state = standing
        if not self.outbox.is_leading:
            self.on_stream_state(standing)

    def reapply_stream_state(self) -> None:
        """Pass on what another node has said while this one took itself for the leader."""
        if self._last_stream_state:
            self.on_stream_state(self._last_stream_state)

    def mark_read_to(self, end: int | None) -> None:
        """Note that all has been read that there was."""
        self.end = self.end if end is None else end
        self.is_loaded = self.is_loaded or self.last >= self.end
        if self.is_loaded:
            self._redis_status.mark_followed()
        else:
            self._redis_status.mark_lost(NOT_READ)

    def mark_unavailable(self, reason: str) -> None:
        """Note why there is nothing to read."""
        self._redis_status.mark_lost(reason)

    def _status_changed(self, status: JournalStatus) -> None:
        self.status = status
        self.on_status(status)

    @property
    def is_current(self) -> bool:
        """Whether all that is in the log, and all that this node has to say to it, has been read."""
        return self.status.durable and self.last >= self.end and self.outbox.is_empty

    # The way out, where the replica is not all of it: the outbox has what is yet to be read back.

    def _contains(self, event: Event) -> bool:
        return super()._contains(event) or self.outbox.has(event)

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order that an event told of."""
        known, told = self.get_order_state(order_id), self.outbox.order(order_id)
        return known if told is None else newer_state(known, told)

    def open_orders(self) -> Sequence[OrderState]:
        """Return every order that was open when an event last told of it."""
        states = {state.id: state for state in self.list_open_orders()}
        for told in self.outbox.orders:
            states[told.id] = newer_state(self.get_order_state(told.id), told)
        return [state for state in states.values() if state.is_open]

    # What is kept beside the events.

    def identify(self, account_id: str) -> bool:
        """Begin a new epoch if the log is another account's; return whether it is. The numbers go on."""
        known = self.account_id
        if known == account_id:
            return False
        if known is not None:
            self.outbox.drop_events()
            self.reset_account(self._configured_url)
        self.account_id = account_id
        if known is None:
            self._save()
        else:
            self._start_epoch()
        return known is not None

    def _save(self) -> None:
        if self.outbox.is_leading:
            kept = self.encode().items()
            self.outbox.save_metadata({key: value for key, value in kept if key not in BOUND_KEYS})

    def _start_epoch(self) -> None:
        """Let another epoch begin where the log ends now; it does when that is read back."""
        begun = Metadata(self.base_url)
        begun.load(self.encode_present(), None)
        begun.latest_time = self.read_through  # what waits is written after it
        begun.begin_epoch(self._random_bytes(8).hex(), self.last + 1, self._now())
        self.dedup_horizon = begun.dedup_horizon
        self._is_starting_epoch = True
        self.outbox.begin_epoch(
            self.last, EpochStart(self.epoch, self.last, begun.encode_present())
        )

    # Trimming.

    def _trim(self) -> bool:
        """Trim some rows that are due, here and in Redis if this node leads; return whether more may be."""
        count = self.trim_before(self.last - self._max_events + 1, self._now() - self._max_age)
        token = self.outbox.token  # it has none before the facts in Redis have been taken up
        if count and token is not None and not self._is_starting_epoch:
            trimmed = Deferred.fromCoroutine(
                self.redis_log.trim(token, self.first - 1, self.encode())
            )
            trimmed.addErrback(lambda failure: failure.trap(RedisUnavailableError))
        return count == TRIM_STEP

    def _now(self) -> int:
        return round(self._clock.seconds() * 1_000_000)
