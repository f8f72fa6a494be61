"""Text for a terminal: escaped, so that it cannot control the terminal, and fitted to columns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TextIO
from unicodedata import combining, east_asian_width

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer


class Style(Enum):
    """A text style. The value is the parameter of the control sequence SGR (ECMA-48)."""

    PLAIN = ""
    BOLD = "1"
    DIM = "2"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    CYAN = "36"


def width(text: str) -> int:
    """Return how many terminal cells a printable text takes.

    A wide East Asian character takes two cells, a combining character none.
    """
    return sum(
        0 if combining(character) else 2 if east_asian_width(character) in "WF" else 1
        for character in text
    )


def cut(printable: str, cells: int) -> str:
    """Cut a printable text to at most `cells` terminal cells. A cut text ends with "…"."""
    if width(printable) <= cells:
        return printable
    kept = ""
    for character in printable:
        if width(kept) + width(character) > cells - 1:
            break
        kept += character
    return f"{kept}…" if cells > 0 else ""


def has_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether to use colour.

    It is used on a terminal, unless NO_COLOR is set (no-color.org) or TERM is `dumb`.
    """
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def paint(text: str, style: Style, colour: bool) -> str:
    """Apply a style to a text if `colour` is true."""
    return f"\x1b[{style.value}m{text}\x1b[m" if colour and style.value else text


def exit_on_broken_pipe() -> SystemExit:
    """Prepare an exit without an error message, and return it.

    Use it when the reader of standard output has closed the pipe, as in `… | head`.
    """
    # Python flushes standard output at exit, and would report the closed pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SystemExit(0)


@implementer(IReadDescriptor)
class PipeWatch:
    """Calls `on_close` when the reader of a pipe closes it.

    A write also reports that, but the next write can be hours away.
    """

    def __init__(self, descriptor: int, on_close: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._on_close = on_close

    def fileno(self) -> int:
        """Return the descriptor for the reactor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Return the name in the log."""
        return "stdout"

    def doRead(self) -> Failure:
        """Report the close: the write end of a pipe becomes readable only then."""
        return connectionDone

    def connectionLost(self, reason: Failure) -> None:
        """Call `on_close`."""
        self._on_close()
