"""The tables of a journal file, their migrations, and the checks of a file that was found."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from tradeproxy.journal.connection import DamageError

if TYPE_CHECKING:
    from collections.abc import Mapping

APPLICATION_ID = 0x74725078
"""SQLite's application_id: it marks a file as ours, for SQLite and for the `file` command."""

BOOK_TABLES = """
    CREATE TABLE book_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE book_positions (symbol TEXT PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE book_events (
        seq INTEGER PRIMARY KEY,
        num INTEGER,
        late INTEGER NOT NULL,
        time INTEGER,
        kind TEXT NOT NULL
    );
    CREATE INDEX book_events_by_order ON book_events (num);
    CREATE INDEX book_events_late ON book_events (time) WHERE late = 1;
    CREATE TABLE book_orders (
        num INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        parent TEXT,
        client_order_id TEXT NOT NULL,
        symbol TEXT NOT NULL,
        symbols TEXT NOT NULL,
        status TEXT NOT NULL,
        filled_qty TEXT NOT NULL,
        seq INTEGER NOT NULL,
        last INTEGER NOT NULL,
        submitted INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        open INTEGER NOT NULL,
        document BLOB
    );
    CREATE INDEX book_orders_by_id ON book_orders (substr(id, -8));
    CREATE INDEX book_orders_by_parent ON book_orders (parent) WHERE parent IS NOT NULL;
    CREATE INDEX book_orders_by_time ON book_orders (submitted) WHERE parent IS NULL;
    CREATE INDEX book_orders_open ON book_orders (num) WHERE open = 1;
    CREATE INDEX book_orders_apart ON book_orders (last) WHERE seq = 0 OR parent IS NOT NULL;
    """
"""The tables of the book (room `book`). A part of MIGRATIONS: never change it.

Ids of orders are random: an index of them is written all over. One of their last characters is a
third as large, and a table in the order of insertion needs no other one for most queries.
"""

STRATEGY_TABLES = """
    CREATE TABLE strategy_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE strategy_names (num INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE strategy_orders (
        id TEXT NOT NULL,
        client_order_id TEXT NOT NULL,
        parent TEXT NOT NULL,
        replaces TEXT NOT NULL,
        assigned TEXT NOT NULL,
        above TEXT NOT NULL
    );
    CREATE INDEX strategy_orders_by_id ON strategy_orders (substr(id, -8));
    CREATE INDEX strategy_orders_by_above ON strategy_orders (above) WHERE above != '';
    CREATE TABLE strategy_fills (
        order_id TEXT NOT NULL,
        ref TEXT NOT NULL,
        strategy TEXT NOT NULL,
        symbol TEXT NOT NULL,
        asset_class TEXT NOT NULL,
        time INTEGER NOT NULL,
        event_id TEXT NOT NULL,
        qty TEXT NOT NULL,
        price TEXT NOT NULL,
        multiplier TEXT NOT NULL,
        fee TEXT NOT NULL,
        filled TEXT NOT NULL,
        alias TEXT NOT NULL,
        amended INTEGER NOT NULL,
        busted INTEGER NOT NULL
    );
    CREATE INDEX strategy_fills_by_order ON strategy_fills (substr(order_id, -8));
    CREATE INDEX strategy_fills_by_time ON strategy_fills (strategy, symbol, time);
    CREATE TABLE strategy_openings (symbol TEXT PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID;
    """
"""The tables of the book per strategy. A part of MIGRATIONS: never change it."""

MIGRATIONS = (
    # Column `high` is max_time in the code: the highest time of this and all earlier rows. So the
    # first row whose `high` is at least T is the first row with an event at or after T.
    # A hole has no identity: in SQLite, NULLs do not violate a UNIQUE constraint.
    # The payload is the last column: SQLite reads a row from its beginning.
    """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        identity TEXT,
        digest BLOB,
        time INTEGER,
        high INTEGER,
        received INTEGER NOT NULL,
        payload BLOB,
        UNIQUE (identity, digest)
    );
    CREATE INDEX events_by_high ON events (high);
    CREATE TABLE orders (
        id TEXT PRIMARY KEY,
        seq INTEGER NOT NULL,
        status TEXT NOT NULL,
        filled_qty TEXT NOT NULL,
        time INTEGER NOT NULL,
        closed INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX orders_by_state ON orders (closed, seq);
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
    # `executions` has the hash of each event that has one (Event.execution in wire/event.py); its
    # row in `events` then has it as its digest. `late` has each event whose time is before that
    # of an earlier one. Indexes would do, but building them would read every page of a large
    # file. So upgrade.py adds rows of version 1 in short steps: up to `unindexed` they are missing.
    """
    CREATE TABLE executions (seq INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE);
    CREATE TABLE late (seq INTEGER PRIMARY KEY, time INTEGER NOT NULL);
    CREATE INDEX late_by_time ON late (time);
    INSERT INTO meta SELECT 'unindexed', seq FROM events ORDER BY seq DESC LIMIT 1;
    """,
    # `unstored` has the hash of the key of each event that a hole stands for (Event.key_hash), so
    # that a repeat of it is recognised. The index finds the keys of the holes that are trimmed.
    """
    CREATE TABLE unstored (key BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX unstored_by_seq ON unstored (seq);
    """,
    # The newest rows may be in the spool (spool.py), which an earlier version would not read.
    "",
    # The tables of the book, after row `cursor` of the log. An order's number is its own, so that
    # an event takes few bytes. `open` is whether its family is: see book/orders.py. The fills of
    # strategies stay when the log is trimmed: what they add up to is computed from all of them.
    BOOK_TABLES + STRATEGY_TABLES,
)
"""SQL scripts. The nth one upgrades version n - 1 to version n.

Add scripts, but never change one: existing files were made with it.
"""

MAX_NAME = 64
"""Characters of a name in the file that a line for the user quotes."""

_MAGIC = b"SQLite format 3\0"


class SchemaError(Exception):
    """The file is not for this version of tradeproxy. The text completes "FILENAME: ..."."""


@dataclass(frozen=True, slots=True)
class Header:
    """The marks in the header of an SQLite file."""

    application_id: int
    version: int

    @classmethod
    def parse(cls, page: bytes) -> Header | None:
        """Read at least the first 100 bytes of a file; return None if it is not an SQLite file.

        The offsets are those of "Database File Format", section 1.3. Changes that are still in
        the write-ahead log are not visible here.
        """
        if len(page) < 100 or not page.startswith(_MAGIC):
            return None
        return cls(int.from_bytes(page[68:72], "big"), int.from_bytes(page[60:64], "big"))


def check_header(header: Header, known: int = len(MIGRATIONS)) -> None:
    """Raise SchemaError for another program's file, or for a version later than `known`."""
    if header.application_id not in (0, APPLICATION_ID):
        raise SchemaError("it is another program's SQLite file")
    if header.version > known:
        raise SchemaError(
            f"a newer tradeproxy has written it (version {header.version}; this one knows {known})"
        )


def migrate(connection: sqlite3.Connection, migrations: tuple[str, ...] = MIGRATIONS) -> int:
    """Upgrade the tables to the newest version, one transaction per step, and check them.

    Returns the version before, which is 0 for a new file.

    Writes nothing if they are up to date. Raises SchemaError before any change if the file is not
    for this version or has code, DamageError if tables are missing, and sqlite3.Error if a step
    fails; that step is then rolled back.
    """
    distrust_schema(connection)
    [application_id] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    check_header(Header(application_id, version), len(migrations))
    # Many programs set no application_id. A file that has tables but no id is not ours.
    if (
        application_id == 0
        and connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None
    ):
        raise SchemaError("it is another program's SQLite file")
    refuse_code(connection)
    for number, script in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {number}; COMMIT"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    check_tables(connection, migrations)
    return int(version)


def distrust_schema(connection: sqlite3.Connection) -> None:
    """Let no function with side effects run because the file's schema names it."""
    connection.execute("PRAGMA trusted_schema = OFF")


def refuse_code(connection: sqlite3.Connection) -> None:
    """Raise SchemaError if the file has a trigger, a view or a virtual table: we make none.

    They would run the statements of another program, with our own.
    """
    # These have no B-tree ("Database File Format", section 2.6.1).
    found = connection.execute(
        "SELECT type, name FROM sqlite_schema WHERE coalesce(rootpage, 0) = 0 LIMIT 1"
    ).fetchone()
    if found is not None:
        kind = "virtual table" if found[0] == "table" else found[0]
        raise SchemaError(f"it has a {kind} {_quote(found[1])}, which tradeproxy does not make")


def check_tables(connection: sqlite3.Connection, migrations: tuple[str, ...] = MIGRATIONS) -> None:
    """Compare the tables and their columns with those that the migrations make.

    Raises DamageError if one is missing or has other columns, and SchemaError if there are more.
    """
    expected, found = _list_expected(migrations), _list_columns(connection)
    for name, columns in expected.items():
        if found.get(name) != columns:
            raise DamageError(f"the table {name} is missing or has other columns")
    if more := sorted(found.keys() - expected.keys()):
        raise SchemaError(f"it has a table {_quote(more[0])}, which tradeproxy does not make")


@lru_cache(maxsize=4)
def _list_expected(migrations: tuple[str, ...]) -> Mapping[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for script in migrations:
            connection.executescript(script)
        return _list_columns(connection)


def _list_columns(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return what table_xinfo says of each table: like table_info, with generated columns."""
    # SQLite's own tables, such as the statistics of ANALYZE, have names with this prefix.
    names = connection.execute(
        r"SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%'"
        r" ESCAPE '\'"
    ).fetchall()
    return {
        name: connection.execute("SELECT * FROM pragma_table_xinfo(?)", (name,)).fetchall()
        for (name,) in names
    }


def _quote(name: str) -> str:
    return repr(name[:MAX_NAME])
