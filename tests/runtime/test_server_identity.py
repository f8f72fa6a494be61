"""Tests of the check of a server's certificate: real TLS on loopback, with own certificates."""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any
from unittest import mock

from cryptography.x509 import DNSName, GeneralName, IPAddress, UniformResourceIdentifier
from service_identity import CertificateError, VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, wrapClientTLS
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.support.certificates import Authority
from tests.support.listening import listen
from tests.support.reactor import reactor
from tests.support.sockets import SocketTestCase
from tradeproxy.runtime import server_identity
from tradeproxy.runtime.server_identity import ServerIdentity
from tradeproxy.upstream.http import build_agent

GOOD: tuple[tuple[str, Sequence[GeneralName]], ...] = (
    ("localhost", [DNSName("localhost")]),
    ("localhost", [DNSName("other.example"), DNSName("localhost")]),
    ("127.0.0.1", [IPAddress(ip_address("127.0.0.1"))]),
    ("api.proxy.example", [DNSName("*.proxy.example")]),
)
"""Hosts, and names of certificates for them."""

BAD: tuple[tuple[str, Sequence[GeneralName]], ...] = (
    ("localhost", []),
    ("localhost", [DNSName("other.example")]),
    ("localhost", [DNSName("*")]),
    ("api.proxy.example", [DNSName("*")]),
    ("api.proxy.example", [DNSName("*.example")]),
    ("api.proxy.example", [DNSName("*.*.example")]),
    ("api.proxy.example", [DNSName("api.*.example")]),
    ("localhost", [DNSName("other.example"), DNSName("*")]),
    ("localhost", [UniformResourceIdentifier("https://localhost:8443/")]),
    ("127.0.0.1", [DNSName("127.0.0.1")]),
    ("127.0.0.1", [DNSName("localhost")]),
)
"""Hosts, and names of certificates that are not for them. The common name is always the host."""


class RecordingServer(Protocol):
    """Records what a client sends, and closes after the first of it."""

    def __init__(self) -> None:
        self.received = b""
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        assert self.transport is not None
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


class TalkingClient(Protocol):
    """Sends a secret at once, as a client that opens its handshake does."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.reason = Failure(connectionDone.value)

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"secret")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        self.ended.callback(None)


class ServerIdentityTests(SocketTestCase):
    """The authority is trusted throughout: only the names differ."""

    def setUp(self) -> None:
        self.authority = Authority(self.make_directory())
        trusting = mock.patch.dict(os.environ, SSL_CERT_FILE=str(self.authority.certificate))
        trusting.start()
        self.addCleanup(trusting.stop)

    async def listen(self, host: str, names: Sequence[GeneralName]) -> RecordingServer:
        """Serve one connection with a certificate; its port is in `self.port`."""
        server = RecordingServer()
        factory = Factory.forProtocol(lambda: server)
        factory.noisy = False
        self.port = await listen(self, factory, self.authority.issue_names(host, names).endpoint())
        return server

    async def talk(self, host: str, names: Sequence[GeneralName]) -> tuple[bytes, Failure]:
        """Connect and send. Return what the server got, and how the connection was lost."""
        server = await self.listen(host, names)
        tcp = clientFromString(reactor, f"tcp:127.0.0.1:{self.port}")
        factory = Factory.forProtocol(TalkingClient)
        factory.noisy = False
        client: Any = await wrapClientTLS(ServerIdentity(host), tcp).connect(factory)
        await client.ended
        await server.ended
        return server.received, client.reason

    async def test_certificate_with_the_host_is_accepted(self) -> None:
        """By name, by address, or by a wildcard below a domain."""
        for host, names in GOOD:
            received, reason = await self.talk(host, names)
            self.assertEqual(received, b"secret", (host, names))
            self.assertTrue(reason.check(ConnectionClosed), reason)

    async def test_certificate_without_the_host_gets_no_byte(self) -> None:
        """Neither for its common name alone, nor for a wildcard that matches everything.

        An invalid name, such as a bare `*`, or no subjectAltName at all made a certificate valid
        for every host: the check raised another error than the one that Twisted rejects for.
        """
        for host, names in BAD:
            received, reason = await self.talk(host, names)
            self.assertEqual(received, b"", (host, names))
            self.assertTrue(reason.check(VerificationError, CertificateError), reason)

    async def test_connections_to_a_host_read_the_trust_store_once(self) -> None:
        """Else each takes 5 ms and 1 MB.

        Twenty webhooks of three accounts, whose receiver breaks or delays the handshake, delayed
        the clients by over a second, and took over 100 MB.
        """
        self.patch(server_identity, "TRUST_AGE", 1e12)
        names = [DNSName("localhost")]
        await self.talk("localhost", names)
        self.authority.certificate.unlink()
        received, _ = await self.talk("localhost", names)
        self.assertEqual(received, b"secret")

    async def test_trust_store_that_is_old_is_read_again(self) -> None:
        """An authority that was removed is not trusted for as long as the process runs."""
        self.patch(server_identity, "TRUST_AGE", 1e-6)
        names = [DNSName("localhost")]
        await self.talk("localhost", names)
        self.authority.certificate.unlink()
        received, _ = await self.talk("localhost", names)
        self.assertEqual(received, b"")

    async def test_rest_request_of_wrong_server_sends_no_key(self) -> None:
        """The requests of the recovery, and those that PROXY_REST forwards."""
        for names in ([], [DNSName("*")]):
            server = await self.listen("localhost", names)
            answered = build_agent(reactor).request(
                b"GET", f"https://localhost:{self.port}/".encode()
            )
            await self.assertFailure(answered, Exception)
            await server.ended
            self.assertEqual(server.received, b"", names)
