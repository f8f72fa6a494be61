"""What responses share: an error is one line of JSON in the shape of Alpaca's errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from twisted.web.server import Request

from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.autobahn_slim import VERSION


def encode_error(status: int, message: str) -> bytes:
    """Return the body of an error response.

    Alpaca's Python SDKs raise an error if the body has a `code`, built like Alpaca's own codes. The
    older SDK treats any other text that contains the word "code" as a success.
    """
    document = {"code": status * 100_000 + 10_000, "message": f"tradeproxy: {message}"}
    return json.dumps(document).encode() + b"\n"


def render_error(request: Request, status: int, message: str) -> bytes:
    """Set the status and the content type of `request`, and return the body of the error."""
    request.setResponseCode(status, HTTPStatus(status).phrase.encode())
    request.setHeader(b"content-type", b"application/json")
    return encode_error(status, message)


def render_rejection(request: Request, rejection: Rejection) -> bytes:
    """Do the same for a rejection, and set the headers that its status asks for."""
    if rejection.status == 401:
        request.setHeader(b"www-authenticate", b"Bearer")
    if rejection.status == 426:
        request.setHeader(b"upgrade", b"websocket")
        request.setHeader(b"sec-websocket-version", VERSION)
    if rejection.status == 503:
        request.setHeader(b"retry-after", b"%d" % rejection.retry_after)
    if rejection.status == 405 and not request.responseHeaders.hasHeader(b"allow"):
        request.setHeader(b"allow", b"GET, HEAD")
    return render_error(request, rejection.status, rejection.reason)


def set_uncached(request: Request, content_type: bytes = b"application/json") -> None:
    """Set the headers of a page that is true at this moment only."""
    request.setHeader(b"content-type", content_type)
    request.setHeader(b"cache-control", b"no-store")


def send_body(request: Request, body: bytes) -> None:
    """Write a whole body; of an answer to HEAD, Twisted sends only the head."""
    request.setHeader(b"content-length", b"%d" % len(body))
    request.write(body)


def build_array(name: str, documents: Iterable[bytes]) -> Sequence[bytes]:
    """Return the pieces of a member of a JSON object: a name, and an array of documents."""
    pieces = [b'"%b":[' % name.encode()]
    for document in documents:
        pieces += (document, b",")
    if len(pieces) > 1:
        pieces.pop()
    return [*pieces, b"]"]
