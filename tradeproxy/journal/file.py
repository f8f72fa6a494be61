"""Where a journal lies: its directory, its lock, and the names of journals that were set aside."""

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
"""SQLite's files of one database, the database itself first: without it, the others mean nothing."""


class JournalFile:
    """The files of one account's journal: `<account>.sqlite3`, and `<account>.lock` beside it.

    Only the owner may read them. The lock lasts as long as the process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the database; 0 if there is none."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def acquire(self) -> None:
        """Take the journal for this process; raises JournalError where it cannot be used."""
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
        """Let another process have the journal; harmless if it was not acquired."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def create(self) -> None:
        """Make an empty file if there is none. SQLite gives its other files the same mode. Raises OSError."""
        os.close(_open_private(self.path))

    def set_aside(self, suffix: str) -> str:
        """Rename the database, which must not be open, and return its new name. Raises OSError."""
        self.path.parent.stat()  # a directory that is gone may come back, and the old file with it
        aside = f"{self.path.name}.{suffix}"
        for ending in _SUFFIXES:
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + ending).rename(
                    self.path.with_name(aside + ending)
                )
        return aside


def check_journal(path: Path) -> str | None:
    """Say in one line that begins with `path` why a journal could not be opened there; None if it could.

    Nothing is changed or kept. A later version's file is
    not recognised if that version was killed just when it had changed the tables: opening finds out.
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
    # The directory is made by whom it is to belong to: twistd may still be about to change its user.
    place = next(parent for parent in path.parents if parent.exists())
    if not place.is_dir():
        raise NotADirectoryError(f"{place} is not a directory")
    if not os.access(place, os.W_OK | os.X_OK):
        raise JournalError(f"{path}: the directory {place} cannot be written to")
    if path.exists() and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        raise JournalError(f"{path}: it cannot be written to")


def _lock_exclusively(lock: int, path: Path) -> None:
    # flock, not SQLite's own locks: those are free between transactions, and fcntl's are lost when the
    # process closes any descriptor of the file.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise JournalError(f"{path}: another tradeproxy uses it") from None


def _check_header(path: Path) -> None:
    # Before SQLite opens it: even a reader may write, if a write-ahead log is left to be carried over.
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
    # Path.mkdir would give the parents that it makes the usual mode.
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
    os.fchmod(descriptor, 0o600)  # a umask may have taken the owner's own right
    return descriptor


def _describe_os_error(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
