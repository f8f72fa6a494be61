"""The files of an account's trade log. Everything here blocks: it is called in a thread.

A file may have more than the newest checkpoint says, if a crash or a full disk has interrupted the
writing. So before the first line is added to a file, its end is read:

    end of the file                         what happens
    --------------------------------------  ----------------------------------------
    lines behind the checkpoint             they are not written again
    a whole line without its line end       gets one
    a part of a line, or zeros              is cut off, and written again
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tradeproxy.journal.base import JournalError
from tradeproxy.journal.file import make_directory
from tradeproxy.journal.spool import sync_directory, sync_file
from tradeproxy.tradelog.checkpoints import Checkpoint, CheckpointFile, open_private
from tradeproxy.tradelog.lines import Line, LineFormat, read_cursor
from tradeproxy.wire.position import Cursor

MAX_TAIL = 8 * 1024 * 1024
"""Bytes at the end of a file that are read. A line has 2 MiB at most, as an event has one."""

MAX_LINES = 50_000
"""Lines at the end of a file that are read. A line of ours has over 200 bytes."""

BLOCK = 64 * 1024
"""Bytes of one read."""

MAX_SEARCHED = 8
"""Files whose ends are read if there is no checkpoint."""

MAX_ENDS = 32
"""Files of which it is known how they end."""


class _End(NamedTuple):
    """How a file ended when it was closed: if it still does, it need not be read."""

    device: int
    inode: int
    size: int


class DayFiles:
    """The files of one account, locked by this process. One call at a time."""

    def __init__(self, directory: Path, account: str, line_format: LineFormat) -> None:
        self.directory = directory
        self.checkpoints = CheckpointFile(directory / f"{account}.position")
        self._format = line_format
        # Only of files of which a checkpoint has everything.
        self._ends: dict[str, _End] = {}

    def open(self) -> None:
        """Make the folder if it is missing, check it, and lock the account's files.

        Raises OSError, or JournalError, whose text is a line for the user.
        """
        if not self.directory.is_dir():
            make_directory(self.directory)
        if self.directory.stat().st_mode & stat.S_IWOTH:
            raise JournalError(f"{self.directory}: everyone can write it; run chmod o-w on it")
        self.checkpoints.open()

    def find_newest(self, epoch: str) -> Cursor | None:
        """Return the newest cursor of an epoch at the ends of the newest files; None without one.

        This is for a folder without a checkpoint. Raises OSError or JournalError.
        """
        names = filter(self._format.pattern.fullmatch, os.listdir(self.directory))
        found: list[Cursor] = []
        for name in sorted(names, reverse=True)[:MAX_SEARCHED]:
            descriptor = open_private(self.directory / name, os.O_RDWR)
            try:
                tail = _read_tail(descriptor, os.fstat(descriptor).st_size, BLOCK)
            finally:
                os.close(descriptor)
            cursors = map(read_cursor, tail.split(b"\n"))
            found += [cursor for cursor in cursors if cursor is not None and cursor.epoch == epoch]
        return max(found, key=lambda cursor: cursor.seq, default=None)

    def write(self, lines: Sequence[Line], checkpoint: Checkpoint, after: Cursor) -> int:
        """Write the lines that the files do not have, have the disk take them, and a checkpoint.

        The lines are those from checkpoint `after` to `checkpoint`, in the order of the log. An
        error may leave some of them written. The same call again writes the others. Returns how
        many were written. Raises OSError or JournalError.
        """
        self.open()
        if not lines:
            # The checkpoint may be an older one, as the log has lost its end. Then the files have
            # lines behind it.
            self._ends.clear()
        files: dict[str, _DayFile] = {}
        try:
            written = self._append(files, lines, after)
            for file in files.values():
                sync_file(file.descriptor)
            if any(file.is_new for file in files.values()):
                sync_directory(self.directory)
            ends = {name: file.end for name, file in files.items()}
        finally:
            for file in files.values():
                file.close()
        self.checkpoints.write(checkpoint)
        self._ends |= ends
        while len(self._ends) > MAX_ENDS:
            del self._ends[next(iter(self._ends))]
        return written

    def _append(self, files: dict[str, _DayFile], lines: Sequence[Line], after: Cursor) -> int:
        written = 0
        for name, group in groupby(lines, key=lambda line: line.file):
            if (file := files.get(name)) is None:
                file = files[name] = _DayFile(self.directory / name, self._format.header)
                if file.end != self._ends.get(name):
                    file.repair(after)
            written += file.append(group)
        return written

    def close(self) -> None:
        """Unlock the files."""
        self.checkpoints.close()


class _DayFile:
    """One file that is open for appending."""

    def __init__(self, path: Path, header: bytes) -> None:
        self._path = path
        self._header = header
        self.descriptor = open_private(path, os.O_RDWR | os.O_APPEND)
        self.is_new = not self.end.size
        # The cursors of lines that are behind the checkpoint, and in the file already.
        self._known: set[str] = set()

    @property
    def end(self) -> _End:
        found = os.fstat(self.descriptor)
        return _End(found.st_dev, found.st_ino, found.st_size)

    def repair(self, after: Cursor) -> None:
        """Make the file end with a whole line, and find the lines behind a cursor."""
        size = self.end.size
        tail = self._read_behind(size, after)
        end = size - len(tail)
        *lines, torn = tail.split(b"\n")
        for line in lines:
            if b"\0" in line:  # a power cut can leave zeros, and whole lines after them
                break
            end += len(line) + 1
            if (cursor := read_cursor(line)) is not None:
                self._known.add(str(cursor))
        else:
            if b"\0" not in torn and (cursor := read_cursor(torn)) is not None:
                self._known.add(str(cursor))
                _write(self.descriptor, b"\n")
                return
        if end < size:
            os.ftruncate(self.descriptor, end)

    def _read_behind(self, size: int, after: Cursor) -> bytes:
        """Return what follows the last line that is not behind a cursor, or the whole file."""
        length = BLOCK
        while True:
            tail = _read_tail(self.descriptor, size, length)
            if tail.count(b"\n") > MAX_LINES:
                raise JournalError(f"{self._path}: no line in its last {len(tail)} bytes is ours")
            start = 0 if len(tail) == size else tail.find(b"\n") + 1
            lines = tail[start:].split(b"\n")[:-1]
            for number in range(len(lines) - 1, -1, -1):
                cursor = read_cursor(lines[number])
                if cursor is not None and not _is_behind(cursor, after):
                    return tail[start + sum(len(line) + 1 for line in lines[: number + 1]) :]
            if len(tail) == size:
                return tail
            if length >= MAX_TAIL:
                raise JournalError(f"{self._path}: no line in its last {MAX_TAIL} bytes is ours")
            length *= 2

    def append(self, lines: Iterable[Line]) -> int:
        """Write the lines that the file does not have, and return their number."""
        new = [line.text for line in lines if line.cursor not in self._known]
        size = self.end.size
        if new and not size:
            new.insert(0, self._header)
        try:
            _write(self.descriptor, b"".join(new))
        except OSError:
            with suppress(OSError):
                os.ftruncate(self.descriptor, size)  # a reader would see half a line
            raise
        return len(new) - (not size and bool(new))

    def close(self) -> None:
        with suppress(OSError):  # a network file system; what matters is synced
            os.close(self.descriptor)


def _is_behind(cursor: Cursor, after: Cursor) -> bool:
    return cursor.epoch == after.epoch and cursor.seq > after.seq


def _read_tail(descriptor: int, size: int, length: int) -> bytes:
    start = max(size - length, 0)
    return os.pread(descriptor, size - start, start)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
