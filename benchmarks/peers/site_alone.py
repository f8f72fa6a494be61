"""Not a relay: twisted.web parses the request, and a fixed response is written.

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
    b"HTTP/1.1 101 Switching Protocols\r\nServer: any\r\n"
    b"Upgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
AUTHENTICATED = b'[{"T":"success","msg":"authenticated"}]'
TEXT = 0x81
"""The first byte of a text frame; the second is the length, if below 126."""
BACKLOG = 1024

reactor: Any = chosen


class Client(Protocol):
    """A client; any message counts as its login."""

    def dataReceived(self, data: bytes) -> None:
        """Send the reply as a text frame."""
        assert self.transport is not None
        self.transport.write(bytes([TEXT, len(AUTHENTICATED)]) + AUTHENTICATED)


class HandshakeResource(Resource):
    """Takes over the transport of every request, like Autobahn's resource."""

    isLeaf = True

    def render(self, request: Request) -> int:
        """Write the response for the fixed key that the load sends."""
        channel: Any = request.channel
        transport, channel.transport = channel.transport, None
        transport.protocol = Client()
        transport.protocol.makeConnection(transport)
        transport.write(ANSWER)
        return NOT_DONE_YET


class Upstream(WebSocketClientProtocol):
    """The upstream: the load waits for its login."""

    answers = 0

    def onOpen(self) -> None:
        """Log in."""
        self.sendMessage(LOGIN)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Subscribe after the first reply."""
        self.answers += 1
        if self.answers == 1:
            self.sendMessage(LISTEN)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Stop the reactor."""
        if reactor.running:
            reactor.stop()


def main(port: int, upstream_port: int) -> None:
    """Serve until the upstream ends."""
    reactor.listenTCP(port, Site(HandshakeResource()), backlog=BACKLOG, interface="127.0.0.1")
    upstream = WebSocketClientFactory(f"ws://127.0.0.1:{upstream_port}/stream")
    upstream.protocol = Upstream
    connectWS(upstream)
    reactor.run()


main(int(sys.argv[1]), int(sys.argv[2]))
