"""A client's position: the query of its next connection, and the effect of each message. Pure.

message                         | cursor                    | result
--------------------------------+---------------------------+-----------------------------
event with a cursor             | the event's               | Update, if it is new
event without a cursor          | unchanged                 | Update, if it is new
status with a cursor            | its own, unless replaying | status
replay begun, replay complete   | its own                   | status; replaying ends
replay impossible               | its own                   | PositionLostError
any status without a cursor     | unchanged                 | as above
anything else                   | unchanged                 | None

"Replaying" is from a connection with `since_id` or `since` to its first `replay` frame.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from tradeproxy.wire.amount import read_int
from tradeproxy.wire.frame import extract_data
from tradeproxy.wire.messages import TRADE_UPDATES, TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import PROXY_STATUS, ReplayState

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_UNCURSORED = 110_000
"""The number of events without a cursor to remember, which take about 20 MB.

While its disk fails, the proxy keeps 10,000 events, and hashes of 100,000 more.
"""

StatusData: TypeAlias = dict[str, Any]
"""The `data` of a `proxy_status` frame (docs/protocol.md), or the client's own `connection`."""


@dataclass(frozen=True)
class Update:
    """One trade update."""

    raw: bytes
    """The bytes of the `data` object as Alpaca sent them, on one line."""
    cursor: str | None
    """The position after this event; None while the proxy cannot write to its journal."""
    recovered: str | None = None
    """The source of an event that the stream missed: `events` or `orders` (docs/protocol.md)."""

    @cached_property
    def data(self) -> dict[str, Any]:
        """The parsed `data` object. Alpaca sends quantities and prices as text.

        Raises ValueError if a number has more digits than Python accepts.
        """
        data: dict[str, Any] = json.loads(self.raw)
        return data


class PositionLostError(Exception):
    """Events are lost; the text is the reason. Iterate again to get new events."""


Item: TypeAlias = Update | StatusData | PositionLostError


class ResumeState:
    """A client's position in one account's log.

    `start` is the query of the first connection: one of `since_id`, `since` and `replay`, or
    nothing.
    """

    def __init__(self, start: Mapping[str, str]) -> None:
        self.cursor = start.get("since_id")
        self._start = dict(start)
        self._is_replaying = False
        self._uncursored: dict[tuple[str, bytes], None] = {}
        self._last_id: str | None = None  # of the last event without a cursor

    def next_query(self) -> dict[str, str]:
        """Return the position parameters of the next connection."""
        # A cursor is better than the id of a later event: the proxy may lose that event in a crash.
        since_id = self.cursor or self._last_id
        position = self._start if since_id is None else {"since_id": since_id}
        # `replay` is always possible, and the hello has the cursor before its first event.
        self._is_replaying = bool(position) and "replay" not in position
        return position

    def reset(self) -> None:
        """Forget the position: the next connection starts with new events."""
        self.cursor, self._last_id, self._start = None, None, {}

    def receive(self, message: bytes) -> Item | None:
        """Parse a message and update the position.

        None if it is not new, such as a repeated event.
        """
        try:
            # Alpaca may send a number with more digits than int() accepts.
            document = json.loads(message, parse_int=str, parse_float=str)
        except (ValueError, RecursionError):
            return None
        match document:
            case {"stream": name, "data": {}} if name == TRADE_UPDATES:
                return self._update(message, _text(document.get("cursor")))
            case {"stream": name, "data": {}} if name == PROXY_STATUS:
                return self._status(json.loads(message, parse_int=read_int)["data"])
        return None

    def _update(self, message: bytes, cursor: str | None) -> Update | None:
        if (cursor is None or self._uncursored) and not self._is_new(
            message, has_cursor=cursor is not None
        ):
            self.cursor = cursor or self.cursor
            return None
        self.cursor = cursor or self.cursor
        raw, recovered = extract_data(message)
        return Update(raw, cursor, recovered)

    def _is_new(self, message: bytes, *, has_cursor: bool) -> bool:
        """Detect repeats. After a crash the proxy may resend events that it had not journaled."""
        update = parse_server(message)
        if not isinstance(update, TradeUpdate):
            return True
        key = update.event.key
        if key in self._uncursored:
            return False
        if not has_cursor:
            self._uncursored[key] = None
            if not update.event.digest:  # the identity is Alpaca's `event_id`
                self._last_id = update.event.identity
            if len(self._uncursored) > MAX_UNCURSORED:
                del self._uncursored[next(iter(self._uncursored))]
        return True

    def _status(self, data: StatusData) -> StatusData | PositionLostError:
        cursor = _text(data.get("cursor"))
        match data:
            case {"event": "replay", "state": ReplayState.IMPOSSIBLE.value}:
                self._is_replaying = False
                # Without a cursor the lost position stays. If this connection closes before the
                # next cursor, the next one reports the loss again, instead of missing events.
                self.cursor = cursor or self.cursor
                return PositionLostError(_text(data.get("reason")) or "position unknown")
            case {"event": "replay"}:
                self._is_replaying = False
        # A hello before the replay has a cursor too. If the replay is impossible, it is the newest
        # position, and adopting it would skip events.
        if cursor is not None and not self._is_replaying:
            self.cursor = cursor
        return data


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
