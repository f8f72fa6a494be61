"""A simulated Alpaca and clients over real sockets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.trial.unittest import TestCase

from tests.support.frames import AUTH
from tests.support.listening import LOOPBACK, listen
from tests.support.processes import PATIENCE, Command, free_port, run
from tests.support.proxy import Client
from tradeproxy.simulator.service import Simulator
from tradeproxy.simulator.web import ApiSite

MODULE = (sys.executable, "-m", "tradeproxy")
"""The command line, as a user runs it without its script."""


class SocketClient(Client):
    """A client with Deferreds for what a test waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[None] = Deferred()
        self.lost: type[BaseException] | None = None
        self._awaited: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def onOpen(self) -> None:
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        super().onMessage(payload, isBinary)
        self._check_awaited()

    def onClose(self, wasClean: bool, code: Any, reason: Any) -> None:
        self._check_awaited()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.lost = reason.type
        super().connectionLost(reason)

    def has(self, count: int) -> Deferred[None]:
        """Return a Deferred that fires when `count` messages have arrived in total."""
        return self._when(lambda: len(self.messages) >= count, f"{count} messages")

    def gone(self) -> Deferred[None]:
        """Return a Deferred that fires when the connection is closed."""
        return self._when(lambda: self.state == self.STATE_CLOSED, "the close")

    def _when(self, condition: Callable[[], bool], what: str) -> Deferred[None]:
        if condition():
            return succeed(None)
        happened: Deferred[None] = Deferred()
        self._awaited.append((condition, happened))

        def fail(*_: Any) -> None:
            raise AssertionError(
                f"waited for {what}; received: {self.messages[-3:]} ({len(self.messages)})"
            )

        return happened.addTimeout(PATIENCE, reactor, onTimeoutCancel=fail)

    def _check_awaited(self) -> None:
        for awaited in [awaited for awaited in self._awaited if awaited[0]()]:
            self._awaited.remove(awaited)
            awaited[1].callback(None)


class SocketTestCase(TestCase):
    """Real sockets and processes of the product. All are closed when a test ends."""

    timeout = 60

    async def simulate(self, endpoint: str = LOOPBACK, **options: Any) -> Simulator:
        """Start a simulated Alpaca; its port is in `self.alpaca_port`."""
        simulator = Simulator(reactor, Random(0), **options)
        self.alpaca_port = await listen(self, ApiSite(simulator), endpoint)
        self.addCleanup(simulator.stop)
        return simulator

    def command(self, *arguments: str, **environment: str) -> Command:
        """Run a command in its own directory; it ends with the test."""
        self.directory = getattr(self, "directory", None) or self.make_directory()
        command = run(*arguments, directory=self.directory, **environment)
        self.addCleanup(lambda: Deferred.fromCoroutine(command.finish()))
        return command

    async def run_command(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Return the status and the output of a command that asks the proxy at `self.port`."""
        command = self.command(*MODULE, *arguments, PROXY_PORT=str(self.port), **environment)
        return await command.ended, command.output

    async def proxy(self, *options: str, **environment: str) -> Command:
        """Start `twistd -n tradeproxy` on a free port, `self.port`, for the simulator."""
        self.port = free_port(following=2)
        account = {
            "ALPACA_API_KEY": "PKTEST",
            "ALPACA_SECRET_KEY": "test-secret",
            "ALPACA_URL": f"http://127.0.0.1:{getattr(self, 'alpaca_port', 1)}",
            "PROXY_PORT": str(self.port),
        }
        command = self.command("twistd", "-n", "tradeproxy", *options, **(account | environment))
        await command.says("listening on")
        return command

    async def connect(
        self, path: str = "/trade-updates-paper", *messages: bytes, **options: Any
    ) -> SocketClient:
        """Open a WebSocket to the proxy; it is dropped when the test ends."""
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self.port}")
        client = await self.dial(endpoint, f"ws://127.0.0.1:{self.port}{path}", **options)
        await client.opened
        for message in messages:
            client.sendMessage(message)
        return client

    async def dial(self, endpoint: IStreamClientEndpoint, url: str, **options: Any) -> SocketClient:
        """Begin a WebSocket handshake for `url`; the connection is dropped when the test ends."""
        factory = WebSocketClientFactory(url, reactor=reactor, **options)
        factory.setProtocolOptions(failByDrop=False)
        factory.protocol = SocketClient
        factory.noisy = False
        client = await endpoint.connect(factory)
        assert isinstance(client, SocketClient)
        self.addCleanup(self.drop, client)
        return client

    async def subscribe(self, path: str = "/trade-updates-paper") -> SocketClient:
        """Open a WebSocket and authenticate."""
        client = await self.connect(path, AUTH)
        await client.has(1)
        client.taken()
        return client

    def drop(self, client: SocketClient) -> Deferred[None]:
        client.dropConnection(abort=True)
        return client.gone()

    def make_directory(self) -> str:
        """Return a new directory."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir(parents=True)
        return str(directory)
