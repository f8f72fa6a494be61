"""Tests for tradeproxy.downstream.lean: what a connection does without, with and without a known Autobahn."""

from __future__ import annotations

import sys

from tests.support.frames import AUTH, AUTHENTICATED, FILL
from tests.support.proxy import ProxyTestCase
from tradeproxy.downstream import lean


class LeanTests(ProxyTestCase):
    """A connection that is open holds little."""

    def test_the_installed_autobahn_is_the_one_that_it_was_written_for(self) -> None:
        """A newer one works, and connections then cost more: look at the module again."""
        self.assertTrue(lean.IS_KNOWN)

    def test_the_handshake_leaves_nothing_behind(self) -> None:
        """Neither the request nor what a client offered, nor a copy of every option."""
        self.say(self.connect(), AUTH)
        (client,) = self.factory.clients
        self.assertEqual(lean.LEFTOVERS & vars(client).keys(), set())
        self.assertLess(sys.getsizeof(vars(client)), 2000)

    def test_an_unknown_autobahn_is_left_as_it_is(self) -> None:
        """Clients are served all the same."""
        self.patch(lean, "IS_KNOWN", False)
        self.setUp()
        client = self.connect()
        self.assertEqual(self.say(client, AUTH), [AUTHENTICATED])
        self.publish(self.paper, FILL)
        self.assertEqual(client.taken(), [FILL])
        (served,) = self.factory.clients
        self.assertIn("http_headers", vars(served))
