"""The relay with `websockets`: its asyncio server and its broadcast().

python websockets_relay.py PORT UPSTREAM_PORT

With UPSTREAM_SCHEME=wss, the upstream has TLS. With TLS_KEY and TLS_CERTIFICATE, two PEM files, the
clients have TLS.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve

LOGIN = '{"action":"auth","key":"any","secret":"any"}'
LISTEN = '{"action":"listen","data":{"streams":["trade_updates"]}}'
AUTHENTICATED = '[{"T":"success","msg":"authenticated"}]'

clients: set[ServerConnection] = set()


async def serve_client(client: ServerConnection) -> None:
    """Send events to a client after its first message."""
    await client.recv()
    await client.send(AUTHENTICATED)
    clients.add(client)
    try:
        await client.wait_closed()
    finally:
        clients.remove(client)


async def main(port: int, upstream_port: int) -> None:
    """Serve until the upstream ends."""
    scheme = os.environ.get("UPSTREAM_SCHEME", "ws")
    url = f"{scheme}://127.0.0.1:{upstream_port}/stream"
    context = None
    if "TLS_KEY" in os.environ:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(os.environ["TLS_CERTIFICATE"], os.environ["TLS_KEY"])
    server = serve(serve_client, "127.0.0.1", port, ssl=context)
    async with server, connect(url) as upstream:
        for request in (LOGIN, LISTEN):
            await upstream.send(request)
            await upstream.recv()
        async for event in upstream:
            broadcast(clients, event.decode() if isinstance(event, bytes) else event)


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
