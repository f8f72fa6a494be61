"""Tests for tradeproxy.downstream.autobahn_slim, with a supported and an unsupported Autobahn."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any
from weakref import ref

from autobahn.twisted import websocket
from autobahn.websocket import protocol
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory

from tests.support.frames import AUTH, AUTHENTICATED, FILL, LISTEN, LISTENING
from tests.support.plain import HANDSHAKE
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
        self.assertIsNone(client.message_data)  # type: ignore[attr-defined]  # Autobahn's

    def test_idle_attributes_have_the_values_of_autobahns_own(self) -> None:
        """A newer Autobahn may begin with other values."""
        self.connect()
        self.patch(autobahn_slim, "IS_SUPPORTED", False)
        slim = self.factory.clients
        self.setUp()
        self.connect()
        [slim_client], [client] = slim, self.factory.clients
        # The others are a timer, a shared total, and private: details that are never read.
        others = {"autoPingPendingCall", "trafficStats"}
        public = {name for name in autobahn_slim.IDLE_ATTRIBUTES if not name.startswith("_")}
        for name in public - others:
            value = getattr(slim_client, name)
            # Autobahn's lists are tuples here, because all connections share them.
            expected = list(value) if isinstance(value, tuple) else value
            self.assertEqual(getattr(client, name), expected, name)

    def test_send_queue_is_first_in_first_out(self) -> None:
        """Autobahn uses it for frames that are sent in several pieces."""
        self.connect()
        (client,) = self.factory.clients
        queue: Any = client.send_queue  # type: ignore[attr-defined]  # Autobahn's
        queue.extend("abc")
        self.assertEqual([queue.popleft() for _ in range(3)], ["a", "b", "c"])

    def test_values_of_debug_lines_are_not_formatted(self) -> None:
        """Autobahn would format and colour them at every frame, and then drop the lines."""
        value = object()
        for module in (protocol, websocket):
            self.assertIs(module.hltype(value), value)
            self.assertIs(module.hlval(value, color="red", bold=True), value)
        self.assertIs(vars(protocol)["pformat"](value), value)

    def test_autobahns_count_is_that_of_open_connections(self) -> None:
        """Autobahn counts down when a connection ends."""
        first, _ = self.connect(), self.connect()
        self.assertEqual(self.factory.getConnectionCount(), 2)
        first.sendClose(1000)
        self.wires.advance(1)
        self.assertEqual(self.factory.getConnectionCount(), 1)

    def test_request_behind_wrapper_becomes_websocket(self) -> None:
        """HAProxy sends a header of its own before the request; TLS is a wrapper, too."""
        wrapping: Any = HAProxyWrappingFactory(self.site)
        self.site = wrapping
        head = HANDSHAKE % b"/trade-updates-paper"
        client = self.write(b"PROXY TCP4 192.0.2.1 127.0.0.1 1 8099\r\n" + head)
        self.assertEqual(client.status, 101)
        assert client.transport is not None
        client.transport.write(bytes([0x81, 0x80 | len(AUTH), 0, 0, 0, 0]) + AUTH)
        self.wires.flush()
        self.assertTrue(client.received.endswith(AUTHENTICATED))

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
        """Every line is the same, with a subprotocol and without one."""
        offers: tuple[dict[str, str], ...] = ({}, {"Sec_WebSocket_Protocol": "chat, tradeproxy"})
        slim_responses = [set(self.upgrade(**offer).received.split(b"\r\n")) for offer in offers]
        self.patch(autobahn_slim, "IS_SUPPORTED", False)
        self.setUp()
        for offer, slim_response in zip(offers, slim_responses, strict=True):
            response = self.upgrade(**offer).received
            self.assertTrue(response.endswith(b"\r\n\r\n"))
            self.assertEqual(set(response.split(b"\r\n")), slim_response)
            self.assertIn(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", slim_response)

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
        self.assertEqual(self.say(client, LISTEN), [LISTENING])
        (served,) = self.factory.clients
        self.assertIs(type(served), self.factory.protocol)
        self.assertIn("http_headers", vars(served))
