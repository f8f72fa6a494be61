"""The relay with `socketify` (uWebSockets): one topic, and publish() for each event.

It has no client of its own: the upstream is read by `websockets` on its asyncio loop.

python socketify_relay.py PORT UPSTREAM_PORT

With TLS_KEY and TLS_CERTIFICATE, two PEM files, the clients have TLS.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from socketify import App, AppListenOptions, AppOptions, OpCode
from websockets.asyncio.client import connect

LOGIN = '{"action":"auth","key":"any","secret":"any"}'
LISTEN = '{"action":"listen","data":{"streams":["trade_updates"]}}'
AUTHENTICATED = '[{"T":"success","msg":"authenticated"}]'
TOPIC = "trade_updates"
NEVER = 0
"""An idle timeout."""


def serve_message(client: Any, message: Any, opcode: Any) -> None:
    """Send events to a client after its first message."""
    client.send(AUTHENTICATED, OpCode.TEXT)
    client.subscribe(TOPIC)


async def relay(app: Any, upstream_port: int) -> None:
    """Relay messages until the upstream ends."""
    async with connect(f"ws://127.0.0.1:{upstream_port}/stream") as upstream:
        for request in (LOGIN, LISTEN):
            await upstream.send(request)
            await upstream.recv()
        async for event in upstream:
            app.publish(TOPIC, event, OpCode.TEXT)


def main(port: int, upstream_port: int) -> None:
    """Serve until the upstream ends."""
    tls = None
    if "TLS_KEY" in os.environ:
        tls = AppOptions(
            key_file_name=os.environ["TLS_KEY"], cert_file_name=os.environ["TLS_CERTIFICATE"]
        )
    app = App(tls)
    app.ws("/*", {"compression": 0, "idle_timeout": NEVER, "message": serve_message})
    app.listen(AppListenOptions(port=port, host="127.0.0.1"), lambda _: None)
    task = app.loop.create_task(relay(app, upstream_port))
    task.add_done_callback(lambda _: app.close())
    app.run()


main(int(sys.argv[1]), int(sys.argv[2]))
