"""Tests for what is answered while a node has not read the shared log yet."""

from __future__ import annotations

import json

from tests.support import frames
from tests.support.proxy import ProxyTestCase

PATHS = (
    "/trade-updates-paper",
    "/trade-updates-paper/stream",
    "/trade-updates-paper?since_id=01KYA98DWAS5PA5B",
)
EVENTS = "/trade-updates-paper/v2/events/trades"


class WholeTests(ProxyTestCase):
    """Whatever it would say of a position may be wrong, and what is missing would be a hole."""

    def setUp(self) -> None:
        super().setUp()
        self.paper.journal.is_loaded = False

    def test_streams_are_for_another_node(self) -> None:
        """503 in every manner, which a load balancer, or the client itself, takes to another one."""
        for answer in (
            *map(self.upgrade, PATHS),
            self.request(EVENTS),
            self.request(f"{EVENTS}?replay=5"),
        ):
            self.assertEqual(answer.status, 503)
            self.assertIn("has not read the shared log yet", answer.body)
            self.assertTrue(answer.body.isascii())
        self.assertEqual(len(self.paper.broadcaster), 0)

    def test_what_is_wrong_with_a_request_is_said_first(self) -> None:
        """It would be wrong on any node."""
        self.assertEqual(self.upgrade(f"{PATHS[0]}?replay=many").status, 400)
        self.assertEqual(self.request(PATHS[0]).status, 426)
        self.assertEqual(self.request(f"{EVENTS}?since=never").status, 400)

    def test_other_accounts_are_served(self) -> None:
        """Each has a log of its own."""
        self.assertEqual(self.upgrade("/trade-updates-live").status, 101)

    def test_it_is_served_once_it_is_whole(self) -> None:
        """Nothing of the refusals stays."""
        self.upgrade()
        self.paper.journal.is_loaded = True
        client = self.connect()
        self.say(client, frames.AUTH)
        self.assertEqual(len(self.factory.clients), 1)

    def test_it_lives(self) -> None:
        """And says how it is."""
        self.assertEqual(self.request("/healthz").status, 200)
        self.assertIn("paper", json.loads(self.request("/status.json").body)["accounts"])
