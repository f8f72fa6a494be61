"""Where a client stands: what its next connection asks for, and what each message means to it. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from tradeproxy.wire.frame import extract_data
from tradeproxy.wire.messages import TRADE_UPDATES, TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import PROXY_STATUS, ReplayState

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_UNCURSORED = 10_000
"""Events without a cursor whose identity is remembered; as many as wait for the proxy's disk."""

StatusData: TypeAlias = dict[str, Any]
"""The `data` of a `proxy_status` frame, as docs/protocol.md has it; or of the client's own `connection`."""


@dataclass(frozen=True)
class Update:
    """One trade update."""

    raw: bytes
    """The `data` object as Alpaca wrote it, on one line."""
    cursor: str | None
    """Where a client stands that has it; None while the proxy cannot write it down."""
    recovered: str | None = None
    """The mark of an event that the stream did not bring: `events`, `orders`; see docs/protocol.md."""

    @cached_property
    def data(self) -> dict[str, Any]:
        """The `data` object, read; Alpaca's quantities and prices are text. Raises ValueError."""
        data: dict[str, Any] = json.loads(self.raw)
        return data


class PositionLostError(Exception):
    """Events are not to be had, for the reason that is the text; iterate on to have what comes now."""


Item: TypeAlias = Update | StatusData | PositionLostError


class ResumeState:
    """A client's place in one account's log.

    `beginning` is what the first connection asks for: `since_id`, `since` or `replay`, or nothing.
    """

    def __init__(self, beginning: Mapping[str, str]) -> None:
        self.cursor = beginning.get("since_id")
        self._start = dict(beginning)
        self._is_replaying = False
        self._uncursored: dict[tuple[str, bytes], None] = {}

    def next_query(self) -> dict[str, str]:
        """Return what the next connection is to ask for."""
        position = self._start if self.cursor is None else {"since_id": self.cursor}
        self._is_replaying = bool(position)
        return position

    def reset(self) -> None:
        """Stand nowhere: the next connection begins with what comes."""
        self.cursor, self._start = None, {}

    def receive(self, message: bytes) -> Item | None:
        """Read a message and move on; None for what is not news, such as an event that came before."""
        try:
            # Alpaca may write a number longer than Python reads.
            document = json.loads(message, parse_int=str, parse_float=str)
        except (ValueError, RecursionError):
            return None
        match document:
            case {"stream": name, "data": {}} if name == TRADE_UPDATES:
                return self._update(message, _text(document.get("cursor")))
            case {"stream": name, "data": {}} if name == PROXY_STATUS:
                return self._status(json.loads(message)["data"])
        return None

    def _update(self, message: bytes, cursor: str | None) -> Update | None:
        if (cursor is None or self._uncursored) and not self._is_new(
            message, is_placed=cursor is not None
        ):
            self.cursor = cursor or self.cursor
            return None
        self.cursor = cursor or self.cursor
        raw, recovered = extract_data(message)
        return Update(raw, cursor, recovered)

    def _is_new(self, message: bytes, *, is_placed: bool) -> bool:
        """Tell events apart that may come twice: those that the proxy had not written down."""
        update = parse_server(message)
        if not isinstance(update, TradeUpdate):
            return True
        key = update.event.identity, update.event.digest
        if key in self._uncursored:
            return False
        if not is_placed:
            self._uncursored[key] = None
            if len(self._uncursored) > MAX_UNCURSORED:
                del self._uncursored[next(iter(self._uncursored))]
        return True

    def _status(self, data: StatusData) -> StatusData | PositionLostError:
        cursor = _text(data.get("cursor"))
        match data:
            case {"event": "replay", "state": ReplayState.IMPOSSIBLE.value}:
                self._is_replaying = False
                self.reset()
                self.cursor = cursor
                return PositionLostError(_text(data.get("reason")) or "position unknown")
            case {"event": "replay"}:
                self._is_replaying = False
        # A hello before the replay has a place too, which is the newest where the replay is not to be had.
        if cursor is not None and not self._is_replaying:
            self.cursor = cursor
        return data


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
