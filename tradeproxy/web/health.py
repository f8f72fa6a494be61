"""Health for supervisors and load balancers: liveness and readiness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from tradeproxy.hub.account import Account
from tradeproxy.hub.replication import NodeRole
from tradeproxy.webhooks.state import DeliveryStats
from tradeproxy.wire.proxy_status import describe_gap, format_seconds

NO_CLIENTS: Mapping[str, int] = MappingProxyType({})


def healthz(accounts: Iterable[Account]) -> tuple[int, dict[str, Any]]:
    """Return the status and JSON document of /healthz.

    The status is 503 only if a restart helps: the proxy itself has failed for an account.
    Trouble at Alpaca or with a disk gives 200, since a restart does not fix it.
    """
    reasons = [f"{each.name}: {each.upstream.reason}" for each in accounts if each.has_failed]
    return (503, {"status": "failed", "reasons": reasons}) if reasons else (200, {"status": "ok"})


def readyz(
    accounts: Iterable[Account],
    clients: Mapping[str, int] = NO_CLIENTS,
    webhooks: Iterable[DeliveryStats] = (),
) -> tuple[int, dict[str, Any]]:
    """Return the status and JSON document of /readyz.

    The status is 200 if every account streams and misses no events, else 503. The document lists
    every problem, not only the first. After them it lists the accounts' notices, and the webhooks
    that do not send: these leave the status as it is, since clients get their events.
    """
    reasons: list[str] = []
    notices: list[str] = []
    states: dict[str, Any] = {}
    for account in accounts:
        account_reasons = _list_problems(account)
        reasons.extend(f"{account.name}: {reason}" for reason in account_reasons)
        notices.extend(f"{account.name}: {notice}" for notice in account.notices.values())
        count = clients.get(account.name, 0)
        states[account.name] = _describe_state(account, account_reasons, count)
    notices.extend(dict.fromkeys(hook.problem for hook in webhooks if hook.problem is not None))
    return (503 if reasons else 200), {
        "ready": not reasons,
        "reasons": [*reasons, *notices],
        "accounts": states,
    }


def drop_counts(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document of this module without its numbers, for clients without a token.

    How many events there are, and when their number grows, shows how much an account trades.
    """
    return {
        name: drop_counts(value) if isinstance(value, dict) else value
        for name, value in document.items()
        if type(value) is not int
    }


def _describe_state(account: Account, reasons: list[str], clients: int) -> dict[str, Any]:
    log, gap = account.log, account.open_gap
    # The reason is the first one: see _list_problems.
    is_of_disk = account.upstream.streaming and not log.status.durable
    state = {
        "ready": not reasons,
        "reason": reasons[0] if reasons else account.upstream.reason,
        "since": format_seconds((log.status if is_of_disk else account.upstream).since),
        "clients": clients,
        "dropped_frames": account.dropped_frames.total(),
        "duplicates": log.duplicates,
        "journal": {
            "durable": log.status.durable,
            "reason": log.status.reason,
            "first": log.first,
            "last": log.last,
        },
        "gap": None if gap is None else describe_gap(gap),
    }
    if account.notices:
        state["notices"] = list(account.notices.values())
    if account.role is not None:
        state["role"] = _describe_role(account.role)
    return state


def _describe_role(role: NodeRole) -> dict[str, Any]:
    renewed = None if role.lease_renewed is None else format_seconds(role.lease_renewed)
    return {
        "part": "leader" if role.is_leader else "follower",
        "since": format_seconds(role.since),
        "lease_renewed": renewed,
        "lag": role.lag,
    }


def _list_problems(account: Account) -> list[str]:
    """Return the reasons why an account is not ready; the first may cause the others."""
    upstream, disk = account.upstream, account.log.status
    problems = (
        (not upstream.streaming, upstream.reason),
        (not disk.durable, f"the journal is not durable: {disk.reason}"),
        (
            # A gap is always open while the stream is down; its own reason says more.
            upstream.streaming and account.open_gap is not None,
            "events may have been missed, and are not found yet",
        ),
        (account.is_mute, "the stream is mute: only the regular check finds events"),
        # While the stream is down, there are no new events.
        (upstream.streaming and account.is_buffering, "new events wait for older ones"),
    )
    return [reason for applies, reason in problems if applies]
