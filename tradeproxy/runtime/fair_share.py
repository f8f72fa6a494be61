"""What many clients share, divided by keys: turns, and places at a limit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item", bound=Hashable)


class _ItemsByKey(Generic[Key, Item]):
    """Items, each once under one key, in the order in which they were added."""

    def __init__(self) -> None:
        self._items: OrderedDict[Key, OrderedDict[Item, None]] = OrderedDict()
        self._keys: dict[Item, Key] = {}

    def _add(self, key: Key, item: Item) -> None:
        self._keys[item] = key
        self._items.setdefault(key, OrderedDict())[item] = None

    def discard(self, item: Item) -> None:
        """Remove an item; harmless if it is not contained."""
        if item in self._keys:
            key = self._keys.pop(item)
            items = self._items[key]
            del items[item]
            if not items:
                del self._items[key]


class FairQueue(_ItemsByKey[Key, Item]):
    """Items that wait, each once, under a key. `pop` takes one item of each key in turn.

    A key comes after all others when it gets its first item, and after each item taken from it.
    Every method takes constant time.
    """

    def __init__(self, *, newest_first: bool = False) -> None:
        """Create an empty queue; `newest_first` is the order of the items of one key."""
        super().__init__()
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
            self._add(key, item)

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


class FairShare(_ItemsByKey[Key, Item]):
    """Items, each under one key, in the order in which they were added.

    At a limit the key that has the most of them gives one up.
    Every method takes constant time, whatever the number of keys.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        """How many items the key with the most has."""
        self._keys_with: dict[int, OrderedDict[Key, None]] = {}

    def count(self, key: Key) -> int:
        """Return how many items a key has."""
        return len(self._items.get(key, ()))

    def add(self, key: Key, item: Item) -> None:
        """Add an item that is not contained, as the newest of its key."""
        self._add(key, item)
        count = self.count(key)
        self._move(key, count - 1, count)

    def discard(self, item: Item) -> None:
        """Remove an item; harmless if it is not contained."""
        if item in self._keys:
            key = self._keys[item]
            super().discard(item)
            count = self.count(key)
            self._move(key, count + 1, count)

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
