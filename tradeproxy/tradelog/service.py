"""Writes an account's trade log, behind the clients: the log is read once a second.

A round reads the new rows in small steps, each in a turn of the reactor. One call in a thread then
writes their lines and a checkpoint: the disk has everything up to it. An error ends a round. The
next one begins again at the checkpoint, and the files' ends show what they have already:

    state      event                                   effect                      next state
    ---------  --------------------------------------  --------------------------  ----------
    waiting    this node may write                     lock the files              writing
    writing    a second is over                        write the new rows          writing
    writing    the log is another one                  find the position in it     writing
    writing    an error of the disk                    report it, wait 5 s         waiting
    writing    another node leads                      unlock the files            waiting
    any        stop                                    one more round, then close  stopped
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError
from tradeproxy.hub.log_tail import LogTail, ReplacedLogError
from tradeproxy.hub.trade_log_state import TradeLogState
from tradeproxy.journal.base import JournalError, Row, TrimmedError, UnreadableError
from tradeproxy.journal.file import describe_os_error
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.tradelog.checkpoints import Checkpoint
from tradeproxy.tradelog.day_files import DayFiles
from tradeproxy.tradelog.lines import Line, LineFormat
from tradeproxy.wire.plural import plural
from tradeproxy.wire.position import AfterId, Cursor, LastEvents

T = TypeVar("T")

NOTICE = "trade log"
"""The key of the account's notice while nothing can be written."""

INTERVAL = 1.0
"""Seconds between two rounds."""

RETRY_INTERVAL = 5.0
"""Seconds from an error to the next attempt."""

STOP_TIMEOUT = 2.0
"""Seconds for the last round at a stop. The next start writes what is left."""

STEP = 16
"""Rows that one turn of the reactor reads and formats: about a millisecond."""

MAX_ROUND = 256 * 1024
"""Bytes after which a round ends. They are in memory, and a crash leaves that much to compare."""

_ALL = LastEvents(2**62)


class TradeLogService(Service):
    """Writes the trade log of one account, if this node leads it."""

    def __init__(
        self,
        account: Account,
        files: DayFiles,
        line_format: LineFormat,
        clock: IReactorTime,
        in_thread: Callable[[Callable[[], Any]], Deferred[Any]],
    ) -> None:
        """Write nothing before the start.

        Args:
            account: its log is read; gets the state of the trade log, and a notice while it fails.
            files: where lines are written.
            line_format: makes the lines.
            clock: timers.
            in_thread: calls a function that blocks, and returns its result.
        """
        self._account = account
        self._log = AccountLogger(self, account.name)
        self._files = files
        self._format = line_format
        self._clock = clock
        self._in_thread = in_thread
        self._tail = LogTail(account, lambda: None)  # it is read once a second
        self._state = account.trade_log = TradeLogState()
        self._checkpoint: Checkpoint
        # Of the last row that was taken. An event without a time is filed under the time before it.
        self._newest: Checkpoint
        self._declared = ("", 0)  # the epoch and the last row that was declared as missing
        self._holes = 0  # that were taken last, and are not declared yet
        self._pause: Deferred[None] | None = None
        self._running: Deferred[None] | None = None

    def startService(self) -> None:
        """Begin to write. An error is reported, and tried again."""
        super().startService()
        self._running = Deferred.fromCoroutine(self._run())

    def stopService(self) -> Deferred[None] | None:
        """Write what is left, in at most STOP_TIMEOUT, and close the files."""
        super().stopService()
        if self._pause is not None:
            self._pause.cancel()
        if self._running is not None:
            self._running.addTimeout(STOP_TIMEOUT, self._clock).addErrback(self._cut_short)
        return self._running

    def shorten_stop(self) -> None:
        """Stop without writing what is left. Safe before stopService, and safe to repeat."""
        if self._running is not None and not self.running:
            self._running.cancel()

    def _cut_short(self, _: object) -> None:
        self._log.warn("the trade log was not written to its end; the next start writes the rest")

    async def _run(self) -> None:
        while True:
            delay = INTERVAL
            if self._may_write:
                delay = await self._write_until_problem()
                self._tail.stop()
            if not self._may_write:
                await self._in_thread(self._files.close)
                self._state.position = None
                self._report(None)
            if not self.running:
                break
            await self._wait(delay)
        await self._in_thread(self._files.close)

    async def _write_until_problem(self) -> float:
        """Write until the stop, an error or the end of a term. Return the seconds to wait then."""
        try:
            await self._write_until_stopped()
        except CancelledError:  # the stop has lasted too long
            raise
        except UnreadableError:
            pass  # the journal has reported why
        except JournalError as error:
            self._report(str(error))
        except OSError as error:
            directory = self._files.directory
            self._report(f"{directory}: {describe_os_error(error, directory)}")
        except Exception:
            self._log.failure("the trade log failed")
            self._report("an error of the proxy's own: see its log")
        else:
            return INTERVAL
        return RETRY_INTERVAL

    @property
    def _may_write(self) -> bool:
        """Whether this node writes the account's log, and has read what it is to continue."""
        role = self._account.role
        return (role is None or role.is_leader) and self._account.log.is_loaded

    async def _write_until_stopped(self) -> None:
        await self._in_thread(self._files.open)
        await self._find_position()
        while self._may_write:
            while await self._write_round():
                pass
            self._report(None)
            if not self.running:
                break
            await self._wait(INTERVAL)

    async def _wait(self, seconds: float) -> None:
        """Wait; a stop ends the wait early."""
        if self.running:
            self._pause = deferLater(self._clock, seconds)
            with suppress(CancelledError):
                await self._pause
            self._pause = None

    # The position.

    async def _find_position(self) -> None:
        """Continue after the newest checkpoint, or after the newest line, or at the beginning."""
        log, now = self._account.log, self._account.dates.now_microseconds()
        checkpoints = self._files.checkpoints.newest_first
        written = checkpoints[:1]
        if not checkpoints:
            newest = await self._in_thread(lambda: self._files.find_newest(log.epoch))
            checkpoints = [] if newest is None else [Checkpoint(newest, now)]
        found = next(filter(self._continue_after, checkpoints), None)
        if found is None:
            self._tail.start(_ALL)
            if checkpoints:
                self._begin_elsewhere(checkpoints[0].cursor)
            cursor = Cursor.parse(self._tail.cursor or "")
            assert cursor is not None, "the row is not a new one, so it is durable"
            found = Checkpoint(cursor, checkpoints[0].time if checkpoints else now)
        self._checkpoint = self._newest = found
        if written != [found]:
            # Before the first line: after a crash, an event without a time gets the same date.
            await self._in_thread(lambda: self._files.write((), found, found.cursor))
        self._state.position = found.cursor.seq

    def _continue_after(self, checkpoint: Checkpoint) -> bool:
        try:
            self._tail.start(AfterId(str(checkpoint.cursor)))
        except UnrecoverablePositionError:
            return False
        return True

    def _begin_elsewhere(self, newest: Cursor) -> None:
        """Decide where to continue in a log that does not have the newest checkpoint."""
        log = self._account.log
        if newest.epoch == log.epoch and newest.seq > log.last:
            # The log has lost its end, such as after a restore. The files have all that is left.
            self._tail.start(LastEvents(0))
        elif newest.seq < log.first - 1:
            # In a new log of the same account too, the numbers continue.
            self._declare(newest.seq, log.first - 1, "are no longer in the journal", log.epoch)

    # A round.

    async def _write_round(self) -> bool:
        """Write the next rows, and a checkpoint. Return whether there may be more."""
        is_replaced = False
        self._holes = 0
        lines: list[Line] = []
        size = 0
        if self._may_write and not self._is_in_log():
            await self._find_position()
        try:
            while size < MAX_ROUND and self._may_write and (rows := self._read()):
                new = [line for row in rows if (line := self._make_line(row)) is not None]
                self._tail.take(rows[-1].seq)
                lines += new
                size += sum(len(line.text) for line in new)
                if not self._account.lag(self._tail.position):
                    break
                await deferLater(self._clock, 0)  # one step for each turn of the reactor
        except ReplacedLogError:
            is_replaced = True
        self._declare_holes(self._tail.position)
        await self._write(lines)
        if is_replaced:
            await self._find_position()
        return is_replaced or size >= MAX_ROUND

    def _is_in_log(self) -> bool:
        """Whether the log still has the row that was taken last: Redis can lose its end."""
        position = self._tail.position
        if position < self._account.log.first:
            return True  # it is trimmed, or there was none
        return self._account.cursor_at(position) == str(self._newest.cursor)

    async def _write(self, lines: list[Line]) -> None:
        newest, after = self._newest, self._checkpoint.cursor
        if newest == self._checkpoint:
            return
        written = await self._in_thread(lambda: self._files.write(lines, newest, after))
        self._state.rows += written
        self._checkpoint = newest
        self._state.position = newest.cursor.seq

    def _read(self) -> list[Row]:
        """Return the next rows that a crash cannot take back."""
        try:
            rows = self._tail.read(STEP)
        except TrimmedError:
            before = self._tail.position
            self._declare_holes(before)
            self._tail.skip_trimmed()
            why = "were trimmed before they could be written"
            self._declare(before, self._tail.position, why, self._account.log.epoch)
            rows = self._tail.read(STEP)
        durable: list[Row] = []
        for row in rows:
            if not row.durable:
                break
            durable.append(row)
        return durable

    def _make_line(self, row: Row) -> Line | None:
        """Return the line of a row; None for a hole, or for an event that cannot be written."""
        time = self._newest.time if row.time is None else row.time
        cursor = Cursor.parse(self._account.cursor_after(row) or "")
        assert cursor is not None, "the row is durable"
        self._newest = Checkpoint(cursor, time)
        if row.payload is None:
            self._holes += 1
            return None
        self._declare_holes(row.seq - 1)
        try:
            return self._format.make_line(row, time, str(cursor))
        except (ValueError, RecursionError):
            self._declare(row.seq - 1, row.seq, "cannot be formatted", cursor.epoch)
            return None

    def _declare_holes(self, last: int) -> None:
        """Declare the holes up to row `last` together: there may be 100,000 of them in a row."""
        epoch = self._newest.cursor.epoch  # theirs: the log may be another one by now
        self._declare(last - self._holes, last, "could not be stored in the journal", epoch)
        self._holes = 0

    def _declare(self, after: int, through: int, why: str, epoch: str) -> None:
        """Count and log once, also if a later error has the rows read again, what is missing."""
        declared_epoch, known = self._declared
        if epoch == declared_epoch:
            after = max(after, known)
        if (count := through - after) > 0:
            self._declared = epoch, through
            self._state.missing += count
            rows = plural(count, "row")
            self._log.warn("the trade log lacks {rows}, which {why}", rows=rows, why=why)

    def _report(self, reason: str | None) -> None:
        notices, self._state.is_failing = self._account.notices, reason is not None
        if reason is None:
            if notices.pop(NOTICE, None) is not None:
                self._log.info("the trade log is written again")
        elif notices.get(NOTICE) != (notice := f"the trade log is not written: {reason}"):
            notices[NOTICE] = notice
            self._log.warn("{notice}; it waits, and continues where it was", notice=notice)
