"""Hostile Alpaca servers that send our credentials back."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha1
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol

from tests.support.disclosure import KEY, SECRET


class Parrot(WebSocketServerProtocol):
    """An Alpaca server that echoes each message in every field, then calls `end`."""

    def __init__(self, end: Callable[[Parrot, str], None]) -> None:
        super().__init__()
        self._end = end

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        text = payload.decode()
        for document in (
            {"action": "error", "data": {"error_message": text}},
            {"stream": text, "data": {}},
            {"stream": "trade_updates", "data": text},
            {"stream": "authorization", "data": {text: text}},
        ):
            self.sendMessage(json.dumps(document).encode())
        self.sendMessage(payload + b"...")
        self._end(self, text[:120])


def say(document: dict[str, Any]) -> Callable[[Parrot, str], None]:
    """Return an `end` that sends a message. The echoed text replaces "{}"."""
    message = json.dumps(document)
    return lambda parrot, text: parrot.sendMessage(
        message.replace("{}", json.dumps(text)[1:-1]).encode()
    )


ENDS: tuple[Callable[[Parrot, str], None], ...] = (
    say({"stream": "authorization", "data": {"status": "unauthorized", "message": "{}"}}),
    say(
        {
            "stream": "authorization",
            "data": {"status": "unauthorized", "message": "connection limit {}"},
        }
    ),
    say({"action": "error", "data": {"error_message": "connection limit {}"}}),
    lambda parrot, text: parrot.sendClose(4000, text),
    lambda parrot, text: parrot.sendFrame(8, b"\x13\x88" + text.encode()),
    lambda parrot, text: parrot.sendFrame(8, b"\x0f\xa0" + text.encode() + b"\xff"),
    lambda parrot, text: parrot.sendFrame(1, text.encode() + b"\xff"),
    lambda parrot, text: parrot.sendFrame(3, text.encode()),
    lambda parrot, text: parrot.sendFrame(1, text.encode(), rsv=7),
    lambda parrot, text: parrot.dropConnection(abort=True),
)

UPGRADED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
HANDSHAKES = (
    f"HTTP/1.1 403 {KEY}\r\n\r\n",
    f"HTTP/1.1 {KEY}\r\n\r\n",
    f"HTTP/{KEY} 200 OK\r\n\r\n",
    f"{KEY}\r\n\r\n",
    f"{KEY} {SECRET} OK\r\n\r\n",
    f"HTTP/1.1 403 Forbidden\r\n{KEY}\r\n\r\n",
    f"HTTP/1.1 403 \xff\r\nX: {KEY}\r\n\r\n",
    f"HTTP/1.1 429 Too Many Requests\r\nRetry-After: {KEY}\r\n\r\n",
    f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: {KEY}\r\nConnection: Upgrade\r\n\r\n",
    f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: {KEY}\r\n\r\n",
    f"{UPGRADED}Sec-WebSocket-Accept: {KEY}\r\n\r\n",
    f"{UPGRADED}Sec-WebSocket-Accept: {{accept}}\r\nSec-WebSocket-Extensions: {KEY}\r\n\r\n",
    f"{UPGRADED}Sec-WebSocket-Accept: {{accept}}\r\nSec-WebSocket-Protocol: {KEY}\r\n\r\n",
)
"""Answers to a handshake from a server that knows the key."""


class Impostor(Protocol):
    """Answers each HTTP request with a fixed text."""

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self._request = b""

    def dataReceived(self, data: bytes) -> None:
        self._request += data
        if b"\r\n\r\n" in self._request:
            assert self.transport is not None
            self.transport.write(
                self._answer.replace("{accept}", accept_key(self._request)).encode("latin-1")
            )
            self.transport.loseConnection()


def accept_key(request: bytes) -> str:
    """Return the Sec-WebSocket-Accept that answers the request of a handshake."""
    key = request.lower().index(b"sec-websocket-key:")
    value = request[key:].split(b"\r\n")[0].partition(b":")[2].strip()
    return b64encode(sha1(value + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


def parrot(end: Callable[[Parrot, str], None]) -> IProtocolFactory:
    """Return a server that accepts the handshake and echoes messages."""
    factory: Any = WebSocketServerFactory(reactor=reactor)
    factory.noisy = False
    factory.setProtocolOptions(failByDrop=False, closeHandshakeTimeout=0)
    factory.protocol = lambda: Parrot(end)
    return factory  # type: ignore[no-any-return]  # Autobahn's has no types


def impostor(answer: str) -> IProtocolFactory:
    """Return a server that sends this answer to the handshake."""
    return Factory.forProtocol(lambda: Impostor(answer))
