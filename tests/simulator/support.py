"""A client for the simulator's tests: Autobahn's, over memory in fake time, or over loopback."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any

import txaio
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, UNIXClientEndpoint
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tradeproxy.simulator.service import Simulator

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort
    from twisted.test.iosim import IOPump

LOGIN = {"action": "authenticate", "data": {"key_id": "k", "secret_key": "s"}}
LISTEN = {"action": "listen", "data": {"streams": ["trade_updates"]}}
AUTHORIZED = {"stream": "authorization", "data": {"status": "authorized", "action": "authenticate"}}
LISTENING = {"stream": "listening", "data": {"streams": ["trade_updates"]}}


class Peer(WebSocketClientProtocol):
    """A client of the stream that remembers what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[bytes, bool]] = []
        self.pongs: list[bytes] = []
        self.queue: DeferredQueue[bytes] = DeferredQueue()
        self.opened: Deferred[None] = Deferred()
        self.closed: Deferred[tuple[bool, int | None, str | None]] = Deferred()
        self.lost: Deferred[BaseException] = Deferred()

    @property
    def documents(self) -> list[Any]:
        """Everything received, read as JSON."""
        return [json.loads(payload) for payload, _ in self.frames]

    @property
    def events(self) -> list[str]:
        """The names of the events received."""
        return [d["data"]["event"] for d in self.documents if d["stream"] == "trade_updates"]

    def say(self, *documents: Any) -> None:
        for document in documents:
            self.sendMessage(json.dumps(document).encode())

    def onOpen(self) -> None:
        self.opened.callback(None)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.frames.append((payload, isBinary))
        self.queue.put(payload)

    def onPong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.closed.callback((wasClean, code, reason))

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        self.lost.callback(reason.value)


def peer_factory(reactor: Any, url: str = "ws://127.0.0.1/stream") -> WebSocketClientFactory:
    """Build the factory of a peer."""
    factory = WebSocketClientFactory(url, reactor=reactor)
    factory.protocol = Peer
    factory.noisy = False
    factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=5, closeHandshakeTimeout=1)
    return factory


class RecordingTransport(FakeTransport):
    """A memory transport that keeps a list of its writes."""

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol, isServer=True)
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)


class MemoryTestCase(SynchronousTestCase):
    """A simulator and its clients in one process and in fake time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.patch(txaio.config, "loop", self.clock)  # type: ignore[attr-defined]  # set by use_twisted()
        self.simulator = Simulator(self.clock, Random(7))
        self.pumps: list[IOPump] = []

    def connect(self, *documents: Any) -> Peer:
        """Connect a client and let it say something."""
        peer = peer_factory(self.clock).buildProtocol(None)
        assert isinstance(peer, Peer)
        server = self.simulator.factory.buildProtocol(None)
        self.transport = RecordingTransport(server)
        self.pumps.append(connect(server, self.transport, peer, FakeTransport(peer, isServer=False)))
        self.settle()
        peer.say(*documents)
        self.settle()
        return peer

    def settle(self, seconds: float = 0) -> None:
        """Let time pass, and everything written arrive."""
        self.clock.advance(seconds)
        for pump in self.pumps:
            pump.flush()


class LoopbackTestCase(TestCase):
    """A simulator that is served on a loopback port."""

    timeout = 20

    async def serve(self, simulator: Simulator, reactor: Any) -> int:
        """Listen until the test is over, and return the port."""
        listening: IListeningPort = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            simulator.site
        )
        self.addCleanup(listening.stopListening)
        self.addCleanup(simulator.end)
        port: int = listening.getHost().port  # type: ignore[attr-defined]  # IAddress leaves it out
        return port

    async def dial(self, port: int, reactor: Any) -> Peer:
        """Connect a client over TCP, as far as the start of its handshake."""
        factory = peer_factory(reactor, f"ws://127.0.0.1:{port}/stream")
        peer = await TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
        assert isinstance(peer, Peer)
        self.addCleanup(lambda: peer.lost)
        return peer

    async def dial_unix(self, path: str, reactor: Any) -> Peer:
        """Connect a client over a Unix socket."""
        peer = await UNIXClientEndpoint(reactor, path).connect(peer_factory(reactor))
        assert isinstance(peer, Peer)
        self.addCleanup(lambda: peer.lost)
        return peer

    async def listener(self, port: int, reactor: Any) -> Peer:
        """Connect a client that listens to trade updates, with its replies read."""
        peer = await self.dial(port, reactor)
        await peer.opened
        peer.say(LOGIN, LISTEN)
        await peer.queue.get()
        await peer.queue.get()
        return peer
