"""The bytes that the SDKs in Go, C#, Rust and Java send, and the replies that they need.

Each test names the files of the SDK's source that it is taken from. The headers are those of the
SDK's HTTP library.
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


class RawConnection(Protocol):
    """A TCP connection that sends bytes as they are, and stores what it receives."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = False
        self._awaited: tuple[Callable[[], bool], Deferred[None]] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._check_awaited()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.ended = True
        self._check_awaited()

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def send_frame(self, opcode: int, payload: bytes) -> None:
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
        """The complete frames that arrived, each as opcode and payload."""
        frames, rest = [], self.body
        while len(rest) >= 2:
            begin, size = (4, int.from_bytes(rest[2:4])) if rest[1] == 126 else (2, rest[1])
            if len(rest) < begin + size:
                break
            assert rest[0] & 0xF0 == 0x80, "no message is fragmented or compressed"
            frames.append((rest[0] & 0x0F, rest[begin : begin + size]))
            rest = rest[begin + size :]
        return frames

    @property
    def data(self) -> list[dict[str, Any]]:
        """The values of all lines with the prefix "data: ". Alpaca's Go SDK reads only these."""
        lines = [line for line in self.body.split(b"\n")[:-1] if line.startswith(b"data: ")]
        return [json.loads(line.removeprefix(b"data: ")) for line in lines]

    def until(self, condition: Callable[[RawConnection], bool]) -> Deferred[None]:
        """Return a Deferred that fires once the condition holds."""
        if condition(self):
            return succeed(None)
        fired: Deferred[None] = Deferred()
        self._awaited = (lambda: condition(self), fired)

        def fail(*_: Any) -> None:
            raise AssertionError(f"ended: {self.ended}; received: {self.received[-2000:]!r}")

        return fired.addTimeout(PATIENCE, reactor, onTimeoutCancel=fail)

    def _check_awaited(self) -> None:
        if self._awaited is not None and self._awaited[0]():
            (_, fired), self._awaited = self._awaited, None
            fired.callback(None)


class SdkDialectTestCase(SocketTestCase):
    """A proxy, an Alpaca behind it, and raw connections to the proxy."""

    alpaca: Simulator

    async def start(self, **environment: str) -> Command:
        """Start the proxy. A second start uses the journal of the first."""
        if not hasattr(self, "alpaca"):
            self.alpaca = await self.simulate()
        command = await self.proxy(**environment)
        await self.alpaca.when_listening()
        return command

    async def request(
        self, start: str, headers: tuple[str, ...], body: bytes = b""
    ) -> RawConnection:
        """Send a request, and return once the head of the response has arrived."""
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self.port}")
        connection: RawConnection = await endpoint.connect(Factory.forProtocol(RawConnection))
        assert connection.transport is not None
        self.addCleanup(connection.until, lambda connection: connection.ended)
        self.addCleanup(connection.transport.loseConnection)
        connection.send("\r\n".join([start, *headers, "", ""]).encode("latin-1") + body)
        await connection.until(lambda connection: b"\r\n\r\n" in connection.received)
        return connection

    async def upgrade(self, path: str, headers: tuple[str, ...]) -> RawConnection:
        """Open a WebSocket."""
        connection = await self.request(f"GET {path} HTTP/1.1", headers)
        self.assertIn("HTTP/1.1 101 ", connection.head)
        self.assertNotIn("sec-websocket-extensions", connection.head.lower())
        return connection

    def publish_order(self, number: int) -> bytes:
        """Publish an event of a new order, and return its frame."""
        data = json.loads(NEW)["data"]
        shape = {name: value for name, value in data.items() if name not in ("at", "event_id")}
        order = data["order"] | {"id": f"00000000-0000-0000-0000-{number:012}"}
        return self.alpaca.emit(self.alpaca.exchange.stamped(shape | {"order": order}))


class GoSdkTests(SdkDialectTestCase):
    """alpaca-trade-api-go 3.

    alpacahq/alpaca-trade-api-go, alpaca/stream.go: StreamTradeUpdatesComplex, processTradeUpdates
    and StreamTradeUpdatesInBackground.
    """

    path = "/trade-updates-paper/v2/events/trades"

    async def test_go_sdk_gets_events(self) -> None:
        """It sends a plain HTTP request with its keys in headers, and reads one line per event."""
        await self.start()
        connection = await self.request(f"GET {self.path} HTTP/1.1", GO_GET)
        self.assertIn("HTTP/1.1 200 ", connection.head)
        self.assertNotIn("content-encoding", connection.head.lower())
        sent = [json.loads(self.publish_order(number))["data"] for number in range(3)]
        await connection.until(lambda connection: len(connection.data) == 3)
        self.assertEqual(connection.data, sent)

    async def test_go_sdk_restart_drops_without_a_clean_end(self) -> None:
        """The SDK never reconnects after a clean end of the response."""
        proxy = await self.start()
        connection = await self.request(f"GET {self.path} HTTP/1.1", GO_GET)
        self.publish_order(1)
        await connection.until(lambda connection: len(connection.data) == 1)
        await proxy.stop()
        await connection.until(lambda connection: connection.ended)
        self.assertIn("transfer-encoding: chunked", connection.head.lower())
        self.assertFalse(connection.body.endswith(b"0\r\n\r\n"))

    async def test_go_sdk_resume_since_last_event_plus_1ns_misses_nothing(self) -> None:
        """Its `since` is a nanosecond after its last event, so that event is not sent again."""
        proxy = await self.start()
        connection = await self.request(f"GET {self.path} HTTP/1.1", GO_GET)
        seen = json.loads(self.publish_order(1))["data"]
        await connection.until(lambda connection: connection.data == [seen])
        await proxy.stop()
        missed = json.loads(self.publish_order(2))["data"]
        await self.start()
        connection = await self.request(
            f"GET {self.path}?since={add_nanosecond(seen['at'])} HTTP/1.1", GO_GET
        )
        live = json.loads(self.publish_order(3))["data"]
        await connection.until(lambda connection: connection.data[-1:] == [live])
        self.assertEqual(connection.data, [missed, live])

    async def test_go_sdk_range_ends_cleanly(self) -> None:
        """With SinceID and UntilID the response ends, and the SDK returns."""
        await self.start()
        first, second, third = (
            json.loads(self.publish_order(number))["data"] for number in range(3)
        )
        live = await self.connect("/trade-updates-paper?replay=3", AUTH)
        await live.has(4)
        query = f"since_id={first['event_id']}&until_id={second['event_id']}"
        connection = await self.request(f"GET {self.path}?{query} HTTP/1.1", GO_GET)
        await connection.until(lambda connection: connection.body.endswith(b"0\r\n\r\n"))
        self.assertEqual(connection.data, [second])
        self.assertNotIn(third["event_id"], connection.body.decode())

    async def test_go_sdk_places_an_order_and_gets_its_events(self) -> None:
        """Its base URL is for orders, too. PROXY_REST=1 allows one client for both."""
        await self.start(PROXY_REST="1")
        stream = await self.request(f"GET {self.path} HTTP/1.1", GO_GET)
        order = b'{"symbol":"SPY","qty":"1","side":"buy","type":"market","time_in_force":"day"}'
        headers = (*GO, f"Content-Length: {len(order)}", *GO_GET[2:])
        answer = await self.request("POST /trade-updates-paper/v2/orders HTTP/1.1", headers, order)
        self.assertIn("HTTP/1.1 200 ", answer.head)
        await stream.until(lambda connection: len(connection.data) == 2)
        self.assertEqual([data["event"] for data in stream.data], ["new", "fill"])


def add_nanosecond(at: str) -> str:
    """Return a time of Alpaca's plus a nanosecond, in RFC 3339 as Go escapes it in a query."""
    seconds, _, fraction = at.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:0<6}001Z".replace(":", "%3A")


class WebSocketSdkTests(SdkDialectTestCase):
    """The SDKs that open a WebSocket."""

    async def test_csharp_sdk_binary_frames_get_text_replies(self) -> None:
        """Alpaca.Markets sends binary frames only, and unsolicited pongs.

        alpacahq/alpaca-trade-api-csharp, Alpaca.Markets: AlpacaStreamingClient.cs (the order of its
        messages and what it waits for), Messages/JsonAuthRequest.cs and JsonListenRequest.cs,
        WebSocket/ClientWebSocketWrapper.cs (Binary).
        """
        await self.start()
        connection = await self.upgrade("/trade-updates-paper", DOTNET)
        connection.send_frame(BINARY, AUTHENTICATE)
        await connection.until(lambda connection: len(connection.frames) == 1)
        connection.send_frame(BINARY, LISTEN)
        await connection.until(lambda connection: len(connection.frames) == 2)
        connection.send_frame(PONG, b"")
        event = self.publish_order(1)
        await connection.until(lambda connection: len(connection.frames) == 3)
        self.assertEqual(connection.frames, [(TEXT, AUTHORIZED), (TEXT, LISTENING), (TEXT, event)])
        connection.send_frame(CLOSE, b"\x03\xe8")
        await connection.until(lambda connection: connection.ended)
        self.assertEqual(connection.frames[3], (CLOSE, b"\x03\xe8"))

    async def test_rust_sdk_auth_on_stream_path_gets_the_authorization_object(self) -> None:
        """On …/stream apca gets the authorization object for its `auth`, then the listen ack.

        d-e-s-o/apca, src/api/v2/updates.rs: Authenticate, Listen, OrderMessage, Subscription and
        its tests; src/api_info.rs (APCA_API_STREAM_URL is taken as it is). The pings of
        websocket-util need a pong.
        """
        await self.start()
        connection = await self.upgrade("/trade-updates-paper/stream", TUNGSTENITE)
        other = await self.subscribe()
        connection.send_frame(TEXT, AUTH)
        await connection.until(lambda connection: len(connection.frames) == 1)
        self.publish_order(1)
        await other.has(1)
        connection.send_frame(TEXT, LISTEN)
        await connection.until(lambda connection: len(connection.frames) == 2)
        event = self.publish_order(2)
        await connection.until(lambda connection: len(connection.frames) == 3)
        self.assertEqual(connection.frames, [(TEXT, AUTHORIZED), (TEXT, LISTENING), (TEXT, event)])
        connection.send_frame(PING, b"\x07")
        await connection.until(lambda connection: len(connection.frames) == 4)
        self.assertEqual(connection.frames[3], (PONG, b"\x07"))

    async def test_java_sdk_restart_gets_a_close_code_it_may_echo(self) -> None:
        """alpaca-java gets text frames, and at a restart a close code that OkHttp may echo.

        alpacahq/alpaca-java, src/main/java/markets/alpaca/client/ws: AlpacaTradingStream.java and
        internal/AbstractAlpacaStream.java (onClosing returns the code; OkHttp rejects reserved
        ones).
        """
        proxy = await self.start()
        connection = await self.upgrade("/trade-updates-paper", OKHTTP)
        connection.send_frame(TEXT, AUTHENTICATE)
        await connection.until(lambda connection: len(connection.frames) == 1)
        connection.send_frame(TEXT, LISTEN)
        await connection.until(lambda connection: len(connection.frames) == 2)
        event = self.publish_order(1)
        await connection.until(lambda connection: len(connection.frames) == 3)
        self.assertEqual(connection.frames, [(TEXT, AUTHORIZED), (TEXT, LISTENING), (TEXT, event)])
        stopped = Deferred.fromCoroutine(proxy.stop())
        await connection.until(lambda connection: len(connection.frames) == 4)
        opcode, close = connection.frames[3]
        self.assertEqual((opcode, int.from_bytes(close[:2])), (CLOSE, 1012))
        connection.send_frame(CLOSE, close)
        await connection.until(lambda connection: connection.ended)
        await stopped
