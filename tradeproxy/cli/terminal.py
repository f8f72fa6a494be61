"""Text for a terminal: nothing in it can steer the terminal, and it keeps to its column."""

from __future__ import annotations

import os
import re
import sys
from enum import Enum
from typing import TYPE_CHECKING, TextIO
from unicodedata import combining, east_asian_width

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import connectionDone
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.python.failure import Failure

_UNPRINTABLE = re.compile(r"[^ -~]")


class Style(Enum):
    """How text is set off; the value is what SGR, the control sequence, calls it."""

    PLAIN = ""
    BOLD = "1"
    DIM = "2"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    CYAN = "36"


def escape_unprintable(text: str) -> str:
    """Return the text with every character that is not shown as itself escaped as JSON does.

    Control characters, those that turn the direction of writing, and lone surrogates are among them.
    Applied to JSON it is JSON still, with the same content.
    """
    return _UNPRINTABLE.sub(
        lambda match: match[0] if match[0].isprintable() else _escaped(match[0]), text
    )


def width(text: str) -> int:
    """Return how many cells of a terminal a visible text takes."""
    return sum(
        0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text
    )


def fit(text: str, cells: int, *, right: bool = False) -> str:
    """Return the text made visible, in exactly so many cells: filled up, or cut and marked as cut."""
    shown = escape_unprintable(text)
    if width(shown) > cells:
        shown = cut(shown, cells)
    blanks = " " * (cells - width(shown))
    return blanks + shown if right else shown + blanks


def cut(shown: str, cells: int) -> str:
    """Return as much of a visible text as so many cells hold, the last of which says if there was more."""
    if width(shown) <= cells:
        return shown
    taken = ""
    for each in shown:
        if width(taken) + width(each) > cells - 1:
            break
        taken += each
    return f"{taken}…" if cells > 0 else ""


def has_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to use colour: on a terminal that knows it, unless NO_COLOR (no-color.org) says no."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def paint(text: str, style: Style, colour: bool) -> str:
    """Set a text off, where there is colour."""
    return f"\x1b[{style.value}m{text}\x1b[m" if colour and style.value else text


def exit_on_broken_pipe() -> SystemExit:
    """Return the quiet end of a program whose reader has gone, as that of `… | head` does."""
    # Python flushes once more at its end, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SystemExit(0)


@implementer(IReadDescriptor)
class PipeWatch:
    """Tells when the reader of a pipe has gone, which else would show with the next event only."""

    def __init__(self, descriptor: int, gone: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._gone = gone

    def fileno(self) -> int:
        """Return what the reactor watches."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Return a name for the log."""
        return "stdout"

    def doRead(self) -> Failure:
        """Say that it is over: the end that one writes to can be read from only then."""
        return connectionDone

    def connectionLost(self, reason: Failure) -> None:
        """Tell it."""
        self._gone()


def _escaped(character: str) -> str:
    code = ord(character)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
