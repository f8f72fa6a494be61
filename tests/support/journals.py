"""Journals, events and base classes for tests that use a journal."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tradeproxy.journal.backlog import Entry
from tradeproxy.journal.base import Batch, Journal, Row
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.runtime.dates import Dates
from tradeproxy.wire.event import Event, OrderState, format_time
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import JournalStatus

BASE_URL = "wss://paper-api.alpaca.markets/stream"
DAY = 86_400.0
NOW = 1_790_000_000.0
"""When the tests of journals on the disk begin (Unix time)."""

FIRST_AT = 1_790_000_000_000_000
"""The time of event 0 (microseconds since 1970)."""

_OPEN = OrderState("o", "partially_filled", "2", 50)
_CLOSED = OrderState("o", "filled", "9", 50)
ORDER_STATES = (
    (None, _OPEN, _OPEN),
    (_OPEN, replace(_OPEN, status="new", time=51), replace(_OPEN, status="new", time=51)),
    (_OPEN, replace(_OPEN, status="new"), replace(_OPEN, status="new")),
    (_OPEN, replace(_OPEN, status="new", time=49), _OPEN),
    (_OPEN, replace(_OPEN, filled_qty="1", time=49), _OPEN),
    (_OPEN, replace(_OPEN, filled_qty="10", time=49), replace(_OPEN, filled_qty="10")),
    (_OPEN, replace(_OPEN, status="new", time=0), replace(_OPEN, status="new")),
    (_OPEN, replace(_OPEN, status="canceled", time=49), replace(_OPEN, status="canceled")),
    (_CLOSED, replace(_OPEN, filled_qty="10", time=49), _CLOSED),
    (_CLOSED, replace(_CLOSED, filled_qty="10", time=49), replace(_CLOSED, filled_qty="10")),
    (_CLOSED, replace(_OPEN, time=51), replace(_OPEN, time=51)),
)
"""A known state of an order, the state in a later row, and the one that is newer.

A row may be late by its time. More that is filled, or the end of the order, is newer nevertheless.
"""


def dates_of(clock: IReactorTime) -> Dates:
    """Return dates by this clock. Alpaca's clock agrees, unless a test lets time begin at 0."""
    dates = Dates(clock.seconds, clock.seconds)
    if clock.seconds() >= NOW - DAY:
        dates.observe(clock.seconds())
    return dates


def journal_at(
    path: Path | None,
    clock: IReactorTime,
    name: str = "paper",
    dates: Dates | None = None,
    **options: Any,
) -> SqliteJournal:
    """Return a journal that is not open yet; `path` None keeps it in memory."""
    defaults = {
        "base_url": BASE_URL,
        "full_sync": False,
        "max_age": 7 * DAY,
        "max_events": 1_000_000,
    }
    return SqliteJournal(name, path, clock, dates or dates_of(clock), **{**defaults, **options})


def memory_journal(clock: IReactorTime, name: str = "paper", **options: Any) -> SqliteJournal:
    """Return an open journal in memory."""
    journal = journal_at(None, clock, name, **options)
    journal.open()
    return journal


def time_of(n: int) -> int:
    """Return the time of event `n` (microseconds since 1970): they are a second apart."""
    return FIRST_AT + n * 1_000_000


def order_id_of(n: int) -> str:
    """Return the order id that event `n` has by default."""
    return f"00000000-0000-0000-0000-{n:012d}"


def event_id_of(n: int) -> str:
    """Return the id of event `n`."""
    return f"01KYA98DWAS5PA5B{n:010d}"


def event(n: int, **fields: Any) -> Event:
    """Return event `n`, parsed from a frame in Alpaca's format.

    Keyword arguments replace fields. `order_id`, `status` and `filled_qty` are fields of the
    order. All others, such as `at` and `event_id`, are fields of the data. None omits a field.
    """
    document: Any = json.loads(frames.NEW)
    order_fields = {"order_id": order_id_of(n), "status": "new", "filled_qty": "0"}
    data_fields = {"event_id": event_id_of(n), "at": format_time(time_of(n)), "timestamp": None}
    for name, value in {**order_fields, **data_fields, **fields}.items():
        target = document["data"]["order"] if name in order_fields else document["data"]
        key = name.removeprefix("order_")
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value
    message = parse_server(json.dumps(document, separators=(",", ":")).encode())
    assert isinstance(message, TradeUpdate), message
    return message.event


def events(*numbers: int) -> list[Event]:
    """Return the events with these numbers."""
    return [event(n) for n in numbers]


def entries(*numbers: int) -> list[Entry]:
    """Return durable entries with these numbers."""
    return [Entry(n, event(n), time_of(n), n, durable=True) for n in numbers]


class JournalListener:
    """Records the callbacks of a journal, in the order of the calls."""

    def __init__(self, journal: Journal) -> None:
        self.batches: list[Batch] = []
        self.statuses: list[JournalStatus] = []
        self.calls: list[Batch | JournalStatus] = []
        journal.on_committed = self._committed
        journal.on_status = self._status_changed

    def _committed(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.calls.append(batch)

    def _status_changed(self, status: JournalStatus) -> None:
        self.statuses.append(status)
        self.calls.append(status)


class FaultyConnection(sqlite3.Connection):
    """A connection on which some statements fail: see Connections.fail."""

    faults: Mapping[tuple[str, tuple[Any, ...]], int] = MappingProxyType({})

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        for (beginning, only), code in self.faults.items():
            if sql.lstrip().startswith(beginning) and only in ((), *values):
                error = sqlite3.OperationalError("a fault of the test")
                error.sqlite_errorcode = code
                raise error
        return super().execute(sql, *values)


class Connections:
    """A replacement for sqlite3.connect that lets a test make the newest connection fail.

    A statement of the test runs on the journal's own connection.
    """

    def __init__(self) -> None:
        self._connections: list[sqlite3.Connection] = []
        self._faults: dict[tuple[str, tuple[Any, ...]], int] = {}

    def __call__(self, path: str, **options: Any) -> sqlite3.Connection:
        connection = sqlite3.connect(path, factory=FaultyConnection, **options)
        connection.faults = self._faults
        self._connections.append(connection)
        return connection

    def fail(self, statement: str, code: int | None, *values: Any) -> None:
        """Make statements that begin so fail with SQLite's result code, on every connection.

        With values, only those with these fail. None undoes that.
        """
        if code is None:
            del self._faults[statement, values]
        else:
            self._faults[statement, values] = code

    def query_value(self, statement: str) -> Any:
        """Return the first value of the first row that a statement yields."""
        return self._connections[-1].execute(statement).fetchone()[0]

    def execute(self, statement: str) -> None:
        """Run a statement."""
        self._connections[-1].execute(statement).fetchall()

    def damage(self, path: Path) -> None:
        """Overwrite everything but the first page of a file, without SQLite's knowledge."""
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.execute("PRAGMA shrink_memory")
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))

    def refuse_writing(self, refuse: bool = True) -> None:
        """Make every write fail as on a read-only file, or undo that."""
        self.execute(f"PRAGMA query_only = {refuse}")

    def fill_disk(self) -> None:
        """Keep the file from growing: SQLite then reports a full disk."""
        # SQLite raises the limit to the current number of pages.
        self.execute("PRAGMA max_page_count = 1")

    def free_disk(self) -> None:
        """Let the file grow again."""
        self.execute("PRAGMA max_page_count = 1073741823")

    def on_commit(self, action: Callable[[], None]) -> None:
        """Call `action` in the middle of every commit."""
        self._connections[-1].set_trace_callback(
            lambda statement: action() if statement == "COMMIT" else None
        )

    def record(self) -> list[str]:
        """Return a list that gets every statement from now on."""
        statements: list[str] = []
        self._connections[-1].set_trace_callback(statements.append)
        return statements

    def refuse_everything(self, refuse: bool = True) -> None:
        """Make SQLite interrupt every statement, reads included, or undo that."""
        self._connections[-1].set_progress_handler((lambda: 1) if refuse else None, 1)


def row(seq: int, event: Event, durable: bool = True) -> Row:
    """Return the row of an event."""
    return Row(seq, event.payload, event.time, durable)


class JournalCase(SynchronousTestCase):
    """A base class with one journal: on the disk, unless a subclass overrides `open`."""

    now = NOW
    """When the tests begin (Unix time)."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(self.now)

    def open(self, **options: Any) -> Journal:
        """Open the journal and return it."""
        if not hasattr(self, "path"):
            self.path = Path(self.mktemp()) / "paper.sqlite3"
        journal = journal_at(self.path, self.clock, **options)
        journal.open()
        self.addCleanup(journal.close)
        return journal

    def reopen(self, journal: Journal, **options: Any) -> Journal:
        """Close the journal and open it again, as a restart of the proxy does."""
        journal.close()
        return self.open(**options)

    def find(self, journal: Journal, identity: str) -> int | None:
        """Return `journal.find`, once its result is certain."""
        return journal.find(identity)

    def read_seqs(self, journal: Journal, after: int) -> list[int]:
        """Return the sequence numbers of all rows behind number `after`."""
        numbers: list[int] = []
        while (batch := journal.read(after, 1000)) is not None:
            numbers.extend(row.seq for row in batch.rows)
            after = batch.last
        return numbers


class MemoryCase(JournalCase):
    """A base class with a journal in memory, which cannot be reopened."""

    def open(self, **options: Any) -> Journal:
        journal = memory_journal(self.clock, **options)
        self.addCleanup(journal.close)
        return journal


class SqliteCase(JournalCase):
    """A base class with a journal on the disk."""

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
    """A base class with a journal on the disk that has two events, and control of its failures.

    The database gets every event at once, not only after some have come.
    """

    def setUp(self) -> None:
        super().setUp()
        self.connections = Connections()
        self.journal = self.open_on_disk()
        self.journal.append(events(1, 2))
        self.listener = JournalListener(self.journal)

    def open_on_disk(self, **options: Any) -> SqliteJournal:
        return self.open(**{"connect": self.connections, "max_spooled": 0, **options})

    def read_disk(self) -> list[tuple[int, bytes | None]]:
        """Return the rows in the file as another process reads them."""
        connection = sqlite3.connect(self.path)
        rows = connection.execute("SELECT seq, payload FROM events ORDER BY seq").fetchall()
        connection.close()
        return rows

    def damage(self) -> None:
        """Overwrite everything but the first page of the file, without SQLite's knowledge."""
        self.connections.damage(self.path)

    def set_aside(self, journal: SqliteJournal) -> bool:
        return self.path.with_name(f"paper.sqlite3.damaged-{journal.epoch}").exists()


class SpooledCase(SqliteCase):
    """A base class with a journal whose newest rows are in the spool."""

    def setUp(self) -> None:
        super().setUp()
        self.connections = Connections()
        self.journal = self.open_spooled()
        self.listener = JournalListener(self.journal)

    def open_spooled(self, **options: Any) -> SqliteJournal:
        return self.open(connect=self.connections, **options)

    def count_stored(self) -> int:
        """Return how many rows the database has."""
        return int(self.connections.query_value("SELECT count(*) FROM events"))

    def kill(self, **options: Any) -> SqliteJournal:
        """Open the files as they are now, as a process does that follows a killed one."""
        directory = Path(self.mktemp())
        shutil.copytree(self.path.parent, directory)
        self.path = directory / self.path.name
        return self.open_spooled(**options)

    def assert_has(self, journal: SqliteJournal, count: int) -> None:
        """Assert that the journal has the events up to a number, each once and readable."""
        self.assertEqual(journal.last, count)
        rows: list[Row] = []
        while (batch := journal.read(len(rows), 1000)) is not None:
            rows += batch.rows
        expected = [event(n).payload for n in range(1, count + 1)]
        self.assertEqual([row.payload for row in rows], expected)
        self.assertTrue(all(row.durable for row in rows))
        duplicates = journal.duplicates
        journal.append([event(n) for n in range(1, count + 1)])
        self.assertEqual((journal.last, journal.duplicates), (count, duplicates + count))
