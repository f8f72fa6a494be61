"""The snapshot of a book, made in steps that all its clients share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime

from tradeproxy.book.orders import Orders
from tradeproxy.book.reader import BookReader
from tradeproxy.book.views import BookSnapshot, OrderView

MAX_STEP = 0.002
"""Seconds after which a step renders no further orders."""

ROOTS_PER_LOOK = 16
"""Orders after which a step looks at the time."""


class PendingSnapshot:
    """The state after one row. The first step is taken at once, each other one in its own turn."""

    def __init__(
        self,
        head: BookSnapshot,
        reader: BookReader,
        orders: Orders,
        clock: IReactorTime,
        timer: Callable[[], float],
    ) -> None:
        """Take the first step. May raise UnreadableError.

        Args:
            head: all but the orders.
            reader: reads the JSON of an order.
            orders: a copy, which does not change.
            clock: plans the steps.
            timer: measures them, in seconds.
        """
        self.made: BookSnapshot | None = None
        """The whole; None until it is made."""
        self._head = head
        self._reader = reader
        self._orders = orders
        self._clock = clock
        self._timer = timer
        self._views: list[OrderView] = []
        for entry in orders.list_all():
            if entry.document is None:  # later the row may be trimmed
                entry.document = reader.read_document(entry)
        self._parts = self._make()
        self.step()

    def step(self) -> None:
        """Go on for MAX_STEP seconds."""
        if self.made is not None:
            return
        end = self._timer() + MAX_STEP
        for _ in self._parts:
            if self._timer() >= end:
                self._clock.callLater(0, self.step)
                return
        self.made = replace(self._head, orders=tuple(self._views))

    def _make(self) -> Iterator[None]:
        roots = []
        for root in self._orders.iterate_roots():
            roots.append(root)
            if len(roots) % 256 == 0:
                yield
        yield
        roots.sort(key=lambda entry: (entry.submitted, entry.id))
        yield
        for number, root in enumerate(roots, 1):
            view = self._reader.view_family(root, self._orders.legs(root.id))
            if view is not None:
                self._views.append(view)
            if number % ROOTS_PER_LOOK == 0:
                yield
