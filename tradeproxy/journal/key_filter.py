"""A filter that shows for nearly every new event, without a query, that it is stored nowhere."""

from __future__ import annotations

BITS_PER_KEY = 16
"""With two bits set for each key, one of 70 new events needs a query when the filter is full."""

MIN_KEYS = 65_536
"""What the smallest filter has room for. It takes 128 KiB."""


class KeyFilter:
    """A set of keys that can only say "surely not in it": a Bloom filter with two hashes.

    Nothing can be removed. When it is full, a new one must be made.
    """

    __slots__ = ("_bits", "_mask", "_room")

    def __init__(self, keys: int) -> None:
        """Make an empty filter with room for twice as many keys."""
        room = max(MIN_KEYS, 2 * keys)
        size = 1 << (room * BITS_PER_KEY - 1).bit_length()
        self._room = room
        self._mask = size - 1
        self._bits = bytearray(size // 8)

    @property
    def is_full(self) -> bool:
        """Whether it has as many keys as it has room for."""
        return self._room <= 0

    def add(self, key: str | bytes) -> None:
        """Add a key."""
        bits, mixed = self._bits, hash(key)
        for place in (mixed & self._mask, mixed >> 32 & self._mask):
            bits[place >> 3] |= 1 << (place & 7)
        self._room -= 1

    def may_have(self, key: str | bytes) -> bool:
        """Whether the key may have been added. False is certain."""
        # Python's hash is keyed with a secret of the process, so that nobody can fill the filter.
        bits, mixed = self._bits, hash(key)
        one, other = mixed & self._mask, mixed >> 32 & self._mask
        return bool(bits[one >> 3] >> (one & 7) & 1 and bits[other >> 3] >> (other & 7) & 1)
