"""No relay, but what lies under one: twisted.web reads the request, and a fixed answer is written.

python site_alone.py PORT UPSTREAM_PORT
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol, connectWS
from twisted.internet import reactor as chosen
from twisted.internet.protocol import Protocol
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

if TYPE_CHECKING:
    from twisted.web.http import Request

LOGIN = b'{"action":"auth","key":"any","secret":"any"}'
LISTEN = b'{"action":"listen","data":{"streams":["trade_updates"]}}'
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nServer: any\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
AUTHENTICATED = b'[{"T":"success","msg":"authenticated"}]'
TEXT = 0x81
"""The first byte of a text frame; a length below 126 is the second one."""
BACKLOG = 1024

reactor: Any = chosen


class Client(Protocol):
    """Takes whatever it is sent for a login."""

    def dataReceived(self, data: bytes) -> None:
        """Answer, as a text frame."""
        assert self.transport is not None
        self.transport.write(bytes([TEXT, len(AUTHENTICATED)]) + AUTHENTICATED)


class Root(Resource):
    """Hands every connection over, as Autobahn's resource does."""

    isLeaf = True

    def render(self, request: Request) -> int:
        """Write the answer to the one key that the load sends."""
        channel: Any = request.channel
        transport, channel.transport = channel.transport, None
        transport.protocol = Client()
        transport.protocol.makeConnection(transport)
        transport.write(ANSWER)
        return NOT_DONE_YET


class Upstream(WebSocketClientProtocol):
    """Logs in, which the load waits for."""

    answers = 0

    def onOpen(self) -> None:
        """Log in."""
        self.sendMessage(LOGIN)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Listen, upon the first answer."""
        self.answers += 1
        if self.answers == 1:
            self.sendMessage(LISTEN)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """End."""
        if reactor.running:
            reactor.stop()


def main(port: int, upstream_port: int) -> None:
    """Serve until the upstream ends."""
    reactor.listenTCP(port, Site(Root()), backlog=BACKLOG, interface="127.0.0.1")
    upstream = WebSocketClientFactory(f"ws://127.0.0.1:{upstream_port}/stream")
    upstream.protocol = Upstream
    connectWS(upstream)
    reactor.run()


main(int(sys.argv[1]), int(sys.argv[2]))
