"""Text files: `.env`, and those that hold a secret. Whether others can set their content.

A .env of another user could name the server that the keys of the environment are sent to.
"""

from __future__ import annotations

import os
import stat
from errno import EFBIG, ESPIPE
from pathlib import Path
from typing import TextIO

MAX_SIZE = 1024 * 1024
"""Characters of a file. It usually has a few hundred, but a link to a device has no end."""


def open_text(path: Path, *, is_running: bool = False) -> TextIO:
    """Open a file. Raises OSError; if the process `is_running`, for a pipe too: it blocks."""

    def open_regular(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_NONBLOCK)  # regular files ignore this flag
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(ESPIPE, "it is a pipe, which is read at the start only")
        return descriptor

    opener = open_regular if is_running else None
    return open(path, encoding="utf-8-sig", opener=opener)


def read_text(file: TextIO) -> str:
    """Return the text of a file. Raises OSError if it is too large, ValueError if it is no text."""
    text = file.read(MAX_SIZE + 1)
    if len(text) > MAX_SIZE:
        raise OSError(EFBIG, os.strerror(EFBIG))
    return text


def find_distrust(path: Path) -> str | None:
    """Return who else can set the content of a file, as a clause; None if only the user and root.

    For a link, its owner and its target count, and both directories. Started as root, as with
    sudo, the process trusts the owner of the file's directory too. Raises OSError.
    """
    users = {0, os.geteuid()}
    if os.geteuid() == 0:
        users.add(path.parent.stat().st_uid)
    found = path.stat()
    for owner in (path.lstat().st_uid, found.st_uid):
        if owner not in users:
            return f"another user (uid {owner}) owns it"
    if is_writable_by_everyone(found):
        return "everyone can write it"
    # In a directory with the sticky bit, only its owner can replace a file.
    directories = {path.parent, path.resolve().parent}
    if any(
        each.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH for each in directories
    ):
        return "everyone can replace it in its directory"
    return None


def is_writable_by_everyone(found: os.stat_result) -> bool:
    """Whether every user can change the content. What is written to /dev/null is gone."""
    return bool(found.st_mode & stat.S_IWOTH) and not stat.S_ISCHR(found.st_mode)


def find_weakness(path: Path) -> str | None:
    """Return why a file that the user has named needs a warning, as a clause; None if it is fine.

    Raises OSError.
    """
    distrust = find_distrust(path)
    if distrust is None and path.stat().st_mode & stat.S_IWGRP:
        return "its group can write it"
    return distrust
