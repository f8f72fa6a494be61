"""Hosts and origins, as people write them in settings and clients in headers, in one spelling each."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address

# The last label is not a number: "127.1" is an address to some resolvers, and a name to nobody.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}", re.IGNORECASE | re.ASCII)
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<name>[a-z0-9._-]+)|\[(?P<ipv6>[0-9a-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
MAX_HOST_LENGTH = 253
"""Characters of a host name (RFC 1035, 2.3.4, without the dot of the root)."""

_DEFAULT_PORTS = {"http": "80", "https": "443"}


@lru_cache(maxsize=256)
def canonicalize(host: str) -> str:
    """Return the one spelling by which hosts compare: a name in lower case, an address compressed.

    Raises ValueError, with a phrase for the user, for what is neither; brackets and ports are neither.
    """
    try:
        return str(ip_address(host))
    except ValueError:
        if len(host) <= MAX_HOST_LENGTH and _NAME.fullmatch(host):
            return host.lower()
    raise ValueError(f"{host!r} is neither a host name nor an address")


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether the host is this machine for certain; a name other than localhost never is."""
    return ip_address(host).is_loopback if is_address(host) else host.lower() == "localhost"


def is_address(host: str) -> bool:
    """Whether the host is an IP address, and so no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def format_in_url(host: str) -> str:
    """Write the host as URLs do: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def canonicalize_origin(text: str) -> str:
    """Return the one spelling by which origins compare: in lower case, without the scheme's own port.

    Raises ValueError, with a phrase for the user, for what is no origin: `null`, `*`, a path after it. The
    phrase does not quote the text, which may be a URL with a password.
    """
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        raise ValueError(
            "each is scheme://host or scheme://host:port; neither *, nor null, nor a path"
        )
    scheme, host, port = (
        match["scheme"],
        canonicalize(match["name"] or match["ipv6"]),
        match["port"],
    )
    if port is not None and not 1 <= int(port) <= 65535:
        raise ValueError(f"{port} is not a port (1 to 65535)")
    suffix = "" if port is None or port == _DEFAULT_PORTS.get(scheme) else f":{int(port)}"
    return f"{scheme}://{format_in_url(host)}{suffix}"
