"""An account with a trade log, in fake time and on a real disk."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from tests.support.journals import DAY, NOW, SqliteCase, event
from tradeproxy.config.trade_log import TradeLogFormat
from tradeproxy.hub.account import Account
from tradeproxy.tradelog.day_files import DayFiles
from tradeproxy.tradelog.lines import LineFormat
from tradeproxy.tradelog.service import (
    INTERVAL,
    TradeLogService,
)

DAY_OF_EVENTS = "2026-09-21"
"""The trade date of event 1, which is at 14:13 UTC."""


class TradeLogCase(SqliteCase):
    """An account with a journal on the disk, and its trade log."""

    kind = TradeLogFormat.CSV
    now = NOW + 3 * DAY

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.path.parent / "trades"
        self.threads: list[Deferred[Any]] | None = None
        """The calls that a thread has not begun, if a test wants to keep them."""
        self.logged: list[str] = []
        observe = cast(ILogObserver, self.observe)
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.start()

    def observe(self, entry: LogEvent) -> None:
        """Keep the text of a log line."""
        self.logged.append(formatEvent(entry))

    def start(self, **options: Any) -> None:
        """Start the proxy: what it knows of the files, it reads from them."""
        self.journal = self.open(**options)
        self.account = Account("paper", self.journal, self.clock)
        self.start_trade_log()

    def start_trade_log(self) -> None:
        line_format = LineFormat("paper", self.kind)
        self.files = DayFiles(self.directory, "paper", line_format)
        self.service = TradeLogService(
            self.account, self.files, line_format, self.clock, self.in_thread
        )
        self.service.startService()
        self.clock.advance(0)
        self.addCleanup(self.files.close)

    def in_thread(self, work: Any) -> Deferred[Any]:
        if self.threads is not None:
            waiting: Deferred[Any] = Deferred()
            self.threads.append(waiting)
            return waiting.addCallback(lambda _: work())
        return maybeDeferred(work)

    def publish(self, *numbers: int, **fields: Any) -> None:
        """Publish events in one turn of the reactor."""
        for n in numbers:
            self.account.publish(event(n, **fields))
        self.clock.advance(0)

    def write(self) -> None:
        """Let the next round happen."""
        self.clock.advance(INTERVAL)

    def write_without_checkpoint(self) -> None:
        """Let the next round write its lines, but not the checkpoint behind them."""
        with self.hold_checkpoint():
            self.write()

    def kill(self) -> None:
        """End the process without a last round; the kernel keeps what was written."""
        self.files.close()
        self.journal.close()
        self.clock.calls.clear()

    def restart(self) -> None:
        self.kill()
        self.start()

    def file(self, name: str = f"paper-{DAY_OF_EVENTS}.csv") -> Path:
        return self.directory / name

    def read_rows(self) -> list[dict[str, str]]:
        """Return the rows of all files, by their names' order."""
        rows = []
        for path in sorted(self.directory.glob("paper-*.csv")):
            with path.open(newline="") as file:
                rows += list(csv.DictReader(file))
        return rows

    def assert_numbers(self, *numbers: int) -> None:
        """Assert that the files have exactly the events with these numbers, in this order."""
        found = [row["order_id"] for row in self.read_rows()]
        self.assertEqual([int(each[-12:]) for each in found], list(numbers))

    def hold_checkpoint(self) -> Any:
        """Keep the checkpoint from being written: the process is killed before that."""
        case = self

        class Held:
            def __enter__(self) -> None:
                self.patch = case.patch(case.files.checkpoints, "write", lambda _: None)

            def __exit__(self, *_: object) -> None:
                self.patch.restore()

        return Held()

    def count_logged(self, text: str) -> int:
        """Return how many log lines contain a text."""
        return sum(text in line for line in self.logged)
