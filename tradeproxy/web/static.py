"""The dashboard's static files: one page, its style sheet and its scripts.

They contain no data of the proxy, so they need no token.
"""

from __future__ import annotations

from pathlib import Path

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
        # 'self' includes the WebSocket of the same host and port (CSP 3, 6.7.2.8).
        "connect-src 'self'",
        "img-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # An event may hold any text. In browsers with Trusted Types, no script can turn text
        # into markup.
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
    """The files of the dashboard, read once into memory."""

    def __init__(self) -> None:
        directory = Path(__file__).with_name("dashboard")
        paths = [path for path in directory.iterdir() if path.suffix in TYPES]
        self._files = {path.name: path.read_bytes() for path in paths}

    def render(self, request: Request, name: str) -> bytes | None:
        """Set the headers of `request` and return the file `name`; None if it does not exist.

        Lookup is by exact name among the files read at the start, so no path leads elsewhere.
        """
        content = self._files.get(name)
        if content is not None:
            for header, value in HEADERS.items():
                request.setHeader(header, value)
            request.setHeader(b"content-type", TYPES[Path(name).suffix])
        return content
