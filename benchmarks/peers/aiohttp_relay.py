"""The relay with `aiohttp`: WebSocketResponse, and send_str() to each client in turn.

python aiohttp_relay.py PORT UPSTREAM_PORT
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from aiohttp import ClientSession, web

LOGIN = '{"action":"auth","key":"any","secret":"any"}'
LISTEN = '{"action":"listen","data":{"streams":["trade_updates"]}}'
AUTHENTICATED = '[{"T":"success","msg":"authenticated"}]'

clients: set[web.WebSocketResponse] = set()


async def serve_client(request: web.Request) -> web.WebSocketResponse:
    """Send events to a client after its first message."""
    client = web.WebSocketResponse()
    await client.prepare(request)
    try:
        async for _ in client:
            if client not in clients:
                await client.send_str(AUTHENTICATED)
                clients.add(client)
    finally:
        clients.discard(client)
    return client


async def main(port: int, upstream_port: int) -> None:
    """Serve until the upstream ends."""
    app = web.Application()
    app.router.add_get("/", serve_client)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    url = f"ws://127.0.0.1:{upstream_port}/stream"
    async with ClientSession() as session, session.ws_connect(url) as upstream:
        for request in (LOGIN, LISTEN):
            await upstream.send_str(request)
            await upstream.receive()
        async for message in upstream:
            event = message.data.decode()
            for client in set(clients):
                with suppress(ConnectionError):  # it has just left
                    await client.send_str(event)


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
