"""The rows on the disk and in the backlog, which read as one log."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tradeproxy.journal.backlog import Backlog
from tradeproxy.journal.base import Batch, Row, TrimmedError, UnreadableError, max_optional
from tradeproxy.journal.disk import Disk
from tradeproxy.journal.metadata import Metadata
from tradeproxy.journal.store import Store
from tradeproxy.wire.event import OrderState


class RowReader:
    """Reads one journal, as journal.base.Journal documents.

    The backlog is the end of the log until it is committed:

        rows              numbers
        on the disk       first ... last - len(backlog)
        in the backlog    last - len(backlog) + 1 ... last
    """

    def __init__(self, metadata: Metadata, disk: Disk, backlog: Backlog) -> None:
        """`metadata` is the journal's: it has the numbers of the first and the last row."""
        self._metadata = metadata
        self._disk = disk
        self._backlog = backlog

    @property
    def last_on_disk(self) -> int:
        """The number of the last row that the store has."""
        return self._metadata.last - len(self._backlog)

    def read(self, after: int, limit: int, *, finds_damage: bool = True) -> Batch | None:
        """See Log.read. One read returns about 256 KiB of payload at most."""
        if after < self._metadata.first - 1:
            raise TrimmedError
        if after < self.last_on_disk:
            rows = self._disk.query(
                lambda store: store.read(after, limit, finds_damage=finds_damage), None
            )
            if rows is None:
                # The failed read may have replaced a damaged file, which moves `first`.
                raise TrimmedError if after < self._metadata.first - 1 else UnreadableError
        else:
            rows = self._backlog.read(after, limit)
        return Batch(tuple(rows)) if rows else None

    def row(self, seq: int) -> Row | None:
        """Return one row; None if it is not stored. Raises UnreadableError."""
        try:
            batch = self.read(seq - 1, 1)
        except TrimmedError:
            return None
        return None if batch is None else batch.rows[0]

    def next_hole(self, after: int) -> int | None:
        """See Log.next_hole."""
        in_backlog = self._backlog.next_hole(after)
        if after >= self.last_on_disk:
            return in_backlog
        return self._search(lambda store: store.next_hole(after), in_backlog)

    def find(self, identity: str) -> int | None:
        """See Log.find."""
        if self._metadata.is_newest_trimmed(identity):
            return self._metadata.first - 1
        in_backlog = self._backlog.find(identity)
        return self._search(lambda store: store.find(identity), in_backlog)

    def first_at(self, time: int) -> int | None:
        """See Log.first_at."""
        in_backlog = self._backlog.first_at(time)
        return self._search(lambda store: store.first_at(time), in_backlog)

    def _search(self, search: Callable[[Store], int | None], in_backlog: int | None) -> int | None:
        """Return what a search on the disk finds, or else what was found in the backlog.

        Raises UnreadableError if rows on the disk cannot be read: the one that is searched may be
        among them, before the one in the backlog.
        """
        # A failed query gives None, so "not found" is 0, which is no sequence number.
        not_found = 0
        found = self._disk.query(lambda store: search(store) or not_found, None)
        has_rows = self._metadata.first <= self.last_on_disk
        if found is None and has_rows and not self._disk.status.durable:
            raise UnreadableError
        return found or in_backlog

    def first_since(self, time: int) -> int | None:
        """See Log.first_since. If the disk fails, a read from `first` then raises the error."""
        fallback: int | None = self._metadata.first
        seq = self._disk.query(lambda store: store.first_since(time), fallback)
        return self._backlog.first_since(time) if seq is None else seq

    def order(self, order_id: str) -> OrderState | None:
        """Return the newest state of an order in any event; None if the order is unknown."""
        on_disk = self._disk.query(lambda store: store.order(order_id), None)
        return self._backlog.find_order(order_id, on_disk)

    def open_orders(self) -> Sequence[OrderState]:
        """Return the orders whose newest state is open, at least the newest 10,000 of them."""
        nothing: list[OrderState] = []
        states = {state.id: state for state in self._disk.query(Store.open_orders, nothing)}
        # A list: a query that finds damage leaves a new backlog.
        for order_id in list(self._backlog.orders):
            states.pop(order_id, None)  # its last event follows those of the others
            if (newest := self.order(order_id)) is not None:
                states[order_id] = newest
        return [state for state in states.values() if state.is_open]

    def find_max_time(self, limit: int) -> int | None:
        """Return the highest time of an event that is not after `limit`."""
        on_disk = self._disk.query(lambda store: store.find_max_time(limit), None)
        return max_optional(on_disk, self._backlog.find_max_time(limit))
