"""A filter that shows for nearly every new event, without a query, that the log lacks it."""

from __future__ import annotations

from array import array

BITS_PER_KEY = 16
"""With two bits set for each key, one of 60 new events needs a query when the filter is full."""

MIN_KEYS = 65_536
"""What the smallest filter has room for. It takes 128 KiB."""

_WORD_BITS = 64
"""Both bits of a key are in one word: one place in memory is read for it."""


class KeyFilter:
    """A set of keys that can only say "surely not in it": a Bloom filter with two hashes.

    Nothing can be removed. When it is full, a new one must be made.
    """

    __slots__ = ("_mask", "_words", "room")

    def __init__(self, keys: int) -> None:
        """Make an empty filter with room for twice as many keys."""
        self.room = max(MIN_KEYS, 2 * keys)
        """How many different keys it still has room for. Its owner counts them."""
        words = 1 << ((self.room * BITS_PER_KEY - 1) // _WORD_BITS).bit_length()
        self._mask = words - 1
        self._words = array("Q", bytes(words * _WORD_BITS // 8))

    def add(self, key: str | bytes) -> bool:
        """Add a key, and return whether it may have been added before. False is certain."""
        # Python's hash is keyed with a secret of the process: a sender cannot choose what collides.
        words, mixed = self._words, hash(key)
        at, bits = mixed & self._mask, 1 << (mixed >> 52 & 63) | 1 << (mixed >> 58 & 63)
        word = words[at]
        words[at] = word | bits
        return word & bits == bits

    def may_have(self, key: str | bytes) -> bool:
        """Whether the key may have been added. False is certain."""
        mixed = hash(key)
        bits = 1 << (mixed >> 52 & 63) | 1 << (mixed >> 58 & 63)
        return self._words[mixed & self._mask] & bits == bits
