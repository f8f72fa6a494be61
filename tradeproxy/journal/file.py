"""The files of a journal: directory, permissions, lock, and the renaming of old files."""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from errno import ENOSPC
from pathlib import Path
from tempfile import TemporaryFile

from tradeproxy.journal.access import check_access
from tradeproxy.journal.base import JournalError
from tradeproxy.journal.schema import Header, SchemaError, check_header
from tradeproxy.journal.watch import SUFFIXES, FileWatch, identify

NEEDED = 256 * 1024
"""Bytes that must be free for a first start. The empty tables and SQLite's other files have 140."""

_MODE = 0o600
"""Only the owner can read the files: trading history is private."""


class LockedError(JournalError):
    """Another process has the journal."""


class JournalFile:
    """The files of one account's journal: `<account>.sqlite3` and `<account>.lock`.

    bookmark.py has the third one, `<account>.bookmark`.

    Only the owner can read them. The lock ends with the process, even if that is killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.watch = FileWatch(path)
        self._lock_path = _lock_path(path)
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
            self.watch.path(suffix).exists() for suffix in ("-wal", "-shm")
        )

    def find_lost(self) -> Path | None:
        """Return the first file of the open database that is gone, or is another one now.

        A lock file that is gone is made again: a lock on a file without a name protects nothing.
        If another process has the new one, the database is lost. Raises OSError if the directory
        cannot be read.
        """
        lost = self.watch.find_lost()
        if not self.has_lock():
            try:
                self.lock()
            except LockedError:
                return self.path
            except JournalError:
                pass  # the database is in place; the next look tries again
        return lost

    def has_lock(self) -> bool:
        """Whether this process has the lock file that is at the path."""
        if self._lock is None:
            return False
        held = os.fstat(self._lock)
        return identify(self._lock_path) == (held.st_dev, held.st_ino)

    def acquire(self) -> None:
        """Lock the journal for this process. Raises JournalError if it cannot be used."""
        self.lock()
        try:
            _check_header(self.path)
        except JournalError:
            self.release()
            raise

    def lock(self) -> None:
        """Make the directory if it is missing, and lock the journal, unless it is locked already.

        Raises JournalError.
        """
        try:
            if self.has_lock():
                return
            self.release()
            make_directory(self.path.parent)
            check_access(self.path)
            lock = _open_private(self._lock_path)
        except OSError as error:
            raise JournalError(f"{self.path}: {describe_os_error(error, self.path)}") from None
        try:
            _lock_exclusively(lock, self.path)
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

    def set_aside(self, why: str, epoch: str) -> list[str]:
        """Rename the database, which must not be open, and its other files.

        Returns the new names. `why` and `epoch` become part of them. Files with which another
        program has replaced the open ones have `foreign` instead of `why`. Raises OSError or
        JournalError.
        """
        # Fails if the directory is missing, as with an unmounted volume. The old file may return
        # with the directory; it must not be overlooked.
        self.path.parent.stat()
        self.lock()  # another process may use the file that is there now
        foreign = self.set_aside_foreign(epoch)
        return foreign + self._rename(SUFFIXES, f"{self.path.name}.{why}-{epoch}")

    def set_aside_foreign(self, epoch: str) -> list[str]:
        """Rename the files with which another program has replaced the open ones."""
        foreign = [suffix for suffix in SUFFIXES if self.watch.is_foreign(suffix)]
        return self._rename(foreign, f"{self.path.name}.foreign-{epoch}")

    def _rename(self, suffixes: Sequence[str], name: str) -> list[str]:
        used = {each.name for each in self.path.parent.iterdir()}
        numbered = (name if count == 1 else f"{name}.{count}" for count in itertools.count(1))
        name = next(each for each in numbered if not used & {each + end for end in SUFFIXES})
        renamed = []
        for suffix in suffixes:
            with suppress(FileNotFoundError):
                self.watch.path(suffix).rename(self.path.with_name(name + suffix))
                renamed.append(name + suffix)
        return renamed


def check_journal(path: Path) -> str | None:
    """Return why no journal can be opened at `path`, as one line; None if it can.

    The line begins with the path. For a first start, there must be room for the empty tables.
    Nothing is changed, and no lock is kept. A later version's file
    can go undetected if that version was killed while it changed the tables: `acquire` or the
    opening of the store reports it.
    """
    try:
        _check_permissions(path)
        check_access(path)
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
        return f"{path}: {describe_os_error(error, path)}"
    return None


def _check_permissions(path: Path) -> None:
    # The directory is not created here: twistd may still change its user, who must own it.
    ancestor = next(parent for parent in path.parents if parent.exists())
    if not ancestor.is_dir():
        raise NotADirectoryError(f"{ancestor} is not a directory")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise JournalError(f"{path}: the directory {ancestor} cannot be written to")
    if path.exists() and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        raise JournalError(f"{path}: it cannot be written to")
    is_first = not path.exists() or path.stat().st_size == 0
    if is_first and (problem := find_problem(ancestor / path.name)) is not None:
        raise problem


def _lock_exclusively(lock: int, path: Path) -> None:
    # flock, because SQLite's own locks are released between transactions. fcntl locks are lost
    # when the process closes any descriptor of the file.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LockedError(f"{path}: another tradeproxy uses it") from None


def read_header(path: Path) -> Header | None:
    """Return the header of a journal; None if there is none yet. Raises OSError."""
    try:
        with path.open("rb") as file:
            return Header.parse(file.read(100))
    except FileNotFoundError:
        return None


def _check_header(path: Path) -> None:
    # Before SQLite opens the file: even a reader writes to it if a write-ahead log is left over.
    try:
        header = read_header(path)
    except OSError as error:
        raise JournalError(f"{path}: {describe_os_error(error, path)}") from None
    if header is not None:
        try:
            check_header(header)
        except SchemaError as error:
            raise JournalError(f"{path}: {error}") from None


def make_directory(directory: Path) -> None:
    """Make a directory, and those above it, for their owner only. Raises OSError."""
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
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    # A umask such as 0777 removes the owner's permissions too.
    os.fchmod(descriptor, _MODE)
    return descriptor


def find_problem(path: Path, size: int = NEEDED) -> OSError | None:
    """Return why no file of `size` bytes can be made beside `path`; None if one can.

    SQLite does not report the error of the operating system. The file has no name, if possible.
    """
    try:
        with TemporaryFile(dir=path.parent) as file:
            file.write(bytes(size))
    except OSError as error:
        return OSError(error.errno, error.strerror, str(path.parent))
    return None


def describe_os_error(error: OSError, path: Path) -> str:
    """Return what is wrong, as a short phrase with the file that the error names.

    `path` is on the disk of which the error tells.
    """
    if error.strerror is None:
        return str(error)
    if error.errno == ENOSPC:
        return "disk full, no inode is free" if _has_no_inodes(path) else "disk full"
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def _has_no_inodes(path: Path) -> bool:
    with suppress(OSError, StopIteration):
        found = os.statvfs(next(each for each in path.parents if each.exists()))
        return found.f_files > 0 and found.f_favail == 0  # some file systems do not count them
    return False
