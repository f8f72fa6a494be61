"""Server-sent events, read as they come in (WHATWG HTML, 9.2.6 "Interpreting an event stream").

Lines may end in LF or CRLF; the lone CR that the standard allows too is not read, as nobody writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_EVENT_SIZE = 1024 * 1024
"""Bytes of one line, and of the data of one event; a trade update has a few thousand."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseData:
    """The data of one event: its lines."""

    lines: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SseComment:
    """A comment, without its colon and the blank behind it."""

    text: bytes


@dataclass(frozen=True, slots=True)
class SseOversized:
    """An event or a comment larger than LARGEST_EVENT was here."""


SseItem: TypeAlias = SseData | SseComment | SseOversized


class SseParser:
    """Takes a response's body in pieces of any size and yields what is complete; holds a bounded amount."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_first_line = True
        self._lines: list[bytes] = []
        self._size = 0
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[SseItem]:
        """Yield what the chunk completes. The iterator has to be exhausted before the next call."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield from self._line(line.removesuffix(b"\r"))
        if len(self._rest) > MAX_EVENT_SIZE:
            self._rest = b""
            self._skipping = True
            self._size = MAX_EVENT_SIZE + 1

    def end(self) -> Iterator[SseItem]:
        """Yield the event that the end completes, where the body ended as it should but without a blank line.

        The standard discards it; Alpaca's own Go client reads single lines, so such an end may be meant.
        """
        if self._rest:
            yield from self._line(self._rest.removesuffix(b"\r"))
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[SseItem]:
        if self._skipping:  # this is the end of a line of which the beginning was too long already
            self._skipping = False
            return
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            yield from self._dispatch()
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not field and line.startswith(b":"):
            yield SseComment(value)
        elif field == b"data":
            self._size += len(value)
            if self._size <= MAX_EVENT_SIZE:
                self._lines.append(value)

    def _dispatch(self) -> Iterator[SseItem]:
        lines, self._lines = tuple(self._lines), []
        size, self._size = self._size, 0
        if size > MAX_EVENT_SIZE:
            yield SseOversized()
        elif lines:
            yield SseData(lines)
