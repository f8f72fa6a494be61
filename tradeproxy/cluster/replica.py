"""All of an account's log as this node has read it, in memory, so that whoever asks is answered at once."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from tradeproxy.journal.backlog import Entry
from tradeproxy.journal.base import TRIM_STEP, Batch, JournalBase, TrimmedError, UnreadableError
from tradeproxy.journal.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tradeproxy.cluster.redis_log import EventEntry
    from tradeproxy.journal.base import Row
    from tradeproxy.wire.event import Event, OrderState


MAX_POSITIONS = 1000
"""Positions that are remembered."""

CHECKS_KEPT = 20
"""After so many looks at the log it is asked again: a number that it had not may have been given since."""


class MissingPositions:
    """Which positions have been asked for, and which of them are certain not to be in the log."""

    def __init__(self) -> None:
        self.asked: frozenset[object] = frozenset()
        """Those of which nothing is known yet."""
        self._doubtful: dict[object, int] = {}
        self._certain: dict[object, int] = {}  # for how many looks

    def is_certain(self, position: object) -> bool:
        """Whether a position that is not here is certainly not in the log; if not, the question is noted."""
        if position in self._certain:
            return True
        if position not in self._doubtful and len(self.asked) + len(self._doubtful) < MAX_POSITIONS:
            self.asked |= {position}
        return False

    def record_log_end(self, asked: frozenset[object], end: int) -> None:
        """Note that the log ended at a number after these had been asked for."""
        self.asked -= asked
        self._doubtful.update(dict.fromkeys(asked, end))
        self._certain = {position: looks - 1 for position, looks in self._certain.items() if looks}

    def record_read_to(self, last: int) -> None:
        """Note how far this node has read."""
        for position in [position for position, end in self._doubtful.items() if end <= last]:
            del self._doubtful[position]
            self._certain[position] = CHECKS_KEPT
        while len(self._certain) > MAX_POSITIONS:
            del self._certain[next(iter(self._certain))]


class Replica(JournalBase):
    """The rows and the facts of one account's log. It is read, and grows by what the log is found to hold."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url)
        self._store = _empty_store()
        self.missing = MissingPositions()
        """What was asked for, and is not here."""
        self._is_reset = False
        self._before: int | None = None
        self._max_time: int | None = (
            None  # the highest time of what has been read; `latest` may be further on
        )

    def close(self) -> None:
        """Let go of the memory."""
        self._store.close()

    def restart(self, facts: Mapping[str, str]) -> None:
        """Be empty, as the log was at its beginning, or behind what has been trimmed."""
        self._store.close()
        self._store = _empty_store()
        self._is_reset = False
        self.start_epoch(facts)
        self._max_time = None

    def start_epoch(self, facts: Mapping[str, str]) -> None:
        """Go on in another epoch of this account: what was read can be read no more, but is known."""
        self.load(facts, None)
        self._max_time = self._before = self.latest_time
        self.missing = MissingPositions()  # what is certain of one log says nothing of another

    def extend(self, told: Sequence[EventEntry]) -> tuple[Row, ...]:
        """Add what comes next in the log, and return its rows."""
        entries: list[Entry] = []
        for seq, event, received in ((each.seq, each.event, each.received) for each in told):
            self._max_time = max_optional(self._max_time, event.time)
            entries.append(Entry(seq, event, self._max_time, received))
        self.latest_time = max_optional(self.latest_time, self._max_time)
        self._store.commit(entries, {})
        self.last = entries[-1].seq
        self.missing.record_read_to(self.last)
        return tuple([entry.row(durable=True) for entry in entries])

    def trim_before(self, seq: int, received: int) -> int:
        """Forget rows before number `seq`, or that came before a time, TRIM_STEP at most; return how many."""
        through = min(self._store.find_due(self.first, TRIM_STEP, seq - 1, received), self.last)
        count = through + 1 - self.first
        if count <= 0:
            return 0
        self.record_trim(through, self._store.get_max_time(through))
        self._store.trim(through, {})
        return count

    def reset_account(self, base_url: str) -> None:
        """Keep nothing but the numbers: the rows count for nothing until `restart`."""
        super().reset_account(base_url)
        self._max_time = self._before = None
        self._is_reset = True

    def reset_latest_time(self) -> None:
        """Know no event but those that have been read."""
        self.latest_time = self.read_through

    @property
    def read_through(self) -> int | None:
        """The highest time of any event that has been read, or was before this epoch began."""
        return max_optional(self._before, self._max_time)

    # What hub.journal.Journal has.

    def read(self, after: int, limit: int) -> Batch | None:
        """Return up to `limit` rows that follow number `after`, about 256 KiB at most; None at the end.

        Raises TrimmedError.
        """
        if after < self.first - 1:
            raise TrimmedError
        return None if after >= self.last else Batch(tuple(self._store.read(after, limit)))

    def row(self, seq: int) -> Row | None:
        """Return one row; None if it is not kept."""
        if not self.first <= seq <= self.last:
            return None
        return self._store.read(seq - 1, 1)[0]

    def _contains(self, event: Event) -> bool:
        return not self._is_reset and self._store.has(event)

    def _save(self) -> None:
        """Save nothing: who only reads has nothing to say."""

    def first_since(self, time: int) -> int | None:
        """Return the number of the first event with this time or a later one; None if all are earlier."""
        seq = self._store.first_since(time)
        if seq is None or self.first > self.last:
            return None
        return max(seq, self.first)

    def reaches(self, seq: int) -> bool:
        """Whether the log has come to a number. Raises UnreadableError while that is not known here."""
        if seq > self.last:
            self._check_missing(seq)
        return seq <= self.last

    def find(self, identity: str) -> int | None:
        """Return the number of the last event with this identity. Raises UnreadableError."""
        seq = self._store.find(identity)
        if seq is None or seq < self.first - 1:
            self._check_missing(identity)
            return None
        return seq

    def _check_missing(self, position: object) -> None:
        """Return if a position is certainly not in the log; otherwise raise UnreadableError."""
        if not self.missing.is_certain(position):
            raise UnreadableError

    def get_order_state(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order."""
        return None if self._is_reset else self._store.order(order_id)

    def list_open_orders(self) -> Sequence[OrderState]:
        """Return the orders whose newest state is open."""
        return [] if self._is_reset else self._store.open_orders()


def max_optional(one: int | None, other: int | None) -> int | None:
    """Return the later of two times, of which there may be none."""
    return max((time for time in (one, other) if time is not None), default=None)


def _empty_store() -> Store:
    # Statements are few; a connection of Python's is otherwise slowed down by transactions of its own.
    return Store(sqlite3.connect(":memory:", isolation_level=None), full_sync=False)
