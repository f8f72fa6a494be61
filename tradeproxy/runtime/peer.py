"""The addresses of clients, as text and as keys."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

NO_ADDRESS = "a UNIX socket"
INVALID_ADDRESS = "an invalid address"


def format_peer(address: Any) -> str:
    """Return `192.0.2.1:50000`, `[2001:db8::1]:50000`, or NO_ADDRESS without a host.

    INVALID_ADDRESS for a host that is none: a header of the PROXY protocol may have any text.

    Without a port, if that is 0: a reverse proxy has named the address.

    A client that reaches a socket of IPv6 over IPv4 (`::ffff:192.0.2.1`) has its IPv4 address.
    `address` is one of Twisted's, of TCP or of a UNIX socket.
    """
    host = getattr(address, "host", None)
    if host is None:
        return NO_ADDRESS
    try:
        # A link-local address has a scope, which ip_address accepts, whatever it is.
        parsed = ip_address(host if host.isprintable() else "")
    except ValueError:
        return INVALID_ADDRESS
    if address.port == 0:
        return str(host)
    if ":" not in host:
        return f"{host}:{address.port}"
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return f"[{host}]:{address.port}" if mapped is None else f"{mapped}:{address.port}"


def get_peer_key(transport: Any) -> str:
    """Return the key of the host that a connection comes from, "" for a UNIX socket."""
    return get_host_key(getattr(transport.getPeer(), "host", None) or "")


def get_host_key(host: str) -> str:
    """Return what all addresses of one client have in common, as its share is that of the key.

    It is the IPv4 address, or the first 64 bits of the IPv6 address: a host usually has all others.
    """
    return _get_network(host) if ":" in host else host


@lru_cache(maxsize=1000)
def _get_network(host: str) -> str:
    try:
        address = IPv6Address(host)
    except ValueError:  # a header of the PROXY protocol may have any text
        return host
    mapped = address.ipv4_mapped
    return address.packed[:8].hex() if mapped is None else str(mapped)
