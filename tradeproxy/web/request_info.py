"""What the headers of a request say: for whom it asks, and the tokens that it may have.

Anyone can send X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Host. They count only from the
addresses in PROXY_TRUSTED_PROXIES.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from twisted.internet import address
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.web.server import Request

from tradeproxy.config.access import UNIX
from tradeproxy.downstream.admission import Rejection
from tradeproxy.wire.credentials import Secret
from tradeproxy.wire.origin_rules import RequestInfo, parse_host

_IS_SECURE = {"https": True, "wss": True, "http": False, "ws": False}

BAD_FOR = Rejection(400, "X-Forwarded-For is not a list of addresses")
BAD_PROTO = Rejection(400, "X-Forwarded-Proto is neither http nor https")
BAD_HOST = Rejection(400, "X-Forwarded-Host is not a host")

MAX_HOPS = 20
"""Trusted addresses at the end of X-Forwarded-For that are skipped."""

# Some reverse proxies add the client's port. The zone of an address (%eth0) may be any text.
_HOP = re.compile(
    r"(?P<ipv4>[0-9.]+):[0-9]{1,5}|\[(?P<ipv6>[0-9a-f:.]+)\](?::[0-9]{1,5})?"
    r"|(?P<bare>[0-9a-f:.]+)",
    re.IGNORECASE,
)


class TrustedProxies:
    """The trusted addresses; `entries` are in the form of `canonicalize_proxy`."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        entries = tuple(entries)
        self._unix = UNIX in entries
        self._networks = tuple(ip_network(entry) for entry in entries if entry != UNIX)

    def trusts(self, peer: IAddress) -> bool:
        """Return whether the headers of this peer count."""
        match peer:
            case UNIXAddress():
                return self._unix
            case address.IPv4Address() | address.IPv6Address() if self._networks:
                host = _parse_address(peer.host)  # a header of the PROXY protocol may have any text
                return host is not None and self._contains(host)
        return False

    def find_client(self, hops: str) -> str | None:
        """Return the client that X-Forwarded-For names, as a canonical address; None if malformed.

        It is the rightmost address that is not trusted, since a trusted reverse proxy has written
        it. If all are trusted, it is the leftmost. What is further left may be invented, and is not
        read. A list is malformed too if more than MAX_HOPS addresses would be skipped.
        """
        last: IPv4Address | IPv6Address | None = None
        for hop in reversed(hops.rsplit(",", MAX_HOPS)):
            last = _parse_hop(hop.strip())
            if last is None or not self._contains(last):
                break
        return None if last is None else str(last)

    def _contains(self, host: IPv4Address | IPv6Address) -> bool:
        return any(host in network for network in self._networks)


def read_request_info(
    request: Request, trusted: TrustedProxies, *, upgradable: bool
) -> RequestInfo | Rejection:
    """Return what admission needs, or status 400 if a header that counts is malformed.

    `getClientAddress` then returns the client, with port 0 if a reverse proxy named it.
    `upgradable` is whether the path has a WebSocket.
    """
    host, replaced_host = read_header(request, b"host"), None
    secure = request.isSecure()
    if trusted.trusts(request.getClientAddress()):
        proto = read_header(request, b"x-forwarded-proto")
        if proto is not None and proto.lower() not in _IS_SECURE:
            return BAD_PROTO
        secure = secure if proto is None else _IS_SECURE[proto.lower()]
        forwarded_host = read_header(request, b"x-forwarded-host")
        if forwarded_host is not None:
            if parse_host(forwarded_host) is None:
                return BAD_HOST
            host, replaced_host = forwarded_host, host
        hops = read_header(request, b"x-forwarded-for")
        if hops is not None:
            client = trusted.find_client(hops)
            if client is None:
                return BAD_FOR
            form = address.IPv6Address if ":" in client else address.IPv4Address
            request.client = form("TCP", client, 0)
    scheme, _, token = (read_header(request, b"authorization") or "").partition(" ")
    offers = (
        token.strip() if scheme.lower() == "bearer" else None,
        read_header(request, b"apca-api-key-id"),
        read_header(request, b"apca-api-secret-key"),
    )
    protocol = read_header(request, b"upgrade") or ""
    return RequestInfo(
        host=host,
        origin=read_header(request, b"origin"),
        secure=secure,
        offers=tuple([Secret(offer) for offer in offers if offer]),
        upgrade=upgradable and protocol.lower() == "websocket",
        fetch_site=read_header(request, b"sec-fetch-site"),
        replaced_host=replaced_host,
    )


def read_header(request: Request, name: bytes) -> str | None:
    """Return a header as text, or None if it is absent.

    One that is sent twice becomes a list, which never equals a valid host, origin or token.
    """
    values = request.requestHeaders.getRawHeaders(name)
    return None if values is None else b", ".join(values).decode("latin-1")


def _parse_hop(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address of a hop. None if it has none, or is the rest of a longer list."""
    match = _HOP.fullmatch(text)
    return _parse_address(match["bare"] or match["ipv6"] or match["ipv4"]) if match else None


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address; None if it is none. An IPv4 address in the form of IPv6 becomes IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
