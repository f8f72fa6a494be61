"""Hosts as people write them in settings: names and addresses, without a port."""

from __future__ import annotations

import re
from ipaddress import ip_address

# The last label is not a number: "127.1" is an address to some resolvers, and a name to nobody.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}", re.IGNORECASE | re.ASCII)


def canonical(host: str) -> str:
    """Return the one spelling by which hosts compare: a name in lower case, an address compressed.

    Raises ValueError, with a phrase for the user, for what is neither; brackets and ports are neither.
    """
    try:
        return str(ip_address(host))
    except ValueError:
        if len(host) <= 253 and _NAME.fullmatch(host):
            return host.lower()
    raise ValueError(f"{host!r} is neither a host name nor an address")


def is_loopback(host: str) -> bool:
    """Whether the host is this machine for certain; a name other than localhost never is."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def in_url(host: str) -> str:
    """Write the host as URLs do: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
