"""Text files: `.env`, and those that hold a secret."""

from __future__ import annotations

import os
from errno import EFBIG
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

MAX_SIZE = 1024 * 1024
"""Characters of a file. It usually has a few hundred, but a link to a device has no end."""


def read_text(file: TextIO) -> str:
    """Return the text of a file. Raises OSError if it is too large, ValueError if it is no text."""
    text = file.read(MAX_SIZE + 1)
    if len(text) > MAX_SIZE:
        raise OSError(EFBIG, os.strerror(EFBIG))
    return text
