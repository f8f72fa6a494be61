"""The book of one account: what its orders, positions and fills are, from the rows of its log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from time import perf_counter
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime

from tradeproxy.book.builder import BookBuilder
from tradeproxy.book.importing import Importer
from tradeproxy.book.old_documents import Hold, OldDocuments, SnapshotReader, list_replaced
from tradeproxy.book.reader import BookReader
from tradeproxy.book.seeding import Seeding
from tradeproxy.book.snapshot import PendingSnapshot, Renderings
from tradeproxy.book.strategies import Strategies
from tradeproxy.book.views import (
    BookSnapshot,
    EventCount,
    EventQuery,
    EventsPage,
    OrderKey,
    OrderQuery,
    OrdersPage,
    OrderView,
    PositionView,
    StrategyView,
    TimelinePage,
)
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import UnreadableError
from tradeproxy.wire.strategy_rule import BeforeDash, StrategyRule

PREPARE_TIME = 0.003
"""Seconds after which a step of `prepare` renders no further positions."""

PREPARED = 32
"""Positions that are rendered before the next look at the time: about a millisecond."""

_T = TypeVar("_T")


class Book:
    """Orders, positions and fills of one account. See BookBuilder for its life."""

    def __init__(
        self,
        account: Account,
        clock: IReactorTime,
        timer: Callable[[], float] = perf_counter,
        rule: StrategyRule | None = None,
        old: OldDocuments | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            account: its log is read.
            clock: plans steps and writes.
            timer: measures the steps, in seconds.
            rule: how a client_order_id names a strategy; BeforeDash without one.
            old: counts what old snapshots keep in memory, for several books together.
        """
        self.account = account
        self._clock = clock
        self._timer = timer
        self._builder = BookBuilder(
            account, clock, timer, rule or BeforeDash(), self._forget_changed
        )
        self.seeding = Seeding(self._builder)
        """Takes Alpaca's answers."""
        self.importer: Importer | None = None
        """Imports fills that are older than the log; None if nothing can."""
        self._snapshot: PendingSnapshot | None = None
        self._snapshot_key: tuple[object, ...] = (None,)
        self._snapshot_revision = 0
        self._old = old or OldDocuments(clock)
        self._renderings = Renderings(partial(self._old.add, self))
        self._positions: tuple[PositionView, ...] = ()

    def start(self) -> None:
        """Continue from the stored state, or build it again, in turns of the reactor to come."""
        self.account.book = self
        self._builder.start()

    def stop(self) -> None:
        """Write the state, and read nothing any more. A second call has no effect."""
        self._builder.stop()

    # What it has.

    @property
    def is_building(self) -> bool:
        """Whether the state is not that of the end of the log yet."""
        return not self._builder.is_current

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing, as far as Alpaca's last answer shows."""
        return self.seeding.is_complete

    @property
    def corrected(self) -> int:
        """Positions that were wrong in two comparisons in a row."""
        return self.seeding.corrected

    @property
    def strategies(self) -> Strategies | None:
        """The strategies of the account; None while they cannot be asked.

        They may still be computed: see StrategyBook.is_current.
        """
        return None if self.is_building else self._builder.strategies

    @property
    def seq(self) -> int:
        """The number of the last row that was applied."""
        return self._builder.state.seq

    @property
    def cursor(self) -> str | None:
        """The position after row `seq`; None if that row is not durable."""
        return self._builder.tail.cursor

    @property
    def rows_behind(self) -> int:
        """Rows of the log that are not applied yet."""
        return self._builder.rows_behind

    def catch_up(self) -> bool:
        """Apply committed rows for some milliseconds. Return whether those were all.

        If not, the next steps go on in the next turns. Raises UnreadableError.
        """
        return self._builder.catch_up()

    def prepare(self) -> bool:
        """Take a step of what a snapshot needs of its positions and strategies.

        Returns whether a snapshot may be taken now; otherwise it would take long. Raises
        UnreadableError.
        """
        end = self._timer() + PREPARE_TIME
        while not self._is_prepared():
            if self._timer() >= end:
                return False
        return True

    def _is_prepared(self) -> bool:
        """Render some positions; return whether there are no more."""
        if self.is_building:
            return True
        state, strategies = self._builder.state, self._builder.strategies
        if not state.positions.prepare(PREPARED):
            return False
        return strategies is None or strategies.prepare(self.amounts, PREPARED)

    @property
    def amounts(self) -> Mapping[str, Decimal]:
        """What the account has of each symbol, signed, as far as it is a number."""
        self.positions()
        return self._builder.state.positions.amounts

    def snapshot(self) -> PendingSnapshot:
        """Return the open orders, the positions and the newest fills, after row `seq`.

        They are made in steps. Many clients that connect at once get the same one. While one is
        made, no other begins: the result may be after a former row. Raises UnreadableError.
        """
        builder = self._builder
        newest = self._snapshot
        if newest is not None and not newest.has_ended and self._snapshot_key[0] == builder.builds:
            return newest
        state, first, cursor = builder.state, self.account.log.first, self.cursor
        strategies: tuple[StrategyView, ...] = ()
        if builder.strategies is not None:
            strategies = builder.strategies.render(self.amounts, state.revision)
        key = builder.builds, state.revision, cursor, first, self.is_complete, strategies
        if newest is None or newest.has_failed or key != self._snapshot_key:
            head = BookSnapshot(
                self.seq,
                cursor,
                self.is_complete,
                (),
                self.positions(),
                state.fills(first),
                strategies,
            )
            self._snapshot = newest = None  # what clients do not keep need not be counted
            newest = PendingSnapshot(
                self._renderings.share_head(head),
                builder.read(),
                state.orders,
                self._renderings,
                self._clock,
                self._timer,
            )
            self._snapshot, self._snapshot_key = newest, key
            self._snapshot_revision = state.revision
        return newest

    def positions(self) -> tuple[PositionView, ...]:
        """Return the positions, by symbol."""
        views = self._builder.state.positions.views()
        if views is not self._positions:
            before, self._positions = self._positions, views
            replaced = list_replaced(before, views)
            del before
            self._old.add(self, replaced)
        return views

    def hold(
        self,
        documents: PendingSnapshot | BookSnapshot | tuple[PositionView, ...],
        reader: SnapshotReader,
    ) -> Hold:
        """Return what a client must keep while it has not read these documents.

        If the old documents of all clients take too much memory, some clients give up.
        """
        return self._old.hold(documents, self, reader)

    def is_newest(self, documents: object) -> bool:
        """Whether there are no newer ones, of those that `hold` takes."""
        newest = self._snapshot
        if newest is not None and (documents is newest or newest.has_made(documents)):
            return True
        return documents is self._positions

    def _forget_changed(self) -> None:
        """Keep nothing of the newest snapshot that the next one cannot have."""
        newest, state = self._snapshot, self._builder.state
        if newest is not None and not newest.has_ended:
            return
        if self._snapshot_revision != state.revision:
            self._snapshot = newest = None
        self._renderings.forget_changed(state.orders)

    def order(self, order_id: str) -> OrderView | None:
        """Return an order, or a leg, by its id; None if it is unknown. Raises UnreadableError."""
        return self._ask(lambda reader: reader.order(order_id))

    def timeline(self, order_id: str, after: int, limit: int) -> TimelinePage:
        """Return events of an order or a leg behind row `after`, oldest first.

        `limit` is how many rows are read. A page may be short or empty: then `next` is set, and a
        call in another turn continues. Raises UnreadableError.
        """
        return self._ask(lambda reader: reader.timeline(order_id, after, limit))

    def orders(self, query: OrderQuery, after: OrderKey | None, limit: int) -> OrdersPage:
        """Return orders, newest submission first, behind `after`. Raises UnreadableError.

        A page may be short: then `next` is set, and a call in another turn continues.
        """
        return self._ask(lambda reader: reader.orders(query, after, limit))

    def events(self, query: EventQuery, before: int | None, limit: int) -> EventsPage:
        """Return rows of the log before row `before`, newest first. Raises UnreadableError.

        A page may be short: then `next` is set, and a call in another turn continues.
        """
        return self._ask(lambda reader: reader.events(query, before, limit))

    def count_events(self, query: EventQuery, before: int | None) -> EventCount:
        """Count rows of the log before row `before`, as `events` finds them, without reading them.

        Raises UnreadableError. A call in another turn continues.
        """
        return self._ask(lambda reader: reader.count_events(query, before))

    def _ask(self, question: Callable[[BookReader], _T]) -> _T:
        builder = self._builder
        if self.is_building or self.account.log.epoch != builder.epoch:
            raise UnreadableError
        try:
            return question(builder.read())
        except sqlite3.Error:
            raise UnreadableError from None

    # The strategies: an import and assignments change them.

    def save(self) -> bool:
        """Write what an import or an assignment changed, and plan what is left to compute.

        Returns whether everything is written.
        """
        is_written = self._builder.writer.write()
        self._builder.plan()
        return is_written
