"""How far the files of the trade log are complete: a small file beside them, with a lock.

The file is a ring of lines of equal length, each a checkpoint: its number, the cursor up to which
everything is in the files and on the disk, the time of that row, and a checksum. A write replaces
the oldest line in its place. So it needs no room on a full disk, and a power cut in the middle of
a write leaves the others.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG, S_IWOTH
from zlib import crc32

from tradeproxy.journal.base import JournalError
from tradeproxy.journal.spool import sync_file
from tradeproxy.wire.event import is_time
from tradeproxy.wire.position import Cursor

SLOTS = 64
"""Checkpoints that are kept, one a second at most. Older ones help if the log has lost its end."""

SLOT_SIZE = 192
"""Bytes of one line, its end included. The longest cursor has 109."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files have every row up to the cursor."""

    cursor: Cursor
    time: int
    """The time of that row's event: a following event without a time is filed under it."""


class CheckpointFile:
    """`<account>.position`, locked by this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.newest_first: list[Checkpoint] = []
        """What the file has."""
        self._descriptor: int | None = None
        self._number = 0

    def open(self) -> None:
        """Create the file if it is missing, lock and read it; again if it has been replaced.

        Raises OSError, or JournalError, whose text is a line for the user.
        """
        if self._descriptor is not None and self._is_in_place(self._descriptor):
            return
        self.close()
        descriptor = open_private(self.path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._load(os.pread(descriptor, SLOTS * SLOT_SIZE, 0))
            if (size := os.fstat(descriptor).st_size) < SLOTS * SLOT_SIZE:
                blank = (b" " * (SLOT_SIZE - 1) + b"\n") * SLOTS
                os.pwrite(descriptor, blank[size:], size)
        except BlockingIOError:
            os.close(descriptor)
            raise JournalError(f"{self.path}: another tradeproxy uses it") from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint to the disk. Raises OSError."""
        assert self._descriptor is not None
        number = self._number + 1
        text = f"{number} {checkpoint.cursor} {checkpoint.time}"
        line = f"{text} {crc32(text.encode()):08x}".ljust(SLOT_SIZE - 1) + "\n"
        os.pwrite(self._descriptor, line.encode(), number % SLOTS * SLOT_SIZE)
        sync_file(self._descriptor)
        self._number = number
        self.newest_first = [checkpoint, *self.newest_first][:SLOTS]

    def close(self) -> None:
        """Unlock and close the file. Has no effect if it is not open."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):  # as in DayFiles: what matters is synced
                os.close(descriptor)

    def _is_in_place(self, descriptor: int) -> bool:
        held = os.fstat(descriptor)
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return False
        return (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino)

    def _load(self, content: bytes) -> None:
        starts = range(0, len(content), SLOT_SIZE)
        found = list(filter(None, (_parse(content[at : at + SLOT_SIZE]) for at in starts)))
        found.sort(key=lambda each: each[0], reverse=True)
        self._number = found[0][0] if found else 0
        self.newest_first = [checkpoint for _, checkpoint in found]


def open_private(path: Path, flags: int) -> int:
    """Open or create a file that only its owner can read, and return its descriptor.

    Raises OSError, also for a link, and JournalError for what is no regular file or can be written
    by everyone.
    """
    # O_NONBLOCK: to open a FIFO for writing would block.
    flags |= os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    found = os.fstat(descriptor)
    if not S_ISREG(found.st_mode) or found.st_mode & S_IWOTH:
        os.close(descriptor)
        reason = "everyone can write it" if S_ISREG(found.st_mode) else "it is no regular file"
        raise JournalError(f"{path}: {reason}")
    return descriptor


def _parse(line: bytes) -> tuple[int, Checkpoint] | None:
    try:
        text, _, check = line.decode("ascii").rstrip().rpartition(" ")
        number, cursor, time = text.split(" ")
        position = Cursor.parse(cursor)
        is_whole = int(check, 16) == crc32(text.encode())
        if position is None or not is_whole or not is_time(int(time)):
            return None
        return int(number), Checkpoint(position, int(time))
    except ValueError:
        return None
