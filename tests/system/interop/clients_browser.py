"""The clients in a browser page, in Debian's Chromium."""

from __future__ import annotations

import shutil

from tests.system.interop.clients import InteropClient, Runtime

CHROMIUM = shutil.which("chromium")


def _page(name: str, driver: str, refused: str) -> InteropClient:
    """Return a client that is a page; on another origin the console must show `refused`."""
    return InteropClient(
        f"{name} in Chromium",
        Runtime.BROWSER,
        driver,
        ("playwright-core@1.65.1",),
        launcher="chromium.mjs",
        resumes=True,
        environment={"CHROMIUM": CHROMIUM or "", "REFUSED": refused},
        skipped=""
        if CHROMIUM
        else "Chromium is not installed; in Debian, apt-get install chromium",
    )


CLIENTS = (
    _page("WebSocket", "websocket.html", "Unexpected response code: 403"),
    _page("EventSource", "eventsource.html", "blocked by CORS policy"),
)
