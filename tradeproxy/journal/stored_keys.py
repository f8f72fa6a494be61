"""Which events a store has, by their keys: a filter in memory, and the tables behind it."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable, Iterator
from time import perf_counter

from tradeproxy.journal.connection import fetch_value
from tradeproxy.journal.upgrade import OlderRows, read_execution
from tradeproxy.wire.event import Event

MAX_STEP = 0.002
"""Seconds for which a step reads keys."""

BITS_PER_KEY = 16
"""With two bits set for each key, one of 60 new events needs a query when the filter is full."""

MIN_KEYS = 65_536
"""What the smallest filter has room for. It takes 128 KiB."""

_WORD_BITS = 64
"""Both bits of a key are in one word: one place in memory is read for it."""

_KEYS = """
    SELECT identity, digest FROM events WHERE (identity, digest) > (?, ?)
    ORDER BY identity, digest LIMIT 1000
"""
_EXECUTIONS = "SELECT digest FROM executions WHERE digest > ? ORDER BY digest LIMIT 1000"
_INSERT_UNSTORED = "INSERT OR REPLACE INTO unstored (key, seq) VALUES (?, ?)"


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


class StoredKeys:
    """The keys of the events that are stored, or that a hole stands for.

    The store adds the keys of its rows to `filter`, and keeps `has_unstored` up to date. Every
    method may raise sqlite3.Error.
    """

    filter: KeyFilter
    """Has every key, once the scan is complete."""

    def __init__(self, connection: sqlite3.Connection, older_rows: OlderRows) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._older_rows = older_rows
        self.has_unstored = self.find_any_unstored()
        """Whether a hole stands for an event whose key is known."""
        self._unscanned: Iterator[None] | None = None
        self.begin_scan()
        self.scan()

    def claim(self, event: Event) -> bool:
        """Record that the log gets the event; return whether it is surely its first of this key.

        It is, if it is not stored and was not claimed before. False is not certain: see `has`.
        """
        may_have = self.filter.add(event.execution or event.digest or event.identity)
        return not (may_have or self._unscanned or self.has_unstored or self._older_rows.last)

    def has(self, event: Event) -> bool:
        """Whether this event is stored or a hole stands for it, by its key."""
        if not (
            self._unscanned
            or self.has_unstored
            or self._older_rows.last
            or self.filter.may_have(event.execution or event.digest or event.identity)
        ):
            return False
        if self.has_unstored and self.is_unstored(event):
            return True
        if not event.execution:
            query = "SELECT seq FROM events WHERE identity = ? AND digest = ?"
            return self._finds(query, event.identity, event.digest)
        return self._finds("SELECT seq FROM executions WHERE digest = ?", event.execution) or (
            self._older_rows.last > 0 and self.is_older(event)
        )

    def is_older(self, event: Event) -> bool:
        """Whether a row of an older version that is not in `executions` yet has this event."""
        rows = self._execute(
            "SELECT payload FROM events WHERE identity = ? AND seq <= ?",
            (event.identity, self._older_rows.last),
        )
        return any(read_execution(payload) == event.execution for (payload,) in rows)

    # Events of holes.

    def is_unstored(self, event: Event) -> bool:
        """Whether a hole stands for this event."""
        return self._finds("SELECT seq FROM unstored WHERE key = ?", event.key_hash)

    def find_any_unstored(self) -> bool:
        """Return what `has_unstored` must be, from the tables."""
        return self._finds("SELECT seq FROM unstored LIMIT 1")

    def add_unstored(self, hashes: Iterable[bytes], seq: int) -> None:
        """Store the hashes of the keys of the events that hole `seq` stands for."""
        self.has_unstored = True
        self._connection.executemany(_INSERT_UNSTORED, ((each, seq) for each in hashes))

    # The scan.

    @property
    def is_complete(self) -> bool:
        """Whether all keys are in the filter."""
        return self._unscanned is None

    def begin_scan(self) -> None:
        """Begin a new filter, which has no keys yet: the old one is full."""
        # Not the range of their numbers: one wrong number would reserve any amount of memory.
        self.filter = KeyFilter(fetch_value(self._connection, "SELECT count(*) FROM events"))
        self._unscanned = self._scan()

    def scan(self) -> bool:
        """Add the keys of stored rows to the filter for MAX_STEP seconds.

        Return whether more must follow. Until all are there, `has` queries the tables.
        """
        end = perf_counter() + MAX_STEP
        try:
            for _ in self._unscanned or ():
                if perf_counter() >= end:
                    return True
        except sqlite3.Error:
            self._unscanned = self._scan()  # one that has raised ends as if all were done
            raise
        self._unscanned = None
        return False

    def _scan(self) -> Iterator[None]:
        """Add all keys, one page of an index at a time."""
        # Executions of older rows are in their own table only. It must be complete.
        while self._older_rows.last:
            yield
        last: tuple[str, bytes] = "", b""
        while rows := self._execute(_KEYS, last).fetchall():
            for identity, digest in rows:
                self.filter.add(digest or identity)
                self.filter.room -= 1
            last = identity, digest or b""  # a comparison with NULL would find no row
            yield
        digest = b""
        while rows := self._execute(_EXECUTIONS, (digest,)).fetchall():
            for [digest] in rows:
                if not self.filter.add(digest):  # most are in `events` too
                    self.filter.room -= 1
            yield

    def _finds(self, query: str, *values: object) -> bool:
        return fetch_value(self._connection, query, *values) is not None
