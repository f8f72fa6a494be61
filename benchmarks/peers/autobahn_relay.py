"""The relay with Autobahn on Twisted: sendMessage() to each client, behind twisted.web.

python autobahn_relay.py PORT UPSTREAM_PORT
"""

from __future__ import annotations

import sys
from typing import Any

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
    connectWS,
)
from twisted.internet import reactor as chosen
from twisted.web.resource import Resource
from twisted.web.server import Site

LOGIN = b'{"action":"auth","key":"any","secret":"any"}'
LISTEN = b'{"action":"listen","data":{"streams":["trade_updates"]}}'
AUTHENTICATED = b'[{"T":"success","msg":"authenticated"}]'
BACKLOG = 1024
"""The accept queue. With Twisted's 50, only the kernel's retries would be measured."""

reactor: Any = chosen
clients: set[Client] = set()


class Client(WebSocketServerProtocol):
    """A client; it gets events after its first message."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Handle the first message, the login."""
        if self not in clients:
            self.sendMessage(AUTHENTICATED)
            clients.add(self)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Remove the client."""
        clients.discard(self)


class Upstream(WebSocketClientProtocol):
    """The upstream: logs in, subscribes, and relays every message after the two replies."""

    answers = 0

    def onOpen(self) -> None:
        """Log in."""
        self.sendMessage(LOGIN)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Handle a message."""
        if self.answers < 2:
            self.answers += 1
            if self.answers == 1:
                self.sendMessage(LISTEN)
            return
        for client in clients:
            client.sendMessage(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Stop the reactor."""
        if reactor.running:
            reactor.stop()


def main(port: int, upstream_port: int) -> None:
    """Serve until the upstream ends."""
    server = WebSocketServerFactory()
    server.protocol = Client
    root = Resource()
    root.putChild(b"", WebSocketResource(server))
    reactor.listenTCP(port, Site(root), backlog=BACKLOG, interface="127.0.0.1")
    upstream = WebSocketClientFactory(f"ws://127.0.0.1:{upstream_port}/stream")
    upstream.protocol = Upstream
    connectWS(upstream)
    reactor.run()


main(int(sys.argv[1]), int(sys.argv[2]))
