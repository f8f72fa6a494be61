"""The short form of attacks by events and strangers: none of them stops an account."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.support.processes import SCRIPTS, Command, free_port
from tests.support.sockets import SocketTestCase
from tests.wire.test_times import OUTSIDE
from tradeproxy.simulator.faults import Fault, FaultKind

DESCRIPTORS = 200
STRANGERS = 600


def fetch(port: int, target: str) -> tuple[int, bytes]:
    """Send a request and return the status and the body. Blocks: call it in a thread."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        response = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = response.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


class BadTimeTests(SocketTestCase):
    """A time outside the calendar stopped an account for good, restarts included."""

    async def test_account_streams_after_drop_and_after_restart(self) -> None:
        """Every status is answered, and every event is delivered."""
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        client = await self.subscribe()
        sent = [alpaca.emit({"event": "fill", "at": at}) for at in OUTSIDE]
        await client.has(len(sent))
        self.assertEqual(client.taken(), sent)
        alpaca.inject(Fault(FaultKind.DROP))
        await alpaca.when_gone()
        await alpaca.when_listening()
        await proxy.stop()
        proxy = await self.proxy()
        await alpaca.when_listening()
        client = await self.subscribe()
        event = alpaca.emit({"event": "fill"})
        await client.has(1)
        self.assertEqual(client.taken(), [event])
        status, body = await deferToThread(fetch, self.port, "/status.json")
        self.assertEqual((status, list(json.loads(body)["accounts"])), (200, ["paper"]))
        self.assertNotIn("Traceback", proxy.output)


class QueryTests(SocketTestCase):
    """30 requests of 16 KB froze every account for 40 s, before any token was checked."""

    timeout = 20

    async def test_health_is_answered_beside_expensive_queries(self) -> None:
        """Each query is rejected at once."""
        await self.simulate()
        await self.proxy()
        times = "/paper/v2/events/trades?since=" + ":" * 7900 + "+" * 7900
        names = "/paper/v2/events/trades?" + "&".join(f"sinc{n}x=1" for n in range(1400))
        answers = await gatherResults(
            [deferToThread(fetch, self.port, target) for target in [times, names] * 15]
        )
        self.assertEqual([status for status, _ in answers], [400] * 30)
        self.assertEqual((await deferToThread(fetch, self.port, "/healthz"))[0], 200)


class IdleConnectionTests(SocketTestCase):
    """Idle connections took every file descriptor, and filled the log."""

    async def limited_proxy(self) -> Command:
        """Start a proxy that has few file descriptors."""
        self.port = free_port()
        command = self.command(
            "/bin/sh",
            "-c",
            f"ulimit -n {DESCRIPTORS} && exec {SCRIPTS}/twistd -n tradeproxy",
            ALPACA_API_KEY="PKTEST",
            ALPACA_SECRET_KEY="test-secret",
            ALPACA_URL=f"http://127.0.0.1:{self.alpaca_port}",
            PROXY_PORT=str(self.port),
            PROXY_HOST="127.0.0.1",
        )
        await command.says("listening on")
        return command

    async def test_strangers_take_neither_the_upstream_nor_a_clients_place(self) -> None:
        """The upstream reconnects, health is answered, a new client gets the next event."""
        alpaca = await self.simulate()
        proxy = await self.limited_proxy()
        await alpaca.when_listening()
        first = await self.subscribe()
        with ExitStack() as strangers:
            for _ in range(STRANGERS):
                stranger = strangers.enter_context(socket.socket())
                stranger.setblocking(False)
                stranger.connect_ex(("127.0.0.1", self.port))
            self.assertEqual((await deferToThread(fetch, self.port, "/healthz"))[0], 200)
            alpaca.inject(Fault(FaultKind.RESET))
            await alpaca.when_gone()
            await alpaca.when_listening()
            second = await self.subscribe()
            event = alpaca.emit({"event": "fill"})
            await gatherResults([first.has(1), second.has(1)])
            self.assertEqual((first.taken(), second.taken()), ([event], [event]))
            await deferLater(reactor, 0)
        await proxy.stop()
        self.assertLess(proxy.output.count("\n"), 60, proxy.output)
