"""The documents that only old snapshots have, and the clients that keep them in memory.

A snapshot shares its documents with the book and with the next snapshot. Those that change are kept
by the clients that have not read all of theirs. They are counted once, however many keep them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias
from weakref import WeakKeyDictionary, finalize, ref

from twisted.internet.interfaces import IReactorTime

from tradeproxy.book.views import FillView, OrderView, PositionView, StrategyView

MAX_OLD_BYTES = 32 * 1024 * 1024
"""Bytes of all these documents. Beyond that, the clients that read least are ended."""

VIEW_BYTES = 500
"""Bytes of a view, besides its document."""

COUNTED_PER_TURN = 1024
"""Documents that are counted in one turn: some 6 milliseconds."""

ENDED_PER_TURN = 32
"""Clients that are ended in one turn: some milliseconds."""

View: TypeAlias = OrderView | PositionView | FillView | StrategyView


class SnapshotReader(Protocol):
    """A client that has not read all of its snapshot."""

    @property
    def host(self) -> str:
        """The key of its address."""

    @property
    def stalled(self) -> float:
        """The seconds for which it has read nothing; 0 while it reads."""

    def give_up(self, seconds: float) -> None:
        """End at once, since it has not read its snapshot in so many seconds."""


class DocumentOwner(Protocol):
    """The book of an account."""

    def is_newest(self, documents: object) -> bool:
        """Whether it has no newer documents."""


class Hold:
    """What a client keeps in memory until it has read it. It ends when nothing refers to it."""

    __slots__ = ("__weakref__", "began", "documents", "owner", "reader")

    def __init__(
        self,
        documents: object,
        owner: DocumentOwner,
        reader: SnapshotReader,
        began: float,
    ) -> None:
        """Begin.

        Args:
            documents: what is kept. It may be replaced by a part of it.
            owner: the book that they are of.
            reader: the client.
            began: the time.
        """
        self.documents = documents
        self.owner = owner
        self.reader = reader
        self.began = began

    @property
    def is_old(self) -> bool:
        """Whether the book has newer documents."""
        return not self.owner.is_newest(self.documents)


class OldDocuments:
    """Bounds what the old snapshots of all accounts take in memory."""

    def __init__(self, clock: IReactorTime) -> None:
        self._sizes = Counter[DocumentOwner]()
        self._holds: WeakKeyDictionary[Hold, None] = WeakKeyDictionary()
        self._clock = clock
        self._has_turn = False

    @property
    def size(self) -> int:
        """Bytes of the documents that only old snapshots have."""
        return self._sizes.total()

    def hold(self, documents: object, owner: DocumentOwner, reader: SnapshotReader) -> Hold:
        """Return what a reader must keep as long as it needs these documents. See Hold."""
        hold = Hold(documents, owner, reader, self._clock.seconds())
        self._holds[hold] = None
        return hold

    def add(self, owner: DocumentOwner, views: Sequence[ref[View]]) -> None:
        """Count what the newest snapshot of a book has no longer, as far as it is in memory.

        The first COUNTED_PER_TURN are counted now, the others in the next turns.
        """
        if len(views) > COUNTED_PER_TURN:
            self._clock.callLater(0, self.add, owner, views[COUNTED_PER_TURN:])
        for reference in views[:COUNTED_PER_TURN]:
            if (view := reference()) is not None:
                size = len(view.document) + VIEW_BYTES
                self._sizes[owner] += size
                finalize(view, self._forget, owner, size).atexit = False
        if self.size > MAX_OLD_BYTES:
            self._plan()

    def _forget(self, owner: DocumentOwner, size: int) -> None:
        self._sizes[owner] -= size

    def _plan(self) -> None:
        # In a turn of its own: the caller may be a step of one of these clients.
        if not self._has_turn:
            self._has_turn = True
            self._clock.callLater(0, self._shrink)

    def _shrink(self) -> None:
        """End some readers of the book that has most old documents.

        They are of the addresses with most of these readers, and have read nothing for longest.
        """
        self._has_turn = False
        [(owner, _)] = self._sizes.most_common(1)
        holds = [hold for hold in reversed(list(self._holds)) if hold.owner is owner]
        old = [hold for hold in holds if hold.is_old]
        del holds  # else it would keep the documents
        counts = Counter(hold.reader.host for hold in old)
        old.sort(key=lambda hold: hold.reader.stalled, reverse=True)
        ended, now = 0, self._clock.seconds()
        while old and self.size > MAX_OLD_BYTES and ended < ENDED_PER_TURN:
            most = max(counts.values())
            index = next(i for i, hold in enumerate(old) if counts[hold.reader.host] == most)
            reader, seconds = old[index].reader, now - old[index].began
            del old[index]
            counts[reader.host] -= 1
            ended += 1
            reader.give_up(round(seconds, 1))
        if ended and self.size > MAX_OLD_BYTES:
            self._plan()


def list_replaced(old: Iterable[View], new: Iterable[View]) -> list[ref[View]]:
    """Return references to what is in `old`, and is not in `new` as the same object."""
    known = set(map(id, new))
    return [ref(view) for view in old if id(view) not in known]
