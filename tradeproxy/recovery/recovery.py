"""The recovery of one account: newer events wait, for a while, until those that were missed are there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tradeproxy.config.settings import RecoveryMode
from tradeproxy.hub.account import INTERNAL_ERROR
from tradeproxy.recovery.backfill import SECOND, Backfill, BackfillResult, identify_account
from tradeproxy.upstream.rest import RestUnavailableError
from tradeproxy.upstream.session import StreamListener
from tradeproxy.wire.frame import Recovered, with_mark
from tradeproxy.wire.proxy_status import Gap, GapOutcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from tradeproxy.config.settings import RecoverySettings
    from tradeproxy.hub.account import Account
    from tradeproxy.upstream.rest import RestClient
    from tradeproxy.wire.event import Event

FIRST_RETRY, MAX_RETRY = 1.0, 60.0
"""Seconds between two attempts: at first, and at most; they double each time."""

RECONCILE_SLACK = 10 * SECOND
"""What a check leaves out: what happened just now may still be on its way over the stream."""

_TRIMMED = "the journal was trimmed beyond the gap's begin"

_T = TypeVar("_T")


class Recovery(StreamListener):
    """Watches one account's stream over all of its connections, and sees to what it did not bring.

    | when                                    | then                                                      |
    |-----------------------------------------|-----------------------------------------------------------|
    | a connection opens                      | its events are held                                       |
    | the stream is up, the very first one    | it is asked whose account it is, then they follow         |
    | the stream is up again                  | what was missed is asked for, from the gap's begin        |
    | it has arrived, or cannot be had at all | the gap is settled, what was held follows                 |
    | the deadline passes before              | what was held follows; what is found from then on is late |
    | the connection is lost before           | the deadline runs on; the next connection begins anew     |
    | the stream stays up                     | now and then it is checked that nothing was missed        |
    """

    _log = Logger()

    def __init__(
        self, account: Account, rest: RestClient, settings: RecoverySettings, clock: IReactorTime
    ) -> None:
        self._account = account
        self._rest = rest
        self._settings = settings
        self._clock = clock
        self._task: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None
        self._reason = ""
        self._newest: int | None = None
        self._seen: set[tuple[str, bytes]] = set()
        self._uncounted: set[tuple[str, bytes]] = set()
        self._found = 0
        self._check_failure = ""
        self._unknown_orders: set[str] = set()

    # The stream's course.

    def connection_opened(self) -> None:
        """Let its events wait, as from now on some may follow others that are missing."""
        if self._settings.mode is not RecoveryMode.OFF:
            self._account.start_buffering()
            if (
                not self._account.buffered
            ):  # what comes is not to be let go of by an older connection's deadline
                self._cancel_deadline()

    def stream_up(self) -> None:
        """Begin to ask for what was missed, or begin anew: the gap is longer by now."""
        if self._settings.mode is RecoveryMode.OFF:
            self._account.gaps.settle(GapOutcome.LOST, "recovery is off")
            return
        self._cancel_task()
        self._account.start_buffering()  # the deadline of older events may have passed since it opened
        self._start_task()

    def connection_closed(self) -> None:
        """Stop asking; what is held waits for the next connection, but not beyond the deadline."""
        self._cancel_task()
        if self._account.is_buffering:
            self._reason = "the stream was lost again"
            self._start_deadline()

    def stop(self) -> None:
        """End all of it; what is held goes to the journal, and the gap stays open in it."""
        self._cancel_task()
        self._stop_buffering()

    async def _run(self, delay: float) -> None:
        if delay:
            await deferLater(self._clock, delay)
        gap = self._account.gaps.current
        if gap is not None:
            await self._recover(gap)
        elif self._account.gaps.checked_through is None:
            await self._begin_log()
        self._stop_buffering()
        while True:
            await deferLater(self._clock, self._settings.reconcile_interval)
            await self._check()

    async def _begin_log(self) -> None:
        """Ask whose log this is, before its first event; there is nothing older to be asked for."""
        self._start_deadline()
        now = await self._retry_until_answered(lambda: identify_account(self._account, self._rest))
        self._account.gaps.check_through(now)

    async def _recover(self, gap: Gap) -> None:
        """See to a gap to its end."""
        began = self._clock.seconds()
        self._account.flush()  # what was let go of in this very turn is newer as well
        self._newest = self._account.journal.latest_time
        self._reason = f"Alpaca takes longer than {self._settings.deadline:g} s"
        self._begin_search()
        if self._account.is_buffering:
            self._start_deadline()
        finding = await self._retry_until_answered(self._build_backfill().run)
        horizon = self._account.journal.dedup_horizon
        self._record_completeness(finding)
        if horizon is not None and horizon > gap.begin:
            finding = replace(finding, outcome=GapOutcome.LOST, reason=_TRIMMED)
        self._count_found()
        self._account.gaps.settle(finding.outcome, finding.reason)
        self._log.info(
            "{account}: recovery ended: {outcome}, {events} missed events in {seconds:.1f} s{because}",
            account=self._account.name,
            outcome=finding.outcome.value,
            events=self._found,
            seconds=self._clock.seconds() - began,
            because=f"; {finding.reason}" if finding.reason else "",
        )

    async def _retry_until_answered(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        delay = FIRST_RETRY
        while True:
            try:
                return await ask()
            except RestUnavailableError as error:
                self._reason = error.reason
                self._count_found()
                await deferLater(self._clock, max(delay, error.retry_after))
            delay = min(2 * delay, MAX_RETRY)

    async def _check(self) -> None:
        """Look for events that a healthy stream did not bring; what fails is left to the next time."""
        self._begin_search()
        try:
            finding = await self._build_backfill(RECONCILE_SLACK).run()
        except RestUnavailableError as error:
            trouble = error.reason
        else:
            trouble = finding.reason if finding.outcome is GapOutcome.LOST else ""
            if not trouble:
                self._record_completeness(finding)
        self._count_found()
        if self._found:
            self._log.warn(
                "{account}: the stream had left out {events} events; they have been delivered late",
                account=self._account.name,
                events=self._found,
            )
        if trouble and not self._check_failure:
            self._log.warn(
                "{account}: it cannot be checked whether the stream is complete: {reason}",
                account=self._account.name,
                reason=trouble,
            )
        self._check_failure = trouble

    def _build_backfill(self, slack: int = 0) -> Backfill:
        return Backfill(
            self._account,
            self._rest,
            self._clock,
            self._settings.mode,
            self._deliver,
            self._unknown_orders,
            slack,
        )

    def _record_completeness(self, finding: BackfillResult) -> None:
        """Keep in the journal how far all is known, or given up."""
        self._account.flush()
        if (
            finding.outcome is GapOutcome.ORDERS
        ):  # the history has other events for what was told of
            self._account.journal.advance_dedup_horizon(finding.through)
        self._account.gaps.check_through(finding.through)

    # What is found.

    def _begin_search(self) -> None:
        self._seen.clear()
        self._found = 0

    def _deliver(self, event: Event, source: Recovered) -> None:
        key = (event.identity, event.digest)
        if key in self._seen or self._account.journal.has(event):
            return
        self._seen.add(key)
        self._uncounted.add(key)
        if source is Recovered.ORDERS or self._is_late(event):
            event = replace(event, payload=with_mark(event.payload, source))
        self._account.publish_recovered(event)

    def _is_late(self, event: Event) -> bool:
        """Whether newer events have been delivered before: since the hold ended, or before it began."""
        if not self._account.is_buffering:
            return True
        return self._newest is not None and (event.time is None or event.time < self._newest)

    def _count_found(self) -> None:
        """Count what was delivered; not what the stream has brought too, and still waits."""
        missed = self._uncounted - {
            (event.identity, event.digest) for event in self._account.buffered
        }
        self._uncounted.clear()
        self._found += len(missed)
        self._account.gaps.count_found(len(missed))

    # What is held, and how long.

    def _start_deadline(self) -> None:
        """Begin to count, unless something waits that has its deadline already."""
        if self._deadline is not None:
            if self._account.buffered:
                return
            self._deadline.cancel()
        self._deadline = self._clock.callLater(self._settings.deadline, self._pass_deadline)

    def _pass_deadline(self) -> None:
        self._deadline = None
        self._count_found()
        gap, held = self._account.gaps.current, len(self._account.buffered)
        self._stop_buffering()
        if gap is None or (self._task is None and not held):
            return  # nothing newer has been handed on
        self._account.gaps.settle(GapOutcome.OPEN, self._reason)
        self._log.warn(
            "{account}: newer events don't wait any longer, what was missed will come late: {reason}",
            account=self._account.name,
            reason=self._reason,
        )

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
        self._count_found()
        watch, self._task = self._task, None
        if watch is not None:
            watch.cancel()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._log.failure("{account}: the recovery failed", failure, account=self._account.name)
        self._account.gaps.settle(GapOutcome.OPEN, INTERNAL_ERROR)
        self._stop_buffering()
        self._start_task(MAX_RETRY)
