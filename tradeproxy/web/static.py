"""The dashboard's files: one page, its style, its scripts; served as they are, and holding nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.web.server import Request

INDEX = "index.html"

TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}

POLICY = "; ".join(
    (
        "default-src 'none'",
        "connect-src 'self'",  # the WebSocket of the same host and port too (CSP 3, 6.7.2.8)
        "img-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Where a browser knows these, no script can make markup of a text: an event may hold any.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
).encode()

HEADERS = {
    b"cache-control": b"no-cache",
    b"content-security-policy": POLICY,
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
}


class StaticFiles:
    """The files, read once."""

    def __init__(self) -> None:
        directory = Path(__file__).with_name("dashboard")
        self._files = {
            path.name: path.read_bytes() for path in directory.iterdir() if path.suffix in TYPES
        }

    def render(self, request: Request, name: str) -> bytes | None:
        """Return a file, with its headers set; None if there is none of that name."""
        content = self._files.get(name)
        if content is not None:
            for header, value in HEADERS.items():
                request.setHeader(header, value)
            request.setHeader(b"content-type", TYPES[Path(name).suffix])
        return content
