"""Tests for tradeproxy.downstream.autobahn_slim, with a supported and an unsupported Autobahn."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any
from weakref import ref

from tests.support.frames import AUTH, AUTHENTICATED, FILL
from tests.support.proxy import ProxyTestCase
from tradeproxy.downstream import autobahn_slim

if TYPE_CHECKING:
    from twisted.web.server import Request


class AutobahnSlimTests(ProxyTestCase):
    """An open connection uses little memory."""

    def test_installed_autobahn_is_supported(self) -> None:
        """A newer version works, but connections cost more: the module needs an update."""
        self.assertTrue(autobahn_slim.IS_SUPPORTED)

    def test_handshake_attributes_are_deleted(self) -> None:
        """No headers, no parser state and no copies of options remain."""
        self.say(self.connect(), AUTH)
        (client,) = self.factory.clients
        self.assertEqual(
            vars(client).keys() & {"_wskey", "http_headers", *autobahn_slim.LEFTOVERS}, set()
        )
        self.assertLess(sys.getsizeof(vars(client)), 1500)

    def test_request_is_freed_without_garbage_collection(self) -> None:
        """The request must not wait for the collector: its headers may contain a client's token."""
        requests: list[ref[Request]] = []

        base: Any = self.site.requestFactory

        class RecordingRequest(base):
            def process(self) -> None:
                requests.append(ref(self))
                super().process()

        self.site.requestFactory = RecordingRequest
        gc.disable()
        self.addCleanup(gc.enable)
        self.connect()
        self.assertEqual([request() for request in requests], [None])

    def test_handshake_response_equals_autobahns(self) -> None:
        """Every byte is the same."""
        slim_response = self.upgrade().received
        self.patch(autobahn_slim, "IS_SUPPORTED", False)
        self.setUp()
        self.assertEqual(self.upgrade().received, slim_response)
        self.assertIn(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", slim_response)

    def test_invalid_utf8_closes_1007(self) -> None:
        """UTF-8 is checked in later messages too, and across the frames of a message."""
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

    def test_unsupported_autobahn_runs_unchanged(self) -> None:
        """Clients get their events in that case too."""
        self.patch(autobahn_slim, "IS_SUPPORTED", False)
        self.setUp()
        client = self.connect()
        self.assertEqual(self.say(client, AUTH), [AUTHENTICATED])
        self.publish(self.paper, FILL)
        self.assertEqual(client.taken(), [FILL])
        (served,) = self.factory.clients
        self.assertIn("http_headers", vars(served))
