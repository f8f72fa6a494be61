"""The bytes on the wire, checked by another WebSocket implementation than the server's."""

from __future__ import annotations

import resource
import socket
from random import Random
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from tests.support.certificates import Authority
from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.processes import PATIENCE, free_port
from tests.support.sockets import SocketTestCase
from tests.system.chaos.resuming import SMALL_BUFFER, SingleProtocolFactory, over_tls
from tradeproxy.runtime.rlimits import raise_file_limit

reactor: Any = chosen
CLIENTS = 500
TOGETHER = 50
"""Clients that connect at once: on a busy machine, 500 TLS handshakes exceed PATIENCE."""

ROUNDS = 40
PADDING = "x" * 1500


class WebsocketsPeer(Protocol):
    """A client on the Sans-I/O protocol of `websockets`, which raises on a protocol error."""

    def __init__(self, port: int) -> None:
        self.texts: list[bytes] = []
        self.pongs: list[bytes] = []
        self.pings_sent: list[bytes] = []
        self.ended = False
        self.reads = True
        self.stays = True
        self._answer: Deferred[None] | None = None
        self._wanted: tuple[int, Deferred[None]] | None = None
        self._websocket = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/trade-updates-paper"))

    def connectionMade(self) -> None:
        self._websocket.send_request(self._websocket.connect())
        self._flush()

    def dataReceived(self, data: bytes) -> None:
        was_open = self._websocket.state.name == "OPEN"
        self._websocket.receive_data(data)
        if self._websocket.parser_exc is not None:
            raise self._websocket.parser_exc
        for event in self._websocket.events_received():
            if isinstance(event, Frame):
                self._take(event)
        if not was_open and self._websocket.state.name == "OPEN":
            self._websocket.send_text(AUTH)
        self._flush()

    def _take(self, frame: Frame) -> None:
        assert frame.fin, "every message is one frame"
        if frame.opcode is Opcode.TEXT:
            self.texts.append(bytes(frame.data))
        elif frame.opcode is Opcode.PONG:
            self.pongs.append(bytes(frame.data))
            if self._answer is not None and self.pongs[-1] == self.pings_sent[-1]:
                self._answer.callback(None)
        if self._wanted is not None and len(self.texts) >= self._wanted[0]:
            (_, found), self._wanted = self._wanted, None
            found.callback(None)

    def _flush(self) -> None:
        assert self.transport is not None
        for data in self._websocket.data_to_send():
            if data:
                self.transport.write(data)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.ended = True

    def abort(self) -> None:
        """Drop the connection, unless it is lost already."""
        if not self.ended:
            transport: Any = self.transport
            transport.abortConnection()

    def has(self, count: int) -> Deferred[None]:
        """Return a Deferred that fires when `count` texts have arrived."""
        found: Deferred[None] = Deferred()
        self._wanted = (count, found)
        if len(self.texts) >= count:
            self._wanted = None
            found.callback(None)
        return found.addTimeout(PATIENCE, reactor)

    def act(self, random: Random) -> None:
        """Toggle reading, send a ping, or close; at random."""
        transport: Any = self.transport
        match random.choices(("toggle", "ping", "close"), (6, 3, 0.2))[0]:
            case "toggle":
                self.reads = not self.reads
                (transport.resumeProducing if self.reads else transport.pauseProducing)()
            case "ping":
                self._ping(b"%d" % random.getrandbits(32))
            case "close":
                self.stays = False
                self._websocket.send_close(1000)
                self._flush()

    def _ping(self, payload: bytes) -> None:
        self.pings_sent.append(payload)
        self._websocket.send_ping(payload)
        self._flush()

    def is_answered(self) -> Deferred[None]:
        """Send a last ping; the Deferred fires at its pong, which is the last one."""
        self._answer = Deferred()
        self._ping(b"the last")
        return self._answer.addTimeout(PATIENCE, reactor)


class WireFormatTests(SocketTestCase):
    """Many clients stall, ping and close at random while events are written directly."""

    timeout = 100

    def setUp(self) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.assertIsNone(raise_file_limit(2 * CLIENTS))

    def peer(self, wrap: Any = SingleProtocolFactory) -> WebsocketsPeer:
        """Connect a client, over what `wrap` adds, with a small receive buffer in the kernel."""
        end = socket.socket()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        end.connect(("127.0.0.1", self.port))
        end.setblocking(False)
        peer = WebsocketsPeer(self.port)
        reactor.adoptStreamConnection(end.fileno(), socket.AF_INET, wrap(peer))
        end.close()
        self.addCleanup(peer.abort)
        return peer

    async def test_random_stalls_and_closes_keep_streams_valid_and_ordered(self) -> None:
        """No frame is cut, lost, repeated or out of order."""
        await self.assert_streams_are_valid({}, SingleProtocolFactory)

    async def test_random_stalls_over_tls_keep_streams_valid_and_ordered(self) -> None:
        """No record is either: each has a number, and a client closes at a wrong one."""
        identity = Authority(self.make_directory()).issue("localhost")
        listen = {"PROXY_LISTEN": identity.endpoint(port := free_port())}
        await self.assert_streams_are_valid(listen, over_tls, port)

    async def assert_streams_are_valid(
        self, environment: dict[str, str], wrap: Any, port: int | None = None
    ) -> None:
        random = Random(4)
        alpaca = await self.simulate()
        await self.proxy(**environment)
        self.port = port or self.port
        await alpaca.when_listening()
        peers: list[WebsocketsPeer] = []
        for _ in range(CLIENTS // TOGETHER):
            group = [self.peer(wrap) for _ in range(TOGETHER)]
            await gatherResults([peer.has(1) for peer in group])
            peers += group
        events: list[bytes] = []
        for _ in range(ROUNDS):
            for peer in random.sample(peers, CLIENTS // 4):
                if peer.stays:
                    peer.act(random)
            events += [
                alpaca.emit({"event": "new", "n": len(events) + n, "x": PADDING})
                for n in range(random.randint(1, 12))
            ]
            await deferLater(reactor, 0.01)
        staying = [peer for peer in peers if peer.stays]
        for peer in staying:
            transport: Any = peer.transport
            transport.resumeProducing()
        await gatherResults([peer.has(1 + len(events)) for peer in staying])
        await gatherResults([peer.is_answered() for peer in staying])
        self.assertGreater(len(staying), CLIENTS // 2)
        self.assertLess(len(staying), CLIENTS)
        for peer in peers:
            self.assertEqual(peer.texts, [AUTHENTICATED, *events][: len(peer.texts)])
        for peer in staying:
            # While nothing can be written, only the last of several pings is answered
            # (RFC 6455, 5.5.3).
            self.assertEqual([ping for ping in peer.pings_sent if ping in peer.pongs], peer.pongs)
