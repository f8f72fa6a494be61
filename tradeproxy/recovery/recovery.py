"""The recovery of one account: newer events are buffered until missed ones are delivered.

The buffering ends at a deadline. Events that are found later are delivered late, and are marked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import inf
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tradeproxy.book.book import Book
from tradeproxy.config.settings import RecoveryMode, RecoverySettings
from tradeproxy.hub.account import INTERNAL_ERROR, Account
from tradeproxy.recovery.backfill import TRIES, Backfill, BackfillResult
from tradeproxy.recovery.book_seed import BookSeed
from tradeproxy.recovery.found import FoundEvents
from tradeproxy.recovery.identity import identify_account, require_estimate
from tradeproxy.recovery.mute import MuteDetector
from tradeproxy.recovery.open_orders import COMPARE_EVERY, OpenOrders
from tradeproxy.recovery.order_backfill import UNUSABLE, OrderBackfill
from tradeproxy.recovery.outage import Outage
from tradeproxy.recovery.reconcile import Document, UnusableError, read_synthetic
from tradeproxy.recovery.synthetic import SyntheticEvents
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.runtime.dates import SECOND
from tradeproxy.upstream.rest import RestClient, RestRefusedError, RestUnavailableError
from tradeproxy.upstream.session import StreamListener
from tradeproxy.wire.frame import Recovered
from tradeproxy.wire.plural import plural_ending
from tradeproxy.wire.proxy_status import Gap, GapOutcome

FIRST_RETRY, MAX_RETRY = 1.0, 60.0
"""Seconds before a retry: the first delay, and the maximum. The delay doubles each time."""

FIRST_CHECK = 30.0
"""Seconds from the end of a backfill to the first check. The time doubles with each check."""

MUTE = "the stream was mute; it is opened again"
"""The reason of that disconnect, in `proxy_status` and /readyz."""

RECONCILE_SLACK = 10 * SECOND
"""A check leaves out this long before now: the stream may still deliver those events."""

_TRIMMED = "the journal was trimmed beyond the gap's begin"
_OVERSIZED = {
    GapOutcome.RECOVERED: "an event of the history has more than 1 MiB or 1000 lines",
    GapOutcome.ORDERS: (
        "an event made of an order is too large or nested too deeply, or all of them are too large"
    ),
}
_UNKNOWN_BEGIN = (
    "the journal was replaced, or its clock was wrong: the time of its last event is unknown"
)

_T = TypeVar("_T")


class Recovery(StreamListener):
    """Follows one account's stream across its connections, and recovers what the stream missed.

        trigger                       action
        ----------------------------  ------------------------------------------------------------
        a connection opens            Buffer its events.
        the first stream is up        Identify the account, then stop buffering.
        the stream is up again        Start a backfill from the start of the gap, and a deadline.
        the backfill ends             Settle the gap as RECOVERED, ORDERS or LOST. Stop buffering.
        the deadline passes first,    Settle the gap as OPEN and stop buffering. The backfill
        or the buffer is full         continues; what it finds is late.
        the connection closes first   Cancel the backfill. The deadline continues. The next stream
                                      starts a new backfill, because the gap is longer.
        the stream stays up           Check that it missed nothing: after FIRST_CHECK, then at
                                      doubling intervals up to that of the settings.
        a check finds it mute         Open the stream again.
        stop                          Cancel everything. Buffered events go to the journal, where
                                      the gap stays open.

    A backfill is retried until Alpaca answers or rejects it.
    """

    def __init__(
        self,
        account: Account,
        rest: RestClient,
        settings: RecoverySettings,
        clock: IReactorTime,
        book: Book | None = None,
    ) -> None:
        """Create the recovery; the stream's callbacks start it.

        Args:
            account: buffers and publishes the events, and has the gaps.
            rest: the account's REST client.
            settings: mode, deadline and check interval (seconds).
            clock: schedules the deadline, the retries and the checks.
            book: is compared with Alpaca's orders and positions after a recovery and each check.
        """
        self._account = account
        self._log = AccountLogger(self, account.name)
        self._rest = rest
        self._settings = settings
        self._clock = clock
        self._task: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None
        self._reason = ""
        self._found = FoundEvents(account)
        self._check_failure = ""
        self._history_fails = False
        self._compared_at = -inf
        self._outage = Outage(clock)
        self._mute = MuteDetector(account)
        self._open_orders = OpenOrders(account, rest)
        self._synthetic = SyntheticEvents(account.log, clock)
        self._book_seed = None if book is None else BookSeed(book, rest, clock)
        account.on_buffer_full = self._release_full_buffer

    # Callbacks of the stream.

    def connection_opened(self) -> None:
        """Buffer the connection's events: older ones may be missing."""
        if self._settings.mode is not RecoveryMode.OFF:
            self._account.start_buffering()
            if not self._account.buffered:
                # The deadline of an earlier connection must not release this one's events.
                self._cancel_deadline()

    def stream_up(self) -> None:
        """Start a backfill. A running one is replaced, because the gap is longer now."""
        if self._settings.mode is RecoveryMode.OFF:
            self._account.settle_gap(GapOutcome.LOST, "recovery is off")
            return
        self._cancel_task()
        self._outage.stream_up()
        self._mute.stream_up()
        # The deadline of older events may have ended the buffering since the connection opened.
        self._account.start_buffering()
        self._start_task()

    def connection_closed(self) -> None:
        """Cancel the backfill. Buffered events wait for the next connection or the deadline."""
        self._outage.stream_lost()
        if self._book_seed is not None:
            self._book_seed.stream_lost()
        self._cancel_task()
        if self._account.is_buffering:
            self._reason = "the stream was lost again"
            self._start_deadline()

    def stop(self) -> None:
        """Cancel everything. Buffered events go to the journal; the gap stays open there."""
        self._cancel_task()
        self._stop_buffering()
        self._account.is_mute = False

    async def _run(self, delay: float) -> None:
        if delay:
            await deferLater(self._clock, delay)
        gap = self._account.open_gap
        if gap is not None:
            await self._recover(gap)
        elif self._account.completeness.checked_through is None:
            await self._start_log()
        self._outage.close()
        self._stop_buffering()
        await self._compare_open_orders()
        await self._seed_book()
        interval = min(FIRST_CHECK, self._settings.reconcile_interval)
        while True:
            await deferLater(self._clock, self._adjust(interval))
            await self._check()
            await self._seed_book()
            interval = min(2 * interval, self._settings.reconcile_interval)

    def _adjust(self, interval: float) -> float:
        """Return the seconds until the next check: usually `interval`."""
        # While the history fails, a check takes several requests, and events may wait for it.
        if self._history_fails:
            return FIRST_CHECK
        # A mute stream is opened again when a check finds it still mute, so one is due then.
        return min(interval, self._mute.wait) if self._mute.wait else interval

    async def _start_log(self) -> None:
        """Identify the account before its first event. A new log has no older events to find."""
        self._start_deadline()
        self._account.completeness.check_through(await self._retry(self._ask_time))

    async def _ask_time(self) -> int:
        now = await identify_account(self._account, self._rest)
        require_estimate(self._account, now)
        return now

    async def _recover(self, gap: Gap) -> None:
        """Backfill a gap until it is settled."""
        started = self._clock.seconds()
        self._reason = f"Alpaca takes longer than {self._settings.deadline:g} s"
        self._found.begin_search()
        if self._account.is_buffering:
            self._start_deadline()
        result = await self._retry(self._build_backfill().run)
        # Read this first: recording the result may advance it. Beyond the gap's begin, the journal
        # has trimmed events of the gap, and drops those that the backfill found as duplicates.
        dedup_horizon = self._account.log.dedup_horizon
        # The orders' events count the buffered ones as delivered: one commit has both. The count
        # comes before, because it compares with the buffer.
        self._found.count()
        self._stop_buffering()
        self._record_completeness(result)
        if gap.begin is None:
            result = replace(result, outcome=GapOutcome.LOST, reason=_UNKNOWN_BEGIN)
        elif dedup_horizon is not None and dedup_horizon > gap.begin:
            result = replace(result, outcome=GapOutcome.LOST, reason=_TRIMMED)
        elif result.has_oversized:
            reason = _OVERSIZED[result.outcome]
            result = replace(result, outcome=GapOutcome.LOST, reason=reason)
        self._account.settle_gap(result.outcome, result.reason)
        self._open_orders.unusable |= result.unusable
        self._log.info(
            "recovery ended: {outcome}, "
            "{events} missed event{s} in {seconds:.1f} s; the stream was down for {down}{because}",
            outcome=result.outcome.value,
            events=self._found.total,
            s=plural_ending(self._found.total),
            seconds=self._clock.seconds() - started,
            down=self._outage.describe(gap),
            because=f"; {result.reason}" if result.reason else "",
        )

    async def _retry(self, ask: Callable[[], Awaitable[_T]], tries: float = inf) -> _T:
        """Return what `ask` returns, at the last try or before. Raises RestUnavailableError."""
        delay = FIRST_RETRY
        while True:
            try:
                return await ask()
            except RestUnavailableError as error:
                tries -= 1
                if tries < 1:
                    raise
                self._reason = error.reason
                self._found.count()
                await deferLater(self._clock, max(delay, error.retry_after))
            delay = min(2 * delay, MAX_RETRY)

    async def _check(self) -> None:
        """Look for events that a healthy stream omitted."""
        self._found.begin_search()
        is_checked = False
        begin = self._account.completeness.backfill_from
        try:
            backfill = self._build_backfill(RECONCILE_SLACK, 1 if self._history_fails else TRIES)
            result = await self._retry(backfill.run, TRIES)
        except RestUnavailableError as error:
            problem = error.reason
        else:
            is_checked = result.outcome is not GapOutcome.LOST
            problem = "" if is_checked and result.history_from is None else result.reason
            if is_checked:
                self._record_completeness(result)
                if result.has_oversized:
                    problem = _OVERSIZED[result.outcome]
                    self._account.declare_lost(begin, result.through, problem)
                    self._open_orders.unusable |= result.unusable
        # A mute stream is opened again first: every request after this one is a delay.
        newest = self._found.newest
        if is_mute := newest is not None and self._mute.is_mute(newest):
            self._handle_mute_stream()
        if is_checked:
            await self._compare_open_orders()
        self._found.count()
        if self._found.total:
            self._log.warn(
                "the stream omitted {events} event{s}, delivered late",
                events=self._found.total,
                s=plural_ending(self._found.total),
            )
        if problem and not self._check_failure:  # one line per outage, not per check
            self._log.warn("cannot check whether the stream is complete: {reason}", reason=problem)
        self._check_failure = problem
        if is_checked and not self._found.total and not is_mute:
            self._account.is_mute = False

    def _handle_mute_stream(self) -> None:
        self._account.is_mute = True
        if self._mute.may_reopen():
            self._log.warn(
                "the stream is mute: it brought none of the last events; it is opened again"
            )
            # In a turn of its own: the end of the connection cancels this task.
            self._clock.callLater(0, self.reopen, MUTE)

    async def _compare_open_orders(self) -> None:
        """Deliver events of orders that closed without one. The next check retries a failure."""
        checked, now = self._account.completeness.checked_through, self._clock.seconds()
        if self._settings.mode is not RecoveryMode.AUTO or checked is None:
            return
        if now < self._compared_at + COMPARE_EVERY:
            return
        self._compared_at = now
        try:
            unusable = await self._open_orders.find_closed(checked, self._deliver_made)
        except (RestRefusedError, RestUnavailableError):
            return
        finally:
            self._found.count()
        if unusable is not None:
            self._log.warn("an order closed without an event: {reason}", reason=UNUSABLE)
            self._account.declare_lost(unusable.time, checked, UNUSABLE)

    def _deliver_made(self, data: Document) -> bool:
        """Deliver an event that is made of an order; return whether it is usable."""
        try:
            event = read_synthetic(data)
        except UnusableError:
            self._account.drop_frame(UNUSABLE)
            return False
        self._found.deliver(event, Recovered.ORDERS)
        return True

    async def _seed_book(self) -> None:
        """Compare the book with Alpaca's orders and positions. The next check retries a failure."""
        if self._book_seed is not None:
            await self._book_seed.run()

    def _build_backfill(self, slack: int = 0, tries: int = TRIES) -> Backfill:
        return Backfill(
            self._account,
            self._rest,
            self._clock,
            self._settings.mode,
            self._found.deliver,
            OrderBackfill(
                self._account,
                self._rest,
                self._clock,
                self._open_orders,
                lambda event: self._found.deliver(event, Recovered.ORDERS),
                slack,
            ),
            self._synthetic,
            slack,
            tries,
        )

    def _record_completeness(self, result: BackfillResult) -> None:
        """Save in the journal up to which time the log is complete, or cannot become so."""
        self._history_fails = result.history_from is not None
        if not self._history_fails and result.outcome is GapOutcome.ORDERS:
            self._account.completeness.supersede_history(result.through)
        through = result.through if result.history_from is None else result.history_from
        self._account.completeness.check_through(through)

    # The buffering and its deadline.

    def _start_deadline(self) -> None:
        """Start the deadline. The deadline of events that are already buffered is not extended."""
        if self._deadline is not None:
            if self._account.buffered:
                return
            self._deadline.cancel()
        self._deadline = self._clock.callLater(self._settings.deadline, self._pass_deadline)

    def _pass_deadline(self) -> None:
        self._deadline = None
        self._found.count()  # this compares with the buffer, so it comes before its release
        gap, buffered = self._account.open_gap, len(self._account.buffered)
        self._stop_buffering()
        if gap is None or (self._task is None and not buffered):
            return  # no newer event was released
        self._account.settle_gap(GapOutcome.OPEN, self._reason)
        self._log.warn(
            "newer events are sent now, missed ones will be late: {reason}", reason=self._reason
        )

    def _release_full_buffer(self) -> None:
        """Handle a full buffer like the deadline: Alpaca may send events without end."""
        self._cancel_deadline()
        self._reason = "too many newer events wait"
        if self._account.open_gap is None:
            self._log.warn(
                "{events} event{s} sent now: {reason}",
                events=len(self._account.buffered),
                s=plural_ending(len(self._account.buffered)),
                reason=self._reason,
            )
        self._pass_deadline()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop_buffering(self) -> None:
        self._cancel_deadline()
        self._account.stop_buffering()

    def _start_task(self, delay: float = 0.0) -> None:
        self._task = Deferred.fromCoroutine(self._run(delay))
        self._task.addErrback(self._failed)

    def _cancel_task(self) -> None:
        self._found.count()  # the events found so far were delivered
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._log.failure("the recovery failed", failure)
        self._account.settle_gap(GapOutcome.OPEN, INTERNAL_ERROR)
        self._stop_buffering()  # an error of ours must not delay newer events
        self._start_task(MAX_RETRY)
