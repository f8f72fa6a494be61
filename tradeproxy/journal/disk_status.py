"""Whether a journal's disk accepts writes, and what is wrong with it, in words for users."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from tradeproxy.journal.connection import describe_error, is_vague
from tradeproxy.journal.file import describe_os_error, find_problem
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.wire.proxy_status import JournalStatus


class DiskStatus:
    """The status of one journal; logs and reports every change."""

    def __init__(
        self,
        account: str,
        path: Path | None,
        wall_clock: Callable[[], float],
        on_status: Callable[[JournalStatus], None],
    ) -> None:
        """Begin as durable.

        Args:
            account: its name, for the log.
            path: the database; None if it is in memory.
            wall_clock: Unix time in seconds.
            on_status: called with every new status.
        """
        self.status = JournalStatus(durable=True, reason="", since=wall_clock())
        self._log = AccountLogger(self, account)
        self._path = path
        self._wall_clock = wall_clock
        self._on_status = on_status
        self._described: dict[str, str] = {}

    def describe(self, error: Exception) -> str:
        """Return what is wrong with the disk, as a short phrase.

        SQLite hides the error of the operating system. An attempt to write another file shows it.
        """
        path = self._path
        if path is not None and isinstance(error, sqlite3.Error) and is_vague(error):
            error = find_problem(path) or error
        if isinstance(error, sqlite3.Error):
            return describe_error(error)
        if isinstance(error, OSError) and path is not None:
            return describe_os_error(error, path)
        return str(error)

    def describe_with_path(self, error: Exception) -> str:
        """Return the same with the path of what it is about. It is found out once per retry."""
        reason = self._described.get(str(error))
        if reason is None:
            reason = self._described[str(error)] = self.describe(error)
        has_path = self._path is None or str(self._path.parent) in reason
        return reason if has_path else f"{reason}: {self._path}"

    def begin_retry(self) -> None:
        """Forget the reasons that were found: the next error may have another one."""
        self._described.clear()

    def degrade(self, reason: str) -> None:
        """Report why the disk does not accept writes. The status of an outage begins once."""
        if not self.status.durable and reason in self.status.reason:
            return
        self._log.error("events are delivered without being on the disk: {reason}", reason=reason)
        self._change(durable=False, reason=reason)

    def recover(self) -> None:
        """Report that the disk accepts writes again."""
        self._log.info("every event is on the disk again")
        self._change(durable=True, reason="")

    def _change(self, *, durable: bool, reason: str) -> None:
        since = self._wall_clock() if durable is not self.status.durable else self.status.since
        self.status = JournalStatus(durable, reason, since)
        self._on_status(self.status)
