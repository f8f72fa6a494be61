"""Tests for the site of a node that has not read the shared log yet."""

from __future__ import annotations

import json

from tests.support import frames
from tests.support.proxy import ProxyTestCase

STREAM_PATHS = (
    "/trade-updates-paper",
    "/trade-updates-paper/stream",
    "/trade-updates-paper?since_id=01KYA98DWAS5PA5B",
)
EVENTS = "/trade-updates-paper/v2/events/trades"


class NotLoadedTests(ProxyTestCase):
    """A position could not be found reliably, and a stream would have a hole."""

    def setUp(self) -> None:
        super().setUp()
        self.paper.journal.is_loaded = False

    def test_stream_not_loaded_is_503(self) -> None:
        """In every protocol: a load balancer, or the client, tries another node."""
        for answer in (
            *map(self.upgrade, STREAM_PATHS),
            self.request(EVENTS),
            self.request(f"{EVENTS}?replay=5"),
        ):
            self.assertEqual(answer.status, 503)
            self.assertIn("has not read the shared log yet", answer.body)
            self.assertTrue(answer.body.isascii())
        self.assertEqual(len(self.paper.broadcaster), 0)

    def test_invalid_request_not_loaded_is_400(self) -> None:
        """The request would be wrong on any node."""
        self.assertEqual(self.upgrade(f"{STREAM_PATHS[0]}?replay=many").status, 400)
        self.assertEqual(self.request(STREAM_PATHS[0]).status, 426)
        self.assertEqual(self.request(f"{EVENTS}?since=never").status, 400)

    def test_other_account_is_served(self) -> None:
        """Each account has its own log."""
        self.assertEqual(self.upgrade("/trade-updates-live").status, 101)

    def test_stream_once_loaded_is_served(self) -> None:
        """An earlier rejection has no effect."""
        self.upgrade()
        self.paper.journal.is_loaded = True
        client = self.connect()
        self.say(client, frames.AUTH)
        self.assertEqual(len(self.factory.clients), 1)

    def test_health_and_status_are_served(self) -> None:
        """/healthz is 200, and /status.json lists the account."""
        self.assertEqual(self.request("/healthz").status, 200)
        self.assertIn("paper", json.loads(self.request("/status.json").body)["accounts"])
