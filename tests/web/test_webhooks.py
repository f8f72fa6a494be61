"""Tests for webhooks in /readyz, /status.json and on the dashboard."""

from __future__ import annotations

import json
from typing import Any

from tests.support.proxy import ProxyTestCase
from tests.support.scripts import ScriptTestCase
from tradeproxy.webhooks.state import DeliveryState, DeliveryStats


class WebhookPageTests(ProxyTestCase):
    """The documents for operators and supervisors."""

    def setUp(self) -> None:
        super().setUp()
        for account in (self.paper, self.live):
            account.mark_upstream_up()
        self.wires.flush()

    def add(self, account: str, state: DeliveryState, reason: str) -> DeliveryStats:
        """Add the state of the webhook DESK for an account."""
        stats = DeliveryStats("DESK", "json", account, state, reason)
        self.webhooks.append(stats)
        return stats

    def ready(self) -> tuple[int, Any]:
        """Return the status and the document of /readyz."""
        page = self.request("/readyz")
        return page.status, json.loads(page.body)

    def test_failing_webhook_is_a_reason_and_no_503(self) -> None:
        """A load balancer would take clients away from a node that serves them."""
        stats = self.add("paper", DeliveryState.RETRYING, "connection refused")
        status, document = self.ready()
        self.assertEqual((status, document["ready"]), (200, True))
        self.assertEqual(document["reasons"], ["webhook DESK: paper: connection refused"])
        stats.state = DeliveryState.READY
        self.assertEqual(self.ready()[1]["reasons"], [])

    def test_stopped_webhook_is_one_reason(self) -> None:
        """One URL serves all accounts."""
        for account in ("paper", "live"):
            self.add(account, DeliveryState.STOPPED, "the receiver answers HTTP 401")
        self.assertEqual(
            self.ready()[1]["reasons"],
            ["webhook DESK: stopped: the receiver answers HTTP 401"],
        )

    def test_reason_of_an_account_comes_first(self) -> None:
        """And makes the status 503."""
        self.add("paper", DeliveryState.RETRYING, "connection refused")
        self.paper.mark_upstream_down("connection lost")
        status, document = self.ready()
        self.assertEqual(status, 503)
        self.assertEqual(document["reasons"][0], "paper: connection lost")

    def test_status_has_every_webhook(self) -> None:
        """For the dashboard and `tradeproxy status`."""
        stats = self.add("paper", DeliveryState.READY, "")
        stats.sent, stats.last_sent = 3, 1_800_000_000.0
        document = json.loads(self.request("/status.json").body)
        self.assertEqual(
            document["webhooks"],
            [
                {
                    "name": "DESK",
                    "account": "paper",
                    "format": "json",
                    "state": "ready",
                    "reason": "",
                    "last_sent": "2027-01-15T08:00:00.000000Z",
                    "sent": 3,
                    "failures": 0,
                    "rejected": 0,
                    "skipped": 0,
                }
            ],
        )


class DashboardWebhookTests(ScriptTestCase):
    """The lines of the dashboard: webhooks.js in Node.js."""

    def describe(self, **members: Any) -> Any:
        """Return the tone and the line of a webhook."""
        webhook = {
            "name": "DESK",
            "account": "paper",
            "format": "json",
            "state": "ready",
            "reason": "",
            "last_sent": None,
            "sent": 0,
            "rejected": 0,
            "skipped": 0,
            **members,
        }
        return self.run_script(
            'import { describe } from "./webhooks.js";\n'
            f"const result = describe({json.dumps(webhook)}, 1800000060000, true);"
        )

    def test_line_says_what_was_sent_and_left_out(self) -> None:
        """The reason is last."""
        self.assertEqual(self.describe(), ["good", "paper · json · none sent"])
        self.assertEqual(
            self.describe(
                state="stopped",
                last_sent="2027-01-15T08:00:00.000000Z",
                sent=3,
                rejected=1,
                skipped=2,
                reason="the receiver answers HTTP 401",
            ),
            [
                "bad",
                "paper · json · sent 3, the last one 1 min ago · 1 refused · 2 events skipped"
                " · the receiver answers HTTP 401",
            ],
        )
