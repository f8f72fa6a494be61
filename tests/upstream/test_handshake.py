"""Tests for the upstream client, with the server's bytes written by the test."""

from __future__ import annotations

import os
from email.utils import formatdate
from typing import Any
from unittest import mock

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from tests.support.certificates import Authority
from tests.support.frames import AUTHORIZED, FILL, LISTENING, UNAUTHORIZED
from tests.support.impostors import UPGRADED, accept_key
from tests.support.memory import Wires
from tests.upstream.client_case import UpstreamClientTestCase
from tradeproxy.config.accounts import BaseUrl
from tradeproxy.upstream.backoff import Disconnect, DisconnectCause
from tradeproxy.upstream.client import upstream_endpoint

LOST, REFUSED, LIMITED = DisconnectCause.LOST, DisconnectCause.REFUSED, DisconnectCause.LIMITED

PING, CLOSE = b"\x89", b"\x88"
"""The first bytes of these frames."""


class RawTransport(StringTransportWithDisconnection):
    """A transport with a `disconnected` that is set by an abort only."""

    def unregisterProducer(self) -> None:
        """Do nothing without a producer, as TCP transports."""


class RawConnectionTestCase(UpstreamClientTestCase):
    """A connection to Alpaca."""

    def setUp(self) -> None:
        super().setUp()
        self.timers = list(self.clock.getDelayedCalls())
        self.connect()

    def connect(self) -> None:
        """Begin another connection: the request of its handshake is sent."""
        self.protocol: Any = self.upstream_factory.buildProtocol(None)
        self.transport = RawTransport()
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)

    def open(self, *headers: str) -> None:
        """Accept the handshake, and discard what was sent so far."""
        lines = "".join(f"{header}\r\n" for header in headers)
        key = accept_key(self.transport.value())
        self.receive(f"{UPGRADED}{lines}Sec-WebSocket-Accept: {key}\r\n\r\n".encode())
        self.assertEqual(self.listener.calls[-1:], ["opened"])
        self.transport.clear()

    def stream(self) -> None:
        """Accept the login and `listen`, and discard what was sent so far."""
        for frame in (AUTHORIZED, LISTENING):
            self.receive_message(frame)
        self.assertEqual(self.listener.calls[-1:], ["up"])
        self.transport.clear()

    def receive_message(self, message: bytes) -> None:
        """Receive a message of the server in one frame."""
        size = len(message)
        head = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)
        self.receive(b"\x82" + head + message)

    def receive(self, data: bytes) -> None:
        """Receive bytes of the server."""
        self.protocol.dataReceived(data)

    def disconnect(self) -> Disconnect:
        """Return the Disconnect of the connection, which is over."""
        disconnect: Disconnect = self.successResultOf(self.protocol.disconnected)
        return disconnect


class HandshakeAnswerTests(RawConnectionTestCase):
    """What the server answers to the request of the handshake."""

    def test_answer_of_64_kib_is_accepted(self) -> None:
        """Autobahn collects the answer, and searches all of it again after every read."""
        start = b"HTTP/1.1 429 Too Many Requests\r\n"
        for size, reason in (
            (65_536, "HTTP 429 at the handshake: another connection holds this account's stream"),
            (65_537, "the answer to the handshake is too long"),
        ):
            self.connect()
            self.receive(start + b"x: ".ljust(size - len(start), b"x"))
            if size == 65_536:
                self.assertTrue(self.transport.connected)
                self.receive(b"\r\n\r\n")
            self.assertFalse(self.transport.connected)
            self.assertEqual(self.disconnect().reason, reason)

    def test_endless_answer_is_aborted(self) -> None:
        """The sum of all reads counts."""
        self.receive(b"HTTP/1.1 101 Switching Protocols\r\n")
        for _ in range(10):
            if self.transport.connected:
                self.receive(b"x: y\r\n" * 2000)
        self.assertTrue(self.transport.disconnected)
        reason = "the answer to the handshake is too long"
        self.assertEqual(self.disconnect(), Disconnect(LOST, reason))

    def test_answer_that_is_not_text_is_aborted(self) -> None:
        """Autobahn raises an error for it."""
        with capturedLogs() as logs:
            self.receive(b"HTTP/1.1 \xff\xfe\r\n\r\n")
            self.receive(b"Upgrade: \xff\r\n\r\n")
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.disconnect(), Disconnect(LOST, "no WebSocket handshake"))
        self.assertEqual(logs, [])

    def test_status_becomes_disconnect(self) -> None:
        """Only HTTP 429 means that the connection of another program is open."""
        hint = ": another connection holds this account's stream"
        for status, cause, end in (
            (401, REFUSED, ""),
            (403, REFUSED, ""),
            (429, LIMITED, hint),
            (404, LOST, ""),
            (503, LOST, ""),
            (200, LOST, ""),
        ):
            self.connect()
            self.receive(f"HTTP/1.1 {status} Reason\r\nRetry-After: 7\r\n\r\n".encode())
            expected = Disconnect(cause, f"HTTP {status} at the handshake{end}", retry_after=7.0)
            self.assertEqual(self.disconnect(), expected)

    def test_date_sets_alpacas_clock(self) -> None:
        """The proxy may connect for days without a REST request. No Date sets nothing."""
        date = self.clock.seconds() + 100
        self.open()
        self.assertEqual(self.account.dates.alpaca(), self.clock.seconds())
        self.connect()
        self.open(f"Date: {formatdate(date, usegmt=True)}")
        self.assertEqual(self.account.dates.alpaca(), date)

    def test_no_answer_for_15_s_is_aborted(self) -> None:
        """The TCP connection may be to something that is no web server."""
        self.clock.advance(14.9)
        self.receive(b"HTTP/1.1 101 Switching Protocols\r\n")
        self.assertTrue(self.transport.connected)
        self.clock.advance(0.1)
        self.assertTrue(self.transport.disconnected)
        reason = "no answer to the handshake in time"
        self.assertEqual(self.disconnect(), Disconnect(LOST, reason))

    def test_close_before_answer_aborts(self) -> None:
        """A close frame is possible only after the handshake."""
        self.protocol.close()
        self.assertTrue(self.transport.disconnected)


class TlsFailureTests(UpstreamClientTestCase):
    """A TCP connection on which no TLS session begins: the reason for it."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.authority = Authority(self.directory)

    def find_reason(self, certified: str) -> str:
        """Connect to 127.0.0.1, where a server has a certificate for this host."""
        reactor: Any = MemoryReactorClock()
        endpoint = upstream_endpoint(BaseUrl(True, "127.0.0.1", 8443), reactor)
        connected = endpoint.connect(self.upstream_factory)
        [(host, port, factory, timeout, _)] = reactor.tcpClients
        self.assertEqual((host, port, timeout), ("127.0.0.1", 8443, 15.0))
        identity = self.authority.issue(certified)
        context = DefaultOpenSSLContextFactory(str(identity.key), str(identity.certificate))
        server = TLSMemoryBIOFactory(context, False, Factory.forProtocol(Protocol))
        wires = Wires(self.clock)
        wires.join(server.buildProtocol(None), factory.buildProtocol(None))
        wires.flush()
        protocol: Any = self.successResultOf(connected)
        reason: str = self.successResultOf(protocol.disconnected).reason
        return reason

    def test_unknown_authority(self) -> None:
        """OpenSSL's words for it can be searched for."""
        self.assertEqual(self.find_reason("127.0.0.1"), "TLS failed: certificate verify failed")

    def test_certificate_for_another_name(self) -> None:
        """The authority is trusted, as any website's is."""
        with mock.patch.dict(os.environ, SSL_CERT_FILE=str(self.authority.certificate)):
            reason = self.find_reason("other.example")
        self.assertEqual(reason, "the server's certificate is for another name")

    def test_error_without_text(self) -> None:
        """Autobahn raised IndexError or TypeError, and the proxy never connected again."""
        for error in (SSL.Error([]), SSL.SysCallError(104, "ECONNRESET")):
            protocol: Any = self.upstream_factory.buildProtocol(None)
            protocol.makeConnection(RawTransport())
            protocol.connectionLost(Failure(error))
            disconnect = self.successResultOf(protocol.disconnected)
            self.assertEqual(disconnect, Disconnect(LOST, "TLS failed: the connection was cut"))


class OpenConnectionTests(RawConnectionTestCase):
    """Time and size limits after the handshake."""

    def setUp(self) -> None:
        super().setUp()
        self.open()

    def test_login_without_answer_is_closed_after_15_s(self) -> None:
        """The close frame frees the account's slot at Alpaca."""
        self.clock.advance(14.9)
        self.transport.clear()
        self.clock.advance(0.1)
        self.assertEqual(self.transport.value()[:1], CLOSE)
        self.clock.advance(2)
        self.assertEqual(self.disconnect(), Disconnect(LOST, "no answer to the login in time"))

    def test_close_during_login_sends_and_reports_nothing_more(self) -> None:
        """An answer to the login that crossed the close frame was logged as an error at a stop.

        An event that crosses it is published: another connection may not bring it.
        """
        for answers, last in (((), AUTHORIZED), ((AUTHORIZED,), LISTENING)):
            self.connect()
            self.open()
            self.account.dropped_frames.clear()
            for frame in answers:
                self.receive_message(frame)
            self.transport.clear()
            self.protocol.close()
            close_frame = self.transport.value()
            self.assertEqual(close_frame[:1], CLOSE)
            for frame in (last, FILL, UNAUTHORIZED):
                self.receive_message(frame)
            self.assertEqual(self.transport.value(), close_frame)
            self.assertEqual(self.account.dropped_frames, {})
            self.assertNotIn("up", self.listener.calls)
            self.assertEqual(self.account.log.last, 1)

    def test_connection_lost_during_login_leaves_no_timer(self) -> None:
        """It never streamed, so that it counts as `unreachable`."""
        self.protocol.transport.loseConnection()
        disconnect = self.disconnect()
        self.assertEqual(disconnect, Disconnect(LOST, "connection lost"))
        self.assertEqual(disconnect.reconnect_reason, "unreachable")
        self.assertEqual(self.clock.getDelayedCalls(), self.timers)

    def test_ping_without_pong_aborts_after_15_s(self) -> None:
        """Pings come every 10 s, so that a silent connection is detected within 25 s."""
        self.stream()
        self.clock.advance(9.9)
        self.assertEqual(self.transport.value(), b"")
        self.clock.advance(0.1)
        self.assertEqual(self.transport.value()[:1], PING)
        self.clock.advance(14.9)
        self.assertTrue(self.transport.connected)
        self.clock.advance(0.1)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.disconnect(), Disconnect(LOST, "no pong in time", streamed=25.0))

    def test_close_has_2_s(self) -> None:
        """Alpaca may not answer the close frame, or may keep TCP open after its answer."""
        for answer in (b"", b"\x88\x02\x03\xe8"):
            self.connect()
            self.open()
            self.protocol.close()
            self.assertEqual(self.transport.value()[:1], CLOSE)
            if answer:
                self.receive(answer)
            self.clock.advance(1.9)
            self.assertTrue(self.transport.connected)
            self.clock.advance(0.1)
            self.assertTrue(self.transport.disconnected)

    def test_message_of_1_mib_is_accepted(self) -> None:
        """One byte more closes the connection before the message is received.

        A message of 16 MiB took 460 MB and 3.7 s: an empty list has three bytes.
        """
        size = 1024 * 1024
        self.receive(b"\x82\x7f" + size.to_bytes(8))
        self.receive(b"?" * size)
        self.assertEqual(self.account.dropped_frames, {"not JSON": 1})
        self.transport.clear()
        self.receive(b"\x82\x7f" + (size + 1).to_bytes(8))
        self.assertEqual(self.transport.value()[:1], CLOSE)
        self.protocol.connectionLost(Failure(ConnectionLost()))
        reason = "a message over the limit of its bytes or fragments"
        self.assertEqual(self.disconnect(), Disconnect(LOST, reason))

    def test_message_above_the_limit_is_the_reason_if_the_close_is_answered_too(self) -> None:
        """It read "closed by Alpaca with code 1009", which Alpaca had only repeated."""
        size = 1024 * 1024 + 1
        self.receive(b"\x82\x7f" + size.to_bytes(8))
        self.receive(b"?" * size)
        self.receive(b"\x88\x02\x03\xf1")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        reason = "a message over the limit of its bytes or fragments"
        self.assertEqual(self.disconnect(), Disconnect(LOST, reason))

    def test_message_of_4096_fragments_is_accepted(self) -> None:
        """Empty fragments have no bytes to count, but each is kept."""
        for count, is_read in ((4096, True), (4097, False)):
            self.connect()
            self.open()
            self.account.dropped_frames.clear()
            self.receive(b"\x02\x00" + b"\x00\x00" * (count - 2))
            self.clock.pump([0] * 20)  # each turn handles a few frames
            self.assertEqual(self.transport.value(), b"")
            self.receive(b"\x80\x00")
            if is_read:
                self.assertEqual(self.account.dropped_frames, {"not JSON": 1})
            else:
                self.assertEqual(self.transport.value()[:1], CLOSE)
                self.assertEqual(self.transport.producerState, "paused")
                self.assertEqual(self.account.dropped_frames, {})
                self.clock.advance(2)
                self.assertTrue(self.transport.disconnected)

    def test_read_returns_2_kib_before_the_stream_is_up(self) -> None:
        """64 KiB hold 16,000 frames that are no events, which took a second without pause."""
        transport: Any = self.transport
        self.assertEqual(transport.bufferSize, 2048)
        self.stream()
        self.assertEqual(transport.bufferSize, 65_536)

    def test_pings_while_server_does_not_read_get_one_pong_for_the_last(self) -> None:
        """Pongs to 44 MB of pings filled 62 MB."""
        producer: Any = self.transport.producer
        producer.pauseProducing()  # as Twisted does when its own 64 KiB are full
        for ping in (b"1", b"2", b"3"):
            self.receive(b"\x89\x01" + ping)
        self.assertEqual(self.transport.value(), b"")
        producer.resumeProducing()
        self.assertEqual(self.read_pongs(), [b"3"])
        self.receive(b"\x89\x014")
        self.assertEqual(self.read_pongs(), [b"4"])

    def read_pongs(self) -> list[bytes]:
        """Return the payloads of the pongs since the last call. Each has one byte."""
        sent = self.transport.value()
        self.transport.clear()
        frames = [sent[at : at + 7] for at in range(0, len(sent), 7)]
        self.assertEqual({frame[:2] for frame in frames}, {b"\x8a\x81"})
        return [bytes([frame[2] ^ frame[6]]) for frame in frames]
