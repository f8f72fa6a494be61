"""/status.json: every account, its last ten minutes, and the clients, for operators."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from heapq import nlargest
from typing import Any

from tradeproxy.downstream.clients import Clients, ClientStats
from tradeproxy.hub.account import Account
from tradeproxy.runtime.stats import SERIES_LENGTH, SERIES_STEP
from tradeproxy.web.health import readyz
from tradeproxy.web.routes import find_path
from tradeproxy.webhooks.state import DeliveryStats
from tradeproxy.wire.proxy_status import describe_gap, describe_upstream, format_seconds

MAX_LISTED = 200
"""Clients that are listed; `count` includes all."""

MAX_AGE = 1.0
"""Seconds for which one document serves every request.

Building it costs time for each client, and many dashboards may be open.
"""

DAY = 24 * 60 * 60


class StatusPage:
    """The document at /status.json."""

    def __init__(
        self,
        accounts: Mapping[str, Account],
        clients: Clients,
        wall_clock: Callable[[], float],
        list_webhooks: Callable[[], Sequence[DeliveryStats]],
    ) -> None:
        self._list_webhooks = list_webhooks
        self._accounts = accounts
        self._clients = clients
        self._wall_clock = wall_clock
        self._since = wall_clock()
        self._cached: tuple[float, bytes] | None = None
        self._states: list[Any] = []

    def render(self) -> bytes:
        """Return the JSON document, up to MAX_AGE seconds old; the accounts' states are current."""
        now, states = self._wall_clock(), self._read_states()
        # A clock that was set back must not keep an old document alive.
        is_fresh = self._cached is not None and 0 <= now - self._cached[0] < MAX_AGE
        if self._cached is None or not is_fresh or states != self._states:
            document = json.dumps(self._build_document(now), separators=(",", ":")).encode()
            self._cached, self._states = (now, document + b"\n"), states
        return self._cached[1]

    def _read_states(self) -> list[Any]:
        """Return what status frames report: a page that got one must not show an older state."""
        accounts = self._accounts.values()
        return [
            readyz(accounts)[1]["reasons"],
            *((each.stream_state, each.log.status) for each in accounts),
        ]

    def _build_document(self, now: float) -> dict[str, Any]:
        _, health = readyz(self._accounts.values(), self._clients.count_by_account())
        return {
            "now": format_seconds(now),
            "started": format_seconds(self._since),
            "accounts": {
                name: health["accounts"][name] | _describe_account(account, now)
                for name, account in self._accounts.items()
            },
            "webhooks": [_describe_webhook(stats) for stats in self._list_webhooks()],
            "clients": self._describe_clients(),
            "refusals": dict(self._clients.rejections.counts),
        }

    def _describe_clients(self) -> dict[str, Any]:
        all_stats = self._clients.list_stats()
        return {
            "count": len(all_stats),
            "slow": sum(stats.is_slow for stats in all_stats),
            "dashboards": self._clients.dashboards,
            # ClientStats compares by lag, so the slowest clients come first.
            "listed": [_describe_client(stats) for stats in nlargest(MAX_LISTED, all_stats)],
        }


def _describe_webhook(stats: DeliveryStats) -> dict[str, Any]:
    last = stats.last_sent
    return {
        "name": stats.webhook,
        "account": stats.account,
        "format": stats.format,
        "state": stats.state.value,
        "reason": stats.reason,
        "last_sent": None if last is None else format_seconds(last),
        "sent": stats.sent,
        "failures": stats.failures,
        "rejected": stats.rejected,
        "skipped": stats.skipped,
    }


def _describe_account(account: Account, now: float) -> dict[str, Any]:
    latest, attempt = account.log.newest_time, account.next_attempt
    return {
        "path": find_path(account.name).removeprefix("/"),
        "upstream": describe_upstream(account.upstream)
        | {"next_attempt": None if attempt is None else format_seconds(attempt)},
        "reconnects": account.reconnects,
        "last_event": None if latest is None else format_seconds(latest / 1_000_000),
        "events_today": _count_since(account, int(now) // DAY * DAY),
        "gaps": [describe_gap(gap) for gap in account.stream_state.gaps],
        "series": _describe_series(account, now),
    }


def _describe_series(account: Account, now: float) -> dict[str, Any]:
    """Return event counts and latencies for the last SERIES_LENGTH steps, the current included.

    A count is None for a step from which the journal does not have every event.
    """
    step = int(now) // SERIES_STEP
    starts = range(step - SERIES_LENGTH + 1, step + 1)
    # The counts come from the journal. It has the events from before this process started, and
    # it files a recovered event under the time at which it happened.
    counts_since = [_count_since(account, start * SERIES_STEP) for start in (*starts, step + 1)]
    complete_from = account.log.complete_from / 1_000_000
    return {
        "step": SERIES_STEP,
        "end": format_seconds((step + 1) * SERIES_STEP),
        "events": [
            None
            if (start + 1) * SERIES_STEP <= complete_from
            else max(counts_since[index] - counts_since[index + 1], 0)
            for index, start in enumerate(starts)
        ],
        "latency": account.slowest.series(step),
    }


def _count_since(account: Account, seconds: int) -> int:
    """Return the number of rows from the first event at or after `seconds` (Unix time) on."""
    seq = account.log.first_since(seconds * 1_000_000)
    return 0 if seq is None else account.lag(seq - 1)


def _describe_client(stats: ClientStats) -> dict[str, Any]:
    return {
        "account": stats.account,
        "name": stats.info.name,
        "address": stats.info.address,
        "user_agent": stats.info.user_agent,
        "dialect": stats.info.dialect,
        "since": format_seconds(stats.info.since),
        "lag": stats.lag,
        "slow": stats.is_slow,
        "closing": stats.is_closing,
    }
