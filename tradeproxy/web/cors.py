"""CORS: which responses a page of another, allowed origin may read (WHATWG Fetch, 3.3).

The streams and the JSON pages are shared, never the REST proxy: a page that could read its
responses could also send orders.
"""

from __future__ import annotations

from twisted.web.server import Request

from tradeproxy.web.routes import PageRoute, Route, SseRoute, StateRoute, StreamRoute

_SHARED_PAGES = (PageRoute.HEALTHZ, PageRoute.READYZ, PageRoute.STATUS)

ALLOWED_HEADERS = b"Authorization, Cache-Control, Last-Event-ID"
"""The request headers that a page may set, besides those that need no permission. An EventSource
with a token sends all three."""

PREFLIGHT_AGE = b"600"
"""Seconds for which a browser need not ask again."""


def is_shared(destination: Route | None) -> bool:
    """Return whether pages of allowed origins may read what is at this route."""
    is_of_account = isinstance(destination, StreamRoute | SseRoute | StateRoute)
    return is_of_account or destination in _SHARED_PAGES


def is_preflight(request: Request) -> bool:
    """Return whether a browser asks what a page may send. It asks without a token."""
    has = request.requestHeaders.hasHeader
    return request.method == b"OPTIONS" and has(b"access-control-request-method")


def allow_reading(request: Request, origin: str) -> None:
    """Let a page of `origin`, which is admitted, read the response, whatever its status is."""
    request.setHeader(b"access-control-allow-origin", origin.encode("latin-1"))
    request.setHeader(b"access-control-expose-headers", b"ETag, Retry-After")
    request.setHeader(b"vary", b"origin")


def answer_preflight(request: Request) -> bytes:
    """Answer an admitted preflight with an empty 200; `allow_reading` has been called.

    A 204 would need to have no Content-Length (RFC 9110, 8.6), and Twisted always sends one.
    """
    request.defaultContentType = None
    request.setHeader(b"access-control-allow-methods", b"GET, HEAD")
    request.setHeader(b"access-control-allow-headers", ALLOWED_HEADERS)
    request.setHeader(b"access-control-max-age", PREFLIGHT_AGE)
    return b""
