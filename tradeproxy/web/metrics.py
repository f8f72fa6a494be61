"""The metrics at /metrics for Prometheus, read from the accounts and clients at every scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tradeproxy.downstream.clients import Clients
from tradeproxy.hub.account import Account
from tradeproxy.runtime.stats import Histogram
from tradeproxy.webhooks.state import DeliveryStats
from tradeproxy.wire.event import EVENT_KINDS, OTHER_KIND
from tradeproxy.wire.proxy_status import GapOutcome

OPEN_METRICS = "application/openmetrics-text"

SLOW_PREFIX = "read too slowly"
"""The beginning of the rejection reasons of slow clients."""

MICROSECONDS = 1_000_000

MAX_AGE = 1.0
"""Seconds for which one document serves every request. Rendering one takes milliseconds."""

Values: TypeAlias = Mapping[str, float | None]
"""By the name of a metric. None, as a missing name, means that there is no value yet."""

# The help text of each metric, by its name without the prefix. Every scrape has all of them.

ACCOUNT_GAUGES = {
    "upstream_streaming": "Whether Alpaca streams the account's events: 1, or 0.",
    "upstream_mute": "Whether only the regular check finds events: 1, or 0.",
    "upstream_since_timestamp_seconds": (
        "When the stream went up or down; failed attempts do not change it."
    ),
    "last_event_timestamp_seconds": (
        "The time of the newest event in the journal, by Alpaca's clock."
    ),
    "gap_open": "Whether events may be missing that a backfill has not found yet: 1, or 0.",
    "holding": "Whether new events wait for missed ones: 1, or 0.",
    "journal_durable": "Whether every event is on the disk before it is delivered: 1, or 0.",
    "journal_rows": "Events in the journal.",
    "journal_oldest_timestamp_seconds": "The time from which the journal has every event.",
    "book_rows_behind": (
        "Events of the journal that the book of orders and positions does not have yet."
    ),
    "book_complete": (
        "Whether nothing is missing in the book, as far as Alpaca's last answer shows: 1, or 0."
    ),
    "trade_log_failing": "Whether the trade log cannot be written now: 1, or 0.",
    "trade_log_lag_events": "Events in the journal that are not in the trade log yet.",
    "leader": "Whether this node is the account's leader: 1, or 0.",
    "lease_renewed_timestamp_seconds": "When this node last renewed the account's lease.",
    "log_lag_events": "Events in the shared log that this node had not read at its last check.",
}
ACCOUNT_COUNTERS = {
    "duplicates": "Events that Alpaca sent again; they were not delivered again.",
    "malformed_frames": "Frames from Alpaca that were dropped; the log has the first of each kind.",
    "book_corrections": "Positions of the book that were wrong in two comparisons in a row.",
    "trade_log_events": "Events that were written to the trade log.",
    "trade_log_missing": (
        "Events that the trade log does not have: trimmed too early, or never stored."
    ),
    "leader_turns": "How often this node has become the account's leader.",
}
HISTOGRAMS = {
    "journal_commit_seconds": "Duration of one commit of a batch.",
    "delivery_latency_seconds": (
        "From the read of a batch's first event to the write to the last client that keeps up."
    ),
    "burst_events": "Events in one batch: committed and delivered together.",
}
LABELLED_COUNTERS = {
    "upstream_reconnects": ("reason", "Attempts to connect to Alpaca again, by reason."),
    "events": ("kind", "Events that were delivered, each counted once."),
    "gaps": ("outcome", "Gaps that began (pending), and their outcomes."),
    "recovered_events": ("by", "Missed events that were found in gaps or by regular checks."),
}
"""The label beside the account, and the help text."""

WEBHOOK_COUNTERS = {
    "webhook_sent": "Messages that the receiver has accepted.",
    "webhook_failures": "Attempts that failed; the message is sent again.",
    "webhook_rejected": "Messages that the receiver has refused for good.",
    "webhook_skipped": "Events that were not sent: too old, or no longer stored.",
}
WEBHOOK_GAUGES = {
    "webhook_up": "Whether the last attempt to send was accepted: 1, or 0.",
    "webhook_last_sent_timestamp_seconds": "When the receiver last accepted a message.",
}


class Metrics:
    """The document at /metrics. Every scrape has the same metric names from the start."""

    def __init__(
        self,
        accounts: Iterable[Account],
        clients: Clients,
        seconds: Callable[[], float],
        list_webhooks: Callable[[], Sequence[DeliveryStats]] = tuple,
    ) -> None:
        """Create the document of all accounts and clients.

        `seconds` is a clock that cannot be set. `list_webhooks` returns the state of every webhook
        and account.
        """
        self._seconds = seconds
        self._cached: dict[str, tuple[float, bytes]] = {}
        self._registry = CollectorRegistry()
        self._registry.register(ProxyCollector(accounts, clients, list_webhooks))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics in the format that the Accept header prefers, and their Content-Type.

        The formats are OpenMetrics 1.0 and the text format, which a malformed header gets. The
        document is up to MAX_AGE seconds old.
        """
        try:
            _, preferred = choose_encoder(accept)
        except (TypeError, ValueError):  # prometheus_client parses the version in the header
            preferred = ""
        # The version in the header is the client's choice. Each would be another document.
        is_open = preferred.startswith(OPEN_METRICS)
        encode, content_type = choose_encoder(OPEN_METRICS if is_open else "")
        now = self._seconds()
        rendered, document = self._cached.get(content_type, (now - MAX_AGE, b""))
        if now - rendered >= MAX_AGE:
            document = encode(self._registry)
            self._cached[content_type] = now, document
        return document, content_type


class ProxyCollector(Collector):
    """Reads the metrics from the accounts and the clients.

    Label values are names of accounts and webhooks, and words of fixed sets. Nothing that a client
    or Alpaca sends becomes a label value, so the number of time series is bounded.
    """

    def __init__(
        self,
        accounts: Iterable[Account],
        clients: Clients,
        list_webhooks: Callable[[], Sequence[DeliveryStats]],
    ) -> None:
        self._accounts = tuple(accounts)
        self._list_webhooks = list_webhooks
        self._clients = clients

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        values = [([account.name], _read_account(account)) for account in self._accounts]
        yield from _build(GaugeMetricFamily, ACCOUNT_GAUGES, ["account"], values)
        yield from _build(CounterMetricFamily, ACCOUNT_COUNTERS, ["account"], values)
        for name, text in HISTOGRAMS.items():
            family = HistogramMetricFamily(f"tradeproxy_{name}", text, labels=["account"])
            for account in self._accounts:
                measured = _find_histograms(account)[name]
                family.add_metric([account.name], _buckets(measured), measured.total)
            yield family
        for name, (label, text) in LABELLED_COUNTERS.items():
            counter = CounterMetricFamily(f"tradeproxy_{name}", text, labels=["account", label])
            for account in self._accounts:
                for label_value, count in _count_by_label(account)[name].items():
                    counter.add_metric([account.name, label_value], count)
            yield counter
        yield from self._collect_clients()
        labels, all_stats = ["webhook", "account"], self._list_webhooks()
        webhooks = [([each.webhook, each.account], _read_webhook(each)) for each in all_stats]
        yield from _build(CounterMetricFamily, WEBHOOK_COUNTERS, labels, webhooks)
        yield from _build(GaugeMetricFamily, WEBHOOK_GAUGES, labels, webhooks)

    def _collect_clients(self) -> Iterator[Metric]:
        clients, rejections = self._clients, self._clients.rejections.counts
        labels = ["account", "dialect"]
        connected = GaugeMetricFamily(
            "tradeproxy_clients", "Clients that are connected to a stream.", labels=labels
        )
        accepted = CounterMetricFamily(
            "tradeproxy_client_connections",
            "Clients that have connected to a stream.",
            labels=labels,
        )
        for family, counts in ((connected, clients.connected), (accepted, clients.accepted)):
            for client_labels, count in counts.items():
                family.add_metric([client_labels.account, client_labels.dialect], count)
        rejected = CounterMetricFamily(
            "tradeproxy_refusals", "Clients that were rejected or dropped.", labels=["reason"]
        )
        for reason, count in rejections.items():
            rejected.add_metric([reason], count)
        yield from (connected, accepted, rejected)
        slow = sum(count for reason, count in rejections.items() if reason.startswith(SLOW_PREFIX))
        yield CounterMetricFamily(
            "tradeproxy_slow_closes", "Clients among these that read too slowly.", slow
        )
        yield GaugeMetricFamily(
            "tradeproxy_connections",
            "Clients that count against the limit.",
            clients.sockets.logged_in,
        )
        yield GaugeMetricFamily(
            "tradeproxy_connections_limit",
            "PROXY_MAX_CLIENTS, or fewer if the limit of open files is low.",
            clients.sockets.clients,
        )


def _read_account(account: Account) -> Values:
    log, book, trade_log, role = account.log, account.book, account.trade_log, account.role
    values: dict[str, float | None] = {
        "upstream_streaming": account.upstream.streaming,
        "upstream_mute": account.is_mute,
        "upstream_since_timestamp_seconds": account.upstream.since,
        "last_event_timestamp_seconds": _seconds(log.newest_time),
        "gap_open": account.open_gap is not None,
        "holding": account.is_buffering,
        "journal_durable": log.status.durable,
        "journal_rows": log.last - log.first + 1,
        "journal_oldest_timestamp_seconds": _seconds(log.complete_from),
        "duplicates": log.duplicates,
        "malformed_frames": account.dropped_frames.total(),
    }
    if book is not None:
        values |= {
            "book_rows_behind": book.rows_behind,
            "book_complete": book.is_complete,
            "book_corrections": book.corrected,
        }
    if trade_log is not None:
        position = trade_log.position  # None on a node that does not write
        values |= {
            "trade_log_failing": trade_log.is_failing,
            "trade_log_lag_events": None if position is None else account.lag(position),
            "trade_log_events": trade_log.rows,
            "trade_log_missing": trade_log.missing,
        }
    if role is not None:
        values |= {
            "leader": role.is_leader,
            "lease_renewed_timestamp_seconds": role.lease_renewed,
            "log_lag_events": role.lag,
            "leader_turns": role.terms,
        }
    return values


def _find_histograms(account: Account) -> Mapping[str, Histogram]:
    return {
        "journal_commit_seconds": account.log.commit_seconds,
        "delivery_latency_seconds": account.latency,
        "burst_events": account.batch_sizes,
    }


def _count_by_label(account: Account) -> Mapping[str, Mapping[str, int]]:
    """Return the counts of LABELLED_COUNTERS, by label value.

    Every label value exists from the start. Prometheus cannot see an increase from "no sample" to
    1, so rate() and increase() would miss the first event.
    """
    kinds = (*sorted(EVENT_KINDS), OTHER_KIND)
    return {
        "upstream_reconnects": account.reconnect_reasons,
        "events": {kind: account.log.event_counts[kind] for kind in kinds},
        "gaps": {outcome.value: account.gap_outcomes[outcome] for outcome in GapOutcome},
        "recovered_events": account.found_events,
    }


def _read_webhook(stats: DeliveryStats) -> Values:
    return {
        "webhook_sent": stats.sent,
        "webhook_failures": stats.failures,
        "webhook_rejected": stats.rejected,
        "webhook_skipped": stats.skipped,
        "webhook_up": stats.problem is None,
        "webhook_last_sent_timestamp_seconds": stats.last_sent,
    }


def _build(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    texts: Mapping[str, str],
    labels: list[str],
    values: Iterable[tuple[list[str], Values]],
) -> Iterator[Metric]:
    """Yield a family for each metric. Without a value a counter is 0, and a gauge has no sample."""
    for name, text in texts.items():
        family = kind(f"tradeproxy_{name}", text, labels=labels)
        for label_values, found in values:
            value = found.get(name)
            if value is not None or kind is CounterMetricFamily:
                family.add_metric(label_values, value or 0)
        yield family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return list(zip([*map(repr, histogram.bounds), "+Inf"], histogram.counts, strict=True))


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / MICROSECONDS
