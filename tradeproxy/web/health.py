"""Health, for supervisors and load balancers: is the process alive, is it useful."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tradeproxy.wire.status import describe_gap, format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tradeproxy.hub.account import Account


def healthz() -> tuple[int, dict[str, Any]]:
    """Return 200 as long as the process serves; a restart would not mend what is wrong at Alpaca."""
    return 200, {"status": "ok"}


def readyz(accounts: Iterable[Account]) -> tuple[int, dict[str, Any]]:
    """Return 200 when every account streams and nothing is missing of it, else 503, with each one's state."""
    states = {account.name: _state(account) for account in accounts}
    ready = all(state["ready"] for state in states.values())
    return (200 if ready else 503), {"ready": ready, "accounts": states}


def _state(account: Account) -> dict[str, Any]:
    journal, gap = account.journal, account.gaps.current
    problem = _problem(account)
    return {
        "ready": problem is None,
        "reason": account.upstream.reason if problem is None else problem,
        "since": format_seconds(account.upstream.since),
        "clients": len(account.broadcaster),
        "dropped_frames": account.dropped.total(),
        "duplicates": journal.duplicates,
        "journal": {
            "durable": journal.status.durable,
            "reason": journal.status.reason,
            "first": journal.first,
            "last": journal.last,
        },
        "gap": None if gap is None else describe_gap(gap),
    }


def _problem(account: Account) -> str | None:
    """Return the first thing that is wrong, the one that the others may come from."""
    if not account.upstream.streaming:
        return account.upstream.reason
    if not account.journal.status.durable:
        return f"the journal is not durable: {account.journal.status.reason}"
    if account.gaps.current is not None:
        return "events may have been missed, and are not found yet"
    if account.is_holding:
        return "new events wait for older ones"
    return None
