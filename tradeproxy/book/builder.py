"""The state of an account, built from the rows of its log in steps, and kept up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
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
from tradeproxy.hub.log_tail import LogTail, ReplacedLogError
from tradeproxy.journal.base import Row, Tables, TrimmedError, UnreadableError
from tradeproxy.journal.tables import TemporaryTables
from tradeproxy.wire.position import LastEvents
from tradeproxy.wire.strategy_rule import StrategyRule

APPLY_EVERY = 1.0
"""Seconds that new rows wait, so that one step applies many. A question does not wait."""

APPLY_ROWS = 48
"""Rows that do not wait: they take three steps, of less than 1 ms each."""

READ_ROWS = 16
"""Rows of one read: a step looks at the time after each."""

MAX_STEP = 0.002
"""Seconds after which a step reads no further rows, while the book is built."""

CATCH_UP_TIME = 0.004
"""Seconds for which `catch_up` applies rows, once in a turn: 80 rows or more."""

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
    ) -> None:
        """Read nothing yet. The arguments are those of Book."""
        self.account = account
        self._clock = clock
        self._timer = timer
        self._rule = rule
        self.tail = LogTail(account, self._rows_came)
        self.writer = BookWriter(self.tail, clock, self._plan_trim, self._begin_again)
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
        self._planned: IDelayedCall | None = None
        self._is_late = False  # `catch_up` has left rows to the next step
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
        self.writer.write()
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
        self.writer.plan()
        self._is_late = self.rows_behind > 0
        if self._is_late or self.writer.is_due:
            self._hurry()
        return not self._is_late

    # Steps.

    def _rows_came(self) -> None:
        if self.is_current:
            if self.rows_behind >= APPLY_ROWS:
                self._hurry()
            else:
                self.plan(APPLY_EVERY)

    def _pages_came(self) -> None:
        if self.is_current:
            self.plan()

    def _hurry(self) -> None:
        """Take in the next turn the step that waits for APPLY_EVERY."""
        self.plan()
        if self._planned is not None and self._planned.active():
            self._planned.reset(0)

    def plan(self, delay: float = 0.0) -> None:
        """Take a step after `delay` seconds, unless one is planned."""
        if self._planned is None:
            self._planned = self._clock.callLater(delay, self._run)

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
        except sqlite3.Error as error:
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
        self.strategies = Strategies(self.account, self.tables, self._rule, self.plan)
        self.epoch = log.epoch
        cursor = meta.get("cursor") or None
        if self.tail.start_at(cursor, LastEvents(log.last)):
            next_num = int(meta.get("next_num", "1"))
            self.state = BookState(self._load_family, self.tail.position, next_num)
            self.state.high = int(meta.get("high", "0"))
            self._after, self.phase = 0, Phase.LOADING
        else:
            self.state = BookState(self._load_family, self.tail.position)
            self.phase = Phase.CLEARING
        self.writer.begin(self.tables, self.state, self.strategies)

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
        """Apply some rows, or write them if they are many."""
        is_due = self.writer.is_due
        if is_due and self.writer.write():
            self.plan()
            return
        # Between live events a step is one read, so that none of them waits for long.
        end = self._timer() + (MAX_STEP if self.phase is Phase.BUILDING else 0)
        while self._take(READ_ROWS):
            if self.writer.is_due or self._timer() >= end:
                break
        if self.rows_behind > 0:
            self.plan()
            return
        # Not before: each correction of a fill makes a holding stale again.
        has_work = self.strategies is not None and self.strategies.work()
        if self.phase is Phase.BUILDING:
            self.phase = Phase.CURRENT
            self.state.orders.forget_seen()
            if self.strategies is not None:
                self.strategies.records.forget_seen()
        self._trim()
        if has_work or (self.writer.is_due and not is_due):
            self.plan()
        self.writer.plan()

    def _take(self, limit: int) -> bool:
        """Apply the next rows; return whether there were any. Raises ReplacedLogError."""
        try:
            rows = self.tail.read(limit)
        except TrimmedError:
            self.tail.skip_trimmed()
            self.gaps += 1
            return True
        for row in rows:
            try:
                event = None if row.payload is None else read_event(row.payload)
                if event is not None:
                    self._apply_to_strategies(row, event)
                self.state.apply(row, event)
            except (UnreadableError, sqlite3.Error):
                raise  # the row is read again
            except Exception:
                # A row that cannot be applied must not stop those behind it.
                self.gaps += 1
                self._report_failure()
            self.tail.take(row.seq)
        if self.state.has_hole:
            self.state.has_hole = False
            self.gaps += 1
        return bool(rows)

    def _apply_to_strategies(self, row: Row, event: BookEvent) -> None:
        """Apply a row to the strategies. Raises UnreadableError or sqlite3.Error: it waits then."""
        if self.strategies is None:
            return
        try:
            self.strategies.apply(row, event, self.state.high)
        except (sqlite3.Error, UnreadableError):
            raise
        except Exception:
            self._report_failure()

    def _plan_trim(self) -> None:
        if self._planned is None and self.account.log.first != self._trimmed:
            self.plan()

    def _trim(self) -> None:
        first = self.account.log.first
        if first != self._trimmed and not self.state.has_changes:
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
                self._log.failure(
                    "{account}: the book could not be written", account=self.account.name
                )
        with suppress(sqlite3.Error, UnreadableError):
            self.tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)
        self._restart(REBUILD_AFTER)

    def _report_failure(self) -> None:
        if not self._has_reported:
            self._has_reported = True
            self._log.failure(
                "{account}: the book could not apply an event", account=self.account.name
            )
