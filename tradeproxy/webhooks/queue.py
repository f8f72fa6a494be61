"""The messages of one webhook and account in their order, and the position after those sent.

They are the wanted events of the log, and between them the reports about the proxy. The log holds
what waits. The data of a large event is not kept in memory either: it is read when it is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from tradeproxy.config.webhooks import WebhookFormat, WebhookSettings
from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError
from tradeproxy.hub.log_tail import LogTail, ReplacedLogError
from tradeproxy.journal.base import Row, TrimmedError, UnreadableError
from tradeproxy.query.filters import Filter, read_traits
from tradeproxy.webhooks.delivery_log import DeliveryLog
from tradeproxy.webhooks.message import Message, Skipped, build_event_message
from tradeproxy.webhooks.positions import StoredPosition
from tradeproxy.webhooks.watch import AccountWatch
from tradeproxy.wire.position import Cursor, FromTime, LastEvents, compute_check

MAX_REPORTS = 100
"""Reports about the proxy that wait for their turn. The oldest is dropped, and counted."""

ROWS = 32
"""Rows of one read. They are parsed in one turn of the reactor: half a millisecond."""

KEPT_BYTES = 64 * 1024
"""Bytes of the rows that are kept of one read, unless the first is larger."""

KEPT_DATA = 32 * 1024
"""Bytes of an event that are kept until it is sent. Those of a larger one are read again."""

UNWANTED_ROWS = 1000
"""After so many events that are not wanted, the position is stored nevertheless."""

_read_traits = lru_cache(maxsize=4)(read_traits)
"""The webhooks of an account ask for the same frame, and one of 1 MiB takes long. A few accounts
may have such frames at once."""


class MessageQueue:
    """The messages of one webhook about one account. It is idle until `start`."""

    def __init__(
        self,
        webhook: WebhookSettings,
        account: Account,
        node: str,
        log: DeliveryLog,
        on_new: Callable[[], None],
    ) -> None:
        """Create the queue.

        Args:
            webhook: what is wanted.
            account: its log is read, and its state is watched.
            node: identifies this process.
            log: records what is skipped.
            on_new: called within the delivery to the clients when there may be a new message.
        """
        self.skipped = Skipped()
        """What was skipped since the last message that was accepted."""
        self.is_changed = False
        """Whether the position must be stored."""
        self.is_at_end = False
        """Whether there was no further event at the last `find_next`."""
        self._webhook = webhook
        self._account = account
        self._node = node
        self._log = log
        self._on_new = on_new
        self._filter = Filter(webhook.symbols, webhook.events, webhook.prefix)
        self._tail = LogTail(account, on_new)
        self._rows: deque[Row] = deque()
        self._row: Row | None = None  # that of the next message, without its payload
        self._epoch = ""  # of the rows
        self._reports: deque[tuple[int, Message]] = deque()
        self._watch: AccountWatch | None = None
        self._stored = StoredPosition()
        self._time: int | None = None
        self._unstored = 0

    def start(self, stored: StoredPosition | None) -> None:
        """Continue after a position; without one, begin with the next event.

        Raises UnreadableError.
        """
        self._stored = stored or StoredPosition()
        self._time = self._stored.time
        self._start_tail(is_first=stored is None)
        self._watch = AccountWatch(self._account, self._webhook.after, self._node, self._stored)
        self.is_changed = True

    def _start_tail(self, *, is_first: bool) -> None:
        """Continue after the stored cursor, or after the time of its event, or with all rows."""
        if is_first:
            self._tail.start(LastEvents(0))
            return
        oldest = LastEvents(self._account.log.last)
        if self._tail.start_at(self._stored.cursor, oldest):
            return
        log, time = self._account.log, self._time
        cursor = Cursor.parse(self._stored.cursor or "")
        if cursor is not None and cursor.epoch == log.epoch and cursor.seq < log.first:
            self.skip(log.first - 1 - cursor.seq, time, log.complete_from)
        elif time is not None:
            try:
                self._tail.start(FromTime(time))
            except UnrecoverablePositionError:
                self.skip(1, time, log.complete_from)

    def stop(self) -> None:
        """Be idle. What was not sent yet is still in the log."""
        self._rows.clear()
        self._tail.stop()

    def forget(self, *, is_outdated: bool) -> None:
        """Drop what only this process knows; `is_outdated` if another may report since."""
        self.skipped = Skipped()
        self._reports.clear()
        if is_outdated:
            self._watch = None

    # Messages.

    def find_next(self) -> Message | None:
        """Return the next message; None if none of the next ROWS events is wanted.

        The data of a large event is dropped: see `load`. Raises ReplacedLogError or
        UnreadableError. `take` must follow before the next call.
        """
        self._row, self.is_at_end = None, False
        if not self._rows and not self._has_due_report:
            self._read()
        while not self._has_due_report:
            if not self._rows:
                return None
            row = self._rows.popleft()
            if (message := self._select(row)) is not None:
                self._row = Row(row.seq, None, row.time)
                return message
            self._take_row(row)
        self.is_at_end = False
        return self._reports[0][1]

    @property
    def _has_due_report(self) -> bool:
        """Whether a report is next: all events before it are done."""
        return bool(self._reports) and self._reports[0][0] <= self._tail.position

    def load(self, message: Message) -> Message:
        """Return a message with the data that was dropped.

        Raises TrimmedError if it is no longer stored, ReplacedLogError or UnreadableError.
        """
        if (dropped := message.dropped) is None:
            return message
        if self._account.log.epoch != self._epoch:
            if self._time is None and self._row is not None:
                self._time = self._row.time  # no event is done: the new log may have this one
            raise ReplacedLogError
        # `find_next` has looked for damage, which takes most of the time of a read.
        batch = self._account.log.read(dropped.seq - 1, 1, finds_damage=False)
        if batch is None:  # the log has lost its end
            raise UnreadableError
        payload = batch.rows[0].payload
        if payload is None:  # it could not be stored
            raise TrimmedError
        try:
            return message.restore_data(dropped, payload)
        except ValueError:
            raise UnreadableError from None

    def take(self, message: Message) -> None:
        """Continue after a message, which is done."""
        if self._row is not None:
            self._take_row(self._row)
        elif self._reports and self._reports[0][1] is message:
            self._reports.popleft()
        self.is_changed = True

    def _read(self) -> None:
        try:
            rows = self._tail.read(ROWS)
        except TrimmedError:
            skipped = self._tail.skip_trimmed()
            self.skip(skipped, self._time, self._account.log.complete_from)
            rows = self._tail.read(ROWS)
        size = 0
        for row in rows:
            size += len(row.payload or b"")
            if self._rows and size > KEPT_BYTES:
                break
            self._rows.append(row)
        self._epoch, self.is_at_end = self._account.log.epoch, not rows

    def _select(self, row: Row) -> Message | None:
        """Return the message of a row; None if it is not wanted."""
        if row.payload is None:  # its events were delivered, but could not be stored
            self.skip(1, row.time, row.time)
            return None
        if not self._filter.matches(_read_traits(row.payload)):
            return None
        # A log that has lost its end reuses numbers: see Cursor.
        check = compute_check(row.payload)
        name, now = self._account.name, self._account.dates.now_microseconds()
        row_id = f"{name}-{self._epoch}-{row.seq}-{check:08x}"
        message = build_event_message(name, row.payload, row_id, row.time, now)
        if self._webhook.format is not WebhookFormat.JSON:
            return replace(message, data=b"")  # it sends the text alone
        if len(message.data) > KEPT_DATA:
            return message.drop_data(row.seq, row.payload)
        return message

    def _take_row(self, row: Row) -> None:
        self._tail.take(row.seq)
        self._time = row.time if row.time is not None else self._time
        self._unstored += 1
        if self._unstored >= UNWANTED_ROWS:
            self.is_changed = True

    def skip(self, count: int, begin: int | None, end: int | None) -> None:
        """Count events that are not sent, for the next message. Times are as in Skipped."""
        if count:
            self._log.record_skipped(count, is_first=not self.skipped.count)
            self.skipped = self.skipped.add(count, begin, end)

    # Reports.

    def observe(self) -> None:
        """Take what is new of the state of the account, with its place among the events."""
        if self._watch is None:
            return
        before = self._watch.known
        try:
            messages = self._watch.look()
        except Exception:  # whose state it is must not fail
            self._log.record_error("its state cannot be observed")
            return
        for message in messages:
            if message.type.removeprefix("proxy.") in self._webhook.events:
                self._add_report(message)
        self.is_changed = self.is_changed or self._watch.known != before
        if self._reports:
            self._on_new()

    def _add_report(self, message: Message) -> None:
        if len(self._reports) == MAX_REPORTS:
            _, dropped = self._reports.popleft()
            self.skip(1, dropped.time, dropped.time)
        self._reports.append((self._account.log.last, message))

    # The position.

    def get_position(self) -> StoredPosition | None:
        """Return the position of this process, unless it has not begun."""
        if self._watch is None:
            return None
        cursor = self._tail.cursor or self._stored.cursor
        return replace(self._watch.known, cursor=cursor, time=self._time)

    def take_position(self) -> StoredPosition | None:
        """Return the position to store, if it has changed since the last call."""
        if self._watch is None or not self.is_changed:
            return None
        done, cursor = self._stored, self._tail.cursor
        if cursor is not None and not self.skipped.count:  # after a restart they are counted again
            done = replace(done, cursor=cursor, time=self._time)
        self._stored = replace(self._watch.known, cursor=done.cursor, time=done.time)
        self.is_changed, self._unstored = False, 0
        return self._stored
