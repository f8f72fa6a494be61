"""The operator's view as one JSON document: every account, its last ten minutes, and the clients."""

from __future__ import annotations

import json
import re
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from tradeproxy.runtime.stats import SERIES_LENGTH, SERIES_STEP
from tradeproxy.web.health import readyz
from tradeproxy.web.routes import account_paths
from tradeproxy.wire.proxy_status import describe_gap, describe_upstream, format_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.downstream.clients import Clients, ClientStats
    from tradeproxy.hub.account import Account
    from tradeproxy.journal.base import Journal

MAX_LISTED = 200
"""Clients that are told of one by one."""

FRESH = 1.0
"""Seconds for which the document is good for everybody who asks: they are many, or the clients are."""

DAY = 24 * 60 * 60

_PEER = re.compile(r"(?P<kind>tcp[46]|unix)(?::(?P<host>.*?)(?::(?P<port>[0-9]+))?)?")
"""As Autobahn writes an address."""


class StatusPage:
    """What /status.json answers."""

    def __init__(
        self, accounts: Mapping[str, Account], clients: Clients, clock: IReactorTime
    ) -> None:
        self._accounts = accounts
        self._clients = clients
        self._clock = clock
        self._since = clock.seconds()
        self._made: tuple[float, bytes] | None = None

    def render(self) -> bytes:
        """Return the document, which may be a second old."""
        now = self._clock.seconds()
        if self._made is None or not 0 <= now - self._made[0] < FRESH:
            self._made = (
                now,
                json.dumps(self._document(now), separators=(",", ":")).encode() + b"\n",
            )
        return self._made[1]

    def _document(self, now: float) -> dict[str, Any]:
        _, health = readyz(self._accounts.values())
        return {
            "now": format_seconds(now),
            "started": format_seconds(self._since),
            "accounts": {
                name: health["accounts"][name] | _account(account, now)
                for name, account in self._accounts.items()
            },
            "clients": self._describe_clients(),
            "refusals": dict(self._clients.rejections.counts),
        }

    def _describe_clients(self) -> dict[str, Any]:
        standings = self._clients.list_stats()
        return {
            "count": len(standings),
            "slow": sum(standing.is_slow for standing in standings),
            "listed": [_client(standing) for standing in nlargest(MAX_LISTED, standings)],
        }


def _account(account: Account, now: float) -> dict[str, Any]:
    journal = account.journal
    latest = journal.latest_time
    return {
        "path": account_paths(account.name).original.removeprefix("/"),
        "upstream": describe_upstream(account.upstream),
        "reconnects": account.reconnects,
        "last_event": None if latest is None else format_seconds(latest / 1_000_000),
        "events_today": _count_since(journal, int(now) // DAY * DAY),
        "gaps": [describe_gap(gap) for gap in account.gaps],
        "series": _series(account, now),
    }


def _series(account: Account, now: float) -> dict[str, Any]:
    """Return what happened in each of the last steps, the one under way included."""
    step, journal = int(now) // SERIES_STEP, account.journal
    begins = range(step - SERIES_LENGTH + 1, step + 1)
    # Of the journal: it knows what came before the process began, and puts what came late where it belongs.
    behind = [_count_since(journal, begin * SERIES_STEP) for begin in (*begins, step + 1)]
    known = journal.complete_from / 1_000_000
    return {
        "step": SERIES_STEP,
        "end": format_seconds((step + 1) * SERIES_STEP),
        "events": [
            None
            if (begin + 1) * SERIES_STEP <= known
            else max(behind[index] - behind[index + 1], 0)
            for index, begin in enumerate(begins)
        ],
        "latency": account.slowest.series(step),
    }


def _count_since(journal: Journal, seconds: int) -> int:
    """Return how many events there are from the first one on that is not before a moment (Unix time)."""
    seq = journal.first_since(seconds * 1_000_000)
    return 0 if seq is None else max(journal.last - seq + 1, 0)


def _client(standing: ClientStats) -> dict[str, Any]:
    return {
        "account": standing.account,
        "address": _address(standing.peer),
        "user_agent": standing.info.user_agent,
        "dialect": standing.info.dialect,
        "since": format_seconds(standing.info.since),
        "lag": standing.lag,
        "slow": standing.is_slow,
    }


def _address(peer: str) -> str:
    match = _PEER.fullmatch(peer)
    if match is None:
        return peer
    if match["kind"] == "unix":
        return "a UNIX socket"
    host = f"[{match['host']}]" if match["kind"] == "tcp6" else match["host"]
    return f"{host}:{match['port']}"
