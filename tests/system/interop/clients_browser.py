"""The clients in a page of a browser: Debian's Chromium."""

from __future__ import annotations

import shutil

from tests.system.interop.clients import Client, Runtime

CHROMIUM = shutil.which("chromium")


def _page(name: str, driver: str, refused: str) -> Client:
    """Return a client that is a page, which `refused` must keep out when it is another site's."""
    return Client(
        f"{name} in Chromium",
        Runtime.BROWSER,
        driver,
        ("playwright-core@1.65.1",),
        launcher="chromium.mjs",
        resumes=True,
        environment={"CHROMIUM": CHROMIUM or "", "REFUSED": refused},
        skipped=""
        if CHROMIUM
        else "there is no Chromium here; in Debian, apt-get install chromium",
    )


CLIENTS = (
    _page("WebSocket", "websocket.html", "Unexpected response code: 403"),
    _page("EventSource", "eventsource.html", "blocked by CORS policy"),
)
