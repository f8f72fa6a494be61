"""The files of a journal: directory, permissions, lock, and the renaming of old files."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from tradeproxy.journal.base import JournalError
from tradeproxy.journal.schema import Header, SchemaError, check_header

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES = ("", "-wal", "-shm", "-journal")
"""SQLite's files of one database. The database is first: the others are useless without it."""


class JournalFile:
    """The files of one account's journal: `<account>.sqlite3` and `<account>.lock`.

    bookmark.py has the third one, `<account>.bookmark`.

    Only the owner can read them. The lock ends with the process, even if that is killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def size(self) -> int:
        """The size of the database in bytes; 0 if there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def has_lost_database(self) -> bool:
        """Whether SQLite's other files are left, although the database is missing or empty."""
        return self.size == 0 and any(
            self.path.with_name(self.path.name + suffix).exists() for suffix in ("-wal", "-shm")
        )

    def acquire(self) -> None:
        """Lock the journal for this process. Raises JournalError if it cannot be used."""
        try:
            _make_directory(self.path.parent)
            lock = _open_private(_lock_path(self.path))
        except OSError as error:
            raise JournalError(f"{self.path}: {_describe_os_error(error)}") from None
        try:
            _lock_exclusively(lock, self.path)
            _check_header(self.path)
        except JournalError:
            os.close(lock)
            raise
        self._lock = lock

    def release(self) -> None:
        """Unlock the journal. Has no effect if it is not locked."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def create(self) -> None:
        """Make an empty database file if there is none. Raises OSError.

        SQLite gives its other files the same mode.
        """
        os.close(_open_private(self.path))

    def set_aside(self, suffix: str) -> str | None:
        """Rename the database, which must not be open, and its other files.

        Returns the new name of the first file, or None if there is none. Raises OSError.
        """
        # Fails if the directory is missing, as with an unmounted volume. The old file may return
        # with the directory; it must not be overlooked.
        self.path.parent.stat()
        found = None
        for file_suffix in _SUFFIXES:
            aside = f"{self.path.name}.{suffix}{file_suffix}"
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + file_suffix).rename(self.path.with_name(aside))
                found = found or aside
        return found


def check_journal(path: Path) -> str | None:
    """Return why no journal can be opened at `path`, as one line; None if it can.

    The line begins with the path. Nothing is changed, and no lock is kept. A later version's file
    can go undetected if that version was killed while it changed the tables: `acquire` or the
    opening of the store reports it.
    """
    try:
        _check_access(path)
        if _lock_path(path).exists():
            lock = os.open(_lock_path(path), os.O_RDWR | os.O_CLOEXEC)
            try:
                _lock_exclusively(lock, path)
            finally:
                os.close(lock)
        _check_header(path)
    except JournalError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {_describe_os_error(error)}"
    return None


def _check_access(path: Path) -> None:
    # The directory is not created here: twistd may still change its user, who must own it.
    ancestor = next(parent for parent in path.parents if parent.exists())
    if not ancestor.is_dir():
        raise NotADirectoryError(f"{ancestor} is not a directory")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise JournalError(f"{path}: the directory {ancestor} cannot be written to")
    if path.exists() and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        raise JournalError(f"{path}: it cannot be written to")


def _lock_exclusively(lock: int, path: Path) -> None:
    # flock, because SQLite's own locks are released between transactions. fcntl locks are lost
    # when the process closes any descriptor of the file.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalError(f"{path}: another tradeproxy uses it") from None


def _check_header(path: Path) -> None:
    # Before SQLite opens the file: even a reader writes to it if a write-ahead log is left over.
    try:
        with path.open("rb") as file:
            header = Header.parse(file.read(100))
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalError(f"{path}: {_describe_os_error(error)}") from None
    if header is not None:
        try:
            check_header(header)
        except SchemaError as error:
            raise JournalError(f"{path}: {error}") from None


def _make_directory(directory: Path) -> None:
    # Path.mkdir(parents=True) ignores `mode` for the parents that it creates.
    for each in (*reversed(directory.parents), directory):
        with suppress(FileExistsError):
            each.mkdir(mode=0o700)
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is not a directory")


def _lock_path(path: Path) -> Path:
    return path.with_suffix(".lock")


def _open_private(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    # A umask such as 0777 removes the owner's permissions too.
    os.fchmod(descriptor, 0o600)
    return descriptor


def _describe_os_error(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
