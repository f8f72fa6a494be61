"""The state of an account, built from the rows of its log in steps, and kept up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum, auto
from math import inf
from typing import assert_never

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from tradeproxy.book import store
from tradeproxy.book.fields import BookEvent, read_event
from tradeproxy.book.orders import OrderEntry
from tradeproxy.book.reader import BookReader
from tradeproxy.book.state import BookState
from tradeproxy.book.strategies import Strategies
from tradeproxy.book.writer import BookWriter
from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.hub.log_tail import LogTail, ReplacedLogError
from tradeproxy.journal.base import Row, Tables, TrimmedError, UnreadableError
from tradeproxy.journal.tables import TemporaryTables
from tradeproxy.wire.position import AfterId, LastEvents
from tradeproxy.wire.strategy_rule import StrategyRule

WRITE_EVERY = 5.0
"""Seconds for which few rows wait, to be applied and written together. A question applies them at
once. After a crash, the log has them."""

APPLY_ROWS = 48
"""Rows that do not wait: they take three steps, of less than 1 ms each. With twice as many, one
event in a hundred met such steps, and the p99 of a client was 1.8 times as high."""

READ_ROWS = 16
"""Rows of one read between live events: a step looks at the time after as many."""

BUILD_READ_ROWS = 96
"""The same while the book is built. Rows that one function gets one after another take less time
each: the processor has its code at hand then."""

MAX_STEP = 0.0025
"""Seconds after which the strategies get no further rows in a step, while the book is built. The
rest of the book then takes less than another millisecond for those that they have."""

FILTERED_ORDERS = 1_000_000
"""Orders whose ids are kept in full while the book is built: 4 MB, which takes 2 ms to make. With
more, some new ones are looked up in the store."""

CATCH_UP_TIME = 0.004
"""Seconds for which `catch_up` applies rows, once in a turn: 80 rows or more."""

CHECKPOINT_WAIT, MAX_WAITS = 0.002, 50
"""Seconds between two looks whether a checkpoint of the write-ahead log has ended, and how many
times a write waits for it: a COMMIT takes up to 16 ms meanwhile, and the stream waits for it."""

RETRY_EVERY = 1.0
"""Seconds before a log or a database that cannot be read is tried again."""

REBUILD_AFTER = 60.0
"""Seconds before the book is built again after an error of its own tables."""

LOAD_STEP = 200
"""Orders that one step loads."""


class Phase(Enum):
    """What the builder is doing."""

    IDLE = auto()
    """Not started, or stopped."""
    OPENING = auto()
    """Looking for the stored state."""
    LOADING = auto()
    """Reading the open orders from the store."""
    CLEARING = auto()
    """Removing a state that is not of this log."""
    BUILDING = auto()
    """Reading the log up to its end."""
    CURRENT = auto()
    """Following the log."""


class BookBuilder:
    """Has the state of one account.

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
        timer: Callable[[], float],
        rule: StrategyRule,
        on_write: Callable[[], None],
    ) -> None:
        """Read nothing yet. The arguments are those of Book, and `on_write` that of BookWriter."""
        self.account = account
        self._clock = clock
        self._timer = timer
        self._rule = rule
        self.tail = LogTail(account, self._rows_came)
        self.writer = BookWriter(self.tail, self._begin_again, on_write)
        self.phase = Phase.IDLE
        self.state = BookState(self._load_family)
        self.strategies: Strategies | None = None
        self.epoch = ""
        """The life of the log that the state is of."""
        self.gaps = 1
        """How many gaps began."""
        self.builds = 0
        """How often the state was begun."""
        self._temporary: TemporaryTables | None = None
        self._tables: Tables | None = None
        self._after = 0
        self._strategies_seq = 0  # the strategies have the rows up to this one: see BookWriter
        self._planned: IDelayedCall | None = None
        self._is_late = False  # `catch_up` has left rows to the next step
        self._write_at = 0.0  # when few changes are written
        self._waits = 0
        self._trimmed = 0
        self._has_reported = False

    # Life.

    def start(self) -> None:
        """Continue from the stored state, or build it again, in turns of the reactor to come."""
        if self.phase is Phase.IDLE:
            self._tables = self.account.log.tables
            if self._tables is None:
                self._tables = self._temporary = TemporaryTables()
            if (import_log := self.account.import_log) is not None:
                import_log.on_pages = self._pages_came
            self._restart()

    def stop(self) -> None:
        """Write the state, and read nothing any more. A second call has no effect."""
        if self.phase is Phase.IDLE:
            return
        with suppress(UnreadableError):
            self.catch_up()
        while self.writer.write() and self.writer.has_changes:
            pass  # a large answer about positions takes several writes
        self.writer.stop()
        self.tail.stop()
        self.phase = Phase.IDLE
        self._cancel_plan()
        if self._temporary is not None:
            self._temporary.close()

    def _restart(self, delay: float = 0.0) -> None:
        self._is_late = False
        self.tail.stop()
        self.writer.stop()
        self.phase = Phase.OPENING
        self._cancel_plan()
        self.state = BookState(self._load_family)
        self.strategies = None
        self.builds += 1
        self.gaps += 1
        self.plan(delay)

    @property
    def is_current(self) -> bool:
        """Whether the state is that of the end of the log, but for rows that wait."""
        return self.phase is Phase.CURRENT

    @property
    def rows_behind(self) -> int:
        """Rows of the log that are not applied yet."""
        return self.account.lag(self.tail.position)

    @property
    def tables(self) -> Tables:
        """The book's tables, once it was started."""
        assert self._tables is not None, "the book was started"
        return self._tables

    def read(self) -> BookReader:
        """Return what answers a question now."""
        return BookReader(self.account.log, self.state, self.tables)

    def catch_up(self) -> bool:
        """See Book.catch_up."""
        if not self.is_current or self._is_late:
            return False
        end = self._timer() + CATCH_UP_TIME
        try:
            while self._take(READ_ROWS) and self._timer() < end:
                pass
        except ReplacedLogError:
            self._restart()  # at once: what is here is another log's, maybe another account's
            return False
        except (UnreadableError, sqlite3.Error):
            self.plan()  # a step deals with it
            raise UnreadableError from None
        self._is_late = self.rows_behind > 0
        if self._is_late or self.writer.is_due:
            self.plan()
        elif self.writer.has_changes:
            self.plan(WRITE_EVERY)
        return not self._is_late

    # Steps.

    def _rows_came(self) -> None:
        if self.is_current:
            self.plan(0.0 if self.rows_behind >= APPLY_ROWS else WRITE_EVERY)

    def _pages_came(self) -> None:
        if self.is_current:
            self.plan()

    def plan(self, delay: float = 0.0) -> None:
        """Take a step after `delay` seconds, unless one is planned. Without a delay, it hurries."""
        if self._planned is None:
            self._planned = self._clock.callLater(delay, self._run)
        elif not delay and self.is_current:
            self._planned.reset(0)

    def _cancel_plan(self) -> None:
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None

    def _run(self) -> None:
        self._planned, self._is_late = None, False
        try:
            self._step()
        except UnreadableError:
            self.plan(RETRY_EVERY)
        except ReplacedLogError:
            self._restart()
        except Exception as error:  # sqlite3.Error, or a value that the proxy did not write
            self._begin_again(error)

    def _step(self) -> None:
        match self.phase:
            case Phase.IDLE:
                pass
            case Phase.OPENING:
                self._open()
                self.plan()
            case Phase.LOADING:
                self._load()
                self.plan()
            case Phase.CLEARING:
                if not self.tables.run(store.clear, writes=True):
                    self.phase = Phase.BUILDING
                self.plan()
            case Phase.BUILDING | Phase.CURRENT:
                self._follow()
            case _:  # pragma: no cover
                assert_never(self.phase)

    def _open(self) -> None:
        log = self.account.log
        if not log.is_loaded:
            raise UnreadableError
        meta = self.tables.run(store.load_meta)
        expected = min((log.last - log.first + 1) // 2, FILTERED_ORDERS)  # an order has some events
        self.strategies = Strategies(self.account, self.tables, self._rule, self.plan, expected)
        self.epoch = log.epoch
        cursor = meta.get("cursor") or None
        if self.tail.start_at(cursor, LastEvents(log.last)):
            next_num = int(meta.get("next_num", "1"))
            self.state = BookState(self._load_family, self.tail.position, next_num)
            self.state.high = int(meta.get("high", "0"))
            self._strategies_seq = self._find_row(meta.get("strategies", cursor or ""))
            self._after, phase = 0, Phase.LOADING
        else:
            self._strategies_seq = 0
            self.state = BookState(self._load_family, self.tail.position, expected=expected)
            phase = Phase.CLEARING
        self.writer.begin(self.tables, self.state, self.strategies)
        self.phase = phase  # last: a read above may fail, and all of this is done again then

    def _find_row(self, cursor: str) -> int:
        """Return the number of the row before a stored cursor; 0 if the log does not have it."""
        try:
            return locate(self.account, AfterId(cursor))
        except UnrecoverablePositionError:
            return 0

    def _load(self) -> None:
        after = self._after
        entries = self.tables.run(lambda sql: store.load_open(sql, after, LOAD_STEP))
        if entries and not self.state.orders.has_overflowed:
            self.state.orders.adopt(entries)
            self.state.orders.clear_dirty()  # so that they are not too many
            self._after = entries[-1].num
            return
        for position in self.tables.run(store.load_positions):
            self.state.positions.adopt(position)
        log = self.account.log
        for seq in self.tables.run(store.load_meta).get("fills", "").split():
            row = log.row(int(seq))
            if row is not None:
                self.state.load_fill(row)
        self.phase = Phase.BUILDING

    def _follow(self) -> None:
        """Apply some rows, or write what they changed if that is much or no row is left."""
        if self.writer.is_due and self._write():
            return
        if self.phase is Phase.BUILDING:
            self._build()
            return
        # Between live events a step is one read, so that none of them waits for long.
        has_taken = self._take(READ_ROWS)
        if self.rows_behind > 0:
            self.plan()
            return
        # Not before: each correction of a fill makes a holding stale again.
        has_worked = self.strategies is not None and self.strategies.work()
        wait = 0.0 if self.writer.is_due else self._write_at - self._clock.seconds()
        if has_worked or (has_taken and wait <= 0):
            self.plan()
        elif not self.writer.has_changes:
            self._trim()
        elif wait > 0 or not self._write():
            self.plan(max(wait, RETRY_EVERY))

    def _build(self) -> None:
        """Apply some rows. If none is left, write what is much, and then end the build."""
        self._take(min(BUILD_READ_ROWS, self.writer.room), self._timer() + MAX_STEP)
        if self.rows_behind == 0:
            if self.writer.has_many and self._write():
                return
            self.phase = Phase.CURRENT
            self.writer.is_building = False
            self.state.orders.forget_seen()
            if self.strategies is not None:
                self.strategies.records.forget_seen()
        self.plan()

    def _write(self) -> bool:
        """Write, or wait for the end of a checkpoint; return whether another step is planned.

        It is not if the state cannot be written now.
        """
        if self.tables.is_busy and self._waits < MAX_WAITS:
            self._waits += 1
            self.plan(CHECKPOINT_WAIT)
            return True
        self._waits = 0
        if not self.writer.write():
            return self._planned is not None  # after an error of the tables
        self._write_at = self._clock.seconds() + WRITE_EVERY
        self.plan()
        return True

    def _take(self, limit: int, end: float = inf) -> bool:
        """Apply the next rows; return whether there were any. Raises ReplacedLogError.

        Each part of the work is done for all rows of a read: see BUILD_READ_ROWS. Rows that the
        strategies have not taken by the time `end` are left to the next read.
        """
        try:
            rows = self.tail.read(limit, finds_damage=False)  # `read_event` parses each one
        except TrimmedError:
            self.tail.skip_trimmed()
            self.gaps += 1
            return True
        events = list(map(self._read_event, rows))
        taken = self._apply_to_strategies(rows, events, end)
        self.writer.is_held = True
        for row, event in zip(rows[:taken], events, strict=False):
            try:
                self.state.apply(row, event)
            except (UnreadableError, sqlite3.Error):
                raise  # the row is read again, and the strategies have it
            except Exception:
                # A row that cannot be applied must not stop those behind it.
                self.gaps += 1
                self._report_failure()
            self.tail.take(row.seq)
        self.writer.is_held = self._strategies_seq > self.tail.position
        if self.state.has_hole:
            self.state.has_hole = False
            self.gaps += 1
        return bool(rows)

    def _read_event(self, row: Row) -> BookEvent | None:
        """Return the event of a row. Raises UnreadableError if the row is damaged."""
        if row.payload is None:
            return None
        event = read_event(row.payload)
        if event is None or event.order is None:
            self.tail.find_damage(row.seq)
        return event

    def _apply_to_strategies(
        self, rows: Sequence[Row], events: Sequence[BookEvent | None], end: float
    ) -> int:
        """Apply rows until the time `end`; return how many, at least one if there are any.

        Raises UnreadableError or sqlite3.Error if the first one must wait. Another one that must
        is the first of the next read.
        """
        if self.strategies is None:
            return len(rows)
        high = self.state.high
        for count, (row, event) in enumerate(zip(rows, events, strict=True)):
            if event is None:
                continue
            if row.seq > self._strategies_seq:
                try:
                    self.strategies.apply(row, event, high)
                except (sqlite3.Error, UnreadableError):
                    if count == 0:
                        raise
                    return count
                except Exception:
                    self._report_failure()
                self._strategies_seq = row.seq
            high = max(high, row.time or 0)  # as the state will have it
            if count % READ_ROWS == READ_ROWS - 1 and self._timer() >= end:
                return count + 1  # what is left was parsed for nothing, so it is seldom much
        return len(rows)

    def _trim(self) -> None:
        first = self.account.log.first
        if first != self._trimmed:
            more = self.tables.run(
                lambda sql: store.trim(sql, first, store.CLEAR_STEP // 2), writes=True
            )
            if more:
                self.plan()
            else:
                self._trimmed = first

    def _load_family(self, order_id: str) -> list[OrderEntry]:
        entries = self.tables.run(lambda sql: store.load_family(sql, order_id))
        for entry in entries:
            if entry.document is None:
                entry.document = self.read().read_document(entry)
        return entries

    # Failures.

    def _begin_again(self, error: Exception) -> None:
        """Build the book again after an error of its own tables, or of what it would write."""
        if not self._has_reported:
            self._has_reported = True
            self._log.error(
                "{account}: the book of orders and positions: {problem}",
                account=self.account.name,
                problem=f"its tables cannot be used ({error}); it is built again",
            )
            if not isinstance(error, sqlite3.Error):
                self._log.failure("{account}: the book cannot be used", account=self.account.name)
        with suppress(sqlite3.Error, UnreadableError):
            self.tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)
        self._restart(REBUILD_AFTER)

    def _report_failure(self) -> None:
        if not self._has_reported:
            self._has_reported = True
            self._log.failure(
                "{account}: the book could not apply an event", account=self.account.name
            )
