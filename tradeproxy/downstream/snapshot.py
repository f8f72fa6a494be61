"""The state of the account for one client, sent before the events that follow it.

It is taken once the client has every event up to its sequence number, and sent in parts, each one
as the client reads:

    book            client's position            effect
    --------------  ---------------------------  ---------------------------------------------
    building        any                          wait; after BUILD_TIMEOUT, `on_not_ready`
    current         the book's                   take the snapshot, send its parts, then events
    current         before the book's            without a replay, skip to it; otherwise events
    current         behind one that is made      wait for the next one
    any             SEND_TIMEOUT, parts are due  the same as for a client that does not read
    another epoch   while parts are sent         events up to now, then a new snapshot
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.interfaces import IReactorTime

from tradeproxy.book.book import Book
from tradeproxy.book.fields import normalize_symbol
from tradeproxy.book.old_documents import Hold
from tradeproxy.book.snapshot import PendingSnapshot
from tradeproxy.book.views import BookSnapshot
from tradeproxy.downstream.feed import Feed
from tradeproxy.hub.log_tail import ReplacedLogError
from tradeproxy.journal.base import UnreadableError
from tradeproxy.query.filters import EventTraits, Filter, read_traits

PARSED_PER_STEP = 16
"""Objects that a filter parses in one step: each takes about 20 microseconds."""

BUILD_TIMEOUT = 20.0
"""Seconds that a client waits for a book that is still building."""

SEND_TIMEOUT = 180.0
"""Seconds in which a client must read its snapshot: meanwhile it holds what has changed since."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a snapshot."""

    data: bytes
    """A JSON object on one line."""
    is_last: bool = False
    cursor: str | None = None
    """In the last part: the position after the snapshot, if there is a cursor."""


class SnapshotInsert:
    """Inserts one client's snapshot into its feed.

    Args:
        book: the state of the client's account.
        wanted: the filter of the client's events.
        encode: makes what the feed sends of a part.
        clock: the reactor.
        on_not_ready: called if the book is not ready in time. It must close the client.
        is_replay: whether the client has a position, and so gets every event before the snapshot.
    """

    __slots__ = (
        "_book",
        "_clock",
        "_deadline",
        "_encode",
        "_is_replay",
        "_on_not_ready",
        "_wanted",
        "is_due",
    )

    def __init__(
        self,
        book: Book,
        wanted: Filter | None,
        encode: Callable[[Part], bytes],
        clock: IReactorTime,
        on_not_ready: Callable[[], None],
        *,
        is_replay: bool,
    ) -> None:
        self.is_due = True
        """Whether the last part is still to be sent."""
        self._book = book
        # The filter of kinds is for events. A shown order is in whatever state it is.
        self._wanted = None if wanted is None else replace(wanted, events=frozenset())
        self._encode = encode
        self._clock = clock
        self._on_not_ready = on_not_ready
        self._is_replay = is_replay
        self._deadline: float | None = None  # of a wait that goes on with the next `begin`

    def begin(self, feed: Feed) -> None:
        """Insert the snapshot into a feed that has just caught up."""
        # Taken now: by the next turn the book may have moved on with the log.
        epoch = self._book.account.log.epoch
        feed.insert(self._send(feed, self._take(feed), epoch))

    def _take(self, feed: Feed) -> Hold | bytes | None:
        """Return what holds the state after the feed's position, a PendingSnapshot.

        While the book is not there, return what Feed.insert takes: b"" for the next turn, None for
        a later one.
        """
        book = self._book
        try:
            book.catch_up()
            if book.is_building:
                return None
            is_ahead = book.seq > feed.position
            if book.seq < feed.position or (is_ahead and self._is_replay):
                return b""
            if not book.prepare():
                return b""
            pending = book.snapshot()
            if pending.seq > feed.position and not self._is_replay:
                feed.skip_to(pending.seq)
            if pending.seq == feed.position:
                return book.hold(pending, feed)
        except (ReplacedLogError, UnreadableError):
            return None
        return b""

    def _send(self, feed: Feed, hold: Hold | bytes | None, epoch: str) -> Iterator[bytes | None]:
        log = self._book.account.log
        deadline = self._deadline or self._clock.seconds() + BUILD_TIMEOUT
        self._deadline = None
        while hold is None or isinstance(hold, bytes):
            if self._clock.seconds() >= deadline:
                self._on_not_ready()
                return
            if self._is_replay and not self._book.is_building and self._book.seq > feed.position:
                self._deadline = deadline
                return  # events come first; the feed then catches up once more
            yield hold
            epoch, hold = log.epoch, self._take(feed)
        pending = hold.documents
        assert isinstance(pending, PendingSnapshot), "see _take"
        while (snapshot := pending.made) is None:
            yield b""
        hold.documents = snapshot
        del pending
        parts = split(snapshot, self._book.account.name, self._wanted, lambda: feed.step_bytes)
        end = self._clock.seconds() + SEND_TIMEOUT
        while self.is_due and log.epoch == epoch:
            if self._clock.seconds() >= end:
                feed.give_up(SEND_TIMEOUT)
                return
            yield self._encode_next(parts)

    def _encode_next(self, parts: Iterator[Part | None]) -> bytes:
        """Return the next frame, which may be empty. Nothing here keeps the part's bytes."""
        part = next(parts)
        if part is None:
            return b""
        self.is_due = not part.is_last
        return self._encode(part)


def encode_compact(value: Any) -> bytes:
    """Return a value as JSON in UTF-8 without white space."""
    return json.dumps(value, separators=(",", ":")).encode()


def split(
    snapshot: BookSnapshot, account: str, wanted: Filter | None, limit: Callable[[], int]
) -> Iterator[Part | None]:
    """Yield the parts of a snapshot: at least one. None ends a step that has no part.

    `wanted` applies to orders, positions and fills. `limit` returns how many bytes of objects a
    part may have, unless one object alone is larger.
    """
    part = _PartBuilder(account, snapshot)
    for count, (name, document, is_wanted) in enumerate(_objects(snapshot, wanted), 1):
        if is_wanted:
            if part.size and part.size + len(document) > limit():
                yield part.build()
            part.add(name, document)
        if wanted is not None and count % PARSED_PER_STEP == 0:
            yield None
    yield part.build_last()


def _objects(snapshot: BookSnapshot, wanted: Filter | None) -> Iterator[tuple[str, bytes, bool]]:
    """Yield the name of each object's list, the object, and whether the client wants it."""

    def matches(frame: bytes) -> bool:
        return wanted is None or wanted.matches(read_traits(frame))

    for order in snapshot.list_orders():
        document = order.document
        yield "orders", document, matches(b'{"data":{"order":%b}}' % document)
    for position in snapshot.positions:
        traits = EventTraits(frozenset({normalize_symbol(position.symbol)}), "", ())
        yield "positions", position.document, wanted is None or wanted.matches(traits)
    for fill in snapshot.fills:
        yield "fills", fill.document, matches(b'{"data":%b}' % fill.document)
    for strategy in snapshot.strategies:
        yield "strategies", strategy.document, True  # its sums are of all its orders


class _PartBuilder:
    """The objects of the next part."""

    def __init__(self, account: str, snapshot: BookSnapshot) -> None:
        self.size = 0
        """Bytes of the objects."""
        self._cursor = snapshot.cursor
        self._head = encode_compact({"account": account, "complete": snapshot.is_complete})[1:-1]
        self._number = 0
        self._objects: dict[str, list[bytes]] = {}

    def add(self, name: str, document: bytes) -> None:
        """Add an object to the list of this name."""
        self._objects.setdefault(name, []).append(document)
        self.size += len(document)

    def build(self) -> Part:
        """Return a part that is not the last one, and begin the next."""
        return Part(self._encode(b'"last":false'))

    def build_last(self) -> Part:
        """Return the last part."""
        cursor = encode_compact(self._cursor)
        return Part(self._encode(b'"last":true,"cursor":' + cursor), True, self._cursor)

    def _encode(self, end: bytes) -> bytes:
        self._number += 1
        objects, self._objects, self.size = self._objects, {}, 0
        lists = b",".join(
            b'"%b":[%b]' % (name.encode(), b",".join(objects.get(name, ())))
            for name in ("orders", "positions", "fills", "strategies")
        )
        # A line break in JSON is white space between two tokens.
        lists = lists.replace(b"\n", b" ").replace(b"\r", b" ")
        return b'{"part":%d,%b,%b,%b}' % (self._number, end, self._head, lists)
