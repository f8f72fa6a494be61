"""An incremental parser of server-sent events (WHATWG HTML, 9.2.6).

Lines end in LF or CRLF. The standard also allows a lone CR; no known server sends it, so it is not
a line end here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

MAX_EVENT_SIZE = 1024 * 1024
"""Bytes of one line, and of the data of one event. A trade update has a few thousand."""

MAX_EVENT_LINES = 1000
"""Data lines of one event. A trade update has one; empty lines have no bytes to count."""

_FIELD = re.compile(rb"[A-Za-z][A-Za-z0-9_-]*")
"""A field's name. The standard allows any, and unknown ones are ignored."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseData:
    """The data lines of one event."""

    lines: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SseComment:
    """A comment, without its colon and the space after it."""

    text: bytes


@dataclass(frozen=True, slots=True)
class SseOversized:
    """An event or a line over MAX_EVENT_SIZE or MAX_EVENT_LINES was skipped here."""


@dataclass(frozen=True, slots=True)
class SseForeign:
    """A line that no event stream has, such as one of JSON or HTML: a gateway's error."""


SseItem: TypeAlias = SseData | SseComment | SseOversized | SseForeign


class SseParser:
    """Takes a response's body in chunks of any size and yields complete items.

    It stores at most MAX_EVENT_SIZE bytes of a line and as many of an event.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._is_first_line = True
        self._lines: list[bytes] = []
        self._size = 0
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[SseItem]:
        """Yield the items that the chunk completes. Exhaust the iterator before the next call."""
        # The rest is extended, not copied: a chunk may have a single byte.
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        for line in lines:
            yield from self._line(line.removesuffix(b"\r"))
        self._rest += rest
        if len(self._rest) > MAX_EVENT_SIZE:
            self._rest.clear()
            self._skipping = True
            self._size = MAX_EVENT_SIZE + 1

    def end(self) -> Iterator[SseItem]:
        """Yield the last event of a complete body that has no blank line at its end.

        The standard discards such an event. Alpaca's Go client reads single lines and accepts it,
        so Alpaca may send it.
        """
        if self._rest or self._skipping:
            yield from self._line(bytes(self._rest).removesuffix(b"\r"))
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[SseItem]:
        if self._skipping:  # the rest of a line whose beginning was already too long
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
        if not field:
            yield SseComment(value)
        elif field == b"data":
            self._size += len(value)
            if len(self._lines) == MAX_EVENT_LINES:
                self._size = MAX_EVENT_SIZE + 1
            if self._size <= MAX_EVENT_SIZE:
                self._lines.append(value)
        elif not _FIELD.fullmatch(field):
            yield SseForeign()

    def _dispatch(self) -> Iterator[SseItem]:
        lines, self._lines = tuple(self._lines), []
        size, self._size = self._size, 0
        if size > MAX_EVENT_SIZE:
            yield SseOversized()
        elif lines:
            yield SseData(lines)
