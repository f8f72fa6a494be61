"""One webhook and one account: sends the wanted events of the log in their order, at least once.

    state     event                                          next state
    --------  ---------------------------------------------  ---------------------------------
    waiting   this node may send, and the log can be read    ready, at the stored position
    ready     an event is wanted                             sending
    sending   accepted, or refused for good                  ready: the event is done
    sending   no answer, 408, 429, 5xx or a redirect         retrying: the same event, later
    sending   401, 403, 404 or 410                           stopped: the event is not done
    retrying  the delay is over                              sending; ready if it is too old now
    any       this node may no longer send                   waiting: what is in flight is cut off

One request is in flight. The log holds what waits, so a slow receiver costs the rows of one read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tradeproxy.config.webhooks import WebhookSettings
from tradeproxy.hub.account import INTERNAL_ERROR, Account
from tradeproxy.hub.locate import UnrecoverablePositionError
from tradeproxy.hub.log_tail import LogTail, ReplacedLogError
from tradeproxy.journal.base import Row, TrimmedError, UnreadableError
from tradeproxy.query.filters import Filter, read_traits
from tradeproxy.runtime.dates import SECOND
from tradeproxy.webhooks.delivery_log import DeliveryLog
from tradeproxy.webhooks.formats import build_request
from tradeproxy.webhooks.message import Message, Skipped, build_event_message
from tradeproxy.webhooks.positions import StoredPosition
from tradeproxy.webhooks.retry import RetrySchedule, Verdict, judge
from tradeproxy.webhooks.sender import ReceiverAnswer, Sender
from tradeproxy.webhooks.state import DeliveryState, DeliveryStats
from tradeproxy.webhooks.watch import AccountWatch
from tradeproxy.wire.position import Cursor, FromTime, LastEvents, compute_check

MAX_AGE = 24 * 3600 * SECOND
"""Microseconds after which an event is skipped."""

MAX_REPORTS = 100
"""Reports about the proxy that wait for their turn. The oldest is dropped, and counted."""

ROWS = 32
"""Rows of one read. They are parsed in one turn of the reactor: half a millisecond."""

UNWANTED_ROWS = 1000
"""After so many events that are not wanted, the position is stored nevertheless."""


def may_send(account: Account) -> bool:
    """Whether this node sends the messages about an account, and stores how far they are."""
    role = account.role
    return account.log.is_loaded and (role is None or role.is_writing)


class _InterruptedError(Exception):
    """The delivery stops, or this node may no longer send."""


class Delivery:
    """Sends the messages of one webhook about one account. It is idle until `start`."""

    def __init__(
        self,
        webhook: WebhookSettings,
        account: Account,
        sender: Sender,
        node: str,
        clock: IReactorTime,
        random: Callable[[], float],
        on_stopped: Callable[[str], None],
        stats: DeliveryStats | None = None,
    ) -> None:
        """Create the delivery.

        Args:
            webhook: what is wanted, and in which format.
            account: its log is read, and its state is watched.
            sender: sends one request at a time.
            node: identifies this process.
            clock: timers.
            random: returns floats from 0 to 1.
            on_stopped: called with the reason if the receiver refuses the URL.
            stats: the numbers of an earlier delivery, to continue with; by default new ones.
        """
        self.webhook = webhook
        self.account = account
        self.stats = stats or DeliveryStats(webhook.name, webhook.format.value, account.name)
        self.stats.state, self.stats.reason = DeliveryState.WAITING, ""
        self._log = DeliveryLog(self.stats)
        self._sender = sender
        self._node = node
        self._clock = clock
        self._random = random
        self._on_stopped = on_stopped
        self._filter = Filter(webhook.symbols, webhook.events, webhook.prefix)
        self._tail = LogTail(account, self._wake_soon)
        self._rows: deque[Row] = deque()
        self._reports: deque[tuple[int, Message]] = deque()
        self._watch: AccountWatch | None = None
        self._skipped = Skipped()
        self._stored = StoredPosition()
        self._time: int | None = None
        self._epoch = ""  # of the rows
        self._unstored = 0
        self._is_changed = False
        self._is_running = False
        self._is_waking = False
        self._is_cut_off = False
        self._waiting: Deferred[None] | None = None
        self._sending: Deferred[Any] | None = None
        self._running: Deferred[None] | None = None

    # For the service.

    def start(self, stored: Callable[[], StoredPosition | None]) -> None:
        """Begin; `stored` returns the position of an earlier process once the log can be read."""
        self._is_running = True
        self.account.on_state[self] = self._observe
        self._running = Deferred.fromCoroutine(self._run(stored))
        self._running.addErrback(self._fail)

    def _fail(self, failure: Failure) -> None:
        self._log.record_error("it has failed", failure)
        self._tail.stop()
        self.account.on_state.pop(self, None)
        self.stats.state, self.stats.reason = DeliveryState.STOPPED, INTERNAL_ERROR

    def stop(self) -> Deferred[None] | None:
        """End; what is in flight is cut off, and sent again by the next start."""
        self._is_running = False
        self.account.on_state.pop(self, None)
        self._interrupt()
        return self._running

    def stop_for(self, reason: str) -> None:
        """End, because the receiver has refused the URL."""
        self.stats.state, self.stats.reason = DeliveryState.STOPPED, reason
        self.stop()

    def look(self) -> None:
        """Look at the state of the account and at this node's role: call it every second."""
        if not may_send(self.account):
            self._interrupt()
            return
        self._observe()
        self._wake()

    def _observe(self) -> None:
        """Take what is new of the state of the account, with its place among the events."""
        if self._watch is None or not self._is_running or not may_send(self.account):
            return
        before = self._watch.known
        try:
            messages = self._watch.look()
        except Exception:  # whose state it is must not fail
            self._log.record_error("its state cannot be observed")
            return
        for message in messages:
            if message.type.removeprefix("proxy.") in self.webhook.events:
                self._add_report(message)
        self._is_changed = self._is_changed or self._watch.known != before
        if self._reports:
            self._wake_soon()

    def finish(self) -> None:
        """Have the next `take_position` return the position in any case."""
        self._is_changed = True

    def take_position(self) -> StoredPosition | None:
        """Return the position if it has changed since the last call, and can be stored."""
        if self._watch is None or not self._is_changed or not may_send(self.account):
            return None
        done, cursor = self._stored, self._tail.cursor
        if cursor is not None and not self._skipped.count:  # after a restart they are counted again
            done = replace(done, cursor=cursor, time=self._time)
        self._stored = replace(self._watch.known, cursor=done.cursor, time=done.time)
        self._is_changed, self._unstored = False, 0
        return self._stored

    # The conversation.

    async def _run(self, read_stored: Callable[[], StoredPosition | None]) -> None:
        position: StoredPosition | None = None
        while self._is_running:
            try:
                await self._begin(position or read_stored())
                while True:
                    await self._deliver_next()
            except _InterruptedError:
                position = None  # another node may have sent since
                if not may_send(self.account):
                    self._watch = None  # and reported: what is known here is no longer the newest
                self._skipped = Skipped()
                self._reports.clear()
                await self._pause()
            except UnreadableError:
                position = self._current()
                await self._pause()
            except ReplacedLogError:
                position = self._current()
                self._rows.clear()
        self._tail.stop()

    async def _pause(self) -> None:
        self._rows.clear()
        self._tail.stop()
        if self.stats.state is not DeliveryState.STOPPED:
            self.stats.state, self.stats.reason = DeliveryState.WAITING, ""
        if self._is_running:
            await self._wait()

    def _current(self) -> StoredPosition | None:
        """Return the position of this process, unless it has not begun."""
        if self._watch is None:
            return None
        known, cursor = self._watch.known, self._tail.cursor or self._stored.cursor
        return replace(known, cursor=cursor, time=self._time)

    async def _begin(self, stored: StoredPosition | None) -> None:
        if not may_send(self.account):
            raise _InterruptedError
        self._stored = stored or StoredPosition()
        self._time = self._stored.time
        self._start_tail(is_first=stored is None)
        self._watch = AccountWatch(self.account, self.webhook.after, self._node, self._stored)
        self._is_changed = True
        self.stats.state, self.stats.reason = DeliveryState.READY, ""

    def _start_tail(self, *, is_first: bool) -> None:
        """Continue after the stored cursor, or after the time of its event, or with all rows."""
        if is_first:
            self._tail.start(LastEvents(0))
            return
        oldest = LastEvents(self.account.log.last)
        if self._tail.start_at(self._stored.cursor, oldest):
            return
        log, time = self.account.log, self._time
        cursor = Cursor.parse(self._stored.cursor or "")
        if cursor is not None and cursor.epoch == log.epoch and cursor.seq < log.first:
            self._skip(log.first - 1 - cursor.seq, time, log.complete_from)
        elif time is not None:
            try:
                self._tail.start(FromTime(time))
            except UnrecoverablePositionError:
                self._skip(1, time, log.complete_from)

    async def _deliver_next(self) -> None:
        if not may_send(self.account) or not self._is_running:
            raise _InterruptedError
        if self._reports and self._reports[0][0] <= self._tail.position:
            _, report = self._reports[0]
            await self._deliver(report)
            if self._reports and self._reports[0][1] is report:
                self._reports.popleft()
        elif self._rows or self._read():
            row = self._rows[0]
            if (message := self._select(row)) is not None:
                if self._is_old(message) and self.account.dates.alpaca() is None:
                    await self._wait()  # this machine's clock may be wrong by years
                    return
                await self._deliver(message)
            self._rows.popleft()
            self._take(row)
            if not self._rows:
                self._clock.callLater(0, self._wake)  # others have their turn
                await self._wait()
        else:
            await self._wait()

    def _read(self) -> bool:
        try:
            self._rows.extend(self._tail.read(ROWS))
            self._epoch = self.account.log.epoch
        except TrimmedError:
            skipped = self._tail.skip_trimmed()
            self._skip(skipped, self._time, self.account.log.complete_from)
            return self._read()
        return bool(self._rows)

    def _take(self, row: Row) -> None:
        self._tail.take(row.seq)
        self._time = row.time if row.time is not None else self._time
        self._unstored += 1
        if self._unstored >= UNWANTED_ROWS:
            self._is_changed = True

    def _select(self, row: Row) -> Message | None:
        """Return the message of a row; None if it is not wanted."""
        if row.payload is None:  # its events were delivered, but could not be stored
            self._skip(1, row.time, row.time)
            return None
        if not self._filter.matches(read_traits(row.payload)):
            return None
        # A log that has lost its end reuses numbers: see Cursor.
        check = compute_check(row.payload)
        row_id = f"{self.account.name}-{self._epoch}-{row.seq}-{check:08x}"
        return build_event_message(self.account.name, row.payload, row_id, row.time, self._now())

    async def _deliver(self, message: Message) -> None:
        """Send a message until it is done: accepted, refused for good, or too old."""
        schedule = RetrySchedule(self._random)
        while True:
            if self._is_old(message):
                self._skip(1, message.time, message.time)
                break
            if schedule.failures == 0:
                self.stats.state = DeliveryState.SENDING
            now = self.account.dates.own()
            request = build_request(self.webhook, message, self._skipped, now)
            answer: ReceiverAnswer = await self._interruptible(
                Deferred.fromCoroutine(self._sender.send(request))
            )
            match judge(answer.status):
                case Verdict.DELIVERED:
                    self._log.record_sent(schedule.failures, self.account.dates.own())
                    self._skipped = Skipped()
                    break
                case Verdict.REJECTED:
                    self._log.record_rejected(message.id, answer.reason)
                    break
                case Verdict.STOP:
                    self._on_stopped(f"the receiver answers {answer.reason}")
                    raise _InterruptedError
                case Verdict.RETRY:
                    delay = schedule.delay(answer.retry_after)
                    self._log.record_failure(answer.reason, delay, schedule.failures)
                    await self._interruptible(deferLater(self._clock, delay))
        self.stats.state, self.stats.reason = DeliveryState.READY, ""
        self._is_changed = True

    async def _interruptible(self, work: Deferred[Any]) -> Any:
        """Await a Deferred that `_interrupt` cancels. A cancelled request may fail otherwise."""
        self._sending, self._is_cut_off = work, False
        try:
            result = await work
        except CancelledError:
            raise _InterruptedError from None
        finally:
            self._sending = None
        if self._is_cut_off:
            raise _InterruptedError
        return result

    def _interrupt(self) -> None:
        if self._sending is not None:
            self._is_cut_off = True
            self._sending.cancel()
        self._wake()

    # Waiting.

    async def _wait(self) -> None:
        self._waiting = Deferred()
        await self._waiting

    def _wake(self) -> None:
        self._is_waking = False
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)

    def _wake_soon(self) -> None:
        # This is called within the delivery to the clients.
        if self._waiting is not None and not self._is_waking:
            self._is_waking = True
            self._clock.callLater(0, self._wake)

    # What is known.

    def _now(self) -> int:
        return self.account.dates.now_microseconds()

    def _is_old(self, message: Message) -> bool:
        return message.time is not None and self._now() - message.time > MAX_AGE

    def _add_report(self, message: Message) -> None:
        if len(self._reports) == MAX_REPORTS:
            _, dropped = self._reports.popleft()
            self._skip(1, dropped.time, dropped.time)
        self._reports.append((self.account.log.last, message))

    def _skip(self, count: int, begin: int | None, end: int | None) -> None:
        if count:
            self._log.record_skipped(count, is_first=not self._skipped.count)
            self._skipped = self._skipped.add(count, begin, end)
