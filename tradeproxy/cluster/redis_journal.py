"""The journal of an account whose log is in Redis: the leader appends, every node reads back.

Two ways lead through it. Events that the leader's upstream brings go to the outbox, and from there
to Redis. Events that the tailer reads go to the replica, and from there to the broadcaster. So all
nodes, the leader too, deliver in one order, and only what is in the log.

| the log that the tailer finds                    | what this node does                         |
|--------------------------------------------------|---------------------------------------------|
| the same, longer                                 | append, deliver                             |
| another epoch that begins after this node's last | continue; `on_new_epoch`                    |
| another one, or it has lost its end              | read from the start; `on_replaced`; a       |
|                                                  | leader stops writing, and its term ends     |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tradeproxy.cluster.import_log import RedisImportLog
from tradeproxy.cluster.log_entries import EpochStart, EventEntry
from tradeproxy.cluster.outbox import LOG_SHORTENED, Outbox
from tradeproxy.cluster.redis_client import RedisClient, RedisUnavailableError
from tradeproxy.cluster.redis_log import ROLLED_BACK, LeaseState, LogState, RedisLog, WriteResult
from tradeproxy.cluster.redis_status import RedisStatus
from tradeproxy.cluster.replica import Replica
from tradeproxy.cluster.shared_assignments import SharedAssignments
from tradeproxy.cluster.tailer import RETRY_DELAY, LogTailer
from tradeproxy.journal.base import Batch, JournalBase, max_optional
from tradeproxy.journal.metadata import (
    ASSIGNMENTS,
    FIRST_STREAM,
    OPEN_SINCE,
    TRIM_KEYS,
    Metadata,
)
from tradeproxy.journal.retention import TRIM_STEP, Retention, Trimmer
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.runtime.dates import SECOND, Dates
from tradeproxy.wire.event import Event, OrderState
from tradeproxy.wire.proxy_status import JournalStatus

BOUND_KEYS = ("epoch", "base_url", "trimmed", "begins", "trimmed event")
"""Metadata that an epoch or a trim sets. `begins` is saved too when a clock is corrected."""

NOT_READ = "it has not all been read yet"


class RedisJournal(JournalBase):
    """One account's log in Redis; implements journal.base.Journal.

    Reads come from a replica of the whole log in memory, and never wait for Redis. Appended events
    go to `on_committed` when this node has read them back.

        `append`       the outbox, and from there Redis
        new entries    the tailer, the replica, `on_committed`
        reads          the replica; the outbox too, where events count that are not read back yet
    """

    def __init__(
        self,
        name: str,
        connections: tuple[RedisClient, RedisClient],
        owner: str,
        clock: IReactorTime,
        dates: Dates,
        *,
        base_url: str,
        max_age: float,
        max_events: int,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Nothing connects before `open`.

        Args:
            name: the account's.
            connections: the first for commands, the second for reads that wait for new entries.
            owner: this node's name, unique to the process.
            clock: timers and intervals.
            dates: the time of receipt, and the age of rows.
            base_url: Alpaca's address. A log of another address gets another epoch.
            max_age: seconds after which a row is trimmed.
            max_events: rows to keep, at most.
            random_bytes: for the ids of epochs.
        """
        super().__init__(base_url, dates)
        self._log = AccountLogger(self, name)
        self.on_stream_state: Callable[[str], None] = lambda _: None
        """Called with the encoded stream state that the leader published."""
        self.on_connected: Callable[[], None] = lambda: None
        """Called when commands can be sent to Redis again, before anything is written."""
        self.is_loaded = False
        self.end = 0
        """The last number in the log when this node last checked it."""
        self.replica = replica = Replica(self)
        """The rows. Their bounds are in the metadata, which a journal is itself."""
        # What needs no event of the outbox is the replica's own method.
        self.read, self.row, self.next_hole = replica.read, replica.row, replica.next_hole
        self.find, self.reaches = replica.find, replica.reaches
        self.first_at, self.first_since = replica.first_at, replica.first_since
        self.matches = replica.matches
        self._configured_url = base_url
        self._clock = clock
        self._retention = Retention(max_age, max_events)
        self._random_bytes = random_bytes
        # Two connections, since a blocking XREAD delays every later command on its own.
        self._redis_status = RedisStatus(
            name, connections, dates.own, self._redis_connected, self._status_changed
        )
        self.status = self._redis_status.status
        self.mark_unavailable = self._redis_status.mark_unreadable
        self.redis_log = RedisLog(name, owner, connections[0])
        self._tailer = LogTailer(name, RedisLog(name, owner, connections[1]), self, clock)
        self.outbox = Outbox(self.redis_log, clock, dates.own)
        self.outbox.on_written = self._written
        self.publish_state = self.outbox.publish_state
        self.when_saved = self.outbox.when_saved
        self._imports = RedisImportLog(self.redis_log, self, lambda: self.outbox.token)
        self.import_log = self._imports
        self._assignments = SharedAssignments(
            name, self.redis_log, self, lambda: self.outbox.is_leading, self._save
        )
        self._is_starting_epoch = False  # an epoch in which the rows here are not valid
        self._trimmer = Trimmer(clock, self._trim)
        # The epoch and the bounds of the log when this node last checked it.
        self._bounds: tuple[str | None, Mapping[str, str]] = None, {}
        self._has_seen_log = False  # there was one, whether this node has read it or not
        self._token: str | None = None
        self._last_stream_state = ""  # as read since this node last led

    # Opening and closing.

    def open(self) -> None:
        """Start to read the log. Raises nothing: Redis may become available later."""
        self._redis_status.open()
        self._tailer.start()
        self._trimmer.start()

    def close(self) -> None:
        """Stop reading and disconnect; unwritten events are lost. Does nothing if closed."""
        self._trimmer.stop()
        self._tailer.stop()
        self._redis_status.close()
        self.replica.close()

    # Leading: cluster.leadership.Leadership calls these.

    @property
    def is_connected(self) -> bool:
        """Whether both connections to Redis can send commands."""
        return self._redis_status.is_up

    def may_lead(self, lease: LeaseState) -> bool:
        """Whether this node has read the whole log, as of a check of the lease that found one.

        What a node that lags behind gets from Alpaca may be in the log already.
        """
        has_all = self.is_loaded and lease.epoch == self.epoch and lease.last <= self.last
        return has_all and self.is_connected

    def observe_lease(self, lease: LeaseState, asked: frozenset[object], last: int) -> None:
        """Take over the end of the log from a check of the lease.

        Args:
            lease: the reply.
            asked: `replica.missing.asked` when the check was sent.
            last: `self.last` when the check was sent. The log may have been shorter then than it
                is now, so only an end before this number shows that it has lost rows.
        """
        self.end = lease.last
        self._has_seen_log = self._has_seen_log or lease.epoch is not None
        # The horizon may cover events that this node has not read. If the log is lost before it
        # reads them, they are missing here.
        has_all = lease.last <= self.last
        if has_all:
            self._bounds = lease.epoch, lease.bounds
        if lease.epoch == self.epoch:
            self._assignments.observe(lease.assignments)
            self.replica.adopt_lost_through(lease.bounds.get(ROLLED_BACK))
            if not self.outbox.is_leading:
                if has_all:
                    self.adopt_bounds(lease.bounds)
                # It was not known yet if the log began after this node.
                self.account_id = lease.bounds.get("account_id", self.account_id)
        self._imports.observe(lease.imports)
        if lease.epoch != self.epoch or lease.last < last:
            self._tailer.recheck()
        if lease.owner not in (None, self.redis_log.owner):
            self._drop_unwritten()  # the other node gets it from Alpaca
        if lease.epoch == self.epoch:
            self.replica.missing.record_log_end(asked, lease.last)
            self.replica.missing.record_read_to(self.last)

    async def lead(self, lease: LeaseState, *, continuing: bool = False) -> None:
        """Start to write, once the whole log is read and is this account's.

        Args:
            lease: as acquired by this node.
            continuing: whether this node led until now. Its metadata is then the newest;
                otherwise the log's is.

        Raises RedisUnavailableError, also if the log is replaced while this waits.
        """
        assert lease.token is not None
        self._token, self._last_stream_state = lease.token, ""
        while True:
            log_state = await self.redis_log.read_state(0, self.epoch)
            if self._token != lease.token:
                raise RedisUnavailableError("the log was replaced meanwhile")
            metadata = log_state.metadata
            if not metadata or metadata["base_url"] != self._configured_url:
                self._open_epoch(lease, continuing=continuing, is_lost=not metadata)
                return
            if self.is_loaded and (metadata["epoch"], log_state.last) == (self.epoch, self.last):
                break
            await deferLater(self._clock, RETRY_DELAY)
        self._start_writing(lease)
        if not continuing:
            self.adopt(metadata)
            self.adopt_bounds(metadata)
            self._assignments.restore()
        self._save()

    def _open_epoch(self, lease: LeaseState, *, continuing: bool, is_lost: bool) -> None:
        if self.base_url != self._configured_url:
            self.replica.reset_account(self._configured_url)
        elif not continuing:
            self._begin_gap_of_lost_log()
        self._start_writing(lease)
        self._start_epoch(is_lost=is_lost)

    def _begin_gap_of_lost_log(self) -> None:
        """Record from when on events may be missing, unless the metadata has it: a lost log had it.

        The metadata of a log that was read in part speaks of events that this node does not have.
        """
        if self._has_seen_log and not self.is_loaded:
            self.begin_gap(self.replica.newest_row_time)
        elif self.epoch and self.get_metadata(FIRST_STREAM) is None:
            # The stream began after the log.
            self.adopt_text(FIRST_STREAM, str(self.complete_from))

    def _start_writing(self, lease: LeaseState) -> None:
        assert lease.token is not None
        if lease.previous not in ("", self.redis_log.owner):
            self._drop_unwritten()  # the node that led since may have written it
        self._is_starting_epoch = False
        self.outbox.start(lease.token, self.last)

    def _drop_unwritten(self) -> None:
        """Drop the events of the outbox, and what was recorded because of them.

        The log's metadata does not have that. If the log is lost too, these events are missing.
        """
        if self.outbox.events:
            self.latest_time = self.replica.read_through
            times = self._unread_times
            self.begin_gap(min(times) - 1 if times else None)
            self.outbox.drop_events()

    def stop_leading(self) -> None:
        """Stop writing."""
        self._token = None
        self.outbox.stop()

    # Appending.

    def append(self, events: Sequence[Event]) -> None:
        """Write new events; `on_committed` gets them when they are read back."""
        now = round(self.dates.own() * SECOND)
        for event in events:
            if self.contains(event):
                self.duplicates += 1
            elif self.outbox.add(event, now):
                self.latest_time = max_optional(self.latest_time, event.time)
        self.outbox.flush()

    def _written(self, result: WriteResult, seconds: float) -> None:
        self.duplicates += result.dropped
        self.commit_seconds.observe(seconds)
        self.outbox.confirm(self.last)

    def _redis_connected(self) -> None:
        # In this order: leadership renews the lease, whose token the writes need.
        self.on_connected()
        self.outbox.rewrite()

    # cluster.tailer.TailTarget.

    def read_from_start(self, log_state: LogState) -> None:
        """Drop every row: the whole log follows, and it is another one than before."""
        was_empty, own = not self.epoch, self.encode_present()
        epoch, assignments = self.epoch, self.get_metadata(ASSIGNMENTS)
        self.is_loaded = self._is_starting_epoch = False
        self._last_stream_state = ""
        self.replica.replace(log_state)
        if self.epoch == epoch:
            self._assignments.record_loss(assignments)
        if was_empty and self.outbox.is_leading:
            self.adopt(own)  # this node began this log; its own metadata is newer
        elif not was_empty:
            self._log.warn("the log in Redis was replaced; reading it from the start")
            self._stop_writing()
            self.on_replaced()

    def _stop_writing(self) -> None:
        """End the term: a backfill must find the lost events before newer ones are written."""
        self.outbox.drop_events()
        self._token = None
        if self.outbox.is_leading:
            self.outbox.stop()
            self.outbox.on_rejected(LOG_SHORTENED)

    def continue_in_epoch(self, log_state: LogState) -> bool:
        """Continue in another epoch; False, without a change, unless it began after `last`."""
        start, epoch = log_state.epoch_start, log_state.metadata["epoch"]
        if start is None or not self.epoch:
            return False
        if (start.epoch, start.after_epoch, start.after) != (epoch, self.epoch, self.last):
            return False
        own = self.encode_present()
        # If the log is another account's now, or was empty, older rows are not valid.
        begin = self.replica.start_epoch if "latest" in start.metadata else self.replica.restart
        begin(start.metadata, log_state.delivered)
        if self.outbox.is_leading:
            self.adopt(own)  # this node began the epoch; its own metadata is newer
        self._is_starting_epoch, self._last_stream_state = False, ""
        self.on_new_epoch()
        return True

    def apply_events(self, entries: Sequence[EventEntry]) -> None:
        """Append the next events of the log; deliver them once the whole log was read before."""
        rows = self.replica.extend(entries)
        events = [each.event for each in entries if each.event is not None]
        if self.outbox.is_leading:
            self.event_counts.update([event.kind for event in events])
        if not self._is_starting_epoch:  # the new log does not have what is read of a lost one
            self.outbox.confirm(self.last, events)
        if self.is_loaded:
            # On other nodes the leader's clock may differ: there it counts from now.
            age = self.dates.own() - entries[0].received / SECOND
            age = max(age, 0) if self.outbox.is_leading and entries[0].received else 0
            self.on_committed(Batch(rows, received_at=self._clock.seconds() - age))

    def apply_stream_state(self, stream_state: str) -> None:
        """Pass on the stream state of another node; if this node leads, only after its term.

        A node that was paused may read the next leader's state before it finds that its own lease
        has expired.
        """
        self._last_stream_state = stream_state
        if not self.outbox.is_leading:
            self.on_stream_state(stream_state)

    def reapply_stream_state(self) -> None:
        """Pass on the last stream state of another node again, if there is one."""
        if self._last_stream_state:
            self.on_stream_state(self._last_stream_state)

    def mark_read_to(self, end: int | None) -> None:
        """Record that everything available was read; `end` is the log's last number, if known."""
        self.end = self.end if end is None else end
        self.is_loaded = self.is_loaded or self.last >= self.end
        if self.is_loaded:
            self._redis_status.mark_caught_up()
        else:
            self._redis_status.mark_unreadable(NOT_READ)

    def _status_changed(self, status: JournalStatus) -> None:
        self.status = status
        self.on_status(status)

    @property
    def is_current(self) -> bool:
        """Whether the whole log was read, and every event of this node is in it."""
        return self.status.durable and self.last >= self.end and not self.outbox.events

    # Reading: the replica, with the events in the outbox, which are newer.

    @property
    def unread(self) -> Sequence[Event]:
        """The events of the outbox: clients get them once they are read back."""
        return tuple(self.outbox.events.events)

    @property
    def _unread_times(self) -> Sequence[int]:
        return [event.time for event in self.unread if event.time is not None]

    def contains(self, event: Event) -> bool:
        """Whether this event is stored or queued to be stored, by its key."""
        return self.replica.contains(event) or self.outbox.events.has(event)

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order; None if no event had it."""
        return self.outbox.events.find_order(order_id, self.replica.order(order_id))

    def open_orders(self) -> Sequence[OrderState]:
        """Return every order that is open by its newest state."""
        states = {state.id: state for state in self.replica.open_orders()}
        for order_id in self.outbox.events.orders:
            if (newest := self.order(order_id)) is not None:
                states[order_id] = newest
        return [state for state in states.values() if state.is_open]

    def _find_max_time(self, limit: int) -> int | None:
        return self.replica.find_max_time(limit)

    # Metadata.

    def identify(self, account_id: str) -> bool:
        """See Journal.identify."""
        known = self.account_id
        if known == account_id:
            return False
        if known is not None:
            self.outbox.drop_events()
            self.replica.reset_account(self._configured_url)
        self.account_id = account_id
        if known is None:
            self._save()
        else:
            self._start_epoch(is_lost=False)
        return known is not None

    def _save(self, *, is_urgent: bool = True, without: Sequence[str] = BOUND_KEYS) -> None:
        if self.outbox.is_leading:
            metadata = self.encode().items()
            self.outbox.save_metadata({key: text for key, text in metadata if key not in without})

    def _save_bounds(self) -> None:
        self._save(without=[key for key in BOUND_KEYS if key != "begins"])

    def _start_epoch(self, *, is_lost: bool) -> None:
        """Begin an epoch after the last row; it takes effect here when it is read back."""
        metadata = Metadata(self.base_url)
        metadata.load(self.encode_present(), None)
        # Events in the outbox come after the epoch's start.
        metadata.latest_time = self.replica.read_through
        self._begin(metadata, self._random_bytes(8).hex(), self.last + 1, self.replica.read_through)
        self.dedup_horizon = metadata.dedup_horizon
        self._is_starting_epoch = True
        if times := self._unread_times:
            # The metadata that is saved with the last of these events replaces this. If this node
            # dies before that, they are missing.
            metadata.begin_gap(min(times) - 1)
        epoch_start = EpochStart(self.epoch, self.last, metadata.encode_present())
        delivered = self.replica.list_delivered(metadata.dedup_horizon)
        self.outbox.begin_epoch(self.last, epoch_start, delivered, is_lost=is_lost)
        self._notes.setdefault(OPEN_SINCE, None)  # to be removed
        self._save()

    # Trimming.

    def _trim(self) -> bool:
        """Trim rows here and, on the leader, in Redis; return whether more may be due.

        The other nodes have no estimate of Alpaca's clock. They trim what the leader has trimmed.
        """
        epoch, bounds = self._bounds
        if self.outbox.is_leading:
            due = self._retention.get_due(self.last, self.dates)
            count = self.replica.trim(due, self._unread_times)
        else:
            count = self.replica.follow_trim(bounds) if epoch == self.epoch else 0
        # Until `lead` has adopted the log's metadata there is no token. Saving this node's metadata
        # before that would overwrite newer values.
        token = self.outbox.token
        if count and token is not None and not self._is_starting_epoch:
            # The other metadata waits for the events in the outbox.
            changed = {key: text for key, text in self.encode().items() if key in TRIM_KEYS}
            trimming = self.redis_log.trim(token, self.epoch, self.first - 1, changed)
            trimmed = Deferred.fromCoroutine(trimming)
            trimmed.addErrback(lambda failure: failure.trap(RedisUnavailableError))
        return count == TRIM_STEP
