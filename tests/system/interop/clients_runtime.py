"""The WebSocket and EventSource that JavaScript runtimes have built in."""

from __future__ import annotations

from tests.system.interop.clients import InteropClient


def _runtime(name: str, package: str, *command: str, api: str) -> InteropClient:
    return InteropClient(
        f"{api} of {name}", command, f"{api.lower()}.js", npm=(package,), resumes=True
    )


CLIENTS = (
    _runtime("Node 26.10.0", "node@26.10.0", "node", api="WebSocket"),
    _runtime("Node 22.23.3", "node@22.23.3", "node", api="WebSocket"),
    _runtime("Node 20.20.2", "node@20.20.2", "node", "--experimental-websocket", api="WebSocket"),
    _runtime("Deno 2.9.6", "deno@2.9.6", "deno", "run", "--allow-net", api="WebSocket"),
    _runtime("Bun 1.4.5", "bun@1.4.5", "bun", api="WebSocket"),
    _runtime(
        "Node 26.10.0", "node@26.10.0", "node", "--experimental-eventsource", api="EventSource"
    ),
    _runtime(
        "Node 22.23.3", "node@22.23.3", "node", "--experimental-eventsource", api="EventSource"
    ),
    _runtime(
        "Node 20.20.2", "node@20.20.2", "node", "--experimental-eventsource", api="EventSource"
    ),
    _runtime("Deno 2.9.6", "deno@2.9.6", "deno", "run", "--allow-net", api="EventSource"),
    _runtime("Bun 1.4.5", "bun@1.4.5", "bun", api="EventSource"),
)
