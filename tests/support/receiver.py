"""A receiver of webhooks on a real socket, which fails in every way that one can."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

reactor: Any = chosen


class Behavior(Enum):
    """What a receiver does with a request. OK and LEAVE accept the message."""

    OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    LEAVE = b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nok"
    """Accept, and close the connection without having said so."""
    ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nbad"
    BUSY = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    GARBLED = b"HTTP/1.1 503 \xff\r\nRetry-After: \xff\r\nContent-Length: 0\r\n\r\n"
    REDIRECT = (
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    CLOSE_EARLY = b"HTTP/1.1 20"
    CLOSE_AT_ONCE = b""
    HANG = b"HTTP/1.1 "
    SILENCE = None
    EXTRA = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\n\r\n"
    UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    REFUSED = b"HTTP/1.1 422 Unprocessable Content\r\nContent-Length: 0\r\n\r\n"
    FLOOD = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000


_ACCEPTS = {Behavior.OK, Behavior.LEAVE}
_CLOSES = {Behavior.CLOSE_EARLY, Behavior.CLOSE_AT_ONCE, Behavior.LEAVE, Behavior.FLOOD}


@dataclass(frozen=True, slots=True)
class Received:
    """One request: its path, its headers (names in lower case), its body, and what was done."""

    path: str
    headers: dict[str, str]
    body: bytes
    behavior: Behavior

    @property
    def document(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)

    @property
    def key(self) -> str:
        """The idempotency key."""
        return self.headers["webhook-id"]


class Receiver(Factory):
    """Listens on 127.0.0.1; `choose` decides about each request, `on_request` is called after."""

    noisy = False

    def __init__(self, choose: Callable[[], Behavior] = lambda: Behavior.OK) -> None:
        self.choose = choose
        self.received: list[Received] = []
        self.accepted: list[Received] = []
        """The requests that got a success."""
        self.keys: set[str] = set()
        """Their idempotency keys."""
        self.counts: Counter[Behavior] = Counter()
        self.on_request: Callable[[], None] = lambda: None
        self.port = 0
        self.connections: set[Any] = set()
        self.connected = 0
        """How many connections there have been."""
        self._listening: Any = None

    @property
    def url(self) -> str:
        """The URL for the setting."""
        return f"http://127.0.0.1:{self.port}/hook?token=hush"

    async def start(self) -> None:
        """Listen: the first time on any port, later on the same."""
        endpoint = serverFromString(reactor, f"tcp:{self.port}:interface=127.0.0.1")
        self._listening = await endpoint.listen(self)
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Die: reset all connections, and listen no longer."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stopListening()
        for connection in list(self.connections):
            connection.transport.abortConnection()

    def buildProtocol(self, addr: Any) -> _Exchange:
        return _Exchange(self)

    def take(self, head: str, body: bytes) -> Behavior:
        """Record a request, and return what to do with it."""
        first, *lines = head.split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        behavior = self.choose()
        self.counts[behavior] += 1
        request = Received(first.split(" ")[1], headers, body, behavior)
        self.received.append(request)
        if behavior in _ACCEPTS:
            self.accepted.append(request)
            self.keys.add(headers.get("webhook-id", ""))
        reactor.callLater(0, self.on_request)
        return behavior


class _Exchange(Protocol):
    """One connection: one request after the other."""

    transport: Any

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._data = b""

    def connectionMade(self) -> None:
        self._receiver.connections.add(self)
        self._receiver.connected += 1

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        [length] = [
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        if len(body) < length:
            return
        self._data = body[length:]
        behavior = self._receiver.take(head.decode(), body)
        self.transport.write(behavior.value or b"")
        if behavior in _CLOSES:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._receiver.connections.discard(self)
