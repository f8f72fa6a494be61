"""A queue in which the keys take turns, such as the addresses of clients."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item", bound=Hashable)


class FairQueue(Generic[Key, Item]):
    """Items that wait, each once, under a key. `pop` takes one item of each key in turn.

    A key comes after all others when it gets its first item, and after each item taken from it.
    Every method takes constant time.
    """

    def __init__(self, *, newest_first: bool = False) -> None:
        """Create an empty queue; `newest_first` is the order of the items of one key."""
        self._items: OrderedDict[Key, OrderedDict[Item, None]] = OrderedDict()
        self._keys: dict[Item, Key] = {}
        self._newest_first = newest_first

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
