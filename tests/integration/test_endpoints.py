"""Listening endpoints on real sockets: UNIX, inherited, loopback and all addresses."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString
from twisted.trial.unittest import SkipTest

from tests.support.certificates import Authority
from tests.support.frames import AUTH, AUTHENTICATED, UNAUTHORIZED
from tests.support.journals import memory_journal
from tests.support.listening import listen
from tests.support.processes import SCRIPTS, Command, free_ports, spawn
from tests.support.socket_limits import limit_sockets
from tests.support.sockets import SocketClient, SocketTestCase
from tradeproxy.config.endpoints import has_ipv6_loopback
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.clients import DownstreamService
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.hub.account import Account
from tradeproxy.simulator.service import Simulator
from tradeproxy.web.site import build_site
from tradeproxy.wire.close_codes import CloseCode

KEYS = {"ALPACA_API_KEY": "PKTEST", "ALPACA_SECRET_KEY": "test-secret"}
EVENT = {"event": "new", "order": {"id": "1"}}


class EndpointTestCase(SocketTestCase):
    """Connects clients to any endpoint."""

    async def client_at(self, endpoint: str, auth: bytes = AUTH) -> SocketClient:
        """Open a WebSocket to a client endpoint in Twisted's notation, and authenticate."""
        url = "ws://localhost/trade-updates-paper"
        client = await self.dial(clientFromString(reactor, endpoint), url)
        await client.opened
        client.sendMessage(auth)
        await client.has(1)
        return client

    async def assert_serves(self, alpaca: Simulator, *clients: SocketClient) -> None:
        """Assert that each client is authenticated and receives an event."""
        await alpaca.when_listening()
        self.assertEqual([client.taken() for client in clients], [[AUTHENTICATED]] * len(clients))
        event = alpaca.emit(EVENT)
        await gatherResults([client.has(1) for client in clients])
        self.assertEqual([client.taken() for client in clients], [[event]] * len(clients))


class ListenTests(EndpointTestCase):
    """PROXY_LISTEN, and the default addresses."""

    async def test_unix_socket_has_mode_600_and_is_removed(self) -> None:
        """No token is needed, other users cannot open it, and it is removed at shutdown."""
        # A socket's path has at most 107 bytes; trial's directories are too deep.
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = Path(directory, "proxy.sock")
        alpaca = await self.simulate()
        proxy = await self.proxy(PROXY_LISTEN=f"unix:{path}")
        self.assertIn(f"listening on unix:{path}", proxy.output)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        await self.assert_serves(alpaca, await self.client_at(f"unix:{path}"))
        await proxy.stop()
        self.assertEqual(list(Path(directory).iterdir()), [])

    async def test_two_endpoints_serve_the_same_stream(self) -> None:
        """White space separates them, and the log names each."""
        alpaca = await self.simulate()
        ports = free_ports(2)
        proxy = await self.proxy(
            PROXY_LISTEN=" ".join(f"tcp:{port}:interface=127.0.0.1" for port in ports)
        )
        for port in ports:
            await proxy.says(f"listening on http://127.0.0.1:{port}")
        clients = [await self.client_at(f"tcp:127.0.0.1:{port}") for port in ports]
        await self.assert_serves(alpaca, *clients)

    async def test_default_listens_on_both_loopback_addresses(self) -> None:
        """`localhost` may resolve to either."""
        if not has_ipv6_loopback():
            raise SkipTest("this machine has no ::1")
        alpaca = await self.simulate()
        await self.proxy()
        clients = [
            await self.client_at(f"tcp:{address}:{self.port}")
            for address in ("127.0.0.1", r"\:\:1")
        ]
        await self.assert_serves(alpaca, *clients)


class InheritedSocketTests(EndpointTestCase):
    """A socket that systemd has opened; the rules for its address are the usual ones."""

    def start(self, address: str) -> Command:
        """Start the proxy as systemd does, with a socket on `address`; set `self.port`."""
        listening = socket.create_server((address, 0))
        self.addCleanup(listening.close)
        self.port = listening.getsockname()[1]
        activate = ("/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh")
        twistd = (*activate, "setsid", "twistd", "-n", "tradeproxy")
        environment = KEYS | {
            "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
            "LISTEN_FDS": "1",
            "LISTEN_FDNAMES": "stream",
            "PROXY_LISTEN": "systemd:domain=INET:index=0",
            "ALPACA_URL": f"http://127.0.0.1:{self.alpaca_port}",
        }
        command = spawn(twistd, self.make_directory(), environment, inherited=listening.fileno())
        self.addCleanup(lambda: Deferred.fromCoroutine(command.stop("KILL")))
        return command

    async def test_inherited_loopback_socket_needs_no_token(self) -> None:
        """Connections that were opened before the process started are served too."""
        alpaca = await self.simulate()
        proxy = self.start("127.0.0.1")
        client = await self.client_at(f"tcp:127.0.0.1:{self.port}")
        await self.assert_serves(alpaca, client)
        await proxy.stop()
        self.assertNotIn("Traceback", proxy.output)
        base = f"127.0.0.1:{self.port}"
        for line in (f"listening on http://{base}\n", f"paper: ws://{base}/trade-updates-paper/"):
            self.assertIn(line, proxy.output)

    async def test_inherited_socket_is_local_for_a_reload_too(self) -> None:
        """Twisted has closed its descriptor. Each `systemctl reload` without tokens failed."""
        alpaca = await self.simulate()
        proxy = self.start("127.0.0.1")
        await alpaca.when_listening()
        os.kill(proxy.pid, signal.SIGHUP)
        await proxy.says("the settings were read again: nothing has changed")
        await proxy.stop()

    async def test_inherited_public_socket_without_tokens_exits_1(self) -> None:
        """The proxy does not start, although the socket is open."""
        await self.simulate()
        proxy = self.start("0.0.0.0")
        self.assertEqual(await proxy.ended, 1, proxy.output)
        [line] = proxy.output.strip().splitlines()
        self.assertIn("PROXY_LISTEN", line)
        self.assertIn("PROXY_TOKENS", line)


class ExposureTests(EndpointTestCase):
    """Listening on addresses that other machines may reach."""

    token = "a-token-of-some-length"

    async def test_public_address_without_tokens_exits_1(self) -> None:
        """The line names the risk and the variable to set."""
        proxy = self.command("twistd", "-n", "tradeproxy", PROXY_HOST="0.0.0.0", **KEYS)
        self.assertEqual(await proxy.ended, 1, proxy.output)
        [line] = proxy.output.strip().splitlines()
        self.assertIn("PROXY_HOST: other machines may reach http://0.0.0.0:8099", line)
        self.assertIn("set PROXY_TOKENS", line)

    async def test_public_address_requires_token(self) -> None:
        """A client without a token gets `unauthorized` and close code 4001."""
        alpaca = await self.simulate()
        await self.proxy(PROXY_HOST="0.0.0.0", PROXY_TOKENS=self.token)
        endpoint = f"tcp:127.0.0.1:{self.port}"
        unauthorized = await self.client_at(endpoint)
        await unauthorized.gone()
        self.assertEqual(unauthorized.messages, [UNAUTHORIZED])
        assert unauthorized.closed is not None
        self.assertEqual(unauthorized.closed[0], 4001)
        auth = f'{{"action":"auth","key":"{self.token}","secret":"any"}}'.encode()
        await self.assert_serves(alpaca, await self.client_at(endpoint, auth))
        self.assertEqual(unauthorized.messages, [UNAUTHORIZED])


class SocketOptionTests(EndpointTestCase):
    """Options of the proxy's sockets."""

    async def test_tcp_nodelay_is_set(self) -> None:
        """An event does not wait for a full packet, over TLS either."""
        directory = self.make_directory()
        identity = Authority(directory).issue("127.0.0.1")
        for server_endpoint, client_endpoint in (
            ("tcp:0:interface=127.0.0.1", "tcp:127.0.0.1:{port}"),
            (identity.endpoint(), f"tls:127.0.0.1:{{port}}:trustRoots={directory}"),
        ):
            factory = DownstreamFactory(Limits(), reactor, limit_sockets())
            journal = memory_journal(reactor)
            self.addCleanup(journal.close)
            accounts = {"paper": Account("paper", journal, reactor)}
            admission = Admission((), (), Tokens(()))
            site = build_site(accounts, factory, admission, reactor, reactor.seconds)
            port = await listen(self, site, server_endpoint)
            await self.client_at(client_endpoint.format(port=port))
            self.addCleanup(DownstreamService(factory.clients, reactor).stopService)
            clients: list[Any] = list(factory.clients)
            self.assertEqual(
                [client.transport.getTcpNoDelay() for client in clients], [True], server_endpoint
            )


class SlowClientTests(EndpointTestCase):
    """A client that stops reading, with the buffers of a real kernel."""

    async def stalled_client(self, alpaca: Simulator) -> tuple[SocketClient, list[bytes]]:
        """Return a client that reads nothing, and more events than the kernel buffers for it."""
        slow, fast = await self.subscribe(), await self.subscribe()
        transport: Any = slow.transport
        transport.pauseProducing()
        events: list[bytes] = []
        for _ in range(10):
            events += [
                alpaca.emit(EVENT | {"number": len(events) + i, "padding": "x" * 1000})
                for i in range(1000)
            ]
            await fast.has(len(events))
        self.assertEqual(fast.messages, events)
        return slow, events

    async def test_stalled_client_that_resumes_gets_every_event(self) -> None:
        """Other clients are not delayed; the missed events come from the journal, in order."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        slow, events = await self.stalled_client(alpaca)
        transport: Any = slow.transport
        transport.resumeProducing()
        events.append(alpaca.emit(EVENT | {"number": len(events)}))
        await slow.has(len(events))
        self.assertEqual(slow.messages, events)

    async def test_stalled_client_is_closed_at_stall_timeout(self) -> None:
        """It finds the first events without a hole, and a close frame with the reason."""
        alpaca = await self.simulate()
        proxy = await self.proxy(PROXY_STALL_TIMEOUT="0.5")
        await alpaca.when_listening()
        slow, events = await self.stalled_client(alpaca)
        await proxy.says(CloseCode.TOO_SLOW.reason)
        transport: Any = slow.transport
        transport.resumeProducing()
        await slow.gone()
        self.assertEqual(slow.messages, events[: len(slow.messages)])
        self.assertEqual(slow.closed, (CloseCode.TOO_SLOW.code, CloseCode.TOO_SLOW.reason))
        self.assertLess(len(slow.messages), len(events))
