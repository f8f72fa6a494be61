"""Who else can write the files of a journal: clients and the recovery rely on their content."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from tradeproxy.journal.base import JournalError
from tradeproxy.journal.watch import SUFFIXES

OWN_SUFFIXES = (".lock", ".bookmark", ".spool")
"""The files beside the database that take the place of its suffix."""


def check_access(path: Path) -> None:
    """Raise JournalError if everyone can change the database at `path` or a file of it, or OSError.

    That is a file with write permission for everyone, or a directory without the sticky bit. In
    a directory with it, everyone can make files: those of another user are refused. A FIFO, device,
    socket or directory in a file's place is refused too. What is missing is fine.
    """
    directory = path.parent
    mode = _read_mode(directory)
    is_shared = bool(mode & stat.S_IWOTH)
    if is_shared and not mode & stat.S_ISVTX:
        raise JournalError(
            f"{path}: everyone can replace it: run chmod o-w on {directory},"
            " or choose a directory in it"
        )
    for each in _list_paths(path):
        mode = _read_mode(each)
        if mode and not stat.S_ISREG(mode):
            raise JournalError(f"{path}: {each} is not a regular file")  # a FIFO blocks its reader
        if mode & stat.S_IWOTH:
            raise JournalError(f"{path}: everyone can write {each}; run chmod 600 on it")
        if is_shared and (owner := _find_other_owner(each)) is not None:
            raise JournalError(
                f"{path}: another user (uid {owner}) owns {each}, and everyone can make files there"
            )


def find_access_warnings(path: Path) -> list[str]:
    """Return a line for the directory and for each file of a journal that its group can write."""
    with suppress(OSError):  # the opening reports it
        modes = {each: _read_mode(each) for each in (path.parent, *_list_paths(path))}
        if modes[path.parent] & stat.S_ISVTX:
            del modes[path.parent]  # members of the group cannot replace files there
        writable = (each for each, mode in modes.items() if mode & stat.S_IWGRP)
        return [f"{each}: its group can write it; run chmod g-w on it" for each in writable]
    return []


def _list_paths(path: Path) -> list[Path]:
    return [
        *(path.with_name(path.name + suffix) for suffix in SUFFIXES),
        *(path.with_suffix(suffix) for suffix in OWN_SUFFIXES),
    ]


def _read_mode(path: Path) -> int:
    """Return the mode of a file or of the target of a link; 0 if there is none."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0


def _find_other_owner(path: Path) -> int | None:
    """Return the owner of a file or a link; None if that is this user or root, or without one."""
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:
        return None
    return None if owner in (0, os.geteuid()) else owner
