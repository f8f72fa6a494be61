"""Journals and events for tests of what uses them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tradeproxy.journal.base import Batch, Journal, Row
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import JournalStatus

BASE_URL = "wss://paper-api.alpaca.markets/stream"
DAY = 86_400.0
NOW = 1_785_000_000.0
"""When the tests of journals on the disk begin (Unix time)."""

FIRST_AT = 1_790_000_000_000_000
"""The time of event 0 (microseconds since 1970)."""


def journal_at(
    path: Path | None, clock: IReactorTime, name: str = "paper", **options: Any
) -> SqliteJournal:
    """Return a journal that is not open yet."""
    defaults = {
        "base_url": BASE_URL,
        "full_sync": False,
        "max_age": 7 * DAY,
        "max_events": 1_000_000,
    }
    return SqliteJournal(name, path, clock, **{**defaults, **options})


def memory_journal(clock: IReactorTime, name: str = "paper", **options: Any) -> SqliteJournal:
    """Return an open journal in memory."""
    journal = journal_at(None, clock, name, **options)
    journal.open()
    return journal


def time_of(n: int) -> int:
    """Return the time of event `n`: they come a second apart."""
    return FIRST_AT + n * 1_000_000


def order_id_of(n: int) -> str:
    """Return the id of the order that event `n` is about, if no other is named."""
    return f"00000000-0000-0000-0000-{n:012d}"


def event_id_of(n: int) -> str:
    """Return the id of event `n`."""
    return f"01KYA98DWAS5PA5B{n:010d}"


def event(n: int, **fields: Any) -> Event:
    """Return the event `n`, read from a frame such as Alpaca's.

    `order_id`, `status` and `filled_qty` are the order's; `at`, `event_id` and whatever else the data's.
    None leaves one out.
    """
    document: Any = json.loads(frames.NEW)
    of_order = {"order_id": order_id_of(n), "status": "new", "filled_qty": "0"}
    of_data = {"event_id": event_id_of(n), "at": format_time(time_of(n)), "timestamp": None}
    for name, value in {**of_order, **of_data, **fields}.items():
        place = document["data"]["order"] if name in of_order else document["data"]
        key = name.removeprefix("order_")
        if value is None:
            place.pop(key, None)
        else:
            place[key] = value
    message = parse_server(json.dumps(document, separators=(",", ":")).encode())
    assert isinstance(message, TradeUpdate), message
    return message.event


def events(*numbers: int) -> list[Event]:
    """Return the events with these numbers."""
    return [event(n) for n in numbers]


class JournalListener:
    """What a journal tells its owner, in the order in which it does."""

    def __init__(self, journal: Journal) -> None:
        self.batches: list[Batch] = []
        self.statuses: list[JournalStatus] = []
        self.calls: list[Batch | JournalStatus] = []
        journal.on_committed = self._committed
        journal.on_status = self._changed

    def _committed(self, burst: Batch) -> None:
        self.batches.append(burst)
        self.calls.append(burst)

    def _changed(self, status: JournalStatus) -> None:
        self.statuses.append(status)
        self.calls.append(status)


class Connections:
    """Connects to SQLite, and keeps every connection, so that a test can spoil the one in use."""

    def __init__(self) -> None:
        self._connections: list[sqlite3.Connection] = []

    def __call__(self, path: str, **options: Any) -> sqlite3.Connection:
        self._connections.append(sqlite3.connect(path, **options))
        return self._connections[-1]

    def query_value(self, statement: str) -> Any:
        """Return the first value of what the connection in use says."""
        return self._connections[-1].execute(statement).fetchone()[0]

    def execute(self, statement: str) -> None:
        """Run a statement on the connection that is in use."""
        self._connections[-1].execute(statement).fetchall()

    def refuse_writing(self, refuse: bool = True) -> None:
        """Let the disk seem read-only from now on, or no more."""
        self.execute(f"PRAGMA query_only = {refuse}")

    def fill_disk(self) -> None:
        """Let the file grow no further: SQLite then finds the disk full."""
        self.execute("PRAGMA max_page_count = 1")  # which is as many as there are

    def free_disk(self) -> None:
        """Let the file grow again."""
        self.execute("PRAGMA max_page_count = 1073741823")

    def on_commit(self, happen: Callable[[], None]) -> None:
        """Let something happen in the middle of every commit."""
        self._connections[-1].set_trace_callback(
            lambda statement: happen() if statement == "COMMIT" else None
        )

    def refuse_everything(self, refuse: bool = True) -> None:
        """Let SQLite break off whatever it is asked for, reading included, or no more."""
        self._connections[-1].set_progress_handler((lambda: 1) if refuse else None, 1)


def row(seq: int, event: Event, durable: bool = True) -> Row:
    """Return the row that an event makes."""
    return Row(seq, event.payload, event.time, durable)


class JournalCase(SynchronousTestCase):
    """Has a place for a journal, of whichever kind: on the disk, if a subclass does not say otherwise."""

    now = NOW
    """When its tests begin (Unix time)."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(self.now)

    def open(self, **options: Any) -> Journal:
        """Return the journal that lies there, open."""
        if not hasattr(self, "path"):
            self.path = Path(self.mktemp()) / "paper.sqlite3"
        journal = journal_at(self.path, self.clock, **options)
        journal.open()
        self.addCleanup(journal.close)
        return journal

    def reopen(self, journal: Journal, **options: Any) -> Journal:
        """Return what the next start of the proxy would find."""
        journal.close()
        return self.open(**options)

    def find(self, journal: Journal, identity: str) -> int | None:
        """Return the number of the last event with this identity, once that is certain."""
        return journal.find(identity)

    def read_seqs(self, journal: Journal, after: int) -> list[int]:
        """Return the numbers that can be read behind one."""
        numbers: list[int] = []
        while (burst := journal.read(after, 1000)) is not None:
            numbers.extend(row.seq for row in burst.rows)
            after = burst.last
        return numbers


class MemoryCase(JournalCase):
    """Has one in memory, where it has none in Redis; there is no other start of it."""

    def open(self, **options: Any) -> Journal:
        journal = memory_journal(self.clock, **options)
        self.addCleanup(journal.close)
        return journal


class SqliteCase(JournalCase):
    """Has a place for one on the disk."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp()) / "paper.sqlite3"

    def open(self, **options: Any) -> SqliteJournal:
        journal = super().open(**options)
        assert isinstance(journal, SqliteJournal)
        return journal

    def reopen(self, journal: Journal, **options: Any) -> SqliteJournal:
        journal.close()
        return self.open(**options)


class DiskCase(SqliteCase):
    """Has a journal with two events, whose disk it can spoil."""

    def setUp(self) -> None:
        super().setUp()
        self.connections = Connections()
        self.journal = self.open_on_disk()
        self.journal.append(events(1, 2))
        self.listener = JournalListener(self.journal)

    def open_on_disk(self, **options: Any) -> SqliteJournal:
        return self.open(connect=self.connections, **options)

    def read_disk(self) -> list[tuple[int, bytes | None]]:
        """Return what another reader of the file finds."""
        connection = sqlite3.connect(self.path)
        rows = connection.execute("SELECT seq, payload FROM events ORDER BY seq").fetchall()
        connection.close()
        return rows

    def damage(self) -> None:
        """Overwrite the file where its rows are, behind SQLite's back."""
        self.connections.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connections.execute("PRAGMA shrink_memory")
        with self.path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (self.path.stat().st_size - 4096))

    def set_aside(self, journal: SqliteJournal) -> bool:
        return self.path.with_name(f"paper.sqlite3.damaged-{journal.epoch}").exists()
