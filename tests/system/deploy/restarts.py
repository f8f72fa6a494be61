"""A restart under socket activation: whoever comes meanwhile waits a moment, and nobody is refused."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import clientFromString

from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.processes import SCRIPTS, Command, spawn
from tests.support.sockets import SocketTestCase
from tests.system.deploy.tools import need
from tradeproxy.wire.close_codes import CloseCode

CLIENTS = 100
RESTARTS = 10
PATIENCE = 60.0

ACTIVATE = 'LISTEN_PID=$$ exec "$@"'
"""Hands the socket on as systemd does: the number of the process is part of it."""


class Visit(WebSocketClientProtocol):
    """One connection of a client that returns."""

    factory: Returning

    def onOpen(self) -> None:
        self.sendMessage(AUTH)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.take(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.factory.left(code, reason or "")


class Returning(WebSocketClientFactory):
    """A client that connects again at once, with its position, as soon as it is told of a restart."""

    protocol: Any = Visit
    noisy = False

    def __init__(self, port: int) -> None:
        super().__init__(reactor=reactor)
        self.setProtocolOptions(openHandshakeTimeout=PATIENCE, failByDrop=False)
        self._port = port
        self._visit: Any = None
        self._awaited: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self.is_let_in = False
        self.events: list[str] = []
        self.returns = 0
        self.troubles: list[str] = []

    def connect(self) -> None:
        """Come, or come back."""
        position = f"?since_id={self.events[-1]}" if self.events else ""
        self.setSessionParameters(f"ws://127.0.0.1:{self._port}/trade-updates-paper{position}")
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self._port}")
        connecting = endpoint.connect(self)
        connecting.addCallbacks(
            self._came, lambda failure: self.troubles.append(str(failure.value))
        )

    def _came(self, visit: Any) -> None:
        self._visit = visit

    def take(self, payload: bytes) -> None:
        """Note an event, or the answer to the login."""
        if payload == AUTHENTICATED:
            self.is_let_in = True
        else:
            self.events.append(json.loads(payload)["data"]["event_id"])
        for awaited in [awaited for awaited in self._awaited if awaited[0]()]:
            self._awaited.remove(awaited)
            awaited[1].callback(None)

    def left(self, code: int | None, reason: str) -> None:
        """Come back after a restart; every other end is none that there should be."""
        if code == CloseCode.RESTARTING.code:
            self.returns += 1
            self.connect()
        else:
            self.troubles.append(f"{code} {reason}")

    def arrives(self) -> Deferred[None]:
        """Fire once it has been let in: it would miss what happens before."""
        return self._when(lambda: self.is_let_in)

    def has(self, count: int) -> Deferred[None]:
        """Fire once there are so many events."""
        return self._when(lambda: len(self.events) >= count)

    def _when(self, condition: Callable[[], bool]) -> Deferred[None]:
        if condition():
            return succeed(None)
        happened: Deferred[None] = Deferred()
        self._awaited.append((condition, happened))

        def fail(*_: Any) -> None:
            raise AssertionError(f"{len(self.events)} events came; {self.troubles}")

        return happened.addTimeout(PATIENCE, reactor, onTimeoutCancel=fail)

    def leave(self) -> None:
        """Go for good."""
        if self._visit is not None:
            self._visit.transport.abortConnection()


class RestartTests(SocketTestCase):
    """systemd-socket-activate in systemd's place; the test holds the socket, as the socket unit does."""

    timeout = 240

    async def test_a_hundred_clients_come_back_through_ten_restarts(self) -> None:
        """Each connects the moment it is told to, whether or not there is a process: none is refused.

        And each gets every event once and in order, those that happened in between too.
        """
        self.alpaca = await self.simulate()
        self.held = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.addCleanup(self.held.close)
        self.directory = self.make_directory()
        clients = [Returning(self.held.getsockname()[1]) for _ in range(CLIENTS)]
        proxy = self.activate()
        for client in clients:
            client.connect()
            self.addCleanup(client.leave)
        await self.alpaca.when_listening()
        for client in clients:
            await client.arrives()
        sent = [self.emit(0)]
        await self.all_have(clients, sent)
        for restart in range(RESTARTS):
            await proxy.stop()
            await self.alpaca.when_gone()
            sent.append(self.emit(len(sent)))
            proxy = self.activate()
            await self.alpaca.when_listening()
            sent.append(self.emit(len(sent)))
            await self.all_have(clients, sent)
            self.assertEqual({client.returns for client in clients}, {restart + 1})
        self.assertEqual([client.troubles for client in clients], [[]] * CLIENTS)
        self.assertEqual([client.events for client in clients], [sent] * CLIENTS)

    def activate(self) -> Command:
        """Start the proxy as soon as somebody comes."""
        variables = {
            "ALPACA_API_KEY": "PKTEST",
            "ALPACA_SECRET_KEY": "test-secret",
            "ALPACA_URL": f"http://127.0.0.1:{self.alpaca_port}",
            "PROXY_LISTEN": "systemd:domain=INET:index=0",
        }
        passed_on = [name for name in os.environ if name.startswith("COVERAGE")]
        passed_on += ["HOME", "PYTHONPATH", *variables]
        activate = need("systemd-socket-activate", "Debian's package systemd")
        command = [activate, "--fdname=stream", *(f"--setenv={name}" for name in passed_on)]
        command += [str(SCRIPTS / "tradeproxy"), "run"]
        proxy = spawn(
            ["/bin/sh", "-c", ACTIVATE, "sh", *command],
            self.directory,
            {**variables, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "stream"},
            inherited=self.held.fileno(),
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(proxy.stop("KILL")))
        return proxy

    def emit(self, number: int) -> str:
        """Let something happen at Alpaca, and return its id."""
        identity = f"01KYA98DWAS5PA5B{number:010d}"
        self.alpaca.emit({"event_id": identity, "event": "new", "order": {"id": f"{number}"}})
        return identity

    async def all_have(self, clients: Sequence[Returning], sent: Sequence[str]) -> None:
        """Wait until each client has got what was sent."""
        for client in clients:
            await client.has(len(sent))
