"""The clients in Node.js that are not made for Alpaca."""

from __future__ import annotations

from typing import Any

from tests.system.interop.clients import InteropClient


def _node(name: str, driver: str, *npm: str, **more: Any) -> InteropClient:
    return InteropClient(name, ("node",), driver, npm=npm, **more)


WS = "ws@8.23.0"

CLIENTS = (
    _node("ws 8.23.0", "ws.mjs", WS, resumes=True),
    _node("eventsource 4.1.1", "eventsource.mjs", "eventsource@4.1.1", resumes=True),
    _node("partysocket 1.3.0", "partysocket.mjs", "partysocket@1.3.0", WS, resumes=True),
    _node(
        "reconnecting-websocket 4.4.0",
        "reconnecting_websocket.mjs",
        "reconnecting-websocket@4.4.0",
        WS,
        resumes=True,
    ),
)
