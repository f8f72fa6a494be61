"""The spool, as far as it can be used: a journal also works without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from tradeproxy.journal.backlog import Entry
from tradeproxy.journal.spool import Spool, read_spool
from tradeproxy.runtime.account_log import AccountLogger


class OptionalSpool:
    """The spool of one account. While it is closed, the store gets every row at once.

        state   event                                            next state
        ------  -----------------------------------------------  -----------------------------
        closed  `restart`: the store has every row               open
        closed  the same, and the file cannot be made            closed; a warning
        open    `restart`                                        open, from the beginning
        open    a write fails                                    closed
        open    `close`: the file is lost, or a new epoch began  closed

    The spool of a journal in memory is always closed. No method but `read` raises an error.
    """

    def __init__(
        self, name: str, spool: Spool | None, epoch: Callable[[], str], max_rows: int
    ) -> None:
        """Open nothing yet.

        Args:
            name: the account, for the log.
            spool: the file; None for a journal in memory.
            epoch: returns the epoch of the next rows.
            max_rows: the largest number of rows that are written together.
        """
        self._log = AccountLogger(self, name)
        self._spool = spool
        self._epoch = epoch
        self._max_rows = max_rows
        self._open: Spool | None = None  # the same, while it is open
        self._problem = ""

    @property
    def is_full(self) -> bool:
        """Whether the store must get the rows now."""
        return self._open is not None and self._open.is_full

    @property
    def is_lost(self) -> bool:
        """Whether the open file is gone from its path, is another one there, or was cut off."""
        try:
            return self._open is not None and self._open.is_lost
        except OSError:
            return False  # the directory cannot be read at the moment

    def read(self, epoch: str, last: int) -> list[Entry]:
        """Return the rows of an epoch that follow number `last`. Raises OSError."""
        rows = [] if self._spool is None else read_spool(self._spool.path, epoch)
        return [row for row in rows if row.seq > last]

    def write(self, entries: Sequence[Entry]) -> bool:
        """Write the next rows, unless they are many or large; return whether they are durable."""
        if self._open is None or len(entries) > self._max_rows:
            return False
        try:
            return self._open.write(entries)
        except OSError:
            self.close()
            return False

    def restart(self) -> None:
        """Let the next row replace the first one: the store has all of them."""
        if self._open is not None and not self.is_lost:
            self._open.rewind()
        elif self._spool is not None:
            self._reopen(self._spool)

    def _reopen(self, spool: Spool) -> None:
        self._open = None
        try:
            spool.open(self._epoch())
        except OSError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                self._log.warn(
                    "every event is committed by itself: {problem}", problem=self._problem
                )
        else:
            self._open = spool

    def clear(self) -> None:
        """Remove all rows: the store has them."""
        if self._open is not None:
            with suppress(OSError):
                self._open.clear()

    def close(self) -> None:
        """Close the file. Has no effect if it is not open."""
        if self._open is not None:
            self._open.close()
            self._open = None
