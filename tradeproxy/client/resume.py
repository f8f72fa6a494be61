"""A client's position: the query of its next connection, and the effect of each message. Pure.

message                         | cursor                    | result
--------------------------------+---------------------------+-----------------------------
event with a cursor             | the event's               | Update, if it is new
event without a cursor          | unchanged                 | Update, if it is new
status with a cursor            | its own, unless replaying | status
replay begun, replay complete   | its own                   | status; replaying ends
replay impossible               | its own                   | PositionLostError
any status without a cursor     | unchanged                 | as above
the last part of a snapshot     | its own                   | AccountSnapshot
anything else                   | unchanged                 | None

"Replaying" is from a connection with `since_id` or `since` to its first `replay` frame.

A client that wants a snapshot requests it with each connection until it is complete. Then it
resumes by its cursor, without a snapshot, until the position is lost: what was missed is in the
next one. Before the first snapshot of a client without a position, a status moves no cursor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from tradeproxy.client.snapshot import SNAPSHOT, AccountSnapshot, SnapshotParts
from tradeproxy.wire.amount import read_int
from tradeproxy.wire.frame import extract_data
from tradeproxy.wire.messages import TRADE_UPDATES, TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import PROXY_STATUS, ReplayState

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


Item: TypeAlias = Update | AccountSnapshot | StatusData | PositionLostError


class ResumeState:
    """A client's position in one account's log.

    `start` is the query of the first connection: one of `since_id`, `since` and `replay`, or
    nothing. With `wants_snapshot` the state of the account comes before new events.
    """

    def __init__(self, start: Mapping[str, str], *, wants_snapshot: bool = False) -> None:
        self.cursor = start.get("since_id")
        self._start = dict(start)
        self._is_replaying = False
        self._wants_snapshot = wants_snapshot
        self._has_snapshot = False
        self._is_snapshot_coming = False  # on this connection
        self._is_from_snapshot = False  # nothing precedes it
        self._parts = SnapshotParts()
        self._uncursored: dict[tuple[str, bytes], None] = {}
        self._last_id: str | None = None  # of the last event without a cursor

    def next_query(self) -> dict[str, str]:
        """Return the parameters of the next connection: the position, and `snapshot`."""
        # A cursor is better than the id of a later event: the proxy may lose that event in a crash.
        since_id = self.cursor or self._last_id
        position = self._start if since_id is None else {"since_id": since_id}
        # `replay` is always possible, and the hello has the cursor before its first event.
        self._is_replaying = bool(position) and "replay" not in position
        self._parts.clear()
        # Without a position, only another snapshot has what was missed.
        self._is_snapshot_coming = self._wants_snapshot and not (self._has_snapshot and position)
        self._is_from_snapshot = self._is_snapshot_coming and not position
        return position | ({"snapshot": "1"} if self._is_snapshot_coming else {})

    @property
    def is_snapshot_missing(self) -> bool:
        """Whether only another connection brings the snapshot that is wanted."""
        return self._wants_snapshot and not (self._has_snapshot or self._is_snapshot_coming)

    def reset(self) -> None:
        """Forget the position: the next connection starts with a snapshot, or new events."""
        self.cursor, self._last_id, self._start = None, None, {}
        self._has_snapshot = False

    def receive(self, message: bytes) -> Item | None:
        """Parse a message and update the position.

        None if it is not new, such as a repeated event. Raises OverflowError for a snapshot that is
        too large.
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
            case {"stream": name, "data": {}} if name == SNAPSHOT and self._is_snapshot_coming:
                return self._snapshot(self._parts.add(message))
        return None

    def _snapshot(self, snapshot: AccountSnapshot | None) -> AccountSnapshot | None:
        if snapshot is not None:
            self.cursor = snapshot.cursor or self.cursor
            self._has_snapshot = True
            self._is_snapshot_coming = self._is_from_snapshot = False
        return snapshot

    def _update(self, message: bytes, cursor: str | None) -> Update | None:
        self.cursor = cursor or self.cursor
        may_repeat = cursor is None or self._uncursored
        if may_repeat and not self._is_new(message, has_cursor=cursor is not None):
            return None
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
                if self._wants_snapshot and not self._is_snapshot_coming:
                    self.reset()
                return PositionLostError(_text(data.get("reason")) or "position unknown")
            case {"event": "replay"}:
                self._is_replaying = False
        # A hello before the replay has a cursor too. If the replay is impossible, it is the newest
        # position, and adopting it would skip events.
        if cursor is not None and not self._is_replaying and not self._is_from_snapshot:
            self.cursor = cursor
        return data


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
