"""The proxy's site in memory, and clients of it."""

from __future__ import annotations

import json
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.support.frames import AUTH
from tests.support.journals import Connections, memory_journal
from tests.support.memory import CLIENT, Wires, fake_time
from tests.support.socket_limits import limit_sockets
from tests.support.ticks import Ticks
from tradeproxy.book.book import Book
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.clients import DownstreamService
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.hub.account import Account
from tradeproxy.web.request_info import TrustedProxies
from tradeproxy.web.site import build_site
from tradeproxy.webhooks.state import DeliveryStats
from tradeproxy.wire.credentials import Secret
from tradeproxy.wire.messages import TradeUpdate, parse_server


@implementer(IPushProducer)
class NarrowTransport(iosim.FakeTransport):
    """A transport in memory with back-pressure; while `blocked`, the peer reads nothing."""

    blocked = False
    is_reading = True
    pauses_once = False
    """Whether only the first write above the limit pauses the producer, as over TLS."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._has_paused = False
        self._unread: list[Any] = []

    @property
    def buffered(self) -> int:
        """The number of bytes that the peer has not read."""
        return sum(map(len, self.stream))

    def write(self, data: bytes) -> None:
        super().write(data)
        if (
            self.producer is not None
            and self.buffered > 64 * 1024
            and not (self.pauses_once and self._has_paused)
        ):
            self._has_paused = True
            self.producer.pauseProducing()

    def getOutBuffer(self) -> Any:
        if self.blocked:
            return None
        taken = super().getOutBuffer()
        if self._has_paused and self.producer is not None:
            self._has_paused = False
            self.producer.resumeProducing()
        return taken

    def bufferReceived(self, buf: Any) -> None:
        if self.is_reading:
            super().bufferReceived(buf)
        else:
            self._unread.append(buf)

    def pauseProducing(self) -> None:
        self.is_reading = False

    def resumeProducing(self) -> None:
        self.is_reading = True
        unread, self._unread = self._unread, []
        for data in unread:
            self.bufferReceived(data)


class Client(WebSocketClientProtocol):
    """A WebSocket client that records what it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []
        self.pongs: list[bytes] = []
        self.pings = 0
        self.closed: tuple[int | None, str | None] | None = None
        self.answers_pings = True
        self.answers_close = True

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        assert not isBinary, "the proxy sends text frames only"
        self.messages.append(payload)

    def onPing(self, payload: bytes) -> None:
        self.pings += 1
        if self.answers_pings:
            super().onPing(payload)

    def onPong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def onCloseFrame(self, code: Any, reasonRaw: Any) -> Any:
        self.closed = (code, None if reasonRaw is None else reasonRaw.decode())
        return super().onCloseFrame(code, reasonRaw) if self.answers_close else None

    @property
    def is_open_now(self) -> bool:
        return bool(self.state == self.STATE_OPEN)

    def taken(self) -> list[bytes]:
        """Return the messages since the last call."""
        taken, self.messages = self.messages, []
        return taken


class RawClient(Protocol):
    """A client that writes raw bytes, and records the response."""

    def __init__(self) -> None:
        self.received = b""
        self.gone = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Any = None) -> None:
        self.gone = True

    @property
    def status(self) -> int:
        """The status of the HTTP response."""
        return int(self.received.split(b" ")[1])

    @property
    def body(self) -> str:
        return self.received.partition(b"\r\n\r\n")[2].decode()

    @property
    def reason(self) -> str:
        """The message of an error, which has the shape of Alpaca's errors."""
        document = json.loads(self.body)
        assert document["code"] == self.status * 100_000 + 10_000, document
        assert document["message"].startswith("tradeproxy: "), document
        return str(document["message"].removeprefix("tradeproxy: "))


class ProxyTestCase(SynchronousTestCase):
    """The site with two accounts, in memory and fake time; a subclass may set limits and tokens."""

    limits = Limits()
    tokens: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    has_books = False

    def setUp(self) -> None:
        self.clock = fake_time(self)
        self.disk = Connections()  # under the journal of `paper`
        self.ticks = Ticks()  # of the books
        self.paper = Account(
            "paper", memory_journal(self.clock, "paper", connect=self.disk), self.clock
        )
        self.live = Account("live", memory_journal(self.clock, "live"), self.clock)
        accounts = {"paper": self.paper, "live": self.live}
        self.books = {
            name: Book(account, self.clock, self.ticks)
            for name, account in accounts.items()
            if self.has_books
        }
        self.factory = DownstreamFactory(
            self.limits, self.clock, limit_sockets(self.limits), self.books
        )
        self.service = DownstreamService(self.factory.clients, self.clock)
        self.service.startService()
        self.webhooks: list[DeliveryStats] = []
        self.accepted_tokens = Tokens(map(Secret, self.tokens))
        self.admission = Admission(self.hosts, self.origins, self.accepted_tokens)
        self.site = build_site(
            accounts,
            self.factory,
            self.admission,
            self.clock,
            self.clock.seconds,
            trusted_proxies=TrustedProxies(self.trusted_proxies),
            list_webhooks=lambda: self.webhooks,
        )
        self.wires = Wires(self.clock)

    def connect(self, path: str = "/trade-updates-paper", **headers: str) -> Client:
        """Open a WebSocket. Underscores in header names become hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        factory = WebSocketClientFactory(
            f"ws://localhost:8099{path}", headers=named, reactor=self.clock
        )
        factory.setProtocolOptions(
            failByDrop=False,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
        )
        client = Client()
        client.factory = factory
        self.wires.join(self.site.buildProtocol(CLIENT), client)
        self.wires.flush()
        return client

    def open_client(self, path: str = "/trade-updates-paper", **headers: str) -> Client:
        """Open a WebSocket, and log in."""
        client = self.connect(path, **headers)
        self.say(client, AUTH)
        return client

    def say(self, client: Client, *messages: bytes, binary: bool = False) -> list[bytes]:
        """Send messages from a client, and return what it receives."""
        client.taken()
        for message in messages:
            client.sendMessage(message, isBinary=binary)
        self.wires.flush()
        return client.taken()

    def publish(self, account: Account, *events: bytes) -> None:
        """Publish the events of these frames in one batch; the journal drops duplicates."""
        for frame in events:
            update = parse_server(frame)
            assert isinstance(update, TradeUpdate), frame
            account.publish(update.event)
        self.wires.flush()

    def server_transport(self, number: int) -> Any:
        """Return the proxy's transport of the client `number`, in the order of connection."""
        client: Any = list(self.factory.clients)[number]
        return client.transport

    def request(self, path: str, method: str = "GET", **headers: str) -> RawClient:
        """Send an HTTP request without a body."""
        head = {"Host": "localhost:8099"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
        return self.write("\r\n".join([*lines, "", ""]).encode())

    def upgrade(self, path: str = "/trade-updates-paper", **headers: str) -> RawClient:
        """Request an upgrade in plain HTTP, and return the client with the response."""
        wanted = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
        return self.request(path, **wanted, Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==", **headers)

    def write(self, data: bytes) -> RawClient:
        """Connect, and send these bytes."""
        client = RawClient()
        self.wires.join(self.site.buildProtocol(CLIENT), client)
        assert client.transport is not None
        client.transport.write(data)
        self.wires.flush()
        return client
