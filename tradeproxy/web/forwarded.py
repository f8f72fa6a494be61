"""Who sends a request: the peer of the connection, or the client of a trusted reverse proxy.

Anyone can send X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host. They count only from the
addresses in PROXY_TRUSTED_PROXIES.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.web.server import Request

from tradeproxy.downstream.admission import Rejection
from tradeproxy.wire.origin_rules import parse_host
from tradeproxy.wire.trusted_proxies import TrustedProxies

_IS_SECURE = {"https": True, "wss": True, "http": False, "ws": False}

BAD_FOR = Rejection(400, "X-Forwarded-For is not a list of addresses")
BAD_PROTO = Rejection(400, "X-Forwarded-Proto is neither http nor https")
BAD_HOST = Rejection(400, "X-Forwarded-Host is not a host")


@dataclass(frozen=True, slots=True)
class RequestSource:
    """The client of a request, and how it reached the first server."""

    client: IAddress
    """Its address. The port is 0 if a reverse proxy named the address."""
    host: str | None
    """The host that it asked for; None if there is none."""
    secure: bool
    """Whether it uses TLS."""
    replaced_host: str | None = None
    """The Host header, if `host` is that of X-Forwarded-Host."""


def read_source(request: Request, trusted: TrustedProxies) -> RequestSource | Rejection:
    """Return the source of a request, or status 400 if a header that counts is malformed."""
    peer = request.getClientAddress()
    host = read_header(request, b"host")
    if not _is_trusted(peer, trusted):
        return RequestSource(peer, host, request.isSecure())
    proto = read_header(request, b"x-forwarded-proto")
    secure = request.isSecure() if proto is None else _IS_SECURE.get(proto.lower())
    if secure is None:
        return BAD_PROTO
    forwarded_host = read_header(request, b"x-forwarded-host")
    if forwarded_host is not None and parse_host(forwarded_host) is None:
        return BAD_HOST
    hops = read_header(request, b"x-forwarded-for")
    if hops is not None:
        client = trusted.find_client(hops)
        if client is None:
            return BAD_FOR
        peer = (IPv6Address if ":" in client else IPv4Address)("TCP", client, 0)
    if forwarded_host is None:
        return RequestSource(peer, host, secure)
    return RequestSource(peer, forwarded_host, secure, host)


def read_header(request: Request, name: bytes) -> str | None:
    """Return a header as text, or None if it is absent.

    One that is sent twice becomes a list, which never equals a valid host, origin or token.
    """
    values = request.requestHeaders.getRawHeaders(name)
    return None if values is None else b", ".join(values).decode("latin-1")


def _is_trusted(peer: IAddress, trusted: TrustedProxies) -> bool:
    match peer:
        case UNIXAddress():
            return trusted.trusts(None)
        case IPv4Address() | IPv6Address():
            return trusted.trusts(peer.host)
    return False
