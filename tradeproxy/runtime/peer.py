"""The address of a client as text: one format for the log and the operator's pages."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Any

NO_ADDRESS = "a UNIX socket"


def format_peer(address: Any) -> str:
    """Return `192.0.2.1:50000`, `[2001:db8::1]:50000`, or NO_ADDRESS without a host.

    Without a port, if that is 0: a reverse proxy has named the address.

    A client that reaches a socket of IPv6 over IPv4 (`::ffff:192.0.2.1`) has its IPv4 address.

    Args:
        address: Twisted's IPv4Address or IPv6Address, or that of a UNIX socket.
    """
    host = getattr(address, "host", None)
    if host is None:
        return NO_ADDRESS
    if address.port == 0:
        return str(host)
    if ":" not in host:
        return f"{host}:{address.port}"
    # A link-local address has a scope, which ip_address accepts.
    parsed = ip_address(host)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return f"[{host}]:{address.port}" if mapped is None else f"{mapped}:{address.port}"
