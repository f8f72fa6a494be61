"""The clients in a browser page."""

from __future__ import annotations

from tests.system.interop.clients import InteropClient


def _page(browser: str, package: str, name: str, driver: str, refused: str) -> InteropClient:
    """Return a client that is a script of a page; on another origin it must print `refused`."""
    return InteropClient(
        f"{name} in {'Chromium' if browser == 'chrome' else 'Firefox'}",
        ("node", "page.mjs"),
        driver,
        npm=("puppeteer-core@24.43.1",),
        debian=(package,),
        files=("page.mjs",),
        environment={"BROWSER": browser, "PROGRAM": f"/usr/bin/{package}", "REFUSED": refused},
        resumes=True,
    )


CLIENTS = tuple(
    _page(browser, package, name, driver, refused)
    for browser, package in (("chrome", "chromium"), ("firefox", "firefox-esr"))
    for name, driver, refused in (
        ("WebSocket", "websocket.js", "error"),
        ("EventSource", "eventsource.js", "refused"),
    )
)
