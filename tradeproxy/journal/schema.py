"""The tables of a journal, and how an older file becomes one of today."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

APPLICATION_ID = 0x74725078
"""What `file` and SQLite know our files by."""

MIGRATIONS = (
    # A hole has no identity: NULLs do not collide. `high` is the highest time so far, so that the first row
    # with a time of at least T is the first with such a `high`. The payload is last: SQLite reads a row from
    # its beginning.
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
)
"""Scripts; the nth makes version n of version n - 1. They are never changed, only added to."""

_MAGIC = b"SQLite format 3\0"


class SchemaError(Exception):
    """The file is not for this version of tradeproxy; the text continues a line that begins with its name."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the first page of an SQLite file says of its content."""

    application_id: int
    version: int

    @classmethod
    def parse(cls, page: bytes) -> Header | None:
        """Read the first 100 bytes of a file, or more; None if it is no SQLite file.

        The places are those of "Database File Format", section 1.3. What is still in the write-ahead log is
        not seen.
        """
        if len(page) < 100 or not page.startswith(_MAGIC):
            return None
        return cls(int.from_bytes(page[68:72], "big"), int.from_bytes(page[60:64], "big"))


def check_header(header: Header, known: int = len(MIGRATIONS)) -> None:
    """Raise SchemaError for a file that is not ours, or of a later version than `known`."""
    if header.application_id not in (0, APPLICATION_ID):
        raise SchemaError("it is another program's SQLite file")
    if header.version > known:
        raise SchemaError(
            f"a newer tradeproxy has written it (version {header.version}; this one knows {known})"
        )


def migrate(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring the tables up to date, each step in a transaction; writes nothing where they are.

    Raises SchemaError before anything is changed.
    """
    [application_id] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    check_header(Header(application_id, version), len(migrations))
    if (
        application_id == 0
        and connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None
    ):
        raise SchemaError("it is another program's SQLite file")
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
