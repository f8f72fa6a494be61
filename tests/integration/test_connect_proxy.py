"""An Alpaca that only an HTTP proxy can reach."""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from pathlib import Path

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.client import Agent
from twisted.web.http_headers import Headers

from tests.integration.test_tls import CertificateTestCase
from tests.support.connect_server import ConnectServer
from tests.support.processes import Command, free_port, spawn
from tests.support.sockets import SocketTestCase
from tradeproxy.simulator.service import Simulator

HOST = "240.0.0.1"
"""An address that no machine has (RFC 1112, 4), so a connection around the proxy fails."""

NAME = "alpaca.example"
"""A name that nobody can resolve (RFC 2606)."""

EVENT = {"event": "new", "order": {"id": "1"}}
USER, PASSWORD = "m@e", "h:u/s#h?%@"
USERINFO = "m%40e:h%3Au%2Fs%23h%3F%25%40"
ENCODED = b64encode(f"{USER}:{PASSWORD}".encode()).decode()

DOCKERFILE = Path(__file__).parents[2] / "deploy/Dockerfile"

TINYPROXY = shutil.which("tinyproxy", path="/usr/bin:/usr/sbin:/usr/local/bin")


class ConnectProxyTestCase(CertificateTestCase):
    """A simulated Alpaca with a certificate for HOST; it has no test."""

    async def start_alpaca(self) -> Simulator:
        """Start Alpaca, and `server`, the proxy in front of it."""
        alpaca = await self.simulate(self.authority.issue(HOST, NAME).endpoint())
        self.server = ConnectServer(self.alpaca_port)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.server.stop()))
        return alpaca

    async def start_proxy(self, url: str, **environment: str) -> Command:
        """Start the product with HTTPS_PROXY."""
        settings = {
            "ALPACA_URL": f"https://{HOST}",
            "SSL_CERT_FILE": str(self.authority.certificate),
            "HTTPS_PROXY": url,
        }
        return await self.proxy(**(settings | environment))

    async def assert_works(self, alpaca: Simulator, proxy: Command, label: str) -> None:
        """Assert that events and REST requests arrive, and that no log has the credentials."""
        await alpaca.when_listening()
        client = await self.subscribe()
        event = alpaca.emit(EVENT)
        await client.has(1)
        self.assertEqual(client.taken(), [event])
        answer = await HTTPClient(Agent(reactor)).get(
            f"http://127.0.0.1:{self.port}/paper/v2/account",
            headers=Headers({"APCA-API-KEY-ID": ["any"], "APCA-API-SECRET-KEY": ["any"]}),
        )
        self.assertEqual((await answer.json())["id"], alpaca.exchange.portfolio.account_id)
        await proxy.stop()
        await alpaca.when_gone()
        self.assertEqual(alpaca.last_close, (1000, None))
        self.assertIn(f"paper: Alpaca is reached through the HTTP proxy {label}", proxy.output)
        for secret in (ENCODED, PASSWORD, USERINFO, "Traceback"):
            self.assertNotIn(secret, proxy.output)


class TunnelTests(ConnectProxyTestCase):
    """The stream, the recovery and PROXY_REST through a proxy."""

    async def test_everything_goes_through_the_proxy(self) -> None:
        """It was ignored without a word. TLS is Alpaca's: its certificate has its own name."""
        alpaca = await self.start_alpaca()
        await self.server.start()
        address = f"127.0.0.1:{self.server.port}"
        proxy = await self.start_proxy(f"http://{USERINFO}@{address}", PROXY_REST="1")
        await self.assert_works(alpaca, proxy, f"http://{address}")
        self.assertGreaterEqual(len(self.server.requests), 3)
        for request in self.server.requests:
            self.assertEqual(
                request,
                f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n"
                f"Proxy-Authorization: Basic {ENCODED}\r\n\r\n",
            )

    async def test_name_is_resolved_by_the_proxy(self) -> None:
        """A machine behind a proxy may have no DNS. The certificate is checked for the name."""
        await self.start_alpaca()
        await self.server.start()
        proxy = await self.start_proxy(
            f"http://127.0.0.1:{self.server.port}", ALPACA_URL=f"https://{NAME}:8443"
        )
        # The simulator allows no name but localhost. Its answer came through TLS.
        await proxy.says("HTTP 403 at the handshake")
        self.assertIn(f"CONNECT {NAME}:8443 HTTP/1.1\r\n", self.server.requests[0])
        await proxy.stop()

    async def test_proxy_with_tls_keeps_the_credentials_from_the_network(self) -> None:
        """TLS to Alpaca is inside of the TLS to the proxy."""
        alpaca = await self.start_alpaca()
        await self.server.start(self.identity.endpoint())
        address = f"localhost:{self.server.port}"
        proxy = await self.start_proxy(f"https://{USERINFO}@{address}", PROXY_REST="1")
        await self.assert_works(alpaca, proxy, f"https://{address}")

    async def test_proxy_with_wrong_certificate_gets_no_credentials(self) -> None:
        """The reason names the proxy."""
        await self.start_alpaca()
        await self.server.start(self.authority.issue("other.example").endpoint())
        proxy = await self.start_proxy(f"https://{USERINFO}@localhost:{self.server.port}")
        await proxy.says("the server's certificate is for another name; next attempt")
        self.assertEqual(self.server.requests, [])
        await proxy.stop()

    async def test_proxy_that_is_no_tunnel_to_alpaca_gets_no_key(self) -> None:
        """The proxy, or who is behind it, has no certificate for Alpaca."""
        alpaca = await self.simulate(self.identity.endpoint())
        self.server = ConnectServer(self.alpaca_port)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.server.stop()))
        await self.server.start()
        proxy = await self.start_proxy(f"http://127.0.0.1:{self.server.port}")
        await proxy.says("the server's certificate is for another name")
        await proxy.stop()
        self.assertEqual(alpaca.handshakes, 0)

    async def test_refusal_is_in_the_log_and_ends_with_it(self) -> None:
        """Nothing else needs a restart: the next attempt gets a tunnel."""
        alpaca = await self.start_alpaca()
        self.server.answer = b"HTTP/1.1 407 hush\r\nProxy-Authenticate: Basic\r\n\r\n"
        await self.server.start()
        label = f"http://127.0.0.1:{self.server.port}"
        proxy = await self.start_proxy(label, PROXY_REST="1")
        await proxy.says(
            f"upstream is down: cannot connect: the HTTP proxy {label}: it answers 407:"
            " a user and a password are needed, or wrong; HTTPS_PROXY names it"
        )
        answer = await HTTPClient(Agent(reactor)).get(
            f"http://127.0.0.1:{self.port}/paper/v2/account"
        )
        self.assertEqual(answer.code, 502)
        self.assertIn("nothing was sent", await answer.text())
        self.server.answer = None
        await self.assert_works(alpaca, proxy, label)

    async def test_check_logs_in_through_the_proxy(self) -> None:
        """It shows the HTTP proxy, without the credentials."""
        await self.start_alpaca()
        await self.server.start()
        label = f"http://127.0.0.1:{self.server.port}"
        command = self.command(
            "tradeproxy",
            "check",
            ALPACA_API_KEY="PKTEST",
            ALPACA_SECRET_KEY="test-secret",
            ALPACA_URL=f"https://{HOST}",
            SSL_CERT_FILE=str(self.authority.certificate),
            PROXY_PORT=str(free_port()),
            https_proxy=label.replace("://", f"://{USERINFO}@"),
        )
        self.assertEqual(await command.ended, 0, command.output)
        self.assertIn(f"HTTP proxy on the way to Alpaca: {label} (https_proxy)\n", command.output)
        self.assertIn("logged in", command.output)
        self.assertNotIn(USERINFO, command.output)

    async def test_loopback_is_connected_directly(self) -> None:
        """The proxy would connect to its own machine."""
        alpaca = await self.simulate()
        proxy = await self.proxy(HTTPS_PROXY=f"http://127.0.0.1:{free_port()}")
        await alpaca.when_listening()
        self.assertNotIn("through the HTTP proxy", proxy.output)
        await proxy.stop()


class HealthCheckTests(SocketTestCase):
    """The health check of the container, which is in its Dockerfile."""

    async def check(self, port: int) -> int:
        """Return the exit status of the check of a port."""
        words = DOCKERFILE.read_text(encoding="utf-8").partition("HEALTHCHECK")[2]
        arguments = json.loads(words.partition("CMD ")[2].partition("\n")[0])
        nowhere = f"http://127.0.0.1:{free_port()}"
        command = self.command(
            *arguments, PROXY_PORT=str(port), http_proxy=nowhere, HTTP_PROXY=nowhere
        )
        return await command.ended

    async def test_health_check_uses_no_http_proxy(self) -> None:
        """Docker passes HTTP_PROXY with HTTPS_PROXY. With it the container was never healthy."""
        await self.proxy()
        self.assertEqual(await self.check(self.port), 0)
        self.assertNotEqual(await self.check(free_port()), 0)


class TinyproxyTests(ConnectProxyTestCase):
    """tinyproxy, which asks the small proxy for every tunnel: nothing else has HOST."""

    if TINYPROXY is None:
        skip = "tinyproxy is not installed"

    async def test_tinyproxy_opens_tunnels(self) -> None:
        """It answers in HTTP/1.0, and checks the password."""
        alpaca = await self.start_alpaca()
        await self.server.start()
        directory, port = Path(self.make_directory()), free_port()
        configuration = directory / "tinyproxy.conf"
        configuration.write_text(
            f"Port {port}\nListen 127.0.0.1\nTimeout 60\nLogLevel Info\nBasicAuth me secret\n"
            f"Upstream http 127.0.0.1:{self.server.port}\n",
            encoding="utf-8",
        )
        assert TINYPROXY is not None, "the test is skipped"
        tinyproxy = spawn([TINYPROXY, "-d", "-c", str(configuration)], str(directory), {})
        self.addCleanup(lambda: Deferred.fromCoroutine(tinyproxy.stop()))
        await tinyproxy.says("Accepting connections")
        refused = await self.start_proxy(f"http://me:wrong@127.0.0.1:{port}")
        await refused.says("it answers 401: a user and a password are needed, or wrong")
        await refused.stop()
        proxy = await self.start_proxy(f"http://me:secret@127.0.0.1:{port}", PROXY_REST="1")
        await self.assert_works(alpaca, proxy, f"http://127.0.0.1:{port}")
        self.assertNotIn("secret", proxy.output.replace("test-secret", ""))
