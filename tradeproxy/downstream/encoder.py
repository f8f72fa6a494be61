"""A burst as the clients are sent it: one piece of bytes, made once for all who get the same."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from tradeproxy.wire.frame import Recovered, extract_data, with_cursor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.downstream.filters import Filter
    from tradeproxy.hub.account import Account
    from tradeproxy.journal.base import Batch

MARKS = tuple(mark.value for mark in Recovered)


class FrameEncoder:
    """Joins what `frame` makes of each payload and its cursor, which is None where there is none.

    What the filter that is `wanted` does not pick is left out; it may be that nothing is left.
    """

    def __init__(
        self, frame: Callable[[bytes, str | None], bytes], wanted: Filter | None = None
    ) -> None:
        self._frame = frame
        self._filter = wanted
        self._filtered: WeakValueDictionary[Filter, FrameEncoder] = WeakValueDictionary()

    def with_filter(self, wanted: Filter | None) -> FrameEncoder:
        """Return this framing of what a filter picks: the same one to all who have an equal filter."""
        if wanted is None:
            return self
        framing = self._filtered.get(wanted)
        if framing is None:
            framing = self._filtered[wanted] = FrameEncoder(self._frame, wanted)
        return framing

    def encode(self, burst: Batch, account: Account) -> bytes | None:
        """Return the burst as it is sent; None if one of its rows is a hole."""
        frames = burst.encoded.get(self)
        if frames is None and (frames := self._make(burst, account)) is not None:
            burst.encoded[self] = frames
        return frames

    def _make(self, burst: Batch, account: Account) -> bytes | None:
        frames = []
        for row in burst.rows if self._filter is None else self._filter.select(burst):
            if row.payload is None:
                return None
            frames.append(self._frame(row.payload, account.cursor_after(row)))
        return b"".join(frames)


def plain_encoder(message: Callable[[bytes], bytes]) -> FrameEncoder:
    """Return the framing that leaves every payload as Alpaca sent it, in a `message`."""
    return FrameEncoder(lambda payload, _: message(payload))


def cursor_encoder(message: Callable[[bytes], bytes]) -> FrameEncoder:
    """Return the framing that adds its cursor to every payload that has one, in a `message`."""
    return FrameEncoder(
        lambda payload, cursor: message(payload if cursor is None else with_cursor(payload, cursor))
    )


def sse_encoder() -> FrameEncoder:
    """Return the framing as server-sent events (WHATWG HTML, 9.2), a line of data each."""
    return FrameEncoder(_server_sent)


def _server_sent(payload: bytes, cursor: str | None) -> bytes:
    data, recovered = extract_data(payload)
    # The mark is one of ours, unless Alpaca uses the name too.
    comment = f": recovered {recovered}\n".encode() if recovered in MARKS else b""
    position = b"" if cursor is None else b"id: %s\n" % cursor.encode()
    return b"%s%sdata: %s\n\n" % (comment, position, data)
