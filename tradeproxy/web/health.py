"""Health, for supervisors and load balancers: is the process alive, is it useful."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tradeproxy.hub.account import Account


def healthz() -> tuple[int, dict[str, Any]]:
    """Return 200 as long as the process serves; a restart would not mend what is wrong at Alpaca."""
    return 200, {"status": "ok"}


def readyz(accounts: Iterable[Account]) -> tuple[int, dict[str, Any]]:
    """Return 200 when every account streams, else 503; the document has each account's state."""
    states = {account.name: _state(account) for account in accounts}
    ready = all(state["ready"] for state in states.values())
    return (200 if ready else 503), {"ready": ready, "accounts": states}


def _state(account: Account) -> dict[str, Any]:
    upstream = account.upstream
    since = datetime.fromtimestamp(upstream.since, UTC).isoformat(timespec="milliseconds")
    return {
        "ready": upstream.streaming,
        "reason": upstream.reason,
        "since": since.replace("+00:00", "Z"),
        "clients": len(account.broadcaster),
        "dropped_frames": account.dropped.total(),
    }
