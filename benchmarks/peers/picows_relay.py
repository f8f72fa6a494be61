"""The relay with `picows`: a WSListener for each end, and send() to each client in turn.

python picows_relay.py PORT UPSTREAM_PORT
"""

from __future__ import annotations

import asyncio
import sys

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_connect,
    ws_create_server,
)

LOGIN = b'{"action":"auth","key":"any","secret":"any"}'
LISTEN = b'{"action":"listen","data":{"streams":["trade_updates"]}}'
AUTHENTICATED = b'[{"T":"success","msg":"authenticated"}]'

clients: set[WSTransport] = set()


class Client(WSListener):
    """A client; it gets events after its first message."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Handle a frame."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT and transport not in clients:
            transport.send(WSMsgType.TEXT, AUTHENTICATED)
            clients.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Remove the client."""
        clients.discard(transport)


class Upstream(WSListener):
    """The upstream: logs in, subscribes, and relays every message after the two replies."""

    answers = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Log in."""
        transport.send(WSMsgType.TEXT, LOGIN)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Handle a frame."""
        if frame.msg_type != WSMsgType.BINARY:
            return
        if self.answers < 2:
            self.answers += 1
            if self.answers == 1:
                transport.send(WSMsgType.TEXT, LISTEN)
            return
        event = frame.get_payload_as_bytes()
        for client in tuple(clients):
            client.send(WSMsgType.TEXT, event)


async def main(port: int, upstream_port: int) -> None:
    """Serve until the upstream ends."""

    def accept(request: WSUpgradeRequest) -> WSListener:
        return Client()

    await ws_create_server(accept, "127.0.0.1", port)
    upstream, _ = await ws_connect(Upstream, f"ws://127.0.0.1:{upstream_port}/stream")
    await upstream.wait_disconnected()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
