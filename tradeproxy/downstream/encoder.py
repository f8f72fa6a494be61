"""A burst as the clients are sent it: one piece of bytes, made once for all who get the same."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from tradeproxy.wire.frame import Recovered, data_of, with_cursor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.downstream.filters import Filter
    from tradeproxy.hub.account import Account
    from tradeproxy.journal.base import Burst

MARKS = tuple(mark.value for mark in Recovered)


class Framing:
    """Joins what `frame` makes of each payload and its cursor, which is None where there is none.

    What the filter that is `wanted` does not pick is left out; it may be that nothing is left.
    """

    def __init__(self, frame: Callable[[bytes, str | None], bytes], wanted: Filter | None = None) -> None:
        self._frame = frame
        self._wanted = wanted
        self._filtered: WeakValueDictionary[Filter, Framing] = WeakValueDictionary()

    def through(self, wanted: Filter | None) -> Framing:
        """Return this framing of what a filter picks: the same one to all who have an equal filter."""
        if wanted is None:
            return self
        framing = self._filtered.get(wanted)
        if framing is None:
            framing = self._filtered[wanted] = Framing(self._frame, wanted)
        return framing

    def of(self, burst: Burst, account: Account) -> bytes | None:
        """Return the burst as it is sent; None if one of its rows is a hole."""
        frames = burst.framed.get(self)
        if frames is None and (frames := self._make(burst, account)) is not None:
            burst.framed[self] = frames
        return frames

    def _make(self, burst: Burst, account: Account) -> bytes | None:
        frames = []
        for row in burst.rows if self._wanted is None else self._wanted.pick(burst):
            if row.payload is None:
                return None
            frames.append(self._frame(row.payload, account.cursor_behind(row)))
        return b"".join(frames)


def plain(message: Callable[[bytes], bytes]) -> Framing:
    """Return the framing that leaves every payload as Alpaca sent it, in a `message`."""
    return Framing(lambda payload, _: message(payload))


def with_cursors(message: Callable[[bytes], bytes]) -> Framing:
    """Return the framing that adds its cursor to every payload that has one, in a `message`."""
    return Framing(
        lambda payload, cursor: message(payload if cursor is None else with_cursor(payload, cursor))
    )


def server_sent() -> Framing:
    """Return the framing as server-sent events (WHATWG HTML, 9.2), a line of data each."""
    return Framing(_server_sent)


def _server_sent(payload: bytes, cursor: str | None) -> bytes:
    data, recovered = data_of(payload)
    # The mark is one of ours, unless Alpaca uses the name too.
    comment = f": recovered {recovered}\n".encode() if recovered in MARKS else b""
    position = b"" if cursor is None else b"id: %s\n" % cursor.encode()
    return b"%s%sdata: %s\n\n" % (comment, position, data)
