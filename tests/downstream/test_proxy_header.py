"""The header of the PROXY protocol, before a client's request."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.internet.testing import StringTransport
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.python.failure import Failure

from tests.support.frames import AUTH
from tests.support.memory import CLIENT
from tests.support.plain import HANDSHAKE, TEXT
from tests.support.proxy import ProxyTestCase
from tradeproxy.downstream.handshake_limits import MAX_HEADER

V1 = b"PROXY TCP4 192.0.2.7 192.0.2.8 50000 8099\r\n"
V2_PREFIX = b"\r\n\r\n\0\r\nQUIT\n"
V2 = V2_PREFIX + b"\x21\x11%b\xc0\0\2\7\xc0\0\2\x08\xc3\x50\x1f\xa3"
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class ProxyHeaderTests(ProxyTestCase):
    """It names the client's address."""

    def setUp(self) -> None:
        super().setUp()
        self.transport = StringTransport(peerAddress=CLIENT)
        self.protocol: Any = HAProxyWrappingFactory(self.site).buildProtocol(CLIENT)
        self.protocol.makeConnection(self.transport)

    def receive(self, data: bytes, step: int) -> None:
        """Send pieces of `step` bytes, until the proxy closes."""
        for begin in range(0, len(data), step):
            if self.transport.disconnected:
                return
            self.protocol.dataReceived(data[begin : begin + step])

    def test_request_behind_a_header_is_answered(self) -> None:
        """In pieces, and with options that the proxy ignores. One may begin as another header."""
        options = b"\x04\x01\xf4" + bytes(500)
        text = b"\x04\0\x05PROXY"
        for header in (V1, V2 % b"\0\x0c", V2 % b"\x02\x03" + options, V2 % b"\0\x14" + text):
            for step in (1000, 20, len(V2 % b"\0\0") + 3):
                self.setUp()
                self.receive(header + REQUEST, step)
                self.clock.advance(0)
                self.assertIn(b"HTTP/1.1 200", self.transport.value(), (header, step))
                self.assertEqual(self.protocol.getPeer().host, "192.0.2.7")

    def test_websocket_behind_a_header_ends_with_its_connection(self) -> None:
        """Otherwise it would count as a client for ever, and hold what it has not read."""
        self.receive(V1 + HANDSHAKE % b"/trade-updates-paper", 1000)
        self.clock.advance(0)
        self.assertIn(b"HTTP/1.1 101", self.transport.value())
        self.receive(bytes([0x80 | TEXT, 0x80 | len(AUTH), 0, 0, 0, 0]) + AUTH, 1000)
        self.clock.advance(0)
        self.assertEqual(len(self.factory.clients), 1)
        self.protocol.connectionLost(Failure(connectionDone.value))
        self.clock.advance(0)
        self.assertEqual(len(self.factory.clients), 0)

    def test_header_without_addresses_leaves_those_of_the_connection(self) -> None:
        """HAProxy's health checks have one. `PROXY UNKNOWN` without more closed the connection.

        The specification of the PROXY protocol, in 2.1 and 2.2: a sender may omit the rest of the
        line behind UNKNOWN, and the addresses behind LOCAL are ignored.
        """
        for header in (
            b"PROXY UNKNOWN\r\n",
            b"PROXY UNKNOWN \r\n",
            b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
            V2_PREFIX + b"\x20\0\0\0",  # LOCAL
            V2_PREFIX + b"\x20\x11\0\x0c\xc0\0\2\7\xc0\0\2\x08\xc3\x50\x1f\xa3",
            V2_PREFIX + b"\x21\0\0\0",  # UNSPEC
            V2_PREFIX + b"\x21\0\0\4\4\0\1\0",
        ):
            self.setUp()
            self.receive(header + REQUEST, 1000)
            self.assertIn(b"HTTP/1.1 200", self.transport.value(), header)
            self.assertEqual(self.protocol.getPeer(), CLIENT, header)

    def test_header_without_an_end_closes(self) -> None:
        """10,000 connections held 64 KiB each: 640 MB that no limit counted."""
        header = V2 % b"\xff\xff" + bytes(MAX_HEADER)
        for size, closes in ((MAX_HEADER - 1, False), (MAX_HEADER, True)):
            self.setUp()
            self.receive(header[:size], 500)
            self.assertEqual(self.transport.disconnected, closes, size)

    def test_header_that_cannot_be_read_closes(self) -> None:
        """Twisted raises ValueError; it was logged as an error of the proxy's own."""
        for header in (
            b"PROXY TCP4 192.0.2.7 192.0.2.8 x 8099\r\n",
            b"PROXY TCP4 \xff 192.0.2.8 50000 8099\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.8 50000 8099\n",
        ):
            self.setUp()
            self.receive(header + REQUEST, 1000)
            self.assertTrue(self.transport.disconnected, header)
            self.assertEqual(self.transport.value(), b"")
