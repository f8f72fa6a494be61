"""Health, for supervisors and load balancers: is the process alive, is it useful."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tradeproxy.wire.proxy_status import describe_gap, format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tradeproxy.hub.account import Account
    from tradeproxy.hub.replication import NodeRole


def healthz(accounts: Iterable[Account]) -> tuple[int, dict[str, Any]]:
    """Return 503 only where a restart would help, which does not mend what is wrong at Alpaca, or a disk."""
    reasons = [
        f"{account.name}: {account.upstream.reason}" for account in accounts if account.has_failed
    ]
    return (503, {"status": "failed", "reasons": reasons}) if reasons else (200, {"status": "ok"})


def readyz(accounts: Iterable[Account]) -> tuple[int, dict[str, Any]]:
    """Return 200 when every account streams and nothing is missing of it, else 503; and all that is wrong."""
    reasons: list[str] = []
    states: dict[str, Any] = {}
    for account in accounts:
        of_account = _reasons(account)
        reasons.extend(f"{account.name}: {reason}" for reason in of_account)
        states[account.name] = _state(account, of_account)
    return (503 if reasons else 200), {"ready": not reasons, "reasons": reasons, "accounts": states}


def _state(account: Account, reasons: list[str]) -> dict[str, Any]:
    journal, gap = account.journal, account.gaps.current
    return {
        "ready": not reasons,
        "reason": reasons[0] if reasons else account.upstream.reason,
        "since": format_seconds(account.upstream.since),
        "clients": len(account.broadcaster),
        "dropped_frames": account.dropped_frames.total(),
        "duplicates": journal.duplicates,
        "journal": {
            "durable": journal.status.durable,
            "reason": journal.status.reason,
            "first": journal.first,
            "last": journal.last,
        },
        "gap": None if gap is None else describe_gap(gap),
    } | ({} if account.role is None else {"role": _describe(account.role)})


def _describe(role: NodeRole) -> dict[str, Any]:
    renewed = None if role.lease_renewed is None else format_seconds(role.lease_renewed)
    return {
        "part": "leader" if role.is_leader else "follower",
        "since": format_seconds(role.since),
        "lease_renewed": renewed,
        "lag": role.lag,
    }


def _reasons(account: Account) -> list[str]:
    """Return what is wrong; the first may be what the others come from."""
    upstream, disk = account.upstream, account.journal.status
    problems = (
        (not upstream.streaming, upstream.reason),
        (not disk.durable, f"the journal is not durable: {disk.reason}"),
        (
            upstream.streaming and account.gaps.current is not None,
            "events may have been missed, and are not found yet",
        ),
        (account.is_buffering, "new events wait for older ones"),
    )
    return [reason for is_so, reason in problems if is_so]
