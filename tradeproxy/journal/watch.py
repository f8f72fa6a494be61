"""Whether the files that a journal has open are still the ones at their paths.

A file that was removed or renamed stays open: SQLite goes on writing to it, and all of that is gone
when the process ends. Device and inode number tell. While a file is open, no other gets its number.
"""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = ("", "-wal", "-shm", "-journal")
"""SQLite's files of one database. The database is first: the others are useless without it."""

_WATCHED = SUFFIXES[:3]
"""A rollback journal exists only while the tables of a new file are made."""


class FileWatch:
    """The files of one database, as they were when it was opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[Path, tuple[int, int]] = {}

    def forget(self) -> None:
        """Record that no database is open."""
        self._known = {}

    def remember(self) -> None:
        """Record the files of the database that has just been opened. Raises OSError."""
        found = {path: identify(path) for path in map(self.path, _WATCHED)}
        self._known = {path: each for path, each in found.items() if each is not None}

    def find_lost(self) -> Path | None:
        """Return the first file that is gone, or is another one now; None if all are in place.

        Raises OSError if the directory cannot be read.
        """
        for path, known in self._known.items():
            if identify(path) != known:
                return path
        return None

    def is_foreign(self, suffix: str) -> bool:
        """Whether the file is not the one that was open. False if none was."""
        path = self.path(suffix)
        return bool(self._known) and identify(path) != self._known.get(path)

    def path(self, suffix: str) -> Path:
        """Return the path of one of the files."""
        return self._path.with_name(self._path.name + suffix)


def identify(path: Path) -> tuple[int, int] | None:
    """Return what distinguishes a file from all others of the machine; None if there is none.

    Raises OSError if the directory cannot be read.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
