"""A TCP port that forwards to another port, until a test interrupts it."""

from __future__ import annotations

from enum import Enum, auto
from functools import partial
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

reactor: Any = chosen


class RelayMode(Enum):
    """How a TcpRelay treats connections."""

    OPEN = auto()
    """It forwards in both directions."""
    REFUSED = auto()
    """It resets connections, and listens for no new ones."""
    SILENT = auto()
    """It keeps and accepts connections, and forwards the data only when it is OPEN again."""
    DEAF = auto()
    """It forwards requests at once, and replies only when it is OPEN again."""


class TcpRelay:
    """Forwards connections to a port on loopback, according to its mode."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.mode = RelayMode.OPEN
        self._target = target
        self._listening: Any = None
        self._pairs: set[_RelayPair] = set()

    async def start(self) -> None:
        """Listen; `port` stays the same on later starts."""
        endpoint = serverFromString(reactor, f"tcp:{self.port}:interface=127.0.0.1")
        self._listening = await endpoint.listen(Factory.forProtocol(partial(_NearEnd, self)))
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Reset every connection, and stop listening."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stopListening()
        for pair in tuple(self._pairs):
            pair.abort()

    async def set_mode(self, mode: RelayMode) -> None:
        """Change the mode, for existing and for new connections."""
        self.mode = mode
        if mode is RelayMode.REFUSED:
            await self.stop()
        elif self._listening is None:
            await self.start()
        for pair in tuple(self._pairs):
            pair.set_mode(mode)

    async def restore(self) -> None:
        """Forward everything again."""
        await self.set_mode(RelayMode.OPEN)

    def accept(self, near: Any) -> _RelayPair:
        """Return the pair for a new connection; it connects to the target if the mode allows."""
        pair = _RelayPair(near, self._target, self._pairs.discard)
        self._pairs.add(pair)
        pair.set_mode(self.mode)
        return pair


class _RelayPair:
    """A connection, and the connection to the target that belongs to it."""

    def __init__(self, near: _NearEnd, target: int, on_end: Any) -> None:
        self._near: Any = near
        self._far: Any = None
        self._target = target
        self._connecting: Deferred[Any] | None = None
        self._mode = RelayMode.OPEN
        self._buffer = b""
        self._is_aborted = False
        self._on_end = on_end

    def set_mode(self, mode: RelayMode) -> None:
        self._mode = mode
        if self._far is None and self._connecting is None and mode is not RelayMode.SILENT:
            endpoint = HostnameEndpoint(reactor, "127.0.0.1", self._target, timeout=5)
            self._connecting = endpoint.connect(Factory.forProtocol(partial(_FarEnd, self)))
            self._connecting.addErrback(lambda _: self.abort())
        self._set_pace()

    def forward_request(self, data: bytes) -> None:
        if self._far is None:
            self._buffer += data
        else:
            self._far.transport.write(data)

    def forward_reply(self, data: bytes) -> None:
        self._near.transport.write(data)

    def target_connected(self, far: _FarEnd) -> None:
        if self._is_aborted:
            far.abort()
            return
        self._far = far
        far.write(self._buffer)
        self._buffer = b""
        self._set_pace()

    def _set_pace(self) -> None:
        for end, passes in (
            (self._near, self._mode is not RelayMode.SILENT),
            (self._far, self._mode is RelayMode.OPEN),
        ):
            if end is not None:
                end.transport.resumeProducing() if passes else end.transport.pauseProducing()

    def abort(self) -> None:
        """Reset both connections."""
        if self._is_aborted:
            return
        self._is_aborted = True
        self._on_end(self)
        for end in (self._near, self._far):
            if end is not None:
                end.abort()


class _RelayEnd(Protocol):
    transport: Any

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()


class _NearEnd(_RelayEnd):
    def __init__(self, relay: TcpRelay) -> None:
        self._relay = relay
        self._pair: _RelayPair | None = None

    def connectionMade(self) -> None:
        self._pair = self._relay.accept(self)

    def dataReceived(self, data: bytes) -> None:
        assert self._pair is not None
        self._pair.forward_request(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._pair is not None:
            self._pair.abort()


class _FarEnd(_RelayEnd):
    def __init__(self, pair: _RelayPair) -> None:
        self._pair = pair

    def connectionMade(self) -> None:
        self._pair.target_connected(self)

    def dataReceived(self, data: bytes) -> None:
        self._pair.forward_reply(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._pair.abort()
