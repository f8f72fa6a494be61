"""Clients that name themselves, and the dashboard's own connections."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import capturedLogs, formatEvent

from tests.support.proxy import ProxyTestCase

QUOTED = '"<img src=x onerror=alert(1)> \'q\' \\"{peer}"'
ESCAPED = "%3Cimg%20src=x%20onerror=alert(1)%3E%20%27q%27%20%22%7Bpeer%7D"


class ClientNameTests(ProxyTestCase):
    """`?client_name=`: an address alone does not say which bot is slow."""

    def status(self) -> dict[str, Any]:
        self.wires.advance(2)
        document: dict[str, Any] = json.loads(self.request("/status.json").body)
        return document

    def test_name_is_in_status_for_each_kind_of_stream(self) -> None:
        """A client without a name has an empty one."""
        self.open_client("/paper?client_name=bot1")
        self.open_client("/paper/stream?replay=1&client_name=bot%202")
        self.request("/paper/v2/events/trades?client_name=curl%C3%A9")
        self.open_client()
        listed = self.status()["clients"]["listed"]
        self.assertEqual(
            sorted(client["name"] for client in listed), ["", "bot 2", "bot1", "curlé"]
        )

    def test_name_is_quoted_in_log_and_is_no_label(self) -> None:
        """The line of a rejection says which bot it was; a name cannot add fields to it."""
        with capturedLogs() as logs:
            client = self.open_client(f"/paper/stream?client_name={ESCAPED}")
            client.sendMessage(b"no JSON")
            self.wires.flush()
        [line] = [text for text in map(formatEvent, logs) if text and "rejected" in text]
        self.assertIn(f"rejected 127.0.0.1:50000 {QUOTED}: ", line)
        self.open_client(f"/paper?client_name={ESCAPED}")
        self.assertNotIn("onerror", self.request("/metrics").body)
        self.assertNotIn("onerror", json.dumps(self.status()["refusals"]))

    def test_invalid_name_is_400_with_a_line(self) -> None:
        """For WebSockets and for server-sent events."""
        for answer in (
            self.upgrade("/paper?client_name=a%0Ab"),
            self.request("/paper/v2/events/trades?client_name=a%0Ab"),
        ):
            self.assertEqual(answer.status, 400)
            self.assertTrue(answer.reason.startswith("client_name: is not printable text"))


class DashboardConnectionTests(ProxyTestCase):
    """`?dashboard=1`: the page of an operator once counted as a client, and read "1 client"."""

    def counts(self) -> tuple[int, int, int, float]:
        """Return the counts of /status.json (two), /readyz and /metrics."""
        self.wires.advance(2)
        status = json.loads(self.request("/status.json").body)
        ready = json.loads(self.request("/readyz").body)
        samples = self.request("/metrics").body.splitlines()
        return (
            status["clients"]["count"],
            status["accounts"]["paper"]["clients"],
            ready["accounts"]["paper"]["clients"],
            sum(float(line.split()[-1]) for line in samples if line.startswith("tradeproxy_clien")),
        )

    def test_dashboard_is_counted_as_no_client(self) -> None:
        """Not as connected, and not as ever connected."""
        page = self.open_client("/paper?dashboard=1&proxy_status=1")
        self.assertEqual(self.counts(), (0, 0, 0, 0.0))
        self.open_client("/paper?dashboard=0")
        self.assertEqual(self.counts(), (1, 1, 1, 2.0))  # connected, and accepted
        page.sendClose(1000)
        self.assertEqual(self.counts(), (1, 1, 1, 2.0))

    def test_dashboards_are_counted_apart_and_take_a_place(self) -> None:
        """A client cannot hide: the number of such connections is shown, and limited."""
        page = self.open_client("/paper?dashboard=1")
        clients = self.factory.clients
        self.assertEqual((len(clients), clients.dashboards), (1, 1))
        self.wires.advance(2)
        shown = json.loads(self.request("/status.json").body)["clients"]
        self.assertEqual((shown["dashboards"], shown["listed"]), (1, []))
        page.sendClose(1000)
        self.wires.advance(1)
        self.assertEqual((len(clients), clients.dashboards), (0, 0))
