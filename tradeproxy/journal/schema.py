"""The tables of a journal file, their migrations, and the checks of a file that was found."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tradeproxy.journal.connection import DamageError

APPLICATION_ID = 0x74725078
"""SQLite's application_id: it marks a file as ours, for SQLite and for the `file` command."""


def _read_script(name: str) -> str:
    return Path(__file__).with_name("sql").joinpath(f"{name}.sql").read_text()


_BOOK, _STRATEGIES = _read_script("book"), _read_script("strategies")
_EXTRA_FILLS = _read_script("extra_fills")

BOOK_TABLES = _BOOK + _STRATEGIES + _EXTRA_FILLS

MIGRATIONS = (
    _read_script("events"),
    _read_script("executions"),
    _read_script("unstored"),
    # The newest rows may be in the spool (spool.py), which an earlier version would not read.
    "",
    _BOOK,
    _STRATEGIES,
    _EXTRA_FILLS,
)
"""The scripts of sql/. The nth one upgrades version n - 1 to version n.

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


@lru_cache
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
