"""The state of the proxy for Prometheus: read where it is kept, when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tradeproxy.wire.event import EVENT_KINDS, OTHER_KIND
from tradeproxy.wire.proxy_status import GapOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import Metric

    from tradeproxy.downstream.clients import Clients
    from tradeproxy.hub.account import Account
    from tradeproxy.runtime.stats import Histogram

SLOW = "read too slowly"
"""How the reasons begin for which slow clients are let go."""

MICROSECONDS = 1_000_000

AccountMetric: TypeAlias = "tuple[str, str, Callable[[Account], float | None]]"
"""A name, its help, and how to find the value; None where there is none yet."""

GAUGES: tuple[AccountMetric, ...] = (
    (
        "upstream_streaming",
        "Whether Alpaca streams the account's events: 1, or 0.",
        lambda account: account.upstream.streaming,
    ),
    (
        "upstream_since_timestamp_seconds",
        "When that began; an outage lasts until events stream again, however often that is tried.",
        lambda account: account.upstream.since,
    ),
    (
        "last_event_timestamp_seconds",
        "The time of the newest event, by Alpaca's clock; of an earlier run too.",
        lambda account: _seconds(account.journal.latest_time),
    ),
    (
        "gap_open",
        "Whether events may have been missed that are sought, or will be: 1, or 0.",
        lambda account: account.gaps.current is not None,
    ),
    (
        "holding",
        "Whether new events wait for missed ones: 1, or 0.",
        lambda account: account.is_buffering,
    ),
    (
        "journal_durable",
        "Whether every event is on the disk before it is handed on: 1, or 0.",
        lambda account: account.journal.status.durable,
    ),
    (
        "journal_rows",
        "Events that are kept.",
        lambda account: account.journal.last - account.journal.first + 1,
    ),
    (
        "journal_oldest_timestamp_seconds",
        "From when on the journal has every event.",
        lambda account: _seconds(account.journal.complete_from),
    ),
    (
        "leader",
        "Whether this node holds the account's connection to Alpaca: 1, or 0.",
        lambda account: None if account.role is None else account.role.is_leader,
    ),
    (
        "lease_renewed_timestamp_seconds",
        "When this node last renewed its hold on that.",
        lambda account: None if account.role is None else account.role.lease_renewed,
    ),
    (
        "log_lag_events",
        "Events in the shared log that this node had not read when it last looked.",
        lambda account: None if account.role is None else account.role.lag,
    ),
)

COUNTERS: tuple[AccountMetric, ...] = (
    (
        "duplicates",
        "Events that Alpaca sent again, and that were not handed on again.",
        lambda account: account.journal.duplicates,
    ),
    (
        "malformed_frames",
        "Frames from Alpaca that could not be used; the log has the first of each kind.",
        lambda account: account.dropped_frames.total(),
    ),
    (
        "leader_turns",
        "How often this node has come to hold the account's connection to Alpaca.",
        lambda account: None if account.role is None else account.role.terms,
    ),
)

COUNTERS_BY_WORD: tuple[tuple[str, str, str, Callable[[Account], Mapping[str, int]]], ...] = (
    # Every word is there from the start: Prometheus does not see the first step of what begins with 1.
    (
        "upstream_reconnects",
        "reason",
        "Attempts to reach Alpaca again, by what was before.",
        lambda account: account.reconnect_reasons,
    ),
    (
        "events",
        "kind",
        "Events that were handed on, each once.",
        lambda account: {
            kind: account.journal.event_counts[kind] for kind in (*sorted(EVENT_KINDS), OTHER_KIND)
        },
    ),
    (
        "gaps",
        "outcome",
        "Gaps that began (pending), and what became of them.",
        lambda account: {outcome.value: account.gaps.outcomes[outcome] for outcome in GapOutcome},
    ),
    (
        "recovered_events",
        "by",
        "Missed events that were found: in gaps, or by regular checks.",
        lambda account: {"gap": account.gaps.found_in_gaps, "check": account.gaps.found_by_checks},
    ),
)

HISTOGRAMS: tuple[tuple[str, str, Callable[[Account], Histogram]], ...] = (
    (
        "journal_commit_seconds",
        "What the disk took for a burst.",
        lambda account: account.journal.commit_seconds,
    ),
    (
        "delivery_latency_seconds",
        "From the read of a burst's first event until it was handed to the last client that keeps up.",
        lambda account: account.latency,
    ),
    (
        "burst_events",
        "Events that were committed together, and handed on together.",
        lambda account: account.batch_sizes,
    ),
)


class Metrics:
    """What `/metrics` answers; every scrape sees the same names, whatever has happened so far."""

    def __init__(self, accounts: Iterable[Account], clients: Clients) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(ProxyCollector(accounts, clients))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics in the form that the Accept header prefers, and their Content-Type."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # it compares what a client calls a version
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type


class ProxyCollector(Collector):
    """Reads the accounts and the clients. Labels are accounts, and words of fixed sets."""

    def __init__(self, accounts: Iterable[Account], clients: Clients) -> None:
        self._accounts = tuple(accounts)
        self._clients = clients

    def collect(self) -> Iterator[Metric]:
        """Yield all that there is."""
        for name, text, value in GAUGES:
            gauge = GaugeMetricFamily(f"tradeproxy_{name}", text, labels=["account"])
            for account in self._accounts:
                if (found := value(account)) is not None:
                    gauge.add_metric([account.name], found)
            yield gauge
        for name, text, value in COUNTERS:
            counter = CounterMetricFamily(f"tradeproxy_{name}", text, labels=["account"])
            for account in self._accounts:
                counter.add_metric([account.name], value(account) or 0)
            yield counter
        for name, text, histogram in HISTOGRAMS:
            family = HistogramMetricFamily(f"tradeproxy_{name}", text, labels=["account"])
            for account in self._accounts:
                measured = histogram(account)
                family.add_metric([account.name], _buckets(measured), measured.total)
            yield family
        for name, label, text, counts in COUNTERS_BY_WORD:
            counter = CounterMetricFamily(f"tradeproxy_{name}", text, labels=["account", label])
            for account in self._accounts:
                for word, count in counts(account).items():
                    counter.add_metric([account.name, word], count)
            yield counter
        yield from self._of_clients()

    def _of_clients(self) -> Iterator[Metric]:
        clients, refusals = self._clients, self._clients.rejections.counts
        connected = GaugeMetricFamily(
            "tradeproxy_clients", "Clients that follow a stream.", labels=["account", "dialect"]
        )
        came = CounterMetricFamily(
            "tradeproxy_client_connections",
            "Clients that have come to follow a stream.",
            labels=["account", "dialect"],
        )
        for sort, count in clients.connected.items():
            connected.add_metric([sort.account, sort.dialect], count)
        for sort, count in clients.accepted.items():
            came.add_metric([sort.account, sort.dialect], count)
        refused = CounterMetricFamily(
            "tradeproxy_refusals", "Clients that were turned away or let go.", labels=["reason"]
        )
        for reason, count in refusals.items():
            refused.add_metric([reason], count)
        yield from (connected, came, refused)
        slow = sum(count for reason, count in refusals.items() if reason.startswith(SLOW))
        yield CounterMetricFamily(
            "tradeproxy_slow_closes",
            "Clients among these that did not read what they were sent.",
            slow,
        )
        yield GaugeMetricFamily(
            "tradeproxy_connections", "Connections that count against the limit.", len(clients)
        )
        yield GaugeMetricFamily("tradeproxy_connections_limit", "PROXY_MAX_CLIENTS.", clients.limit)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return list(zip([*map(repr, histogram.bounds), "+Inf"], histogram.counts, strict=True))


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / MICROSECONDS
