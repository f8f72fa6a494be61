"""TLS on both sides: toward Alpaca verified, toward the clients served."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import clientFromString

from tests.support.certificates import Authority, Identity
from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.processes import free_port
from tests.support.sockets import SocketTestCase

EVENT = {"event": "new", "order": {"id": "1"}}


class CertificateTestCase(SocketTestCase):
    """An authority of our own, and a certificate of this machine's loopback names."""

    def setUp(self) -> None:
        self.directory = self.make_directory()
        self.authority = Authority(self.directory)
        self.identity = self.authority.issue("localhost", "127.0.0.1")


class UpstreamTests(CertificateTestCase):
    """An Alpaca behind TLS, as the real one is."""

    async def test_streams_from_a_server_that_is_trusted(self) -> None:
        """SSL_CERT_FILE adds an authority; events come, and the goodbye goes through TLS too."""
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

    async def test_verifies_an_address_as_well_as_a_name(self) -> None:
        """A base URL may hold an address, if the certificate does."""
        alpaca = await self.simulate(self.identity.endpoint())
        proxy = await self.proxy(
            ALPACA_URL=f"wss://127.0.0.1:{self.alpaca_port}",
            SSL_CERT_FILE=str(self.authority.certificate),
        )
        await alpaca.when_listening()
        await proxy.stop()

    async def test_says_nothing_to_a_server_of_an_unknown_authority(self) -> None:
        """No handshake reaches it, and the log says why."""
        await self.assert_stays_away(self.identity)

    async def test_says_nothing_to_a_server_with_another_name(self) -> None:
        """A certificate that the authority issued to somebody else is no better than none."""
        identity = self.authority.issue("other.example")
        await self.assert_stays_away(identity, SSL_CERT_FILE=str(self.authority.certificate))

    async def assert_stays_away(self, identity: Identity, **environment: str) -> None:
        alpaca = await self.simulate(identity.endpoint())
        proxy = await self.proxy(ALPACA_URL=f"https://localhost:{self.alpaca_port}", **environment)
        await proxy.says("upstream is down")
        await proxy.stop()
        self.assertEqual(alpaca.handshakes, 0)
        self.assertRegex(proxy.output, "upstream is down: .*certificate")
        self.assertNotIn("Traceback", proxy.output)


class DownstreamTests(CertificateTestCase):
    """Clients that come over TLS, with `ssl:` in PROXY_LISTEN."""

    async def test_serves_clients_and_takes_its_own_origin_for_https(self) -> None:
        """A page of the proxy's own has an https origin; one of http is another's."""
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
