"""A connection to SQLite: transactions, single values, and what errors mean."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Any

_DAMAGE = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,  # a table or column is missing
    sqlite3.SQLITE_CONSTRAINT,  # another program has used a sequence number
}
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REASONS = {
    sqlite3.SQLITE_FULL: "disk full",
    sqlite3.SQLITE_READONLY: "the file is read-only",
    sqlite3.SQLITE_IOERR: "disk error",
    sqlite3.SQLITE_BUSY: "another program holds the file",
    sqlite3.SQLITE_LOCKED: "another program holds the file",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "the file cannot be opened",
}

_VAGUE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}


class DamageError(sqlite3.DatabaseError):
    """The file has lost rows or metadata in a way that SQLite itself does not detect."""


class BusyError(sqlite3.OperationalError):
    """Another program uses the file at the moment, which SQLite reports as a value."""

    sqlite_errorcode = sqlite3.SQLITE_BUSY


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is unusable for good, so that retrying is useless."""
    return isinstance(error, DamageError) or _get_code(error) in _DAMAGE


def is_fault(error: sqlite3.Error) -> bool:
    """Whether the disk or the file is the cause, and not the statement or the tables."""
    return _get_code(error) in _REASONS or _get_code(error) in _BROKEN


def is_broken(error: sqlite3.Error) -> bool:
    """Whether the file itself is damaged, whatever its tables are."""
    return _get_code(error) in _BROKEN


def is_vague(error: sqlite3.Error) -> bool:
    """Whether SQLite's error may have one of many causes in the operating system."""
    return _get_code(error) in _VAGUE


def describe_error(error: sqlite3.Error) -> str:
    """Return what is wrong with the disk, as a short phrase for users."""
    return _REASONS.get(_get_code(error), "SQLite cannot use the file")


def _get_code(error: sqlite3.Error) -> int:
    # An extended result code has the primary code in its low byte ("Result and Error Codes",
    # sqlite.org). Errors that the Python module itself raises have no code.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF


class Transaction:
    """Commits what happens inside, or rolls it back if that raises. May raise sqlite3.Error.

    It can be used again. Two calls of methods are a third of what a generator costs.
    """

    __slots__ = ("_execute",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def __enter__(self) -> None:
        # IMMEDIATE takes the write lock at once, so that a busy file fails here.
        self._execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._roll_back()
            return
        try:
            self._execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        # SQLite rolls back by itself after some errors. An error of the ROLLBACK would hide
        # the cause.
        with suppress(sqlite3.Error):
            self._execute("ROLLBACK")


def set_sync(connection: sqlite3.Connection, full_sync: bool) -> None:
    """Set whether every commit is synced to the disk. A checkpoint of the write-ahead log is."""
    connection.execute(f"PRAGMA synchronous = {'FULL' if full_sync else 'NORMAL'}")
    # On macOS, fsync does not flush the drive's own cache; F_FULLFSYNC does.
    connection.execute(f"PRAGMA fullfsync = {full_sync}")


def fetch_value(connection: sqlite3.Connection, query: str, *values: object) -> Any:
    """Return the first value of the first row; None without a row. May raise sqlite3.Error."""
    row = connection.execute(query, values).fetchone()
    return None if row is None else row[0]
