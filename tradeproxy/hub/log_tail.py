"""A position in an account's log, for work on events that is done after their delivery.

A tail reads the log at its own pace, like a client's feed, but never delays a client: it is called
once the fan-out of a batch is over. Its owner stores the cursor with the result of its work, and so
gets every row at least once, through restarts too.
"""

from __future__ import annotations

from collections.abc import Callable

from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import Row, UnreadableError
from tradeproxy.wire.position import AfterId, Position


class ReplacedLogError(Exception):
    """The log is a new one: another account's, or begun again. Its numbers say nothing new."""


class LogTail:
    """One reader of an account's log. It is idle until `start`."""

    def __init__(self, account: Account, on_rows: Callable[[], None]) -> None:
        """Read nothing yet.

        `on_rows` is called after a batch has been delivered to the clients, if the tail is started.
        It must not raise, and should plan its work for another turn of the reactor.
        """
        self._account = account
        self._on_rows = on_rows
        self._epoch = ""
        self.position = 0
        """The number of the last row that was taken."""

    def start(self, position: Position) -> None:
        """Continue after a position, and call `on_rows` from now on.

        Raises UnrecoverablePositionError, or UnreadableError if the log cannot be read now. The
        tail is idle then.
        """
        self.position = locate(self._account, position)
        self._epoch = self._account.log.epoch
        self._account.on_delivered[self] = self._on_rows

    def start_at(self, cursor: str | None, otherwise: Position) -> bool:
        """Continue after a cursor; return whether the log still has every row after it.

        If not, or without a cursor, continue after `otherwise`. Raises UnreadableError.
        """
        if cursor is not None:
            try:
                self.start(AfterId(cursor))
            except UnrecoverablePositionError:
                pass
            else:
                return True
        self.start(otherwise)
        return False

    def stop(self) -> None:
        """Be idle. A second call has no effect."""
        self._account.on_delivered.pop(self, None)

    def read(self, limit: int, *, finds_damage: bool = True) -> tuple[Row, ...]:
        """Return the next rows, `limit` at most and about 256 KiB; none at the end of the log.

        A hole is a row without a payload. The same rows are returned until `take`. Without
        `finds_damage`, call `find_damage` for a row that is no event. Raises ReplacedLogError,
        TrimmedError if the next rows are no longer stored, and UnreadableError.
        """
        if self._account.log.epoch != self._epoch:
            raise ReplacedLogError
        batch = self._account.log.read(self.position, limit, finds_damage=finds_damage)
        return () if batch is None else batch.rows

    def find_damage(self, seq: int) -> None:
        """Have the log look at a row that was read. Raises UnreadableError if it is damaged."""
        if self._account.log.row(seq) is None:
            raise UnreadableError  # the log has been replaced

    def take(self, seq: int) -> None:
        """Continue after row `seq`, which was read."""
        self.position = seq

    def skip_trimmed(self) -> int:
        """Continue with the oldest row that is stored, and return how many were skipped."""
        first = self._account.log.first
        skipped, self.position = first - 1 - self.position, max(self.position, first - 1)
        return max(skipped, 0)

    @property
    def cursor(self) -> str | None:
        """The cursor after the last row that was taken; None while that row is not durable.

        None too if the log is a new one. The owner then keeps the cursor that it has.
        """
        if self._account.log.epoch != self._epoch:
            return None
        return self._account.cursor_at(self.position)
