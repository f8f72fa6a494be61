"""The addresses of clients: as text, and as keys that take turns or share a limit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item", bound=Hashable)

NO_ADDRESS = "a UNIX socket"
INVALID_ADDRESS = "an invalid address"


def format_peer(address: Any) -> str:
    """Return `192.0.2.1:50000`, `[2001:db8::1]:50000`, or NO_ADDRESS without a host.

    INVALID_ADDRESS for a host that is none: a header of the PROXY protocol may have any text.

    Without a port, if that is 0: a reverse proxy has named the address.

    A client that reaches a socket of IPv6 over IPv4 (`::ffff:192.0.2.1`) has its IPv4 address.

    Args:
        address: Twisted's IPv4Address or IPv6Address, or that of a UNIX socket.
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


class FairQueue(Generic[Key, Item]):
    """Items that wait, each once, under a key. `pop` takes one item of each key in turn.

    A key comes after all others when it gets its first item, and after each item taken from it.
    Every method takes constant time.
    """

    def __init__(self, *, newest_first: bool = False) -> None:
        """Create an empty queue; `newest_first` is the order of the items of one key."""
        self._newest_first = newest_first
        self._items: OrderedDict[Key, OrderedDict[Item, None]] = OrderedDict()
        self._keys: dict[Item, Key] = {}

    def __len__(self) -> int:
        """Return how many items wait."""
        return len(self._keys)

    def __contains__(self, item: object) -> bool:
        """Return whether an item waits."""
        return item in self._keys

    def push(self, key: Key, item: Item) -> None:
        """Add an item as the newest of its key; one that waits already keeps its place."""
        if item not in self._keys:
            self._keys[item] = key
            self._items.setdefault(key, OrderedDict())[item] = None

    def pop(self) -> Item:
        """Remove and return the next item.

        Raises:
            KeyError: the queue is empty.
        """
        key, items = self._items.popitem(last=False)
        item, _ = items.popitem(last=self._newest_first)
        del self._keys[item]
        if items:
            self._items[key] = items
        return item

    def discard(self, item: Item) -> None:
        """Remove an item; harmless if it does not wait."""
        if item in self._keys:
            key = self._keys.pop(item)
            items = self._items[key]
            del items[item]
            if not items:
                del self._items[key]


class FairShare(Generic[Key, Item]):
    """Items, each under one key, in the order in which they were added.

    At a limit the key that has the most of them gives one up.
    Every method takes constant time, whatever the number of keys.
    """

    def __init__(self) -> None:
        self.most = 0
        """How many items the key with the most has."""
        self._items: dict[Key, OrderedDict[Item, None]] = {}
        self._keys: dict[Item, Key] = {}
        self._keys_with: dict[int, OrderedDict[Key, None]] = {}

    def count(self, key: Key) -> int:
        """Return how many items a key has."""
        return len(self._items.get(key, ()))

    def add(self, key: Key, item: Item) -> None:
        """Add an item that is not contained, as the newest of its key."""
        self._keys[item] = key
        items = self._items.setdefault(key, OrderedDict())
        items[item] = None
        self._move(key, len(items) - 1, len(items))

    def discard(self, item: Item) -> None:
        """Remove an item; harmless if it is not contained."""
        if item in self._keys:
            key = self._keys.pop(item)
            items = self._items[key]
            del items[item]
            if not items:
                del self._items[key]
            self._move(key, len(items) + 1, len(items))

    def get_oldest_of_most(self) -> Item:
        """Return the oldest item of the key with the most; of several, the first to have so many.

        Raises:
            KeyError: there are no items.
        """
        key = next(iter(self._keys_with[self.most]))
        return next(iter(self._items[key]))

    def _move(self, key: Key, before: int, after: int) -> None:
        if before:
            keys = self._keys_with[before]
            del keys[key]
            if not keys:
                del self._keys_with[before]
        if after:
            self._keys_with.setdefault(after, OrderedDict())[key] = None
        if after > self.most or self.most not in self._keys_with:
            self.most = after
