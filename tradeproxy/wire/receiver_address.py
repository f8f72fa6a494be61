"""Which addresses a webhook's receiver may have.

A URL in a setting, or the address behind its name, must not lead to a service that trusts every
request of its own machine, such as the metadata service of a cloud. Such services have link-local
addresses, or one of a few known others. An address of IPv6 can contain one of IPv4, and a router
or the system may connect to that instead; each address that is contained is checked too.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias

_Address: TypeAlias = IPv4Address | IPv6Address
_Network: TypeAlias = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[_Network, ...]:
    return tuple(map(ip_network, texts))


LINK_LOCAL = _networks("169.254.0.0/16", "fe80::/10")

METADATA = _networks(
    "100.100.100.200",  # Alibaba Cloud
    "168.63.129.16",  # Azure
    "192.0.0.192",  # Oracle Cloud
    "fd00:ec2::/32",  # AWS
    "fd20:ce::254",  # Google Cloud
    "fd00:42::42",  # Scaleway
)
"""Known metadata services that are not link-local."""

NO_HOST = _networks("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255", "::", "ff00::/8")
"""Addresses of no single machine. Linux connects 0.0.0.0 to this machine."""

PRIVATE = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""RFC 1918, and unique local addresses (RFC 4193)."""

_REFUSED = (
    (LINK_LOCAL, "is link-local"),
    (METADATA, "is of a cloud's metadata service"),
    (NO_HOST, "is of no single machine"),
)

_NAT64 = _networks("64:ff9b::/96", "64:ff9b:1::/48")
_COMPATIBLE, _TRANSLATED = ip_network("::/96"), ip_network("::ffff:0:0:0/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""The upper half of an interface identifier that ends in an IPv4 address (RFC 5214, 6.1)."""


def find_refusal(text: str, *, secure: bool, allow_http: bool) -> str | None:
    """Return why no message is sent to an address, in one phrase, or None if one may be.

    The phrase does not have the address: a receiver's URL is a secret. The text is an IP address,
    with a scope or without; ValueError if it is none. `secure` is whether the connection uses TLS,
    and `allow_http` whether it may be one without TLS, to a private address.
    """
    address = ip_address(text)
    for each in (address, *_list_contained(address)):
        for networks, phrase in _REFUSED:
            if _is_in(each, networks):
                return phrase if each is address else f"contains an address that {phrase}"
    if secure:
        return None
    reached = getattr(address, "ipv4_mapped", None) or address
    if reached.is_loopback or (allow_http and _is_in(reached, PRIVATE)):
        return None
    return "is no private address: use https" if allow_http else "is another machine: use https"


def _is_in(address: _Address, networks: tuple[_Network, ...]) -> bool:
    return any(address in network for network in networks)


def _list_contained(address: _Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses that an IPv6 address contains, in all forms that are in use."""
    if isinstance(address, IPv4Address) or address == IPv6Address("::1"):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    number = int(address)
    lowest = IPv4Address(number & 0xFFFF_FFFF)
    if (
        _is_in(address, _NAT64)
        or address in _COMPATIBLE
        or address in _TRANSLATED
        or (number >> 32) & 0xFFFF_FFFF in _ISATAP
    ):
        yield lowest
    if address in _NAT64[1]:  # RFC 6052, 2.2: a prefix of 48 bits leaves bits 64 to 71 out
        yield IPv4Address((number >> 64 & 0xFFFF) << 16 | (number >> 40 & 0xFFFF))
