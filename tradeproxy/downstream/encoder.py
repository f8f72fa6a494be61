"""Batches as bytes for clients. A batch is encoded once for all clients that get the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from struct import Struct
from weakref import WeakValueDictionary

from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch, Row
from tradeproxy.query.filters import Filter
from tradeproxy.wire.frame import Recovered, extract_data, with_cursor

MARKS = tuple(mark.value for mark in Recovered)

_FIRST = 0x81
"""The first byte of a frame: the last one of a message, without an extension, of a text."""

_pack_short, _pack_medium, _pack_long = (Struct(">" + form).pack for form in ("BB", "BBH", "BBQ"))


class FrameEncoder:
    """Encodes a batch: the frames of its rows, joined.

    An encoder is the key under which a batch caches the result. Compared and hashed by identity.
    """

    def __init__(
        self,
        message: Callable[[bytes], bytes],
        convert: Callable[[bytes, Row, Account], bytes] | None = None,
        wanted: Filter | None = None,
    ) -> None:
        """Create an encoder.

        Args:
            message: returns the frame of a text.
            convert: returns the text that clients get of a payload and its row; None if they get
                Alpaca's payload, byte for byte.
            wanted: rows that do not match this filter are left out. The result may be empty.
        """
        self._message = message
        self._convert = convert
        self._filter = wanted
        # Weak references: an encoder lives as long as a client with this filter is connected.
        self._filtered: WeakValueDictionary[Filter, FrameEncoder] = WeakValueDictionary()

    def with_filter(self, wanted: Filter) -> FrameEncoder:
        """Return an encoder of the same frames for the rows that match `wanted`.

        Equal filters get the same encoder, so their clients share the encoded bytes.
        """
        encoder = self._filtered.get(wanted)
        if encoder is None:
            encoder = self._filtered[wanted] = FrameEncoder(self._message, self._convert, wanted)
        return encoder

    def encode(self, batch: Batch, account: Account) -> bytes | None:
        """Return the encoded batch, from its cache if possible; None if it contains a hole."""
        if (cached := batch.encoded.get(self)) is not None:
            return cached
        frames = []
        for row in batch.rows if self._filter is None else self._filter.select(batch):
            if row.payload is None:
                return None
            frames.append(self._encode_row(row.payload, row, account))
        encoded = batch.encoded[self] = b"".join(frames)
        return encoded

    def list_ends(self, batch: Batch, account: Account) -> list[int]:
        """Return where each row ends in the encoded batch, which has no hole and no filter."""
        sizes = (len(self._encode_row(row.payload or b"", row, account)) for row in batch.rows)
        return list(accumulate(sizes))

    def _encode_row(self, payload: bytes, row: Row, account: Account) -> bytes:
        if self._convert is not None:
            payload = self._convert(payload, row, account)
        return self._message(payload)


def encode_text(payload: bytes) -> bytes:
    """Return `payload`, which is UTF-8, as a whole WebSocket message in one frame (RFC 6455, 5.2).

    Without compression the frame is the same for all clients, so it is encoded once.
    """
    size = len(payload)
    if size < 126:
        return _pack_short(_FIRST, size) + payload
    if size < 65_536:
        return _pack_medium(_FIRST, 126, size) + payload
    return _pack_long(_FIRST, 127, size) + payload


def add_cursor(payload: bytes, row: Row, account: Account) -> bytes:
    """Return a payload with its cursor, if there is one."""
    cursor = account.cursor_after(row)
    return payload if cursor is None else with_cursor(payload, cursor)


def convert_to_sse(payload: bytes, row: Row, account: Account) -> bytes:
    """Return a server-sent event (WHATWG HTML, 9.2) with one line of data."""
    cursor = account.cursor_after(row)
    data, recovered = extract_data(payload)
    # Only the proxy's own marks become a comment. If Alpaca used the same name, its value could
    # be of any type, or contain a line end.
    comment = f": recovered {recovered}\n".encode() if recovered in MARKS else b""
    position = b"" if cursor is None else b"id: %s\n" % cursor.encode()
    return b"%s%sdata: %s\n\n" % (comment, position, data)
