"""The relay with `websockets`: its asyncio server and its broadcast().

python websockets_relay.py PORT UPSTREAM_PORT [FILE]

With FILE it does the least that a relay with a journal must do: it drops an event whose id it has
had, and writes every other one to the file, with a checksum, before it sends it.
With UPSTREAM_SCHEME=wss, the upstream has TLS. With TLS_KEY and TLS_CERTIFICATE, two PEM files, the
clients have TLS.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import struct
import sys
import zlib

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


class Keeper:
    """A file of events."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT)
        self._end = 0
        self._ids: set[str] = set()

    def keep(self, event: bytes) -> bool:
        """Append an event, unless its id is known; return whether it is new."""
        event_id = json.loads(event)["data"]["event_id"]
        if event_id in self._ids:
            return False
        self._ids.add(event_id)
        record = struct.pack("<II", len(event), zlib.crc32(event)) + event
        self._end += os.pwrite(self._file, record, self._end)
        return True


async def main(port: int, upstream_port: int, path: str | None = None) -> None:
    """Serve until the upstream ends."""
    keeper = None if path is None else Keeper(path)
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
            if keeper is None or keeper.keep(event if isinstance(event, bytes) else event.encode()):
                broadcast(clients, event.decode() if isinstance(event, bytes) else event)


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
