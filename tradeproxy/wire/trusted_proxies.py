"""The reverse proxies whose X-Forwarded headers count, and the client that such a header names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

UNIX = "unix"
"""The entry that stands for every peer at a UNIX socket."""

MAX_HOPS = 20
"""Trusted addresses at the end of X-Forwarded-For that are skipped."""

# Some reverse proxies add the client's port. The zone of an address (%eth0) may be any text.
_HOP = re.compile(
    r"(?P<ipv4>[0-9.]+):[0-9]{1,5}|\[(?P<ipv6>[0-9a-f:.]+)\](?::[0-9]{1,5})?"
    r"|(?P<bare>[0-9a-f:.]+)",
    re.IGNORECASE,
)


class TrustedProxies:
    """The trusted addresses; `entries` are in the form of `canonicalize_entry`."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        entries = tuple(entries)
        self._unix = UNIX in entries
        self._networks = tuple(ip_network(entry) for entry in entries if entry != UNIX)

    def trusts(self, peer: str | None) -> bool:
        """Return whether the headers of this peer count; None stands for a UNIX socket."""
        if peer is None:
            return self._unix
        address = _parse_address(peer) if self._networks else None
        return address is not None and self._contains(address)

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

    def _contains(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def canonicalize_entry(text: str) -> str:
    """Return an entry of PROXY_TRUSTED_PROXIES as a network (`10.0.0.7/32`) or UNIX.

    Raises ValueError with a reason for the user.
    """
    if text.lower() == UNIX:
        return UNIX
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise ValueError(f"{text!r} is neither an address, a network nor {UNIX}") from None


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
