"""Tests for tradeproxy.downstream.autobahn_slim: what a connection does without, with and without a known Autobahn."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING
from weakref import ref

from tests.support.frames import AUTH, AUTHENTICATED, FILL
from tests.support.proxy import ProxyTestCase
from tradeproxy.downstream import autobahn_slim

if TYPE_CHECKING:
    from twisted.web.server import Request


class LeanTests(ProxyTestCase):
    """A connection that is open holds little."""

    def test_the_installed_autobahn_is_the_one_that_it_was_written_for(self) -> None:
        """A newer one works, and connections then cost more: look at the module again."""
        self.assertTrue(autobahn_slim.IS_SUPPORTED)

    def test_the_handshake_leaves_nothing_behind(self) -> None:
        """Neither what a client offered, nor what read its first message, nor a copy of every option."""
        self.say(self.connect(), AUTH)
        (client,) = self.factory.clients
        self.assertEqual(
            vars(client).keys() & {"_wskey", "http_headers", *autobahn_slim.LEFTOVERS}, set()
        )
        self.assertLess(sys.getsizeof(vars(client)), 1500)

    def test_the_request_is_gone_at_once(self) -> None:
        """Also while the collector waits: its headers hold a client's token."""
        requests: list[ref[Request]] = []

        class Seen(self.site.requestFactory):  # type: ignore[name-defined]  # known when it runs
            def process(self) -> None:
                requests.append(ref(self))
                super().process()

        self.site.requestFactory = Seen
        gc.disable()
        self.addCleanup(gc.enable)
        self.connect()
        self.assertEqual([request() for request in requests], [None])

    def test_the_answer_is_autobahns(self) -> None:
        """To the letter."""
        lean_answer = self.upgrade().received
        self.patch(autobahn_slim, "IS_SUPPORTED", False)
        self.setUp()
        self.assertEqual(self.upgrade().received, lean_answer)
        self.assertIn(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", lean_answer)

    def test_every_message_is_checked(self) -> None:
        """What is no UTF-8 is seen in later messages too, and when a message comes in parts."""
        client = self.connect()
        self.say(client, AUTH)
        self.assertEqual(self.say(client, '{"ä":1}'.encode()), [])
        client.beginMessage()
        client.sendMessageFrame(b'{"\xc3')
        self.wires.flush()
        self.assertIsNone(client.closed)
        client.sendMessageFrame(b'"')
        self.wires.flush()
        assert client.closed is not None
        self.assertEqual(client.closed[0], 1007)

    def test_an_unknown_autobahn_is_left_as_it_is(self) -> None:
        """Clients are served all the same."""
        self.patch(autobahn_slim, "IS_SUPPORTED", False)
        self.setUp()
        client = self.connect()
        self.assertEqual(self.say(client, AUTH), [AUTHENTICATED])
        self.publish(self.paper, FILL)
        self.assertEqual(client.taken(), [FILL])
        (served,) = self.factory.clients
        self.assertIn("http_headers", vars(served))
