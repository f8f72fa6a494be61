"""The snapshot of a book, made in steps that all its clients share.

A client may take a minute to read its snapshot, and each event makes another one. So a snapshot
has of its own only what changed since the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import is_
from typing import TypeAlias, TypeVar

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from tradeproxy.book.orders import OrderEntry, Orders
from tradeproxy.book.reader import BookReader, make_view
from tradeproxy.book.views import BookSnapshot, FillView, OrderView, PositionView
from tradeproxy.journal.base import UnreadableError

_Rendered: TypeAlias = tuple[tuple[bytes | None, ...], OrderView | None]
_Shared = TypeVar("_Shared", FillView, PositionView, bytes)

MAX_STEP = 0.002
"""Seconds after which a step renders no further orders."""

GROUP_NUMS = 32
"""Numbers of orders that a group spans. Snapshots share each group that has not changed.

A step looks at the time after each group.
"""


class Renderings:
    """What the newest snapshot has. The next one takes from it all that has not changed."""

    def __init__(self) -> None:
        self.views: dict[str, _Rendered] = {}
        """By the id of the order: the JSON of it and its legs, and the view of these."""
        self.groups: dict[int, tuple[OrderView, ...]] = {}
        """By the number of the group."""
        self._head: BookSnapshot | None = None

    def share_head(self, head: BookSnapshot) -> BookSnapshot:
        """Return an equal snapshot, without orders, of the objects that are known."""
        if self._head is not None:
            head = replace(head, fills=_share(head.fills, self._head.fills))
        self._head = head
        return head

    def view(self, root: OrderEntry, legs: Sequence[OrderEntry]) -> _Rendered:
        """Return an order with its legs as `views` has it."""
        sources = (root.document, *[leg.document for leg in legs])
        known = self.views.get(root.id)
        # A new state of an order has another object.
        if known is not None and len(known[0]) == len(sources) and all(map(is_, known[0], sources)):
            return known
        return sources, make_view(root, legs, *sources)


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
        renderings.views, renderings.groups = views, groups
        self._made = replace(head, groups=tuple(made))


def _share(new: tuple[_Shared, ...], old: tuple[_Shared, ...]) -> tuple[_Shared, ...]:
    """Return what equals `new`, of the objects in `old` as far as they are equal."""
    known = {each: each for each in old}
    shared = tuple([known.get(each, each) for each in new])
    return old if shared == old else shared
