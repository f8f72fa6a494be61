"""Where each webhook is in the log of an account, stored in the metadata of that log.

So a position is as durable as the log, and with several nodes the next leader finds it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import UnreadableError
from tradeproxy.runtime.dates import SECOND
from tradeproxy.wire.event import is_time
from tradeproxy.wire.position import AfterId

KEY = "webhooks"
"""The key of the metadata."""

MAX_AGE = 24 * 3600 * SECOND
"""Microseconds after which an event is skipped, and the position of a removed webhook forgotten."""


@dataclass(frozen=True, slots=True)
class StoredPosition:
    """What a webhook continues with.

    cursor: after the last event that is done, or None.
    time: of that event (microseconds since 1970), or None; for a log without the cursor.
    down: whether `upstream_down` was the last report about the upstream.
    durable: whether no report about the journal is the last one.
    gap: the beginning (microseconds since 1970) and the outcome of the last gap in a report.
    node: the process that has led.
    removed: when the webhook was no longer in the settings (microseconds since 1970), or None.
    """

    cursor: str | None = None
    time: int | None = None
    down: bool = False
    durable: bool = True
    gap: tuple[int | None, str] | None = None
    node: str = ""
    removed: int | None = None


def read_positions(account: Account) -> dict[str, StoredPosition]:
    """Return the positions by the names of the webhooks. What cannot be read is left out.

    A webhook that was removed MAX_AGE ago has none: one of its name begins with the next event.
    """
    try:
        document = json.loads(account.log.get_metadata(KEY) or "{}")
    except (ValueError, RecursionError):
        document = None
    entries = document.items() if isinstance(document, dict) else ()
    positions = {name: _parse(value) for name, value in entries if isinstance(value, dict)}
    oldest = account.dates.now_microseconds() - MAX_AGE
    return {
        name: position
        for name, position in positions.items()
        if position.removed is None or position.removed > oldest
    }


def store_positions(
    account: Account, positions: Mapping[str, StoredPosition], known: Collection[str]
) -> dict[str, StoredPosition]:
    """Store these positions beside those of the others; return those that are newly removed.

    Those that are not `known` are removed. Their positions stay for MAX_AGE: a settings file that
    was read while it was half written may have left them out.
    """
    now = account.dates.now_microseconds()
    merged = {**read_positions(account), **positions}
    stored = {
        name: replace(merged[name], removed=None if name in known else merged[name].removed or now)
        for name in sorted(merged)
    }
    document = {name: asdict(position) for name, position in stored.items()}
    text = json.dumps(document, separators=(",", ":")) if document else None
    account.set_metadata(KEY, text, is_urgent=False)
    return {
        name: position
        for name, position in merged.items()
        if name not in known and position.removed is None
    }


def count_events_after(account: Account, position: StoredPosition) -> int:
    """Return how many rows the log has after a position; all if it no longer has that one."""
    log = account.log
    try:
        return log.last - locate(account, AfterId(position.cursor or ""))
    except (UnrecoverablePositionError, UnreadableError):
        return log.last + 1 - log.first


def _parse(value: dict[str, Any]) -> StoredPosition:
    # Redis has what others write, and a node of another version may have written more.
    cursor, time, gap, node = (value.get(name) for name in ("cursor", "time", "gap", "node"))
    removed = value.get("removed")
    reported: tuple[int | None, str] | None = None
    match gap:
        case [begin, str(outcome)]:
            reported = begin if is_time(begin) else None, outcome
    return StoredPosition(
        cursor=cursor if isinstance(cursor, str) else None,
        time=time if is_time(time) else None,
        down=value.get("down") is True,
        durable=value.get("durable") is not False,
        gap=reported,
        node=node if isinstance(node, str) else "",
        removed=removed if is_time(removed) else None,
    )
