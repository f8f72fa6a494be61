"""The snapshot of a book, made in steps that all its clients share.

A client may take a minute to read its snapshot, and each event makes another one. So a snapshot
has of its own only what changed since the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import is_
from typing import TypeAlias, TypeVar
from weakref import ref

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from tradeproxy.book.old_documents import View, list_replaced
from tradeproxy.book.orders import OrderEntry, Orders
from tradeproxy.book.reader import BookReader, make_view
from tradeproxy.book.views import BookSnapshot, FillView, OrderView, StrategyView
from tradeproxy.journal.base import UnreadableError

_Rendered: TypeAlias = tuple[tuple[bytes | None, ...], OrderView | None]
_NOTHING: _Rendered = (), None
_Item = TypeVar("_Item")

MAX_STEP = 0.002
"""Seconds after which a step renders no further orders."""

GROUP_NUMS = 32
"""Numbers of orders that a group spans. Snapshots share each group that has not changed.

A step looks at the time after each group.
"""

LOOKED_AT_PER_STEP = 256
"""Orders after which a step that looks for changed ones ends: they take 0.2 milliseconds."""


class Renderings:
    """What the newest snapshot has. The next one takes from it all that has not changed."""

    def __init__(self, count: Callable[[Sequence[ref[View]]], None]) -> None:
        """Begin without any. `count` takes what has changed: see OldDocuments.add."""
        self.count = count
        self.views: dict[str, _Rendered] = {}
        """By the id of the order: the JSON of it and its legs, and the view of these."""
        self.groups: dict[int, tuple[OrderView, ...]] = {}
        """By the number of the group."""
        self._fills: tuple[FillView, ...] = ()
        self._strategies: tuple[StrategyView, ...] = ()

    def share_head(self, head: BookSnapshot) -> BookSnapshot:
        """Return an equal snapshot, without orders, of the objects that are known."""
        return replace(head, fills=_share(head.fills, self._fills))

    def view(self, root: OrderEntry, legs: Sequence[OrderEntry]) -> _Rendered:
        """Return an order with its legs as `views` has it."""
        sources = _list_documents(root, legs)
        known = self.views.get(root.id)
        if known is not None and _is_same(known[0], sources):
            return known
        view = make_view(root, legs, *sources)
        return sources, known[1] if known is not None and known[1] == view else view

    def replace(
        self,
        head: BookSnapshot,
        views: dict[str, _Rendered],
        groups: dict[int, tuple[OrderView, ...]],
    ) -> Iterator[list[ref[View]]]:
        """Take what a new snapshot has, in steps; yield references to what only the last one had.

        Book.positions counts the positions.
        """
        replaced: list[ref[View]] = []
        for ids in _split(list(self.views)):
            pairs = [(self.views[each][1], views.get(each, _NOTHING)[1]) for each in ids]
            replaced += [ref(old) for old, new in pairs if old is not new and old is not None]
            yield []
        pairs = []  # else it would keep them
        replaced += list_replaced(self._fills, head.fills)
        replaced += list_replaced(self._strategies, head.strategies)
        self.views, self.groups = views, groups
        self._fills, self._strategies = head.fills, head.strategies
        yield from _split(replaced)

    def forget_changed(self, orders: Orders) -> None:
        """Keep nothing of the orders that changed: the next snapshot has a new state of them."""
        forgotten: list[ref[View]] = []
        for entry in orders.dirty.values() if self.views else ():
            sources, view = self.views.get(entry.id, _NOTHING)
            legs = orders.legs(entry.id)
            if view is not None and not _is_same(sources, _list_documents(entry, legs)):
                forgotten.append(ref(view))
                del self.views[entry.id]
                self.groups.pop(entry.num // GROUP_NUMS, None)
        sources, view = _NOTHING  # else they would keep the last one
        self.count(forgotten)


class PendingSnapshot:
    """The state after one row. The first step is taken at once, each other one in its own turn."""

    _log = Logger()

    def __init__(
        self,
        head: BookSnapshot,
        reader: BookReader,
        orders: Orders,
        renderings: Renderings,
        clock: IReactorTime,
        timer: Callable[[], float],
    ) -> None:
        """Take the first step. May raise UnreadableError.

        Args:
            head: all but the orders.
            reader: reads the JSON of an order.
            orders: those of the book, which are copied.
            renderings: what the account's snapshots share.
            clock: plans the steps.
            timer: measures them, in seconds.
        """
        self.seq = head.seq
        """The row after which the state is."""
        self.has_ended = False
        """Whether it is made, or failed."""
        self._made: BookSnapshot | None = None
        self._clock = clock
        self._timer = timer
        for entry in orders.list_all():
            if entry.document is None:  # later the row may be trimmed
                entry.document = reader.read_document(entry)
        self._parts = self._make(head, orders.copy(), renderings)
        self.step()

    @property
    def has_failed(self) -> bool:
        """Whether it will never be made."""
        return self.has_ended and self._made is None

    @property
    def made(self) -> BookSnapshot | None:
        """The whole; None until it is made. Raises UnreadableError if that failed."""
        if self.has_failed:
            raise UnreadableError
        return self._made

    def has_made(self, snapshot: object) -> bool:
        """Whether this is the whole."""
        return self._made is snapshot

    def step(self) -> None:
        """Go on for MAX_STEP seconds."""
        if self.has_ended:
            return
        end = self._timer() + MAX_STEP
        try:
            for _ in self._parts:
                if self._timer() >= end:
                    self._clock.callLater(0, self.step)
                    return
        except Exception:
            self._log.failure("the snapshot of an account failed")
        self.has_ended = True

    def _make(self, head: BookSnapshot, orders: Orders, renderings: Renderings) -> Iterator[None]:
        roots = []
        for root in orders.iterate_roots():
            roots.append(root)
            if len(roots) % 256 == 0:
                yield
        yield
        roots.sort(key=lambda entry: (entry.submitted, entry.id))
        yield
        views: dict[str, _Rendered] = {}
        groups: dict[int, tuple[OrderView, ...]] = {}
        made: list[tuple[OrderView, ...]] = []
        known: tuple[OrderView, ...] | None
        for key, members in groupby(roots, key=lambda root: root.num // GROUP_NUMS):
            found = []
            for root in members:
                views[root.id] = renderings.view(root, orders.legs(root.id))
                found.append(views[root.id][1])
            group = tuple(view for view in found if view is not None)
            known = renderings.groups.get(key)
            groups[key] = known if known == group else group
            made.append(groups[key])
            yield
        snapshot = replace(head, groups=tuple(made))
        known = None  # else it would keep what only the snapshot before had
        for replaced in renderings.replace(head, views, groups):
            renderings.count(replaced)
            yield
        self._made = snapshot


def _split(items: list[_Item]) -> Iterator[list[_Item]]:
    """Yield what one step after the other looks at."""
    for begin in range(0, len(items), LOOKED_AT_PER_STEP):
        yield items[begin : begin + LOOKED_AT_PER_STEP]


def _list_documents(root: OrderEntry, legs: Sequence[OrderEntry]) -> tuple[bytes | None, ...]:
    return root.document, *[leg.document for leg in legs]


def _is_same(known: tuple[bytes | None, ...], sources: tuple[bytes | None, ...]) -> bool:
    # A new state of an order has another object.
    return len(known) == len(sources) and all(map(is_, known, sources))


def _share(new: tuple[FillView, ...], old: tuple[FillView, ...]) -> tuple[FillView, ...]:
    """Return what equals `new`, of the objects in `old` as far as they are equal."""
    known = {each: each for each in old}
    shared = tuple([known.get(each, each) for each in new])
    return old if shared == old else shared
