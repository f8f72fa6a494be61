"""Tests for tradeproxy.web.metrics; its names match docs/metrics.md and the files in deploy/."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from twisted.test.iosim import FakeTransport

from tests.support import frames
from tests.support.journals import event
from tests.support.proxy import NarrowTransport, ProxyTestCase
from tradeproxy.book.book import Book
from tradeproxy.config.settings import Limits
from tradeproxy.hub.replication import NodeRole
from tradeproxy.hub.trade_log_state import TradeLogState
from tradeproxy.journal.base import Batch
from tradeproxy.web import metrics
from tradeproxy.webhooks.state import DeliveryStats
from tradeproxy.wire.proxy_status import GapOutcome

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "metrics.md"
DEPLOYED = (ROOT / "deploy" / "alerts.yml", ROOT / "deploy" / "grafana.json")

TABLE_ROW = re.compile(r"\| `(tradeproxy_\w+)` \| (\w+) \| ([\w, ]*?) ?\|")
STREAM = "/trade-updates-paper"
AUTH = b'{"action":"auth","key":"any","secret":"any"}'


class SlowSubscriber:
    """A subscriber whose `deliver` takes time."""

    size = 1

    def __init__(self, take: Callable[[], None]) -> None:
        self._take = take

    def deliver(self, batch: Batch) -> None:
        """Let the time pass."""
        self._take()

    def announce(self, status: bytes) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


class MetricsTestCase(ProxyTestCase):
    """Requests /metrics from the site and parses it as Prometheus does."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(metrics, "MAX_AGE", 0.0)  # most tests ask again at once

    def families(self, **headers: str) -> list[Any]:
        return list(text_string_to_metric_families(self.request("/metrics", **headers).body))

    def samples(self) -> dict[str, float]:
        """Return every value by name and labels, without those of the process."""
        return {
            f"{sample.name}{sample.labels}": sample.value
            for family in self.families()
            for sample in family.samples
            if not sample.name.startswith("process_")
        }

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples().get(f"tradeproxy_{name}{labels}")

    def counts(self, name: str, label: str, account: str = "paper") -> dict[str, float]:
        """Return the values that are not 0, by one label."""
        return {
            sample.labels[label]: sample.value
            for family in self.families()
            for sample in family.samples
            if sample.name == f"tradeproxy_{name}"
            and sample.labels.get("account", account) == account
            and sample.value
        }

    def pass_time(self, seconds: float) -> None:
        """Let time pass in the middle of an operation, without running timers."""
        self.clock.rightNow += seconds


class UpstreamMetricsTests(MetricsTestCase):
    """Metrics of the upstream."""

    def test_upstream_down_keeps_start_of_outage(self) -> None:
        """Failed attempts to reconnect do not restart an outage."""
        self.paper.mark_upstream_up()
        self.assertEqual(self.value("upstream_streaming", account="paper"), 1)
        self.assertEqual(self.value("upstream_streaming", account="live"), 0)
        self.wires.advance(60)
        self.paper.mark_upstream_down("connection lost")
        self.wires.advance(5)
        self.paper.mark_upstream_down("HTTP 502 at the handshake")
        self.assertEqual(self.value("upstream_streaming", account="paper"), 0)
        began = self.clock.seconds() - 5
        self.assertEqual(self.value("upstream_since_timestamp_seconds", account="paper"), began)

    def test_events_are_counted_once_by_kind(self) -> None:
        """A repeated event is a duplicate; an unknown kind is `other`."""
        kinds = ("new", "fill", "fill", "made_up", None)
        for n, kind in enumerate(kinds):
            self.paper.publish(event(n, event=kind))
        self.paper.publish(event(1, event="fill"))
        self.wires.flush()
        self.assertEqual(self.counts("events_total", "kind"), {"new": 1, "fill": 2, "other": 2})
        self.assertEqual(self.value("duplicates_total", account="paper"), 1)
        self.assertEqual(self.value("duplicates_total", account="live"), 0)

    def test_events_not_on_disk_are_counted(self) -> None:
        """They are delivered too."""
        self.disk.refuse_writing()
        self.publish(self.paper, frames.NEW)
        self.assertEqual(self.counts("events_total", "kind"), {"new": 1})
        self.assertEqual(self.value("journal_durable", account="paper"), 0)
        self.assertEqual(self.value("journal_durable", account="live"), 1)

    def test_last_event_time_exists_after_first_event(self) -> None:
        """It is a time of Alpaca's clock."""
        self.assertIsNone(self.value("last_event_timestamp_seconds", account="paper"))
        self.paper.publish(event(7))
        self.wires.flush()
        time = event(7).time
        assert time is not None
        self.assertEqual(
            self.value("last_event_timestamp_seconds", account="paper"), time / 1_000_000
        )

    def test_malformed_frames_are_counted(self) -> None:
        """Every kind of malformed frame counts."""
        for problem in ("not JSON", "not JSON", "an error frame"):
            self.paper.drop_frame(problem)
        self.assertEqual(self.value("malformed_frames_total", account="paper"), 3)

    def test_gaps_are_counted_by_outcome(self) -> None:
        """A gap counts once when it begins, and once for each outcome."""
        self.publish(self.paper, frames.NEW)
        for outcome in (GapOutcome.RECOVERED, GapOutcome.LOST):
            self.paper.mark_upstream_up()
            self.paper.mark_upstream_down("connection lost")
            self.assertEqual(self.value("gap_open", account="paper"), 1)
            self.paper.mark_upstream_up()
            self.paper.gaps.settle(GapOutcome.OPEN, "Alpaca takes long")
            self.paper.gaps.settle(GapOutcome.OPEN, "Alpaca takes longer")
            self.paper.gaps.count_found(3)
            self.paper.gaps.settle(outcome)
        self.paper.gaps.count_found(2)  # by a check
        self.assertEqual(self.value("gap_open", account="paper"), 0)
        self.assertEqual(
            self.counts("gaps_total", "outcome"),
            {"pending": 2, "open": 2, "recovered": 1, "lost": 1},
        )
        self.assertEqual(self.counts("recovered_events_total", "by"), {"gap": 6, "check": 2})

    def test_holding_is_1_while_buffering(self) -> None:
        """It returns to 0 when buffering stops."""
        self.paper.start_buffering()
        self.assertEqual(self.value("holding", account="paper"), 1)
        self.paper.stop_buffering()
        self.assertEqual(self.value("holding", account="paper"), 0)


class MeasuredTests(MetricsTestCase):
    """Histograms, which are recorded as things happen."""

    def histogram(self, name: str) -> tuple[float, float, dict[str, float]]:
        """Return the count, the sum, and the buckets with some but not all observations."""
        [count] = self.counts(f"{name}_count", "account").values()
        [total] = self.counts(f"{name}_sum", "account").values()
        buckets = {le: n for le, n in self.counts(f"{name}_bucket", "le").items() if n < count}
        return count, total, buckets

    def test_burst_events_observes_each_batch(self) -> None:
        """The events of one reactor turn are one batch."""
        for batch in ((1,), (2, 3, 4), (5, 6, 7, 8, 9, 10, 11)):
            for n in batch:
                self.paper.publish(event(n))
            self.wires.flush()
        self.assertEqual(self.histogram("burst_events"), (3, 11, {"1.0": 1, "2.0": 1, "5.0": 2}))

    def test_journal_commit_seconds_observes_each_commit(self) -> None:
        """A batch with only duplicates needs none."""
        seconds = iter((0.02, 0.4))
        self.disk.on_commit(lambda: self.pass_time(next(seconds)))
        for n in (1, 1, 2):
            self.paper.publish(event(n))
            self.wires.flush()
        count, total, buckets = self.histogram("journal_commit_seconds")
        self.assertEqual((count, round(total, 3)), (2, 0.42))
        self.assertEqual(buckets, {"0.025": 1, "0.05": 1, "0.1": 1, "0.25": 1})

    def test_delivery_latency_ends_with_last_client(self) -> None:
        """A batch is one observation, for any number of clients, and includes the commit."""
        self.disk.on_commit(lambda: self.pass_time(0.1))
        for _ in range(3):
            self.paper.broadcaster.register(SlowSubscriber(lambda: self.pass_time(0.2)))
        self.paper.begin_read()
        self.pass_time(0.03)
        self.paper.publish(event(1))
        self.paper.end_read()
        count, total, buckets = self.histogram("delivery_latency_seconds")
        self.assertEqual((count, round(total, 3), buckets), (1, 0.73, {}))

    def test_delivery_latency_includes_buffering(self) -> None:
        """A recovered event has no wait: its latency starts when it is found."""
        self.paper.begin_read()
        self.paper.start_buffering()
        self.paper.publish(event(3))
        self.paper.end_read()
        self.wires.advance(2)
        self.paper.publish_recovered(event(1))
        self.wires.flush()
        self.wires.advance(1)
        self.paper.publish_recovered(event(2))
        self.paper.stop_buffering()
        self.wires.flush()
        count, total, buckets = self.histogram("delivery_latency_seconds")
        self.assertEqual((count, round(total, 3)), (2, 3))
        self.assertEqual(buckets["0.0005"], 1)


class JournalMetricsTests(MetricsTestCase):
    """Metrics of the journal."""

    def test_journal_rows_and_oldest_time(self) -> None:
        """The journal is complete from its creation on."""
        began = self.clock.seconds()
        self.wires.advance(5)
        for n in range(3):
            self.paper.publish(event(n))
        self.wires.flush()
        self.assertEqual(self.value("journal_rows", account="paper"), 3)
        self.assertEqual(self.value("journal_rows", account="live"), 0)
        self.assertEqual(self.value("journal_oldest_timestamp_seconds", account="paper"), began)


class ClientMetricsTests(MetricsTestCase):
    """Metrics of connected and rejected clients."""

    limits = Limits(max_clients=3, stall_timeout=30)

    def test_clients_are_counted_by_dialect(self) -> None:
        """Connections of every dialect count against the limit."""
        first = self.open_client()
        for client in (first, self.open_client(f"{STREAM}/stream")):
            self.say(client, AUTH)
        self.request(f"{STREAM}/v2/events/trades")
        dialects = {"WebSocket": 1, "WebSocket, as Alpaca's": 1, "server-sent events": 1}
        self.assertEqual(self.counts("clients", "dialect"), dialects)
        self.assertEqual((self.value("connections"), self.value("connections_limit")), (3, 3))
        self.assertEqual(self.upgrade().status, 503)
        first.sendClose()
        self.wires.advance(1)
        self.open_client()
        self.assertEqual(self.counts("clients", "dialect"), dialects)
        self.assertEqual(
            self.counts("client_connections_total", "dialect"), {**dialects, "WebSocket": 2}
        )
        full = "no connection is free; PROXY_MAX_CLIENTS is the limit"
        self.assertEqual(self.counts("refusals_total", "reason"), {full: 1})
        self.assertEqual(self.value("slow_closes_total"), 0)

    def test_slow_closes_counts_every_dialect(self) -> None:
        """A slow WebSocket is closed; a slow response of server-sent events is aborted."""
        transports: list[NarrowTransport] = []

        def narrow(protocol: Any, is_server: bool, **options: Any) -> NarrowTransport:
            transport = NarrowTransport(protocol, is_server, **options)
            transports.extend([transport] if is_server else [])
            return transport

        self.wires.transport = narrow  # type: ignore[assignment]  # it is only called
        self.say(self.connect(), AUTH)
        self.request(f"{STREAM}/v2/events/trades")
        for transport in transports:
            transport.blocked = True
        self.publish(self.paper, *[event(n, note="x" * 1000).payload for n in range(200)])
        self.wires.advance(31)
        self.wires.transport = FakeTransport
        self.assertEqual(self.value("slow_closes_total"), 2)
        self.assertEqual(len(self.counts("refusals_total", "reason")), 2)

    def test_input_creates_no_label_value(self) -> None:
        """Requests, user agents, messages and events with new texts add no time series."""

        def provoke(n: int) -> None:
            self.upgrade(Origin=f"https://evil{n}.example")
            self.request(f"/trade-updates-x{n}")
            self.request("/metrics", Host=f"evil{n}.example")
            self.request(f"{STREAM}/v2/events/trades?since_id=x{n}", User_Agent=f"agent {n}")
            self.say(self.connect(User_Agent=f"agent {n}"), b"not JSON %d" % n)
            self.paper.publish(event(n, event=f"kind{n}"))
            self.wires.advance(1)

        provoke(0)
        before = self.samples().keys()
        for n in range(1, 20):
            provoke(n)
        self.assertEqual(self.samples().keys(), before)
        self.assertGreater(self.counts("refusals_total", "reason")["that message is not JSON"], 10)


class MetricsAgeTests(ProxyTestCase):
    """How often the document is rendered."""

    def test_document_is_rendered_at_most_once_a_second(self) -> None:
        """Rendering takes milliseconds, and a client may ask a thousand times a second."""
        accepts = ("text/plain", "application/openmetrics-text; version=1.0.0")
        before = [self.request("/metrics", Accept=accept).body for accept in accepts]
        self.paper.publish(event(1))
        self.wires.advance(0.9)
        for accept, document in zip(accepts, before, strict=True):
            self.assertEqual(self.request("/metrics", Accept=accept).body, document)
        self.wires.advance(0.2)
        for accept, document in zip(accepts, before, strict=True):
            self.assertNotEqual(self.request("/metrics", Accept=accept).body, document)

    def test_version_in_the_header_is_no_format_of_its_own(self) -> None:
        """Else each of a client's versions would be rendered, and cached."""
        self.request("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        self.request("/metrics")
        self.paper.publish(event(1))
        self.wires.flush()
        for n in range(20):
            accept = f"application/openmetrics-text; version=1.0.{n}; escaping=allow-utf-8"
            answer = self.request("/metrics", Accept=accept)
            self.assertIn(b"application/openmetrics-text; version=1.0.0;", answer.received)
            self.assertIn('tradeproxy_journal_rows{account="paper"} 0.0', answer.body)
            answer = self.request("/metrics", Accept=f"text/plain; version=1.0.{n}")
            self.assertIn('tradeproxy_journal_rows{account="paper"} 0.0', answer.body)


class AccessTests(MetricsTestCase):
    """Access to /metrics."""

    tokens = ("open-sesame",)

    def test_with_tokens_set_requires_one(self) -> None:
        """Prometheus sends the token in its `authorization`."""
        self.assertEqual(self.request("/metrics").status, 401)
        self.assertEqual(self.request("/metrics", Authorization="Bearer wrong").status, 401)
        self.assertEqual(self.request("/metrics", Authorization="Bearer open-sesame").status, 200)

    def test_foreign_host_and_other_methods_are_rejected(self) -> None:
        """The rules are those of every other path."""
        authorization = "Bearer open-sesame"
        self.assertEqual(
            self.request("/metrics", Host="evil.example", Authorization=authorization).status, 403
        )
        self.assertEqual(self.request("/metrics", "POST", Authorization=authorization).status, 405)
        answer = self.request("/metrics", "HEAD", Authorization=authorization)
        self.assertEqual((answer.status, answer.body), (200, ""))


class FormatTests(MetricsTestCase):
    """The two formats, and the names that other files rely on."""

    def test_format_follows_accept_header(self) -> None:
        """Prometheus prefers OpenMetrics; curl gets the text format."""
        plain = self.request("/metrics")
        self.assertIn(b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n", plain.received)
        accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4"
        other = self.request("/metrics", Accept=accept)
        self.assertIn(b"Content-Type: application/openmetrics-text; version=1.0.0", other.received)
        self.assertEqual(names(read_openmetrics(other.body)), names(self.families()))

    def test_malformed_version_gets_text_format(self) -> None:
        """prometheus_client compares the parts of a version as numbers, and raises for others."""
        answer = self.request("/metrics", Accept="application/openmetrics-text; version=1.x")
        self.assertEqual(answer.status, 200)
        self.assertIn(b"Content-Type: text/plain; version=0.0.4", answer.received)

    def test_metrics_equal_documented_metrics(self) -> None:
        """Names, types and labels match docs/metrics.md, in both directions."""
        self.open_client()
        self.upgrade(Origin="https://evil.example")
        self.paper.publish(event(1))
        self.wires.flush()
        # Only a node of a cluster has a role.
        self.live.role = NodeRole(0.0, is_leader=True, lease_renewed=1.0)
        self.live.book = Book(self.live, self.clock)
        self.live.trade_log = TradeLogState(position=0)  # only with PROXY_TRADE_LOG
        self.webhooks.append(DeliveryStats("DESK", "json", "paper", last_sent=1.0))
        found = {
            (
                f"{family.name}_total" if family.type == "counter" else family.name,
                family.type,
                frozenset(
                    label for sample in family.samples for label in sample.labels if label != "le"
                ),
            )
            for family in self.families()
            if family.name.startswith("tradeproxy_")
        }
        rows = TABLE_ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
        documented = {
            (name, kind, frozenset(filter(None, labels.split(", ")))) for name, kind, labels in rows
        }
        self.assertEqual(found, documented)

    def test_trade_log_reports_what_it_has_and_lacks(self) -> None:
        """The lag is what is left; a node that does not write has none."""
        self.paper.publish(event(1))
        self.clock.advance(0)
        self.paper.trade_log = TradeLogState(rows=5, missing=2, is_failing=True, position=0)
        self.live.trade_log = TradeLogState()
        names = ("failing", "lag_events", "events_total", "missing_total")
        found = {
            name: [
                sample.value
                for family in self.families()
                for sample in family.samples
                if sample.name == f"tradeproxy_trade_log_{name}"
            ]
            for name in names
        }
        self.assertEqual(
            found,
            {
                "failing": [1, 0],
                "lag_events": [1],
                "events_total": [5, 0],
                "missing_total": [2, 0],
            },
        )

    def test_cluster_node_reports_role_lease_and_lag(self) -> None:
        """In a cluster, metrics show the leader, the last renewal of its lease, and the lag."""
        self.paper.role, self.live.role = NodeRole(0.0), NodeRole(0.0)
        for role in (self.paper.role, self.live.role):
            role.start_leading(5.0)
        self.paper.role.update(3, 6.0)
        self.live.role.start_following(7.0)
        self.assertEqual(
            [
                self.value(name, account="paper")
                for name in ("leader", "lease_renewed_timestamp_seconds")
            ],
            [1, 6],
        )
        self.assertEqual(self.value("leader", account="live"), 0)
        self.assertIsNone(self.value("lease_renewed_timestamp_seconds", account="live"))
        self.assertEqual(self.value("log_lag_events", account="paper"), 3)
        self.assertEqual(self.value("leader_turns_total", account="live"), 1)

    def test_book_reports_rows_that_it_does_not_have(self) -> None:
        """A book that is still built is behind; with PROXY_BOOK=0 there is no value."""
        self.paper.publish(event(1))
        self.wires.flush()
        self.assertIsNone(self.value("book_rows_behind", account="paper"))
        self.paper.book = Book(self.paper, self.clock)
        self.assertEqual(self.value("book_rows_behind", account="paper"), 1)
        self.assertEqual(self.value("book_complete", account="paper"), 0)
        self.assertEqual(self.value("book_corrections_total", account="paper"), 0)
        self.paper.book.seeding.corrected = 2
        self.assertEqual(self.value("book_corrections_total", account="paper"), 2)

    def test_webhooks_report_their_numbers(self) -> None:
        """A counter whose value has another name would stay 0."""
        stats = DeliveryStats("DESK", "json", "paper", sent=1, failures=2, rejected=3, skipped=4)
        self.webhooks.append(stats)
        names = ("sent", "failures", "rejected", "skipped")
        labels = {"account": "paper", "webhook": "DESK"}
        self.assertEqual(
            [self.value(f"webhook_{name}_total", **labels) for name in names], [1, 2, 3, 4]
        )
        self.assertEqual(self.value("webhook_up", **labels), 1)
        self.assertIsNone(self.value("webhook_last_sent_timestamp_seconds", **labels))

    def test_alerts_and_dashboard_use_existing_metrics(self) -> None:
        """A misspelt name in an alert would never fire."""
        # Only a node of a cluster has a role.
        self.paper.role = NodeRole(0.0, is_leader=True, lease_renewed=1.0)
        self.paper.trade_log = TradeLogState()
        self.webhooks.append(DeliveryStats("DESK", "json", "paper", last_sent=1.0))
        self.open_client()
        self.upgrade(Origin="https://evil.example")
        self.paper.publish(event(1))
        self.wires.flush()
        existing = {sample.name for family in self.families() for sample in family.samples}
        for path in DEPLOYED:
            used = set(
                re.findall(r"\b(?:tradeproxy|process)_\w+", path.read_text(encoding="utf-8"))
            )
            self.assertGreater(len(used), 10)
            self.assertEqual(used - existing, set(), path.name)


def names(families: Iterable[Any]) -> set[str]:
    """Return the names of the families."""
    return {family.name for family in families}
