"""What the SDKs in Go, C#, Rust and Java send, byte for byte, and the replies that they need.

Each test names the files of the SDK's source from which it is taken; the headers are those of the HTTP
library under it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone

from tests.support.frames import AUTH, AUTHENTICATE, AUTHORIZED, LISTEN, LISTENING, NEW
from tests.support.processes import PATIENCE, Command
from tests.support.sockets import SocketTestCase
from tradeproxy.simulator.simulator import Simulator

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

GO = ("Host: localhost:8099", "User-Agent: Go-http-client/1.1")
GO_GET = (*GO, "Apca-Api-Key-Id: K", "Apca-Api-Secret-Key: S", "Accept-Encoding: gzip")
DOTNET = TUNGSTENITE = (
    "Host: localhost:8099",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
OKHTTP = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Extensions: permessage-deflate",
    "Host: localhost:8099",
    "Accept-Encoding: gzip",
    "User-Agent: okhttp/5.4.0",
)


class Line(Protocol):
    """A connection on which bytes are sent as they are, and what comes back."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = False
        self._awaited: tuple[Callable[[], bool], Deferred[None]] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.ended = True
        self._look()

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def frame(self, opcode: int, payload: bytes) -> None:
        """Send a frame, masked with zeros."""
        assert len(payload) < 126
        self.send(bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload)

    @property
    def head(self) -> str:
        return self.received.partition(b"\r\n\r\n")[0].decode("latin-1")

    @property
    def body(self) -> bytes:
        return self.received.partition(b"\r\n\r\n")[2]

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        """The whole frames that came: opcode and payload."""
        frames, rest = [], self.body
        while len(rest) >= 2:
            begin, size = (4, int.from_bytes(rest[2:4])) if rest[1] == 126 else (2, rest[1])
            if len(rest) < begin + size:
                break
            assert rest[0] & 0xF0 == 0x80, "no message is in parts, or compressed"
            frames.append((rest[0] & 0x0F, rest[begin : begin + size]))
            rest = rest[begin + size :]
        return frames

    @property
    def data(self) -> list[dict[str, Any]]:
        """What the lines hold that begin with "data: ", which are all that Alpaca's Go SDK looks at."""
        lines = [line for line in self.body.split(b"\n")[:-1] if line.startswith(b"data: ")]
        return [json.loads(line.removeprefix(b"data: ")) for line in lines]

    def until(self, condition: Callable[[Line], bool]) -> Deferred[None]:
        """Fire once this is true of what came."""
        if condition(self):
            return succeed(None)
        happened: Deferred[None] = Deferred()
        self._awaited = (lambda: condition(self), happened)

        def fail(*_: Any) -> None:
            raise AssertionError(f"ended: {self.ended}; came: {self.received[-2000:]!r}")

        return happened.addTimeout(PATIENCE, reactor, onTimeoutCancel=fail)

    def _look(self) -> None:
        if self._awaited is not None and self._awaited[0]():
            (_, happened), self._awaited = self._awaited, None
            happened.callback(None)


class DialectTestCase(SocketTestCase):
    """The proxy, an Alpaca behind it, and lines to the proxy."""

    alpaca: Simulator

    async def start(self, **environment: str) -> Command:
        """Start the proxy; at the second time with the journal of the first."""
        if not hasattr(self, "alpaca"):
            self.alpaca = await self.simulate()
        command = await self.proxy(**environment)
        await self.alpaca.when_listening()
        return command

    async def request(self, start: str, headers: tuple[str, ...], body: bytes = b"") -> Line:
        """Send a request, and return once the head of the answer is there."""
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self.port}")
        line: Line = await endpoint.connect(Factory.forProtocol(Line))
        assert line.transport is not None
        self.addCleanup(line.until, lambda line: line.ended)
        self.addCleanup(line.transport.loseConnection)
        line.send("\r\n".join([start, *headers, "", ""]).encode("latin-1") + body)
        await line.until(lambda line: b"\r\n\r\n" in line.received)
        return line

    async def upgrade(self, path: str, headers: tuple[str, ...]) -> Line:
        """Open a WebSocket."""
        line = await self.request(f"GET {path} HTTP/1.1", headers)
        self.assertIn("HTTP/1.1 101 ", line.head)
        self.assertNotIn("sec-websocket-extensions", line.head.lower())
        return line

    def order(self, number: int) -> bytes:
        """Let an order be accepted, and return the frame that tells of it."""
        data = json.loads(NEW)["data"]
        shape = {name: value for name, value in data.items() if name not in ("at", "event_id")}
        order = data["order"] | {"id": f"00000000-0000-0000-0000-{number:012}"}
        return self.alpaca.emit(self.alpaca.exchange.stamped(shape | {"order": order}))


class GoTests(DialectTestCase):
    """alpaca-trade-api-go 3.

    alpacahq/alpaca-trade-api-go, alpaca/stream.go: StreamTradeUpdatesComplex, processTradeUpdates and
    StreamTradeUpdatesInBackground.
    """

    path = "/trade-updates-paper/v2/events/trades"

    async def test_alpaca_trade_api_go(self) -> None:
        """It asks in plain HTTP, with its keys in headers, and reads one line of JSON an event."""
        await self.start()
        line = await self.request(f"GET {self.path} HTTP/1.1", GO_GET)
        self.assertIn("HTTP/1.1 200 ", line.head)
        self.assertNotIn("content-encoding", line.head.lower())
        sent = [json.loads(self.order(number))["data"] for number in range(3)]
        await line.until(lambda line: len(line.data) == 3)
        self.assertEqual(line.data, sent)

    async def test_alpaca_trade_api_go_when_the_proxy_restarts(self) -> None:
        """The response breaks off: its end, as HTTP knows one, would stop the SDK for good."""
        proxy = await self.start()
        line = await self.request(f"GET {self.path} HTTP/1.1", GO_GET)
        self.order(1)
        await line.until(lambda line: len(line.data) == 1)
        await proxy.stop()
        await line.until(lambda line: line.ended)
        self.assertIn("transfer-encoding: chunked", line.head.lower())
        self.assertFalse(line.body.endswith(b"0\r\n\r\n"))

    async def test_alpaca_trade_api_go_comes_back(self) -> None:
        """It asks for what is later than its last event by a nanosecond, and is not sent that event again."""
        proxy = await self.start()
        line = await self.request(f"GET {self.path} HTTP/1.1", GO_GET)
        seen = json.loads(self.order(1))["data"]
        await line.until(lambda line: line.data == [seen])
        await proxy.stop()
        missed = json.loads(self.order(2))["data"]
        await self.start()
        line = await self.request(f"GET {self.path}?since={after(seen['at'])} HTTP/1.1", GO_GET)
        live = json.loads(self.order(3))["data"]
        await line.until(lambda line: line.data[-1:] == [live])
        self.assertEqual(line.data, [missed, live])

    async def test_alpaca_trade_api_go_asks_for_a_stretch(self) -> None:
        """With SinceID and UntilID the response has an end, upon which the SDK returns."""
        await self.start()
        first, second, third = (json.loads(self.order(number))["data"] for number in range(3))
        live = await self.connect("/trade-updates-paper?replay=3", AUTH)
        await live.has(4)
        query = f"since_id={first['event_id']}&until_id={second['event_id']}"
        line = await self.request(f"GET {self.path}?{query} HTTP/1.1", GO_GET)
        await line.until(lambda line: line.body.endswith(b"0\r\n\r\n"))
        self.assertEqual(line.data, [second])
        self.assertNotIn(third["event_id"], line.body.decode())

    async def test_alpaca_trade_api_go_places_an_order(self) -> None:
        """Its base URL is for orders too: with PROXY_REST=1 one client places an order and hears of it."""
        await self.start(PROXY_REST="1")
        stream = await self.request(f"GET {self.path} HTTP/1.1", GO_GET)
        order = b'{"symbol":"SPY","qty":"1","side":"buy","type":"market","time_in_force":"day"}'
        headers = (*GO, f"Content-Length: {len(order)}", *GO_GET[2:])
        answer = await self.request("POST /trade-updates-paper/v2/orders HTTP/1.1", headers, order)
        self.assertIn("HTTP/1.1 200 ", answer.head)
        await stream.until(lambda line: len(line.data) == 2)
        self.assertEqual([data["event"] for data in stream.data], ["new", "fill"])


def after(at: str) -> str:
    """Return a time of Alpaca's and a nanosecond, in RFC 3339 and as Go writes it into a query."""
    seconds, _, fraction = at.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<6}001Z".replace(":", "%3A")


class WebSocketTests(DialectTestCase):
    """The SDKs that open a WebSocket."""

    async def test_alpaca_markets_in_csharp(self) -> None:
        """Alpaca.Markets says everything in binary frames, and sends pongs that nobody asked for.

        alpacahq/alpaca-trade-api-csharp, Alpaca.Markets: AlpacaStreamingClient.cs (order and needs),
        Messages/JsonAuthRequest.cs and JsonListenRequest.cs, WebSocket/ClientWebSocketWrapper.cs (Binary).
        """
        await self.start()
        line = await self.upgrade("/trade-updates-paper", DOTNET)
        line.frame(BINARY, AUTHENTICATE)
        await line.until(lambda line: len(line.frames) == 1)
        line.frame(BINARY, LISTEN)
        await line.until(lambda line: len(line.frames) == 2)
        line.frame(PONG, b"")
        event = self.order(1)
        await line.until(lambda line: len(line.frames) == 3)
        self.assertEqual(line.frames, [(TEXT, AUTHORIZED), (TEXT, LISTENING), (TEXT, event)])
        line.frame(CLOSE, b"\x03\xe8")
        await line.until(lambda line: line.ended)
        self.assertEqual(line.frames[3], (CLOSE, b"\x03\xe8"))

    async def test_apca_in_rust(self) -> None:
        """At …/stream apca gets the authorization object to its `auth`, and the next it gets is the ack.

        d-e-s-o/apca, src/api/v2/updates.rs: Authenticate, Listen, OrderMessage, Subscription and its tests;
        src/api_info.rs (APCA_API_STREAM_URL is taken as it is); websocket-util's pings want their pong.
        """
        await self.start()
        line = await self.upgrade("/trade-updates-paper/stream", TUNGSTENITE)
        witness = await self.subscribe()
        line.frame(TEXT, AUTH)
        await line.until(lambda line: len(line.frames) == 1)
        self.order(1)
        await witness.has(1)
        line.frame(TEXT, LISTEN)
        await line.until(lambda line: len(line.frames) == 2)
        event = self.order(2)
        await line.until(lambda line: len(line.frames) == 3)
        self.assertEqual(line.frames, [(TEXT, AUTHORIZED), (TEXT, LISTENING), (TEXT, event)])
        line.frame(PING, b"\x07")
        await line.until(lambda line: len(line.frames) == 4)
        self.assertEqual(line.frames[3], (PONG, b"\x07"))

    async def test_alpaca_java(self) -> None:
        """alpaca-java gets text, and at the proxy's end a close frame that OkHttp may send back.

        alpacahq/alpaca-java, src/main/java/markets/alpaca/client/ws: AlpacaTradingStream.java and
        internal/AbstractAlpacaStream.java (onClosing returns the code; OkHttp refuses the reserved ones).
        """
        proxy = await self.start()
        line = await self.upgrade("/trade-updates-paper", OKHTTP)
        line.frame(TEXT, AUTHENTICATE)
        await line.until(lambda line: len(line.frames) == 1)
        line.frame(TEXT, LISTEN)
        await line.until(lambda line: len(line.frames) == 2)
        event = self.order(1)
        await line.until(lambda line: len(line.frames) == 3)
        self.assertEqual(line.frames, [(TEXT, AUTHORIZED), (TEXT, LISTENING), (TEXT, event)])
        stopped = Deferred.fromCoroutine(proxy.stop())
        await line.until(lambda line: len(line.frames) == 4)
        opcode, close = line.frames[3]
        self.assertEqual((opcode, int.from_bytes(close[:2])), (CLOSE, 1012))
        line.frame(CLOSE, close)
        await line.until(lambda line: line.ended)
        await stopped
