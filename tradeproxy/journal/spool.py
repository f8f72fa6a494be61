"""The spool: the newest rows of a journal, in a file of their own until the database has them.

A row in the database changes eight pages and takes twenty system calls. A row in the spool takes
one. So a few rows are written here first, and SQLite gets them later, many in one transaction:

    bytes   content
    ------  ---------------------------------------------------------------------------------
    8       MAGIC
            then for each row:
    4       the size of the body
    4       the CRC-32 of the epoch and the body
    size    the body: the Entry in MessagePack

`rewind` lets the next row replace the first one. What is left behind it has a lower number, another
epoch or a wrong checksum: the rows end there, as they do after a torn write.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

from msgspec import DecodeError
from msgspec.msgpack import Decoder, Encoder

from tradeproxy.journal.backlog import Entry
from tradeproxy.journal.watch import identify
from tradeproxy.wire.event import is_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAGIC = b"tpspool1"
"""Marks a file as ours."""

MAX_ROWS = 128
"""Rows after which the database must get them. To store as many takes it about 4 ms."""

MAX_SIZE = 1024 * 1024
"""Bytes after which the database must get the rows. More than that are not written together."""

HEAD = Struct("<II")
"""The head of a record: the size of its body, and the checksum."""

_MAX_FILE = len(MAGIC) + 2 * MAX_SIZE
_encode = Encoder().encode
_decode = Decoder(Entry).decode


class Spool:
    """The spool of one journal: `<account>.spool`. Methods may raise OSError."""

    def __init__(self, path: Path, *, full_sync: bool) -> None:
        """Open nothing yet. With `full_sync`, every write is synced to the disk."""
        self.path = path
        self._full_sync = full_sync
        self._file: int | None = None
        self._epoch = 0
        self._end = 0
        self._count = 0
        self.is_full = False
        """Whether the database must get the rows now."""

    @property
    def is_lost(self) -> bool:
        """Whether the open file is gone from its path, is another one there, or was cut off."""
        if self._file is None:
            return False
        held = os.fstat(self._file)
        return identify(self.path) != (held.st_dev, held.st_ino) or held.st_size < self._end

    def open(self, epoch: str) -> None:
        """Open the file for the rows of an epoch, or make it. What is in it is removed.

        Another program's file is refused, and one that another process writes to.
        """
        self.close()
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise FileExistsError(f"{self.path} is not a regular file")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            magic = os.pread(file, len(MAGIC), 0)
            if not magic.strip(b"\0"):  # zeros: a power cut may leave the size alone
                os.fchmod(file, 0o600)  # a umask such as 0777 removes the owner's permissions
                os.pwrite(file, MAGIC, 0)
                if self._full_sync:
                    _sync_directory(self.path.parent)
            elif magic != MAGIC:
                raise FileExistsError(f"{self.path} is another program's file")
            # The rows may follow others that are lost. The next ones then have lower numbers.
            os.ftruncate(file, len(MAGIC))
        except BaseException:
            os.close(file)
            raise
        self._file = file
        self._epoch = crc32(epoch.encode())
        self.rewind()

    def write(self, entries: Sequence[Entry]) -> bool:
        """Write rows behind those that are here. They are durable afterwards.

        Return False if they are too large, and write nothing.
        """
        assert self._file is not None
        records = b""
        for entry in entries:
            body = _encode(entry)
            records += HEAD.pack(len(body), crc32(body, self._epoch)) + body
        size = len(records)
        if size > MAX_SIZE:
            return False
        if os.pwrite(self._file, records, self._end) < size:
            raise OSError("a short write")
        if self._full_sync:
            _sync(self._file)
        self._end += size
        self._count += len(entries)
        self.is_full = self._count >= MAX_ROWS or self._end >= MAX_SIZE
        return True

    def rewind(self) -> None:
        """Let the next row replace the first one: the database has all of them."""
        self._end, self._count, self.is_full = len(MAGIC), 0, False

    def clear(self) -> None:
        """Remove all rows: the database has them."""
        if self._file is not None:
            self.rewind()
            os.ftruncate(self._file, self._end)

    def close(self) -> None:
        """Close the file. Has no effect if it is not open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _sync(file: int) -> None:
    if sys.platform == "darwin":
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)  # fsync does not flush the drive's own cache
    else:
        os.fdatasync(file)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def find_spool(database: Path) -> Path:
    """Return the path of the spool of a journal."""
    return database.with_suffix(".spool")


def read_spool(path: Path, epoch: str) -> list[Entry]:
    """Return the rows of an epoch, in order; none without a file. The database may have some.

    The file may be in use. Raises OSError.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE)
    except FileNotFoundError:
        return []
    rows: list[Entry] = []
    seed, at = crc32(epoch.encode()), len(MAGIC)
    if not data.startswith(MAGIC):
        return rows
    while at + HEAD.size <= len(data):
        size, checksum = HEAD.unpack_from(data, at)
        at += HEAD.size
        body = data[at : at + size]
        at += size
        if len(body) < size or crc32(body, seed) != checksum:
            break
        try:
            entry = _decode(body)
        except DecodeError:
            break
        if not _has_times(entry) or (rows and entry.seq != rows[-1].seq + 1):
            break
        rows.append(entry)
    return rows


def _has_times(entry: Entry) -> bool:
    """Whether every time is in the calendar: the database cannot store any number."""
    times = [entry.received, entry.max_time]
    if (event := entry.event) is not None:
        times += [event.time, None if event.order is None else event.order.time]
    return all(time is None or is_time(time) for time in times)
