"""The book of one account: what its orders, positions and fills are, from the rows of its log."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar, assert_never

from twisted.logger import Logger

from tradeproxy.book import store
from tradeproxy.book.fields import normalize_symbol, read_event
from tradeproxy.book.reader import BookReader
from tradeproxy.book.state import BookState
from tradeproxy.book.strategies import Held, Strategies
from tradeproxy.book.views import BookSnapshot, PositionView
from tradeproxy.hub.log_tail import LogTail, ReplacedLogError
from tradeproxy.journal.base import TrimmedError, UnreadableError
from tradeproxy.journal.tables import TemporaryTables
from tradeproxy.wire.position import LastEvents
from tradeproxy.wire.strategy_rule import BeforeDash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from tradeproxy.book.fields import BookEvent
    from tradeproxy.book.importing import Importer
    from tradeproxy.book.orders import OrderEntry
    from tradeproxy.book.views import (
        EventCount,
        EventQuery,
        EventsPage,
        OrderKey,
        OrderQuery,
        OrdersPage,
        OrderView,
        TimelineEntry,
    )
    from tradeproxy.hub.account import Account
    from tradeproxy.journal.base import Row, Tables
    from tradeproxy.wire.strategy_rule import StrategyRule

WRITE_EVERY = 1.0
"""Seconds between two writes while events come one by one."""

WRITE_ROWS = 96
"""Rows after which the state is written at once, so that no write takes long."""

APPLY_EVERY = 0.25
"""Seconds that new rows wait, so that one step applies many. A question does not wait."""

READ_ROWS = 16
"""Rows of one read: a step looks at the time after each."""

MAX_STEP = 0.002
"""Seconds after which a step reads no further rows. The write that follows takes about as long."""

MAX_CATCH_UP = 300
"""Rows that `catch_up` applies at most: about 20 ms with fills alone."""

RETRY_EVERY = 1.0
"""Seconds before a log or a database that cannot be read is tried again."""

REBUILD_AFTER = 60.0
"""Seconds before the book is built again after an error of its own tables."""

LOAD_STEP = 200
"""Orders that one step loads."""

_T = TypeVar("_T")


class Phase(Enum):
    """What the book is doing."""

    IDLE = auto()
    """Not started, or stopped."""
    OPENING = auto()
    """Looking for its stored state."""
    LOADING = auto()
    """Reading its open orders from the store."""
    CLEARING = auto()
    """Removing a state that is not of this log."""
    BUILDING = auto()
    """Reading the log up to its end."""
    CURRENT = auto()
    """Following the log."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A moment at which Alpaca is asked for orders and positions."""

    seq: int
    """The last row of the log that was applied then."""
    time: int
    """Alpaca's time (microseconds since 1970)."""
    gaps: int
    build: int


class Book:
    """Orders, positions and fills of one account.

        phase     event                                          next phase
        --------  ---------------------------------------------  ----------
        IDLE      start                                          OPENING
        OPENING   the stored cursor is in the log                LOADING
        OPENING   there is none, or it is of another log         CLEARING
        LOADING   every open order is loaded                     BUILDING
        CLEARING  the store is empty                             BUILDING
        BUILDING  the end of the log is reached                  CURRENT
        any       the log is replaced, or the tables are wrong   OPENING
        any       stop                                           IDLE

    A step takes a turn of the reactor for itself, and at most about 5 ms.
    """

    _log = Logger()

    def __init__(
        self,
        account: Account,
        clock: IReactorTime,
        timer: Callable[[], float] = perf_counter,
        rule: StrategyRule | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            account: its log is read.
            clock: plans steps and writes.
            timer: measures the steps, in seconds.
            rule: how a client_order_id names a strategy; BeforeDash without one.
        """
        self.account = account
        self._clock = clock
        self._timer = timer
        self._tail = LogTail(account, self._rows_came)
        self._temporary: TemporaryTables | None = None
        self._tables: Tables | None = None
        self._phase = Phase.IDLE
        self._state = BookState(self._load_family)
        self._rule = rule or BeforeDash()
        self._strategies: Strategies | None = None
        self._epoch = ""
        self._after = 0
        # How many gaps began, how many of them the last answers have filled, and how often the
        # state was begun.
        self._gaps, self._seeded, self._builds = 1, 0, 0
        self._planned: IDelayedCall | None = None
        self._write_timer: IDelayedCall | None = None
        self._trimmed = 0
        self._has_reported = False
        self._snapshot_key: tuple[object, ...] | None = None
        self._snapshot: BookSnapshot
        self.longest_step = 0.0
        """Seconds of the longest step of this process."""
        self.importer: Importer | None = None
        """Imports fills that are older than the log; None if nothing can."""
        self.corrected = 0
        """Positions that were wrong in two comparisons in a row."""

    # Life.

    def start(self) -> None:
        """Continue from the stored state, or build it again, in turns of the reactor to come."""
        if self._phase is Phase.IDLE:
            self.account.book = self
            self._tables = self.account.journal.tables
            if self._tables is None:
                self._tables = self._temporary = TemporaryTables()
            if (import_log := self.account.import_log) is not None:
                import_log.on_pages = self._pages_came
            self._restart()

    def stop(self) -> None:
        """Write the state, and read nothing any more. A second call has no effect."""
        if self._phase is Phase.IDLE:
            return
        if self._phase is Phase.CURRENT:
            self.catch_up()
        self._write()
        self._tail.stop()
        self._phase = Phase.IDLE
        for call in (self._planned, self._write_timer):
            if call is not None and call.active():
                call.cancel()
        self._planned = self._write_timer = None
        if self._temporary is not None:
            self._temporary.close()

    def _restart(self, delay: float = 0.0) -> None:
        self._tail.stop()
        self._phase = Phase.OPENING
        if self._planned is not None and self._planned.active():
            self._planned.cancel()
        self._planned = None
        self._state = BookState(self._load_family)
        self._strategies = None
        self._builds += 1
        self.record_gap()
        self._plan(delay)

    # What it has.

    @property
    def is_building(self) -> bool:
        """Whether the state is not that of the end of the log yet."""
        return self._phase is not Phase.CURRENT

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing, as far as Alpaca's last answer shows."""
        if self._state.orders.has_overflowed:
            return False
        return self._seeded == self._gaps and not self.is_building

    @property
    def strategies(self) -> Strategies | None:
        """The strategies of the account; None while they cannot be asked.

        They may still be computed: see StrategyBook.is_current.
        """
        return None if self.is_building else self._strategies

    @property
    def seq(self) -> int:
        """The number of the last row that was applied."""
        return self._state.seq

    @property
    def cursor(self) -> str | None:
        """The position after row `seq`; None if that row is not durable."""
        return self._tail.cursor

    @property
    def rows_behind(self) -> int:
        """Rows of the log that are not applied yet."""
        return max(self.account.journal.last - self._tail.position, 0)

    def catch_up(self) -> bool:
        """Apply what is committed, MAX_CATCH_UP rows at most. Return whether that was all."""
        if self._phase is not Phase.CURRENT:
            return False
        if self.rows_behind > MAX_CATCH_UP:
            self._hurry()
            return False
        try:
            while self._take(MAX_CATCH_UP):
                pass
        except ReplacedLogError:
            self._restart()  # at once: what is here is another log's, maybe another account's
            return False
        except (UnreadableError, sqlite3.Error):
            self._plan()  # a step deals with it
            return False
        self._plan_write()
        return self.rows_behind == 0

    def snapshot(self) -> BookSnapshot:
        """Return the open orders, the positions and the newest fills, after row `seq`."""
        first, cursor, state = self.account.journal.first, self._tail.cursor, self._state
        strategies: tuple[bytes, ...] = ()
        if self._strategies is not None:
            strategies = self._strategies.render(self.positions, state.revision)
        # Many clients that connect at once get the same one.
        key = self._builds, state.revision, cursor, first, self.is_complete, strategies
        if key != self._snapshot_key:
            reader = self._reader()
            roots = sorted(state.orders.roots(), key=lambda entry: (entry.submitted, entry.id))
            self._snapshot = BookSnapshot(
                self.seq,
                cursor,
                self.is_complete,
                tuple(view for root in roots if (view := reader.view(root)) is not None),
                self.positions(),
                state.fills(first),
                strategies,
            )
            self._snapshot_key = key
        return self._snapshot

    def positions(self) -> tuple[PositionView, ...]:
        """Return the positions, by symbol."""
        return tuple(
            PositionView(each.symbol, each.render(), each.difference)
            for each in self._state.positions.list_open()
        )

    def order(self, order_id: str) -> OrderView | None:
        """Return an order, or a leg, by its id; None if it is unknown. Raises UnreadableError."""
        return self._ask(lambda reader: reader.order(order_id))

    def timeline(self, order_id: str, after: int, limit: int) -> tuple[TimelineEntry, ...]:
        """Return events of an order or a leg behind row `after`, oldest first.

        `limit` is how many rows are read. Raises UnreadableError.
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

    # Alpaca's answers: recovery.book_seed calls these.

    def record_gap(self) -> None:
        """Record that something may be missing until the next answer."""
        self._gaps += 1

    def begin_seed(self) -> Seed | None:
        """Return what the answers to requests that are sent from now on are compared with.

        Returns None while the book is built.
        """
        self.account.flush()
        if not self.catch_up():
            return None
        return Seed(self.seq, self.account.dates.now_microseconds(), self._gaps, self._builds)

    def seed_orders(self, seed: Seed, documents: Iterable[bytes]) -> None:
        """Take order objects of an answer, with their legs: some dozens in a turn."""
        if self._is_valid(seed):
            self._state.seed_orders(documents, seed.seq)
            self._write()

    def seed_positions(self, seed: Seed, documents: Iterable[tuple[str, bytes]]) -> None:
        """Take the whole answer about the positions, by symbol.

        If nothing was missing before, a position that differs is corrected only the second time.
        """
        if self._is_valid(seed):
            # The rows behind the answer must be known, not to be undone by it.
            self.catch_up()
            if not self._is_valid(seed):
                return
            answer = {normalize_symbol(symbol): document for symbol, document in documents}
            wrong = self._state.take_positions(
                answer.items(), seed.seq, seed.time, compare=self.is_complete
            )
            self.corrected += wrong
            strategies = self._strategies
            if strategies is not None and strategies.wants_openings:
                strategies.take_openings(self._list_held(seed, answer), seed.time)
                self._plan()
            self._write()

    def _list_held(self, seed: Seed, answer: Mapping[str, bytes]) -> list[Held]:
        positions = self._state.positions
        found = {each.symbol: each for each in positions.list_open()}
        # One that was closed meanwhile was held at the start.
        found |= {each.symbol: each for each in positions.list_moved(seed.seq)}
        return [
            Held(symbol, each.qty, answer.get(symbol) or each.render(), each.seq > seed.seq)
            for symbol, each in found.items()
        ]

    def finish_seed(self, seed: Seed) -> None:
        """Record that all answers were taken: the book is complete if no gap began meanwhile."""
        if self._is_valid(seed):
            self._seeded = seed.gaps

    def list_open(self, seed: Seed) -> list[str]:
        """Return the ids of the open orders and legs that have not changed since a seed began."""
        if not self._is_valid(seed):
            return []
        entries = self._state.orders.list_all()
        return [entry.id for entry in entries if entry.is_open and entry.last <= seed.seq]

    def _is_valid(self, seed: Seed) -> bool:
        return not self.is_building and seed.build == self._builds

    # The strategies: an import and assignments change them.

    def save(self) -> None:
        """Write what an import or an assignment changed, and plan what is left to compute."""
        if not self._write():
            self._plan_write()
        self._plan()

    # Steps.

    def _rows_came(self) -> None:
        if self._planned is None and self._phase is Phase.CURRENT:
            self._planned = self._clock.callLater(APPLY_EVERY, self._run)

    def _pages_came(self) -> None:
        if self._phase is Phase.CURRENT:
            self._plan()

    def _hurry(self) -> None:
        """Apply in the next turn what waits for APPLY_EVERY."""
        self._plan()
        if self._planned is not None and self._planned.active():
            self._planned.reset(0)

    def _plan(self, delay: float = 0.0) -> None:
        if self._planned is None:
            self._planned = self._clock.callLater(delay, self._run)

    def _run(self) -> None:
        self._planned = None
        began = self._timer()
        try:
            self._step()
        except UnreadableError:
            self._plan(RETRY_EVERY)
        except ReplacedLogError:
            self._restart()
        except sqlite3.Error as error:
            self._begin_again(error)
        self.longest_step = max(self.longest_step, self._timer() - began)

    def _step(self) -> None:
        match self._phase:
            case Phase.IDLE:
                pass
            case Phase.OPENING:
                self._open()
                self._plan()
            case Phase.LOADING:
                self._load()
                self._plan()
            case Phase.CLEARING:
                if not self._run_sql(store.clear, writes=True):
                    self._phase = Phase.BUILDING
                self._plan()
            case Phase.BUILDING | Phase.CURRENT:
                self._follow()
            case _:  # pragma: no cover
                assert_never(self._phase)

    def _open(self) -> None:
        journal = self.account.journal
        if not journal.is_loaded:
            raise UnreadableError
        meta = self._run_sql(store.load_meta)
        assert self._tables is not None, "the book was started"
        self._strategies = Strategies(self.account, self._tables, self._rule)
        self._epoch = journal.epoch
        cursor = meta.get("cursor") or None
        if self._tail.start_at(cursor, LastEvents(journal.last)):
            self._state = BookState(
                self._load_family, self._tail.position, int(meta.get("next_num", "1"))
            )
            self._state.high = int(meta.get("high", "0"))
            self._after, self._phase = 0, Phase.LOADING
        else:
            self._state = BookState(self._load_family, self._tail.position)
            self._phase = Phase.CLEARING

    def _load(self) -> None:
        after = self._after
        entries = self._run_sql(lambda sql: store.load_open(sql, after, LOAD_STEP))
        if entries and not self._state.orders.has_overflowed:
            self._state.orders.adopt(entries)
            self._state.orders.clear_dirty()  # so that they are not too many
            self._after = entries[-1].num
            return
        for position in self._run_sql(store.load_positions):
            self._state.positions.adopt(position)
        journal = self.account.journal
        for seq in self._run_sql(store.load_meta).get("fills", "").split():
            row = journal.row(int(seq))
            if row is not None:
                self._state.load_fill(row)
        self._phase = Phase.BUILDING

    def _follow(self) -> None:
        """Apply rows for MAX_STEP seconds, or write them if they are many."""
        strategies = self._strategies
        unsaved = 0 if strategies is None else strategies.unsaved
        is_due = max(len(self._state.events), unsaved) >= WRITE_ROWS
        if is_due and self._write():
            self._plan()
            return
        end = self._timer() + MAX_STEP
        while self._take(READ_ROWS):
            if len(self._state.events) >= WRITE_ROWS or self._timer() >= end:
                break
        has_work = self._strategies is not None and self._strategies.work()
        if self.rows_behind > 0:
            self._plan()
            return
        self._phase = Phase.CURRENT
        self._trim()
        if has_work or (len(self._state.events) >= WRITE_ROWS and not is_due):
            self._plan()
        self._plan_write()

    def _take(self, limit: int) -> bool:
        """Apply the next rows; return whether there were any. Raises ReplacedLogError."""
        try:
            rows = self._tail.read(limit)
        except TrimmedError:
            self._tail.skip_trimmed()
            self.record_gap()
            return True
        for row in rows:
            event = None if row.payload is None else read_event(row.payload)
            if event is not None:
                self._apply_to_strategies(row, event)
            try:
                self._state.apply(row, event)
            except (UnreadableError, sqlite3.Error):
                raise  # the row is read again
            except Exception:
                # A row that cannot be applied must not stop those behind it.
                self.record_gap()
                self._report_failure()
            self._tail.take(row.seq)
        if self._state.has_hole:
            self._state.has_hole = False
            self.record_gap()
        return bool(rows)

    def _apply_to_strategies(self, row: Row, event: BookEvent) -> None:
        """Apply a row to the strategies. Raises UnreadableError or sqlite3.Error: it waits then."""
        if self._strategies is None:
            return
        try:
            self._strategies.apply(row, event, self._state.high)
        except (sqlite3.Error, UnreadableError):
            raise
        except Exception:
            self._report_failure()

    def _trim(self) -> None:
        first = self.account.journal.first
        if first != self._trimmed and not self._state.has_changes:
            more = self._run_sql(
                lambda sql: store.trim(sql, first, store.CLEAR_STEP // 2), writes=True
            )
            if more:
                self._plan()
            else:
                self._trimmed = first

    # Writing.

    def _plan_write(self) -> None:
        if self._write_timer is None and self._has_changes:
            self._write_timer = self._clock.callLater(WRITE_EVERY, self._write_later)

    def _write_later(self) -> None:
        self._write_timer = None
        if not self._write():
            self._plan_write()
        elif self._planned is None and self.account.journal.first != self._trimmed:
            self._plan()

    def _write(self) -> bool:
        """Write what changed, with the cursor; return whether the store has everything now."""
        state, strategies = self._state, self._strategies
        if not self._has_changes:
            return True
        if self.account.journal.epoch != self._epoch:
            return False
        if (cursor := self._tail.cursor) is None:
            return False  # the last row is not durable

        def save(sql: sqlite3.Connection) -> None:
            store.save(sql, state, cursor)
            if strategies is not None:
                strategies.save(sql)

        try:
            self._run_sql(save, writes=True)
        except UnreadableError:
            return False
        except sqlite3.Error as error:
            self._begin_again(error)
            return False
        state.clear_changes()
        if strategies is not None:
            strategies.clear_changes()
        return True

    @property
    def _has_changes(self) -> bool:
        strategies = self._strategies
        return self._state.has_changes or (strategies is not None and strategies.has_changes)

    def _begin_again(self, error: sqlite3.Error) -> None:
        """Build the book again after an error of its own tables."""
        self._report(f"its tables cannot be used ({error}); it is built again")
        self._forget_cursor()
        self._restart(REBUILD_AFTER)

    def _forget_cursor(self) -> None:
        with suppress(sqlite3.Error, UnreadableError):
            self._run_sql(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)

    def _run_sql(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool = False) -> _T:
        assert self._tables is not None, "the book was started"
        return self._tables.run(work, writes=writes)

    # Reading.

    def _reader(self) -> BookReader:
        assert self._tables is not None, "the book was started"
        return BookReader(self.account.journal, self._state, self._tables)

    def _ask(self, question: Callable[[BookReader], _T]) -> _T:
        if self.is_building or self.account.journal.epoch != self._epoch:
            raise UnreadableError
        try:
            return question(self._reader())
        except sqlite3.Error:
            raise UnreadableError from None

    def _load_family(self, order_id: str) -> list[OrderEntry]:
        entries = self._run_sql(lambda sql: store.load_family(sql, order_id))
        for entry in entries:
            if entry.document is None:
                entry.document = self._reader().read_document(entry)
        return entries

    def _report(self, problem: str) -> None:
        if not self._has_reported:
            self._has_reported = True
            self._log.error(
                "{account}: the book of orders and positions: {problem}",
                account=self.account.name,
                problem=problem,
            )

    def _report_failure(self) -> None:
        if not self._has_reported:
            self._has_reported = True
            self._log.failure(
                "{account}: the book could not apply an event", account=self.account.name
            )
