"""TLS on both sides: verified to Alpaca, served to clients."""

from __future__ import annotations

import contextlib
import socket

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import clientFromString
from twisted.internet.threads import deferToThread

from tests.support.certificates import Authority, Identity
from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.processes import Command, free_port
from tests.support.sockets import SocketTestCase

EVENT = {"event": "new", "order": {"id": "1"}}


class CertificateTestCase(SocketTestCase):
    """A certificate authority of the test, and a certificate for the loopback names."""

    def setUp(self) -> None:
        self.directory = self.make_directory()
        self.authority = Authority(self.directory)
        self.identity = self.authority.issue("localhost", "127.0.0.1")


class UpstreamTlsTests(CertificateTestCase):
    """An Alpaca behind TLS."""

    async def test_upstream_trusted_certificate_streams(self) -> None:
        """SSL_CERT_FILE adds an authority; events and the close frame go through TLS."""
        alpaca = await self.simulate(self.identity.endpoint())
        proxy = await self.proxy(
            ALPACA_URL=f"https://localhost:{self.alpaca_port}",
            SSL_CERT_FILE=str(self.authority.certificate),
        )
        await alpaca.when_listening()
        client = await self.subscribe()
        event = alpaca.emit(EVENT)
        await client.has(1)
        self.assertEqual(client.taken(), [event])
        await proxy.stop()
        await alpaca.when_gone()
        self.assertEqual(alpaca.last_close, (1000, None))
        self.assertNotIn("Traceback", proxy.output)

    async def test_upstream_address_in_certificate_connects(self) -> None:
        """A base URL may hold an IP address that the certificate contains."""
        alpaca = await self.simulate(self.identity.endpoint())
        proxy = await self.proxy(
            ALPACA_URL=f"wss://127.0.0.1:{self.alpaca_port}",
            SSL_CERT_FILE=str(self.authority.certificate),
        )
        await alpaca.when_listening()
        await proxy.stop()

    async def test_upstream_unknown_authority_is_rejected(self) -> None:
        """No handshake reaches the server, and the log states the reason."""
        await self.assert_rejects_server(self.identity)

    async def test_upstream_wrong_name_is_rejected(self) -> None:
        """A trusted certificate for another name is rejected."""
        identity = self.authority.issue("other.example")
        await self.assert_rejects_server(identity, SSL_CERT_FILE=str(self.authority.certificate))

    async def test_upstream_certificate_without_san_is_rejected(self) -> None:
        """The common name alone does not count, and the log states the reason."""
        identity = self.authority.issue_names("localhost", [])
        proxy = await self.assert_rejects_server(
            identity, SSL_CERT_FILE=str(self.authority.certificate)
        )
        self.assertIn("no valid subjectAltName", proxy.output)

    async def assert_rejects_server(self, identity: Identity, **environment: str) -> Command:
        alpaca = await self.simulate(identity.endpoint())
        proxy = await self.proxy(ALPACA_URL=f"https://localhost:{self.alpaca_port}", **environment)
        await proxy.says("upstream is down")
        await proxy.stop()
        self.assertEqual(alpaca.handshakes, 0)
        self.assertRegex(proxy.output, "upstream is down: .*certificate")
        self.assertNotIn("Traceback", proxy.output)
        return proxy


class DownstreamTlsTests(CertificateTestCase):
    """Clients that connect over TLS, with `ssl:` in PROXY_LISTEN."""

    async def test_client_hello_without_end_is_cut_off(self) -> None:
        """OpenSSL kept 200 KB for each: 500 connections took 98 MB until their timeout."""
        port = free_port()
        proxy = await self.proxy(
            PROXY_LISTEN=self.identity.endpoint(port), PROXY_HANDSHAKE_TIMEOUT="60"
        )
        await proxy.says(f"listening on https://127.0.0.1:{port}")
        hello = b"\x01\x00\xff\xff\x03\x03" + bytes(32) + b"\x00\xff\xf0" + bytes(16_000)
        records = b"\x16\x03\x01" + len(hello).to_bytes(2) + hello
        records += b"\x16\x03\x01\x3e\x80" + bytes(16_000)

        def read_to_end() -> None:
            stranger = socket.create_connection(("127.0.0.1", port), timeout=20)
            with stranger, contextlib.suppress(ConnectionError):
                stranger.sendall(records)
                stranger.recv(1)

        await deferToThread(read_to_end)  # TimeoutError if the proxy waits for more
        await proxy.stop()

    async def test_client_tls_accepts_https_origin_only(self) -> None:
        """The proxy's own origin is https; a page with an http origin gets 403."""
        alpaca = await self.simulate()
        port = free_port()
        proxy = await self.proxy(PROXY_LISTEN=self.identity.endpoint(port))
        await proxy.says(f"listening on https://127.0.0.1:{port}")
        await alpaca.when_listening()
        url = f"wss://127.0.0.1:{port}/trade-updates-paper"
        secure = clientFromString(reactor, f"tls:127.0.0.1:{port}:trustRoots={self.directory}")
        clients = [
            await self.dial(secure, url),
            await self.dial(secure, url, origin=f"https://127.0.0.1:{port}"),
        ]
        foreign = await self.dial(secure, url, origin=f"http://127.0.0.1:{port}")
        await foreign.gone()
        self.assertIn(" 403 ", foreign.http_status_line)
        for client in clients:
            await client.opened
            client.sendMessage(AUTH)
            await client.has(1)
            self.assertEqual(client.taken(), [AUTHENTICATED])
        event = alpaca.emit(EVENT)
        await gatherResults([client.has(1) for client in clients])
        self.assertEqual([client.taken() for client in clients], [[event], [event]])
        await proxy.stop()
        await gatherResults([client.gone() for client in clients])
        self.assertEqual(
            {client.closed for client in clients}, {(1012, "the proxy is restarting: reconnect")}
        )

    async def test_clients_with_and_without_tls_get_every_event(self) -> None:
        """They are in different send groups: what one loop sends is not what the other sends."""
        alpaca = await self.simulate()
        ports = free_port(), free_port()
        endpoints = f"tcp:{ports[0]}:interface=127.0.0.1", self.identity.endpoint(ports[1])
        proxy = await self.proxy(PROXY_LISTEN=" ".join(endpoints))
        await proxy.says(f"listening on https://127.0.0.1:{ports[1]}")
        await alpaca.when_listening()
        ways = (
            (f"tcp:127.0.0.1:{ports[0]}", f"ws://127.0.0.1:{ports[0]}/trade-updates-paper"),
            (
                f"tls:127.0.0.1:{ports[1]}:trustRoots={self.directory}",
                f"wss://127.0.0.1:{ports[1]}/trade-updates-paper",
            ),
        )
        clients = [
            await self.dial(clientFromString(reactor, endpoint), url) for endpoint, url in 2 * ways
        ]
        for client in clients:
            await client.opened
            client.sendMessage(AUTH)
            await client.has(1)
        for number in range(5):
            event = alpaca.emit({"event": "new", "order": {"id": str(number)}})
            await gatherResults([client.has(number + 2) for client in clients])
            self.assertEqual({client.messages[-1] for client in clients}, {event})
        await proxy.stop()
