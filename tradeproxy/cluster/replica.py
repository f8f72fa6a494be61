"""One account's log as this node has read it, in memory, so that reads need no reply from Redis.

A node may lag behind: see cluster.missing_positions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from tradeproxy.cluster.log_entries import EventEntry, encode_key
from tradeproxy.cluster.missing_positions import MissingPositions
from tradeproxy.cluster.redis_log import MAX_DELIVERED, LogState
from tradeproxy.journal.backlog import Entry
from tradeproxy.journal.base import Batch, Row, TrimmedError, UnreadableError, max_optional
from tradeproxy.journal.metadata import Metadata
from tradeproxy.journal.retention import TRIM_STEP, Due
from tradeproxy.journal.store import Store
from tradeproxy.wire.event import Event, OrderState


class Replica:
    """The rows of one account's log; `extend` appends what the tailer has read.

    It keeps the bounds, the latest time and the epoch in the journal's metadata up to date. The
    methods under "Reading" do what journal.base.Journal documents.
    """

    def __init__(self, metadata: Metadata) -> None:
        """Begin without rows; `restart` loads the metadata."""
        self._metadata = metadata
        self._store = _empty_store()
        self.missing = MissingPositions()
        """Positions that clients asked for and this replica does not have."""
        self._is_reset = False
        self.lost_through: int | None = None
        """The highest time of the events that this log has lost; None if it has lost none."""
        # The keys that the log began with, of events of logs before.
        self._delivered: dict[bytes, None] = {}
        self._before: int | None = None  # the highest event time before this epoch
        # The highest time of the rows; `latest_time` may be later, since the leader saves it.
        self._max_time: int | None = None

    def close(self) -> None:
        """Free the memory."""
        self._store.close()

    def restart(self, metadata: Mapping[str, str], delivered: Iterable[bytes] = ()) -> None:
        """Drop every row; the next row is the first of the log, or the first after trimming."""
        self._store.close()
        self._store = _empty_store()
        self._is_reset = False
        self.start_epoch(metadata, delivered)
        self._max_time = None

    def start_epoch(self, metadata: Mapping[str, str], delivered: Iterable[bytes] = ()) -> None:
        """Continue in another epoch of this account, which began with the `delivered` keys.

        Older rows can no longer be read. They stay for `has` and `find`, against duplicates, until
        a rollback of the log drops all rows; these keys stay then.
        """
        self._metadata.load(metadata, None)
        self.lost_through, self._delivered = None, dict.fromkeys(delivered)
        self._max_time = self._before = self._metadata.latest_time
        self.missing = MissingPositions()  # certainty about the old log is not valid for this one

    def replace(self, log_state: LogState) -> None:
        """Drop every row for another log, or for this one once it has lost rows."""
        lost_through, delivered = None, log_state.delivered
        if log_state.metadata["epoch"] == self._metadata.epoch:
            lost = self.read_through if self._has_lost(log_state) else None
            lost_through, delivered = max_optional(self.lost_through, lost), [*self._delivered]
        self.restart(log_state.metadata, delivered)
        self.lost_through = lost_through

    def matches(self, log_state: LogState) -> bool:
        """Whether the last row read is in the log, or was the last one trimmed from it."""
        # With a lower number, rows in between were trimmed before this node read them.
        trimmed = int(log_state.metadata["trimmed"])
        return not self._has_lost(log_state) and self._metadata.last >= trimmed

    def _has_lost(self, log_state: LogState) -> bool:
        """Whether the log, of this epoch, has lost the last row read."""
        last = self._metadata.last
        if last <= int(log_state.metadata["trimmed"]):
            return log_state.last < last
        row = self.row(last)
        payload = None if row is None else row.payload  # None too for a hole
        return log_state.last < last or (payload is not None and payload != log_state.payload)

    def extend(self, events: Sequence[EventEntry]) -> tuple[Row, ...]:
        """Append the next events of the log, at least one, and return their rows."""
        entries: list[Entry] = []
        for seq, event, received in ((each.seq, each.event, each.received) for each in events):
            if event is not None:
                self._max_time = max_optional(self._max_time, event.time)
            entries.append(Entry(seq, event, self._max_time, received, durable=True))
        self._metadata.latest_time = max_optional(self._metadata.latest_time, self._max_time)
        self._store.commit(entries, {})
        self._metadata.last = entries[-1].seq
        self.missing.record_read_to(self._metadata.last)
        return tuple([entry.row() for entry in entries])

    def trim(self, due: Due, unwritten: Iterable[int] = ()) -> int:
        """Drop the rows that are due, TRIM_STEP rows at most, and return how many.

        None is dropped while an event with one of the `unwritten` times would be at or before the
        dedup horizon then, which is saved at once: after a crash it would count as delivered.
        """
        metadata = self._metadata
        due_through = self._store.find_due(metadata.first, TRIM_STEP, due)
        through = min(due_through, metadata.last - 1)
        count = through + 1 - metadata.first
        if count <= 0:
            return 0
        newest, max_time = self._store.read_trimmed(through, due.event_limit)
        horizon = max_optional(metadata.dedup_horizon, max_time)
        if horizon is not None and any(time <= horizon for time in unwritten):
            return 0
        metadata.record_trim(through, newest, max_time)
        self._store.trim(through, {})
        return count

    def follow_trim(self, bounds: Mapping[str, str]) -> int:
        """Drop the rows that the leader has trimmed, TRIM_STEP at most, and return how many.

        `bounds` is the metadata of the log under TRIM_KEYS.
        """
        try:
            trimmed = int(bounds.get("trimmed", "0"))
        except ValueError:  # not written by the proxy
            return 0
        metadata = self._metadata
        through = min(trimmed, metadata.first + TRIM_STEP - 1, metadata.last - 1)
        count = max(through + 1 - metadata.first, 0)
        if count:
            self._store.trim(through, {})
            metadata.first = through + 1
        metadata.adopt_bounds(bounds)
        return count

    def adopt_lost_through(self, saved: str | None) -> None:
        """Take over what another node has found to be lost, as saved; None if nothing is."""
        if saved is not None and saved.isdecimal() and len(saved) < 20:
            self.lost_through = max_optional(self.lost_through, int(saved))

    def reset_account(self, base_url: str) -> None:
        """Keep only the numbers: the rows are another account's, and ignored until `restart`."""
        self._metadata.reset_account(base_url)
        self._max_time = self._before = None
        self._is_reset = True

    @property
    def newest_row_time(self) -> int | None:
        """The highest time of the rows that were read of this log; None if there is none."""
        return self._max_time

    @property
    def read_through(self) -> int | None:
        """The highest time of all events that were read or were in earlier epochs."""
        return max_optional(self._before, self._max_time)

    # Reading.

    def read(self, after: int, limit: int, *, finds_damage: bool = True) -> Batch | None:
        """Return up to `limit` rows after number `after`, about 256 KiB at most; None at the end.

        None is damaged: it was looked at when it came from Redis. Raises TrimmedError.
        """
        if after < self._metadata.first - 1:
            raise TrimmedError
        if after >= self._metadata.last:
            return None
        return Batch(tuple(self._store.read(after, limit)))

    def row(self, seq: int) -> Row | None:
        """Return one row; None if it is not stored."""
        if not self._metadata.first <= seq <= self._metadata.last:
            return None
        return self._store.read(seq - 1, 1)[0]

    def next_hole(self, after: int) -> int | None:
        """Return the number of the first hole behind number `after`; None if there is none.

        A hole replaces an entry that the proxy did not write: see cluster.tailer.
        """
        return self._store.next_hole(max(after, self._metadata.first - 1))

    def contains(self, event: Event) -> bool:
        """Whether this event is stored, or was delivered before this log began, by its key."""
        if self._is_reset:
            return False
        return self._store.has(event) or encode_key(event.key) in self._delivered

    def list_delivered(self, horizon: int | None) -> list[bytes]:
        """Return the encoded keys of the newest MAX_DELIVERED events after a dedup horizon.

        They are those of rows, and then those with which this log began. While a gap is open, the
        horizon of a new epoch is the gap's begin. A backfill finds these events then, and a node
        that starts later has read none of them.
        """
        if self._is_reset or horizon is None:
            return []
        keys = map(encode_key, self._store.list_keys(horizon, MAX_DELIVERED))
        return [*dict.fromkeys([*keys, *self._delivered])][:MAX_DELIVERED]

    def find_max_time(self, limit: int) -> int | None:
        """Return the highest time of a row that is not after `limit`."""
        return self._store.find_max_time(limit)

    def first_since(self, time: int) -> int | None:
        """Return the number of the first event at or after this time; None if all are earlier."""
        seq = self._store.first_since(time)
        if seq is None or self._metadata.first > self._metadata.last:
            return None
        return max(seq, self._metadata.first)

    def first_at(self, time: int) -> int | None:
        """Return the number of the first event with exactly this time; None if there is none."""
        seq = self._store.first_at(time)
        return seq if seq is None or seq >= self._metadata.first else None

    def reaches(self, seq: int) -> bool:
        """Whether the log has this number. Raises UnreadableError while that is uncertain."""
        if seq > self._metadata.last:
            self._check_missing(seq)
        return seq <= self._metadata.last

    def find(self, identity: str) -> int | None:
        """Return the number of the first event with this identity; None if there is none.

        None too if a rollback may have moved it behind newer events. Raises UnreadableError while
        that is uncertain.
        """
        first = self._metadata.first
        if self._metadata.is_newest_trimmed(identity):
            return first - 1
        # The event just before `first` is a valid position: the next row follows it.
        seq = self._store.find(identity)
        if seq is None or seq < first - 1 or self._has_moved(seq):
            self._check_missing(identity)
            return None
        return seq

    def _has_moved(self, seq: int) -> bool:
        """Whether a client may have got this event before others that now precede it.

        The log had lost it, and it came again from the history after newer events. A client that
        got it the first time lacks those.
        """
        lost_through = self.lost_through
        time = None if lost_through is None else self._store.get_late_time(seq)
        return time is not None and lost_through is not None and time <= lost_through

    def _check_missing(self, position: object) -> None:
        """Raise UnreadableError unless a position is certainly not in the log."""
        if not self.missing.is_certain(position):
            raise UnreadableError

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order."""
        return None if self._is_reset else self._store.order(order_id)

    def open_orders(self) -> Sequence[OrderState]:
        """Return the orders whose newest state is open."""
        return [] if self._is_reset else self._store.open_orders()


def _empty_store() -> Store:
    # With an isolation level Python's connection parses every statement to open transactions.
    return Store(sqlite3.connect(":memory:", isolation_level=None), full_sync=False)
