"""The recovery of one account: newer events wait, for a while, until those that were missed are there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tradeproxy.recoverysettings import RecoveryMode
from tradeproxy.upstream.inquiry import SECOND, Finding, Inquiry
from tradeproxy.upstream.rest import UnavailableError
from tradeproxy.upstream.watcher import StreamWatcher
from tradeproxy.wire.frame import Recovered, with_mark
from tradeproxy.wire.status import Gap, Outcome

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure

    from tradeproxy.hub.account import Account
    from tradeproxy.recoverysettings import RecoverySettings
    from tradeproxy.upstream.rest import RestClient
    from tradeproxy.wire.event import Event

FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0
"""Seconds between two attempts: at first, and at most; they double each time."""

RECONCILE_SLACK = 10 * SECOND
"""What a check leaves out: what happened just now may still be on its way over the stream."""

_OWN_ERROR = "an error of the proxy's own: see its log"


class Recovery(StreamWatcher):
    """Watches one account's stream over all of its connections, and sees to what it did not bring.

    | when                                    | then                                                      |
    |-----------------------------------------|-----------------------------------------------------------|
    | a connection opens                      | its events are held                                       |
    | the stream is up                        | what was missed is asked for, from the gap's begin        |
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
        self._watch: Deferred[None] | None = None
        self._deadline: IDelayedCall | None = None
        self._trouble = ""
        self._newest: int | None = None
        self._met: set[tuple[str, bytes]] = set()
        self._uncounted: set[tuple[str, bytes]] = set()
        self._found = 0
        self._check_trouble = ""

    # The stream's course.

    def stream_opens(self) -> None:
        """Let its events wait, as from now on some may follow others that are missing."""
        if self._settings.mode is not RecoveryMode.OFF:
            self._account.hold()

    def stream_is_up(self) -> None:
        """Begin to ask for what was missed, or begin anew: the gap is longer by now."""
        if self._settings.mode is RecoveryMode.OFF:
            self._account.gaps.settle(Outcome.LOST, "recovery is off")
            return
        self._end_watch()
        self._watch = Deferred.fromCoroutine(self._keep_complete())
        self._watch.addErrback(self._failed)

    def stream_is_lost(self) -> None:
        """Stop asking; what is held waits for the next connection, but not beyond the deadline."""
        self._end_watch()
        if self._account.is_holding:
            self._trouble = "the stream was lost again"
            self._start_deadline()

    def stop(self) -> None:
        """End all of it; what is held goes to the journal, and the gap stays open in it."""
        self._end_watch()
        self._end_hold()

    async def _keep_complete(self) -> None:
        gap = self._account.gaps.current
        if gap is None:  # the very first stream: there is nothing before it
            complete = round(self._clock.seconds() * SECOND)
            self._end_hold()
        else:
            complete = await self._recover(gap)
        while True:
            await deferLater(self._clock, self._settings.reconcile_interval)
            complete = await self._check(complete)

    async def _recover(self, gap: Gap) -> int:
        """See to a gap to its end; return up to when all is known (microseconds)."""
        began = self._clock.seconds()
        self._newest = self._account.journal.latest
        self._trouble = f"Alpaca takes longer than {self._settings.deadline:g} s"
        self._begin_search()
        self._start_deadline()
        finding = await self._ask_until_answered(self._inquiry(gap.begin))
        self._count_found()
        self._account.gaps.settle(finding.outcome, finding.reason)
        self._end_hold()
        self._log.info(
            "{account}: recovery ended: {outcome}, {events} missed events in {seconds:.1f} s{because}",
            account=self._account.name,
            outcome=finding.outcome.value,
            events=self._found,
            seconds=self._clock.seconds() - began,
            because=f"; {finding.reason}" if finding.reason else "",
        )
        return finding.through

    async def _ask_until_answered(self, inquiry: Inquiry) -> Finding:
        delay = FIRST_RETRY
        while True:
            try:
                return await inquiry.ask()
            except UnavailableError as error:
                self._trouble = error.reason
                self._count_found()
                await deferLater(self._clock, max(delay, error.retry_after))
            delay = min(2 * delay, LONGEST_RETRY)

    async def _check(self, complete: int) -> int:
        """Look for events that a healthy stream did not bring; what fails is left to the next time."""
        self._begin_search()
        try:
            finding = await self._inquiry(complete, RECONCILE_SLACK).ask()
        except UnavailableError as error:
            trouble = error.reason
        else:
            trouble = finding.reason if finding.outcome is Outcome.LOST else ""
        self._count_found()
        if self._found:
            self._log.warn(
                "{account}: the stream had left out {events} events; they have been delivered late",
                account=self._account.name,
                events=self._found,
            )
        if trouble and not self._check_trouble:
            self._log.warn(
                "{account}: it cannot be checked whether the stream is complete: {reason}",
                account=self._account.name,
                reason=trouble,
            )
        self._check_trouble = trouble
        return complete if trouble else finding.through

    def _inquiry(self, begin: int, slack: int = 0) -> Inquiry:
        return Inquiry(
            self._account, self._rest, self._clock, self._settings.mode, begin, self._deliver, slack
        )

    # What is found.

    def _begin_search(self) -> None:
        self._met.clear()
        self._found = 0

    def _deliver(self, event: Event, source: Recovered) -> None:
        key = (event.identity, event.digest)
        if key in self._met or self._account.journal.has(event):
            return
        self._met.add(key)
        self._uncounted.add(key)
        if source is Recovered.ORDERS or self._is_late(event):
            event = replace(event, payload=with_mark(event.payload, source))
        self._account.recover(event)

    def _is_late(self, event: Event) -> bool:
        """Whether newer events have been delivered before: since the hold ended, or before it began."""
        if not self._account.is_holding:
            return True
        return self._newest is not None and (event.time is None or event.time < self._newest)

    def _count_found(self) -> None:
        """Count what was delivered; not what the stream has brought too, and still waits."""
        missed = self._uncounted - {(event.identity, event.digest) for event in self._account.held}
        self._uncounted.clear()
        self._found += len(missed)
        self._account.gaps.found(len(missed))

    # What is held, and how long.

    def _start_deadline(self) -> None:
        """Begin to count, unless something waits that has its deadline already."""
        if self._deadline is not None:
            if self._account.held:
                return
            self._deadline.cancel()
        self._deadline = self._clock.callLater(self._settings.deadline, self._pass_deadline)

    def _pass_deadline(self) -> None:
        self._deadline = None
        self._count_found()
        gap, held = self._account.gaps.current, len(self._account.held)
        self._end_hold()
        if gap is None or (self._watch is None and not held):
            return  # nothing newer has been handed on
        self._account.gaps.settle(Outcome.OPEN, self._trouble)
        self._log.warn(
            "{account}: newer events don't wait any longer, what was missed will come late: {reason}",
            account=self._account.name,
            reason=self._trouble,
        )

    def _end_hold(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._account.release()

    def _end_watch(self) -> None:
        self._count_found()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._log.failure("{account}: the recovery failed", failure, account=self._account.name)
        self._account.gaps.settle(Outcome.OPEN, _OWN_ERROR)
        self._end_hold()
