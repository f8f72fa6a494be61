"""A TCP port that leads on to another one, until it is cut."""

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


class Way(Enum):
    """How what comes to a Cut goes on."""

    OPEN = auto()
    REFUSED = auto()
    """Connections are reset, and there are no new ones."""
    SILENT = auto()
    """Connections stay, and new ones are taken; nothing passes until it is open again, then all of it."""
    DEAF = auto()
    """What is asked arrives, and no answer comes back until the way is open again."""


class Cut:
    """A port that leads to another port, until it is cut."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.way = Way.OPEN
        self._target = target
        self._listening: Any = None
        self._pairs: set[_Pair] = set()

    async def start(self) -> None:
        """Listen; `port` is where, for good."""
        endpoint = serverFromString(reactor, f"tcp:{self.port}:interface=127.0.0.1")
        self._listening = await endpoint.listen(Factory.forProtocol(partial(_Near, self)))
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """End every connection, and listen no more."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stopListening()
        for pair in tuple(self._pairs):
            pair.end()

    async def cut(self, way: Way) -> None:
        """Let what comes go another way from now on."""
        self.way = way
        if way is Way.REFUSED:
            await self.stop()
        elif self._listening is None:
            await self.start()
        for pair in tuple(self._pairs):
            pair.go(way)

    async def mend(self) -> None:
        """Let everything pass again."""
        await self.cut(Way.OPEN)

    def opened(self, near: Any) -> _Pair:
        """Take a connection, which leads on once the way is open."""
        pair = _Pair(near, self._target, self._pairs.discard)
        self._pairs.add(pair)
        pair.go(self.way)
        return pair


class _Pair:
    """A connection, and the one that it leads on to."""

    def __init__(self, near: _Near, target: int, on_end: Any) -> None:
        self._near: Any = near
        self._far: Any = None
        self._target = target
        self._connecting: Deferred[Any] | None = None
        self._way = Way.OPEN
        self._held = b""
        self._ended = False
        self._on_end = on_end

    def go(self, way: Way) -> None:
        self._way = way
        if self._far is None and self._connecting is None and way is not Way.SILENT:
            endpoint = HostnameEndpoint(reactor, "127.0.0.1", self._target, timeout=5)
            self._connecting = endpoint.connect(Factory.forProtocol(partial(_Far, self)))
            self._connecting.addErrback(lambda _: self.end())
        self._set_pace()

    def asked(self, data: bytes) -> None:
        if self._far is None:
            self._held += data
        else:
            self._far.transport.write(data)

    def answered(self, data: bytes) -> None:
        self._near.transport.write(data)

    def reached(self, far: _Far) -> None:
        if self._ended:
            far.abort()
            return
        self._far = far
        far.write(self._held)
        self._held = b""
        self._set_pace()

    def _set_pace(self) -> None:
        for end, passes in (
            (self._near, self._way is not Way.SILENT),
            (self._far, self._way is Way.OPEN),
        ):
            if end is not None:
                end.transport.resumeProducing() if passes else end.transport.pauseProducing()

    def end(self) -> None:
        """Reset both."""
        if self._ended:
            return
        self._ended = True
        self._on_end(self)
        for end in (self._near, self._far):
            if end is not None:
                end.abort()


class _End(Protocol):
    transport: Any

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()


class _Near(_End):
    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._pair: _Pair | None = None

    def connectionMade(self) -> None:
        self._pair = self._cut.opened(self)

    def dataReceived(self, data: bytes) -> None:
        assert self._pair is not None
        self._pair.asked(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._pair is not None:
            self._pair.end()


class _Far(_End):
    def __init__(self, pair: _Pair) -> None:
        self._pair = pair

    def connectionMade(self) -> None:
        self._pair.reached(self)

    def dataReceived(self, data: bytes) -> None:
        self._pair.answered(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._pair.end()
