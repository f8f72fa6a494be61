"""The state of an account as a client gets it: on the stream, in parts, or by one request. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tradeproxy.wire.amount import read_int

SNAPSHOT = "snapshot"
"""The stream of a snapshot's frames."""

MAX_STATE_SIZE = 256 * 1024 * 1024
"""Bytes of a snapshot, or of an answer with the state. 10,000 open orders have some 20 MB."""

Documents: TypeAlias = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class AccountSnapshot:
    """The state of an account at one position of its stream (docs/state.md).

    The elements of orders, positions and fills are Alpaca's objects. Amounts are text.
    """

    account: str
    cursor: str | None
    """The events behind it follow; None while the proxy cannot write to its journal."""
    complete: bool
    """False if orders or positions may be missing."""
    orders: Documents = ()
    """The open orders, the oldest submission first."""
    positions: Documents = ()
    fills: Documents = ()
    """The `data` of the newest 50 fills and partial fills, the oldest first."""
    strategies: Documents = ()
    """The positions of each strategy (docs/strategies.md), without lots."""


@dataclass(slots=True)
class SnapshotParts:
    """The parts of a snapshot that came so far."""

    _size: int = 0
    _lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, message: bytes) -> AccountSnapshot | None:
        """Add the frame of a part; return the snapshot if it is the last.

        Raises OverflowError beyond MAX_STATE_SIZE.
        """
        data = json.loads(message, parse_int=read_int)["data"]
        if data.get("part") == 1:  # it begins a snapshot, perhaps again
            self.clear()
        self._size += len(message)
        if self._size > MAX_STATE_SIZE:
            self.clear()
            raise OverflowError
        for name, documents in _read_lists(data).items():
            self._lists.setdefault(name, []).extend(documents)
        if data.get("last") is not True:
            return None
        snapshot = read_snapshot({**data, **self._lists})
        self.clear()
        return snapshot

    def clear(self) -> None:
        """Forget the parts of an unfinished snapshot."""
        self._size = 0
        self._lists = {}


def read_snapshot(data: Mapping[str, Any]) -> AccountSnapshot:
    """Return the snapshot of a JSON object. Members of other types count as missing."""
    cursor = data.get("cursor")
    lists = {name: tuple(documents) for name, documents in _read_lists(data).items()}
    if "strategies" in lists:
        lists["strategies"] = tuple(join_strategies(lists["strategies"]))
    return AccountSnapshot(
        str(data.get("account", "")),
        cursor if isinstance(cursor, str) else None,
        data.get("complete") is True,
        **lists,
    )


def join_strategies(documents: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one object for each strategy: one with many positions may come in several.

    The further ones have the name, `continued`, and more positions.
    """
    joined: list[dict[str, Any]] = []
    for each in documents:
        if joined and each.get("continued") is True and joined[-1].get("name") == each.get("name"):
            positions = [part.get("positions") for part in (joined[-1], each)]
            found = [position for part in positions if isinstance(part, list) for position in part]
            joined[-1] = {**joined[-1], "positions": found}
        else:
            joined.append(each)
    return joined


def _read_lists(data: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found = {name: data.get(name) for name in ("orders", "positions", "fills", "strategies")}
    return {
        name: [each for each in documents if isinstance(each, dict)]
        for name, documents in found.items()
        if isinstance(documents, list)
    }
