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

`restart` lets the next row replace the first one. What is left behind it has a lower number,
another epoch or a wrong checksum: the rows end there, as they do after a torn write.
"""

from __future__ import annotations

import fcntl
import os
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from struct import Struct
from zlib import crc32

from msgspec import DecodeError
from msgspec.msgpack import Decoder, Encoder

from tradeproxy.journal.backlog import Entry
from tradeproxy.journal.watch import identify
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.wire.event import is_time

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
    """The spool of one account. While it is closed, the store gets every row at once.

        state   event                                            next state
        ------  -----------------------------------------------  -----------------------------
        closed  `restart`: the store has every row               open
        closed  the same, and the file cannot be made            closed; a warning
        open    `restart`                                        open, from the beginning
        open    a write fails                                    closed
        open    `close`: the file is lost, or a new epoch began  closed

    The spool of a journal in memory is always closed. No method but `read` raises an error.
    """

    def __init__(
        self,
        name: str,
        path: Path | None,
        epoch: Callable[[], str],
        max_rows: int,
        *,
        full_sync: bool,
    ) -> None:
        """Open nothing yet.

        Args:
            name: the account, for the log.
            path: the file, `<account>.spool`; None for a journal in memory.
            epoch: returns the epoch of the next rows.
            max_rows: the largest number of rows that are written together.
            full_sync: whether every write is synced to the disk.
        """
        self._log = AccountLogger(self, name)
        self._path = path
        self._epoch = epoch
        self._max_rows = max_rows
        self._full_sync = full_sync
        self._file: int | None = None
        self._seed = self._end = self._count = 0
        self._problem = ""
        self.is_full = False
        """Whether the store must get the rows now."""

    @property
    def is_lost(self) -> bool:
        """Whether the open file is gone from its path, is another one there, or was cut off."""
        if self._file is None or self._path is None:
            return False
        try:
            held, found = os.fstat(self._file), identify(self._path)
        except OSError:
            return False  # the directory cannot be read at the moment
        return found != (held.st_dev, held.st_ino) or held.st_size < self._end

    def read(self, epoch: str, last: int) -> list[Entry]:
        """Return the rows of an epoch that follow number `last`. Raises OSError."""
        rows = [] if self._path is None else read_spool(self._path, epoch)
        return [row for row in rows if row.seq > last]

    def write(self, entries: Sequence[Entry]) -> bool:
        """Write the next rows, unless they are many or large; return whether they are durable."""
        if self._file is None or len(entries) > self._max_rows:
            return False
        records = b""
        for entry in entries:
            body = _encode(entry)
            records += HEAD.pack(len(body), crc32(body, self._seed)) + body
        size = len(records)
        if size > MAX_SIZE:
            return False
        try:
            is_written = os.pwrite(self._file, records, self._end) == size
            if is_written and self._full_sync:
                sync_file(self._file)
        except OSError:
            is_written = False
        if not is_written:
            self.close()
            return False
        self._end += size
        self._count += len(entries)
        self.is_full = self._count >= MAX_ROWS or self._end >= MAX_SIZE
        return True

    def restart(self) -> None:
        """Let the next row replace the first one: the store has all of them."""
        if self._path is not None and (self._file is None or self.is_lost):
            self.close()
            try:
                self._file = _open_spool(self._path, full_sync=self._full_sync)
            except OSError as error:
                if str(error) != self._problem:
                    self._problem = str(error)
                    self._log.warn(
                        "every event is committed by itself: {problem}", problem=self._problem
                    )
            self._seed = crc32(self._epoch().encode())
        self._end, self._count, self.is_full = len(MAGIC), 0, False

    def close(self, *, must_clear: bool = False) -> None:
        """Close the file, if it is open. With `must_clear`, remove all rows: the store has them."""
        self.is_full = False
        if self._file is not None:
            if must_clear:
                with suppress(OSError):
                    os.ftruncate(self._file, len(MAGIC))
            os.close(self._file)
            self._file = None


def _open_spool(path: Path, *, full_sync: bool) -> int:
    """Open the file, or make it. What is in it is removed. Raises OSError.

    Another program's file is refused, and one that another process writes to.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileExistsError(f"{path} is not a regular file")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        magic = os.pread(file, len(MAGIC), 0)
        if not magic.strip(b"\0"):  # zeros: a power cut may leave the size alone
            os.fchmod(file, 0o600)  # a umask such as 0777 removes the owner's permissions
            os.pwrite(file, MAGIC, 0)
            if full_sync:
                sync_directory(path.parent)
        elif magic != MAGIC:
            raise FileExistsError(f"{path} is another program's file")
        # The rows may follow others that are lost. The next ones then have lower numbers.
        os.ftruncate(file, len(MAGIC))
    except BaseException:
        os.close(file)
        raise
    return file


def sync_file(file: int) -> None:
    """Have the disk take all that was written to a file. Raises OSError."""
    if sys.platform == "darwin":
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)  # fsync does not flush the drive's own cache
    else:
        os.fdatasync(file)


def sync_directory(path: Path) -> None:
    """Have the disk take the names of the files in a directory. Raises OSError."""
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
