"""A small HTTP proxy with CONNECT. It connects to one port of this machine, whatever the target."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.endpoints import HostnameEndpoint, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.support.listening import close_port

reactor: Any = chosen


class ConnectServer(Factory):
    """The proxy. `requests` has the head of each request; `answer` replaces the tunnel."""

    noisy = False

    def __init__(self, target: int, answer: bytes | None = None) -> None:
        self.target = target
        self.answer = answer
        self.requests: list[str] = []
        self.port = 0
        self._listening: Any = None

    async def start(self, endpoint: str = "tcp:0:interface=127.0.0.1") -> None:
        """Listen at an endpoint; the port is in `port`."""
        self._listening = await serverFromString(reactor, endpoint).listen(self)
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Listen no longer, and abort all connections."""
        await close_port(self._listening)

    def buildProtocol(self, addr: Any) -> _Near:
        return _Near(self)


class _Near(Protocol):
    """A connection of a client."""

    transport: Any

    def __init__(self, server: ConnectServer) -> None:
        self._server = server
        self._head = b""
        self._far: Any = None
        self._is_asked = False

    def dataReceived(self, data: bytes) -> None:
        if self._far is not None:
            self._far.transport.write(data)
            return
        assert not self._is_asked, "data before the answer"
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            self._is_asked = True
            self._server.requests.append(self._head.decode())
            if self._server.answer is None:
                self._connect()
            else:
                self.transport.write(self._server.answer)

    def _connect(self) -> None:
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", self._server.target, timeout=5)
        connecting = endpoint.connect(Factory.forProtocol(lambda: _Far(self.transport)))
        connecting.addCallbacks(self._on_connected, lambda _: self.transport.abortConnection())

    def _on_connected(self, far: Any) -> None:
        self._far = far
        self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._far is not None:
            self._far.transport.loseConnection()


class _Far(Protocol):
    """The connection to the target."""

    transport: Any

    def __init__(self, near: Any) -> None:
        self._near = near

    def dataReceived(self, data: bytes) -> None:
        self._near.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._near.loseConnection()
