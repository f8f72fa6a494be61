"""Items counted by key, and the key that has the most of them: at a limit it gives one up."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item", bound=Hashable)


class FairShare(Generic[Key, Item]):
    """Items, each under one key, in the order in which they were added.

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

        Raises KeyError if there are no items.
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
