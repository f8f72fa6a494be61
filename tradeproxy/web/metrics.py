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

WEBHOOK_COUNTERS: tuple[tuple[str, str, Callable[[DeliveryStats], int]], ...] = (
    (
        "webhook_sent",
        "Messages that the receiver has accepted.",
        lambda stats: stats.sent,
    ),
    (
        "webhook_failures",
        "Attempts that failed; the message is sent again.",
        lambda stats: stats.failures,
    ),
    (
        "webhook_rejected",
        "Messages that the receiver has refused for good.",
        lambda stats: stats.rejected,
    ),
    (
        "webhook_skipped",
        "Events that were not sent: too old, or no longer stored.",
        lambda stats: stats.skipped,
    ),
)

OPEN_METRICS = "application/openmetrics-text"

SLOW_PREFIX = "read too slowly"
"""The beginning of the rejection reasons of slow clients."""

MICROSECONDS = 1_000_000

MAX_AGE = 1.0
"""Seconds for which one document serves every request. Rendering one takes milliseconds."""

AccountMetric: TypeAlias = "tuple[str, str, Callable[[Account], float | None]]"
"""A name, its help text and a function for the value, which is None if there is none yet."""

GAUGES: tuple[AccountMetric, ...] = (
    (
        "upstream_streaming",
        "Whether Alpaca streams the account's events: 1, or 0.",
        lambda account: account.upstream.streaming,
    ),
    (
        "upstream_mute",
        "Whether only the regular check finds events: 1, or 0.",
        lambda account: account.is_mute,
    ),
    (
        "upstream_since_timestamp_seconds",
        "When the stream went up or down; failed attempts do not change it.",
        lambda account: account.upstream.since,
    ),
    (
        "last_event_timestamp_seconds",
        "The time of the newest event in the journal, by Alpaca's clock.",
        lambda account: _seconds(account.log.newest_time),
    ),
    (
        "gap_open",
        "Whether events may be missing that a backfill has not found yet: 1, or 0.",
        lambda account: account.open_gap is not None,
    ),
    (
        "holding",
        "Whether new events wait for missed ones: 1, or 0.",
        lambda account: account.is_buffering,
    ),
    (
        "journal_durable",
        "Whether every event is on the disk before it is delivered: 1, or 0.",
        lambda account: account.log.status.durable,
    ),
    (
        "journal_rows",
        "Events in the journal.",
        lambda account: account.log.last - account.log.first + 1,
    ),
    (
        "journal_oldest_timestamp_seconds",
        "The time from which the journal has every event.",
        lambda account: _seconds(account.log.complete_from),
    ),
    (
        "book_rows_behind",
        "Events of the journal that the book of orders and positions does not have yet.",
        lambda account: None if account.book is None else account.book.rows_behind,
    ),
    (
        "book_complete",
        "Whether nothing is missing in the book, as far as Alpaca's last answer shows: 1, or 0.",
        lambda account: None if account.book is None else account.book.is_complete,
    ),
    (
        "trade_log_failing",
        "Whether the trade log cannot be written now: 1, or 0.",
        lambda account: None if account.trade_log is None else account.trade_log.is_failing,
    ),
    (
        "trade_log_lag_events",
        "Events in the journal that are not in the trade log yet.",
        lambda account: _read_trade_log_lag(account),
    ),
    (
        "leader",
        "Whether this node is the account's leader: 1, or 0.",
        lambda account: None if account.role is None else account.role.is_leader,
    ),
    (
        "lease_renewed_timestamp_seconds",
        "When this node last renewed the account's lease.",
        lambda account: None if account.role is None else account.role.lease_renewed,
    ),
    (
        "log_lag_events",
        "Events in the shared log that this node had not read at its last check.",
        lambda account: None if account.role is None else account.role.lag,
    ),
)

COUNTERS: tuple[AccountMetric, ...] = (
    (
        "duplicates",
        "Events that Alpaca sent again; they were not delivered again.",
        lambda account: account.log.duplicates,
    ),
    (
        "malformed_frames",
        "Frames from Alpaca that were dropped; the log has the first of each kind.",
        lambda account: account.dropped_frames.total(),
    ),
    (
        "book_corrections",
        "Positions of the book that were wrong in two comparisons in a row.",
        lambda account: None if account.book is None else account.book.corrected,
    ),
    (
        "trade_log_events",
        "Events that were written to the trade log.",
        lambda account: None if account.trade_log is None else account.trade_log.rows,
    ),
    (
        "trade_log_missing",
        "Events that the trade log does not have: trimmed too early, or never stored.",
        lambda account: None if account.trade_log is None else account.trade_log.missing,
    ),
    (
        "leader_turns",
        "How often this node has become the account's leader.",
        lambda account: None if account.role is None else account.role.terms,
    ),
)

LABELLED_COUNTERS: tuple[tuple[str, str, str, Callable[[Account], Mapping[str, int]]], ...] = (
    # Each tuple: name, label, help text, and a function for the counts by label value.
    # Every label value exists from the start. Prometheus cannot see an increase from "no sample"
    # to 1, so rate() and increase() would miss the first event.
    (
        "upstream_reconnects",
        "reason",
        "Attempts to connect to Alpaca again, by reason.",
        lambda account: account.reconnect_reasons,
    ),
    (
        "events",
        "kind",
        "Events that were delivered, each counted once.",
        lambda account: {
            kind: account.log.event_counts[kind] for kind in (*sorted(EVENT_KINDS), OTHER_KIND)
        },
    ),
    (
        "gaps",
        "outcome",
        "Gaps that began (pending), and their outcomes.",
        lambda account: {outcome.value: account.gap_outcomes[outcome] for outcome in GapOutcome},
    ),
    (
        "recovered_events",
        "by",
        "Missed events that were found in gaps or by regular checks.",
        lambda account: account.found_events,
    ),
)

HISTOGRAMS: tuple[tuple[str, str, Callable[[Account], Histogram]], ...] = (
    (
        "journal_commit_seconds",
        "Duration of one commit of a batch.",
        lambda account: account.log.commit_seconds,
    ),
    (
        "delivery_latency_seconds",
        "From the read of a batch's first event to the write to the last client that keeps up.",
        lambda account: account.latency,
    ),
    (
        "burst_events",
        "Events in one batch: committed and delivered together.",
        lambda account: account.batch_sizes,
    ),
)


class Metrics:
    """The document at /metrics. Every scrape has the same metric names from the start."""

    def __init__(
        self,
        accounts: Iterable[Account],
        clients: Clients,
        seconds: Callable[[], float],
        list_webhooks: Callable[[], Sequence[DeliveryStats]] = tuple,
    ) -> None:
        """Create the document.

        Args:
            accounts: all of them.
            clients: all of them.
            seconds: a clock that cannot be set.
            list_webhooks: returns the state of every webhook and account.
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
        for name, label, text, counts in LABELLED_COUNTERS:
            counter = CounterMetricFamily(f"tradeproxy_{name}", text, labels=["account", label])
            for account in self._accounts:
                for label_value, count in counts(account).items():
                    counter.add_metric([account.name, label_value], count)
            yield counter
        yield from self._collect_clients()
        yield from self._collect_webhooks()

    def _collect_webhooks(self) -> Iterator[Metric]:
        labels, all_stats = ["webhook", "account"], self._list_webhooks()
        for name, text, count in WEBHOOK_COUNTERS:
            counter = CounterMetricFamily(f"tradeproxy_{name}", text, labels=labels)
            for stats in all_stats:
                counter.add_metric([stats.webhook, stats.account], count(stats))
            yield counter
        works = GaugeMetricFamily(
            "tradeproxy_webhook_up",
            "Whether the last attempt to send was accepted: 1, or 0.",
            labels=labels,
        )
        last = GaugeMetricFamily(
            "tradeproxy_webhook_last_sent_timestamp_seconds",
            "When the receiver last accepted a message.",
            labels=labels,
        )
        for stats in all_stats:
            works.add_metric([stats.webhook, stats.account], stats.problem is None)
            if stats.last_sent is not None:
                last.add_metric([stats.webhook, stats.account], stats.last_sent)
        yield from (works, last)

    def _collect_clients(self) -> Iterator[Metric]:
        clients, rejections = self._clients, self._clients.rejections.counts
        connected = GaugeMetricFamily(
            "tradeproxy_clients",
            "Clients that are connected to a stream.",
            labels=["account", "dialect"],
        )
        accepted = CounterMetricFamily(
            "tradeproxy_client_connections",
            "Clients that have connected to a stream.",
            labels=["account", "dialect"],
        )
        for client_labels, count in clients.connected.items():
            connected.add_metric([client_labels.account, client_labels.dialect], count)
        for client_labels, count in clients.accepted.items():
            accepted.add_metric([client_labels.account, client_labels.dialect], count)
        rejected = CounterMetricFamily(
            "tradeproxy_refusals", "Clients that were rejected or dropped.", labels=["reason"]
        )
        for reason, count in rejections.items():
            rejected.add_metric([reason], count)
        yield from (connected, accepted, rejected)
        slow = sum(count for reason, count in rejections.items() if reason.startswith(SLOW_PREFIX))
        yield CounterMetricFamily(
            "tradeproxy_slow_closes",
            "Clients among these that read too slowly.",
            slow,
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


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return list(zip([*map(repr, histogram.bounds), "+Inf"], histogram.counts, strict=True))


def _read_trade_log_lag(account: Account) -> float | None:
    """Return how many rows are not written yet; None on a node that does not write."""
    state = account.trade_log
    if state is None or state.position is None:
        return None
    return account.lag(state.position)


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / MICROSECONDS
