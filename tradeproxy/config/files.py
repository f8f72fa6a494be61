"""Text files: `.env`, and those that hold a secret."""

from __future__ import annotations

import os
import stat
from errno import EFBIG, ESPIPE
from pathlib import Path
from typing import TextIO

MAX_SIZE = 1024 * 1024
"""Characters of a file. It usually has a few hundred, but a link to a device has no end."""


def open_text(path: Path, *, reads_pipes: bool = True) -> TextIO:
    """Open a file. Raises OSError; also for a pipe, which blocks, unless `reads_pipes` is true."""

    def open_regular(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_NONBLOCK)  # regular files ignore this flag
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(ESPIPE, "it is a pipe, which is read at the start only")
        return descriptor

    opener = None if reads_pipes else open_regular
    return open(path, encoding="utf-8-sig", opener=opener)


def read_text(file: TextIO) -> str:
    """Return the text of a file. Raises OSError if it is too large, ValueError if it is no text."""
    text = file.read(MAX_SIZE + 1)
    if len(text) > MAX_SIZE:
        raise OSError(EFBIG, os.strerror(EFBIG))
    return text
