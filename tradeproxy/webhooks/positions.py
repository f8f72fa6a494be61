"""Where each webhook is in the log of an account, stored in the metadata of that log.

So a position is as durable as the log, and with several nodes the next leader finds it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tradeproxy.hub.account import Account
from tradeproxy.wire.event import is_time

KEY = "webhooks"
"""The key of the metadata."""


@dataclass(frozen=True, slots=True)
class StoredPosition:
    """What a webhook continues with.

    cursor: after the last event that is done, or None.
    time: of that event (microseconds since 1970), or None; for a log without the cursor.
    down: whether `upstream_down` was the last report about the upstream.
    durable: whether no report about the journal is the last one.
    gap: the beginning (microseconds since 1970) and the outcome of the last gap in a report.
    node: the process that has led.
    """

    cursor: str | None = None
    time: int | None = None
    down: bool = False
    durable: bool = True
    gap: tuple[int | None, str] | None = None
    node: str = ""


def read_positions(account: Account) -> dict[str, StoredPosition]:
    """Return the positions by the names of the webhooks. What cannot be read is left out."""
    try:
        document = json.loads(account.log.get_metadata(KEY) or "{}")
    except (ValueError, RecursionError):
        document = None
    entries = document.items() if isinstance(document, dict) else ()
    return {name: _parse(value) for name, value in entries if isinstance(value, dict)}


def store_positions(
    account: Account, positions: Mapping[str, StoredPosition], known: Collection[str]
) -> None:
    """Store these positions beside those of the other `known` webhooks. Others are removed."""
    merged = {**read_positions(account), **positions}
    document = {name: asdict(merged[name]) for name in sorted(merged) if name in known}
    text = json.dumps(document, separators=(",", ":")) if document else None
    account.set_metadata(KEY, text, is_urgent=False)


def _parse(value: dict[str, Any]) -> StoredPosition:
    # Redis has what others write, and a node of another version may have written more.
    cursor, time, gap, node = (value.get(name) for name in ("cursor", "time", "gap", "node"))
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
    )
