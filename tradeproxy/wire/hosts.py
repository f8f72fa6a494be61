"""The canonical forms of hosts and origins.

Users write them in settings and clients send them in headers. Canonical forms compare as text.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address

# The last label is not a number: some resolvers read "127.1" as the address 127.0.0.1.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+\Z){_LABEL}", re.IGNORECASE | re.ASCII)
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<name>[a-z0-9._-]+)|\[(?P<ipv6>[0-9a-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
MAX_HOST_LENGTH = 253
"""Maximum length of a host name in characters (RFC 1035, 2.3.4, without the root's dot)."""

_DEFAULT_PORTS = {"http": "80", "https": "443"}


# Every handshake canonicalizes its `Host` and `Origin`, and few values occur.
@lru_cache
def canonicalize(host: str) -> str:
    """Return the canonical form: a host name in lower case, an IP address compressed.

    The dot of the root at the end of a name is left out: `localhost.` is `localhost`.

    Raises ValueError, with a reason for the user, if the host is neither. A host with a port or
    with brackets is neither.
    """
    try:
        return str(ip_address(host))
    except ValueError:
        name = host.removesuffix(".")
        if len(name) <= MAX_HOST_LENGTH and _NAME.fullmatch(name):
            return name.lower()
    raise ValueError(f"{host!r} is neither a host name nor an address")


@lru_cache
def is_loopback(host: str) -> bool:
    """Whether the host is certainly this machine. Of the names, only localhost is."""
    return ip_address(host).is_loopback if is_address(host) else host.lower() == "localhost"


def is_address(host: str) -> bool:
    """Whether the host is an IP address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def format_in_url(host: str) -> str:
    """Format the host for a URL: an IPv6 address goes in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def canonicalize_origin(text: str) -> str:
    """Return the canonical form: in lower case, without the default port of the scheme.

    That is the form of the `Origin` header (RFC 6454, 6.2).

    Raises ValueError, with a reason for the user, if the text is not an origin. `null`, `*` and a
    URL with a path are not. The reason quotes at most the host or the port, because the text may
    be a URL with a password.
    """
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        raise ValueError(
            "each must be scheme://host or scheme://host:port, without *, null or a path"
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
