"""Tests for tradeproxy.upstream.tunnel, in memory."""

from __future__ import annotations

from errno import ECONNREFUSED
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.config.connect_proxy import ConnectProxy, NoProxyEntry
from tradeproxy.runtime.connect_errors import describe_connect_error
from tradeproxy.runtime.reactor import Reactor
from tradeproxy.runtime.socket_limit import unwrap
from tradeproxy.upstream.tunnel import MAX_HEAD_SIZE, ProxyError, build_endpoint
from tradeproxy.wire.credentials import Secret

HOST = "paper-api.alpaca.markets"
OPENED = b"HTTP/1.1 200 Connection established\r\nProxy-Agent: x\r\n\r\n"


class RecordingProtocol(Protocol):
    """A protocol that records what it gets."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


class Transport(StringTransportWithDisconnection):
    """A transport whose abort loses the connection."""

    disconnected = False

    def abortConnection(self) -> None:
        self.disconnected = True
        self.loseConnection()


class TunnelTests(SynchronousTestCase):
    """A connection through a proxy on 127.0.0.1."""

    proxy = ConnectProxy(False, "127.0.0.1", 3128, None, (), "HTTPS_PROXY")

    def connect(self, host: str = HOST) -> None:
        """Connect to the proxy by TCP."""
        self.reactor: Any = MemoryReactorClock()
        endpoint = build_endpoint(host, 443, self.proxy, cast(Reactor, self.reactor), 15.0)
        self.connected = endpoint.connect(Factory.forProtocol(RecordingProtocol))
        address, port, factory, timeout, _ = tuple[Any, ...](self.reactor.tcpClients[0])
        self.assertEqual((address, port, timeout), ("127.0.0.1", 3128, 15.0))
        self.tunnel: Any = factory.buildProtocol(None)
        self.transport = Transport()
        self.transport.protocol = self.tunnel
        self.tunnel.makeConnection(self.transport)

    def receive(self, *answer: bytes) -> None:
        """Receive the parts of the proxy's answer."""
        for part in answer:
            self.tunnel.dataReceived(part)

    def fail_with(self) -> str:
        """Return the text of the error, after which the connection is aborted and no timer runs."""
        failure = self.failureResultOf(self.connected, ProxyError)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.receive(OPENED)  # too late
        text: str = describe_connect_error(failure.value)
        self.assertTrue(text.startswith("the HTTP proxy http://127.0.0.1:3128: "), text)
        return text.removeprefix("the HTTP proxy http://127.0.0.1:3128: ")

    def test_request_names_the_server_only(self) -> None:
        """The proxy gets no other header, and nothing before its answer."""
        self.connect()
        self.assertEqual(
            self.transport.value(),
            b"CONNECT paper-api.alpaca.markets:443 HTTP/1.1\r\n"
            b"Host: paper-api.alpaca.markets:443\r\n\r\n",
        )
        self.assertNoResult(self.connected)
        self.connect("2001:db8::1")
        self.assertIn(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n", self.transport.value())

    def test_connection_logs_nothing(self) -> None:
        """Twisted logged the start and the end of each factory as a line of the proxy's."""
        self.connect()
        [(_, _, factory, _, _)] = self.reactor.tcpClients
        with capturedLogs() as logs:
            factory.doStart()
            factory.doStop()
        self.assertNotIn("_TunnelFactory", "".join(map(str, map(formatEvent, logs))))

    def test_request_has_the_credentials(self) -> None:
        """They are sent at once: a proxy that answers 407 may close the connection."""
        self.proxy = ConnectProxy(False, "127.0.0.1", 3128, Secret("Basic bWU6"), (), "x")
        self.connect()
        self.assertIn(b"\r\nProxy-Authorization: Basic bWU6\r\n\r\n", self.transport.value())

    def test_answer_of_any_2xx_opens_the_tunnel(self) -> None:
        """In any pieces. What follows the head is the server's."""
        for answer in (OPENED, b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 299\r\nA: b\r\n\r\n"):
            for pieces in ([answer + b"hello"], [bytes([byte]) for byte in answer] + [b"hello"]):
                self.connect()
                self.receive(*pieces)
                protocol: Any = self.successResultOf(self.connected)
                self.assertEqual(protocol.received, b"hello")
                self.receive(b" again")
                self.transport.clear()
                protocol.transport.write(b"data")
                self.assertEqual(
                    (protocol.received, self.transport.value()), (b"hello again", b"data")
                )
                self.assertIs(unwrap(protocol.transport), self.transport)
                self.assertEqual(self.reactor.getDelayedCalls(), [])
                self.transport.loseConnection()
                self.assertTrue(protocol.lost.check(ConnectionDone))

    def test_protocol_may_close_the_tunnel(self) -> None:
        """It aborts the connection to the proxy."""
        self.connect()
        self.receive(OPENED)
        protocol: Any = self.successResultOf(self.connected)
        protocol.transport.abortConnection()
        self.assertTrue(self.transport.disconnected)
        self.assertIsNotNone(protocol.lost)

    def test_data_after_the_protocol_closed_ends_the_tunnel(self) -> None:
        """TLS to the proxy reads on until the proxy closes too.

        TLS to Alpaca, inside, stored all that came after its own failure: 20 MB a connection.
        """
        self.connect()
        self.patch(self.transport, "loseConnection", lambda: None)  # as TLS does
        self.receive(OPENED)
        protocol: Any = self.successResultOf(self.connected)
        protocol.transport.loseConnection()
        self.receive(b"more", b"and more")
        self.assertEqual((protocol.received, self.transport.disconnected), (b"", True))

    def test_refusal_has_the_status(self) -> None:
        """Its text may be anything, and is not quoted."""
        for answer, text in (
            (b"HTTP/1.1 502 hush\r\n\r\nhush", "it answers 502; HTTPS_PROXY names it"),
            (b"HTTP/1.0 301 Moved\r\nLocation: x\r\n\r\n", "it answers 301; HTTPS_PROXY names it"),
            (b"HTTP/1.1 100 Continue\r\n\r\n" + OPENED, "it answers 100; HTTPS_PROXY names it"),
            (
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
                "it answers 407: a user and a password are needed, or wrong; HTTPS_PROXY names it",
            ),
        ):
            self.connect()
            self.receive(answer)
            self.assertEqual(self.fail_with(), text)

    def test_answer_that_is_not_http_fails_at_once(self) -> None:
        """A server that speaks first, or another protocol."""
        for answer in (
            b"SSH-2.0-x\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 2000\r\n\r\n",
            b"HTTP/1.1 +20\r\n\r\n",
            b"HTTP/1.12 200\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"\r\n\r\n",
        ):
            self.connect()
            self.receive(answer)
            self.assertEqual(self.fail_with(), "its answer is not HTTP/1", answer)

    def test_endless_answer_is_cut_off(self) -> None:
        """It would fill the memory."""
        self.connect()
        self.receive(b"HTTP/1.1 200 OK\r\n")
        for _ in range(MAX_HEAD_SIZE // 1000):
            self.receive(b"A: " + b"x" * 995 + b"\r\n")
            self.assertFalse(self.transport.disconnected)
        self.receive(b"x" * 1000)
        self.assertEqual(self.fail_with(), "its answer is too long")
        self.connect()
        self.receive(b"HTTP/1.1 200 OK\r\nA: " + b"x" * MAX_HEAD_SIZE + b"\r\n\r\n")
        self.assertEqual(self.fail_with(), "its answer is too long")

    @examples(30)
    @given(
        st.lists(
            st.binary(max_size=20)
            | st.sampled_from([b"HTTP/1.1 ", b"200", b"502", b" OK", b"\r\n", b"\r\n\r\n"])
        )
    )
    def test_any_answer_in_any_pieces_has_one_outcome(self, pieces: list[bytes]) -> None:
        """There is a tunnel, an error, or no whole answer yet; how it was cut does not matter."""
        outcomes = []
        for parts in (pieces, [b"".join(pieces)]):
            self.connect()
            self.receive(*parts)
            outcome: list[Any] = []
            self.connected.addCallbacks(
                lambda protocol, outcome=outcome: outcome.append(protocol.received),
                lambda failure, outcome=outcome: outcome.append(str(failure.value)),
            )
            outcomes.append(outcome)
        self.assertEqual(*outcomes)

    def test_slow_answer_fails_in_time(self) -> None:
        """Each byte would restart a timeout of inactivity."""
        self.connect()
        for byte in OPENED[:14]:
            self.receive(bytes([byte]))
            self.reactor.advance(1)
        self.assertNoResult(self.connected)
        self.reactor.advance(1)
        self.assertEqual(self.fail_with(), "it does not answer in time")

    def test_cut_answer_fails(self) -> None:
        """Before the first byte, or later."""
        for answer in (b"", OPENED[:30]):
            self.connect()
            if answer:
                self.receive(answer)
            self.transport.disconnected = True
            self.transport.loseConnection()
            self.assertEqual(self.fail_with(), "it closed the connection")

    def test_failed_tls_with_the_proxy_has_a_reason(self) -> None:
        """It is the one that TLS to Alpaca has. The texts of these errors may be anything."""
        for error, text in (
            (SSL.Error([]), "TLS failed: the connection was cut"),
            (VerificationError([]), "the server's certificate is for another name"),
            (CertificateError("hush"), "the server's certificate has no valid subjectAltName"),
        ):
            self.connect()
            self.tunnel.connectionLost(Failure(error))
            self.assertEqual(self.fail_with(), text)

    def test_cancelled_tcp_connect_is_no_fault_of_the_proxy(self) -> None:
        """The proxy stops before the HTTP proxy has accepted."""
        reactor: Any = MemoryReactorClock()
        endpoint = build_endpoint(HOST, 443, self.proxy, reactor, 15.0)
        connected = endpoint.connect(Factory.forProtocol(Protocol))
        connected.cancel()
        self.failureResultOf(connected, ConnectingCancelledError)

    def test_cancelled_attempt_is_aborted(self) -> None:
        """The proxy stops during an attempt."""
        self.connect()
        self.connected.cancel()
        self.failureResultOf(self.connected)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_unreachable_proxy_is_named(self) -> None:
        """`connection refused` alone would point at Alpaca."""
        reactor: Any = MemoryReactorClock()
        endpoint = build_endpoint(HOST, 443, self.proxy, reactor, 15.0)
        connected = endpoint.connect(Factory.forProtocol(Protocol))
        reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(ConnectError(ECONNREFUSED)))
        reactor.advance(1)  # no other address is left to try
        failure = self.failureResultOf(connected, ProxyError)
        self.assertEqual(
            describe_connect_error(failure.value),
            "the HTTP proxy http://127.0.0.1:3128: connection refused",
        )

    def test_exceptions_are_connected_directly(self) -> None:
        """NO_PROXY, and this machine."""
        entries = (NoProxyEntry.parse("10.0.0.0/8"),)
        proxy = ConnectProxy(False, "127.0.0.1", 3128, None, entries, "x")
        for host, chosen, port in (
            ("10.1.2.3", proxy, 8443),
            ("127.0.0.1", proxy, 8443),
            ("192.0.2.1", None, 8443),
            ("192.0.2.1", proxy, 3128),
        ):
            reactor: Any = MemoryReactorClock()
            endpoint = build_endpoint(host, 8443, chosen, reactor, 5.0)
            endpoint.connect(Factory.forProtocol(Protocol))
            self.assertEqual(reactor.tcpClients[0][1], port, host)
