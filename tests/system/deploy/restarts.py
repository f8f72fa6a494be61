"""Restarts under socket activation: connections wait for the new process, and none is refused."""

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
"""Passes the socket like systemd: LISTEN_PID must be the id of the process."""


class ReturningConnection(WebSocketClientProtocol):
    """One connection of a returning client."""

    factory: ReturningClient

    def onOpen(self) -> None:
        self.sendMessage(AUTH)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.receive(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.factory.connection_closed(code, reason or "")


class ReturningClient(WebSocketClientFactory):
    """A client that reconnects at once, with its position, after a restart of the proxy."""

    protocol: Any = ReturningConnection
    noisy = False

    def __init__(self, port: int) -> None:
        super().__init__(reactor=reactor)
        self.setProtocolOptions(openHandshakeTimeout=PATIENCE, failByDrop=False)
        self._port = port
        self._connection: Any = None
        self._waiters: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self.is_authenticated = False
        self.events: list[str] = []
        self.reconnects = 0
        self.problems: list[str] = []

    def connect(self) -> None:
        """Connect, or reconnect with the id of the last event."""
        query = f"?since_id={self.events[-1]}" if self.events else ""
        self.setSessionParameters(f"ws://127.0.0.1:{self._port}/trade-updates-paper{query}")
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self._port}")
        connecting = endpoint.connect(self)
        connecting.addCallbacks(
            self._connected, lambda failure: self.problems.append(str(failure.value))
        )

    def _connected(self, connection: Any) -> None:
        self._connection = connection

    def receive(self, payload: bytes) -> None:
        """Record an event, or the reply to auth."""
        if payload == AUTHENTICATED:
            self.is_authenticated = True
        else:
            self.events.append(json.loads(payload)["data"]["event_id"])
        for waiter in [waiter for waiter in self._waiters if waiter[0]()]:
            self._waiters.remove(waiter)
            waiter[1].callback(None)

    def connection_closed(self, code: int | None, reason: str) -> None:
        """Reconnect after a restart; record any other close as a problem."""
        if code == CloseCode.RESTARTING.code:
            self.reconnects += 1
            self.connect()
        else:
            self.problems.append(f"{code} {reason}")

    def when_authenticated(self) -> Deferred[None]:
        """Fire once the client is authenticated: it would miss earlier events."""
        return self._when(lambda: self.is_authenticated)

    def when_received(self, count: int) -> Deferred[None]:
        """Fire once `count` events have been received."""
        return self._when(lambda: len(self.events) >= count)

    def _when(self, condition: Callable[[], bool]) -> Deferred[None]:
        if condition():
            return succeed(None)
        fulfilled: Deferred[None] = Deferred()
        self._waiters.append((condition, fulfilled))

        def fail(*_: Any) -> None:
            raise AssertionError(f"{len(self.events)} events came; {self.problems}")

        return fulfilled.addTimeout(PATIENCE, reactor, onTimeoutCancel=fail)

    def disconnect(self) -> None:
        """Disconnect, and do not reconnect."""
        if self._connection is not None:
            self._connection.transport.abortConnection()


class SocketActivationTests(SocketTestCase):
    """systemd-socket-activate instead of systemd; the test holds the socket."""

    timeout = 240

    async def test_clients_reconnect_through_ten_restarts(self) -> None:
        """Clients reconnect at once, with or without a running process; none is refused.

        Each client gets every event once and in order, including those between the processes.

        """
        self.alpaca = await self.simulate()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.addCleanup(self.listener.close)
        self.directory = self.make_directory()
        clients = [ReturningClient(self.listener.getsockname()[1]) for _ in range(CLIENTS)]
        proxy = self.activate()
        for client in clients:
            client.connect()
            self.addCleanup(client.disconnect)
        await self.alpaca.when_listening()
        for client in clients:
            await client.when_authenticated()
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
            self.assertEqual({client.reconnects for client in clients}, {restart + 1})
        self.assertEqual([client.problems for client in clients], [[]] * CLIENTS)
        self.assertEqual([client.events for client in clients], [sent] * CLIENTS)

    def activate(self) -> Command:
        """Start the proxy as soon as a client connects."""
        variables = {
            "ALPACA_API_KEY": "PKTEST",
            "ALPACA_SECRET_KEY": "test-secret",
            "ALPACA_URL": f"http://127.0.0.1:{self.alpaca_port}",
            "PROXY_LISTEN": "systemd:domain=INET:index=0",
        }
        inherited = [name for name in os.environ if name.startswith("COVERAGE")]
        inherited += ["HOME", "PYTHONPATH", *variables]
        activate = need("systemd-socket-activate", "Debian's package systemd")
        command = [activate, "--fdname=stream", *(f"--setenv={name}" for name in inherited)]
        command += [str(SCRIPTS / "tradeproxy"), "run"]
        proxy = spawn(
            ["/bin/sh", "-c", ACTIVATE, "sh", *command],
            self.directory,
            {**variables, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "stream"},
            inherited=self.listener.fileno(),
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(proxy.stop("KILL")))
        return proxy

    def emit(self, number: int) -> str:
        """Emit an event at Alpaca, and return its id."""
        identity = f"01KYA98DWAS5PA5B{number:010d}"
        self.alpaca.emit({"event_id": identity, "event": "new", "order": {"id": f"{number}"}})
        return identity

    async def all_have(self, clients: Sequence[ReturningClient], sent: Sequence[str]) -> None:
        """Wait until each client has received every event."""
        for client in clients:
            await client.when_received(len(sent))
