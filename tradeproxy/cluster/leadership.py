"""Leader election: the node that holds an account's lease connects to Alpaca.

| state     | event                                           | action                | next      |
|-----------|-------------------------------------------------|-----------------------|-----------|
| following | the lease is free, the whole log is read        | acquire the lease     | leading   |
| following | there is no log; see cluster.roll_call          | report, or acquire it | following,|
|           |                                                 |                       | leading   |
| following | service stops                                   |                       | stopped   |
| leading   | the log is read                                 | start the upstream    | leading   |
| leading   | RENEW_AFTER has passed, or Redis reconnects     | renew the lease       | leading   |
| leading   | Redis lost the lease; no other node led         | use the new token     | leading   |
| leading   | Redis lost the log, or a part of it             | begin a new log       | leading   |
| leading   | STOP_AFTER without a renewal, lease lost,       | end the term          | ending    |
|           | write rejected, own error, service stops        |                       |           |
| ending    | upstream closed, outbox drained, lease released | wait COOLDOWN         | following |

A term is the time for which a node leads. Redis fences writes: each one carries the lease's token.
Redis cannot fence the connection to Alpaca, so the deadlines below do that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.defer import TimeoutError as NoAnswerError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tradeproxy.cluster.outbox import FENCED
from tradeproxy.cluster.redis_client import RedisUnavailableError
from tradeproxy.cluster.redis_journal import RedisJournal
from tradeproxy.cluster.redis_log import LeaseState
from tradeproxy.cluster.roll_call import KEPT, RollCall
from tradeproxy.hub.account import INTERNAL_ERROR, Account
from tradeproxy.hub.replication import NodeRole
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.runtime.stop_signals import shorten_stop
from tradeproxy.wire.proxy_status import UpstreamStatus

LEASE = 10.0
"""Seconds after which Redis expires the lease."""

RENEW_AFTER = LEASE / 3
"""Seconds from one renewal to the next: one reply may be lost."""

STOP_AFTER = 7.0
"""Seconds from the last successful renewal to the end of the term, counted from its request.

Of the 3 s left, the upstream has 2 to close. The last one covers clock drift and a busy reactor.
"""

CHECK_INTERVAL = 0.5
"""Seconds between two checks: whether the lease is free, or is due for renewal."""

COOLDOWN = 2 * CHECK_INTERVAL
"""Seconds without a lease after a term: another node can acquire it, and a persistent fault does
not cause a retry loop."""

DRAIN_TIMEOUT = 1.0
"""Seconds for which the end of a term waits for unwritten events."""

RELEASED = "1"
"""What a node of the former version records in place of the grant that it releases."""

LEADER_UNKNOWN = "Redis is away: whether a node holds the connection to Alpaca is not known"
NO_LEADER = "no node holds the connection to Alpaca at the moment"


class Leadership(Service):
    """Competes with the other nodes for the lease of one account, and leads while it has it.

    A local monotonic clock measures the lease, starting before the request is sent. So the lease
    ends on this node before it can begin on another one.
    """

    def __init__(
        self,
        account: Account,
        journal: RedisJournal,
        make_upstream: Callable[[], Service],
        clock: IReactorTime,
    ) -> None:
        """Follow until started; nothing is sent before that.

        Args:
            account: gets its role, and the status of the upstream while no node leads.
            journal: the account's log; written to only during a term.
            make_upstream: returns a service that connects to Alpaca, for one term.
            clock: timers and intervals. It must count the time for which the machine sleeps.
        """
        self._account = account
        self._log = AccountLogger(self, account.name)
        self._journal = journal
        self._make_upstream = make_upstream
        self._clock = clock
        self._dates = account.dates
        self._upstream: Service | None = None
        self._running_terms: Deferred[None] | None = None
        self._term_over: Deferred[str] | None = None  # fires with the reason for the term's end
        self._lease_state: LeaseState | None = None
        self._grant: LeaseState  # of this term
        self._renewed = 0.0
        # Another node may lead until then, even if a restart of Redis has lost its lease.
        self._held_elsewhere_until = 0.0
        # The grant of the lease that another node has, and has not released, as far as is known.
        self._grant_elsewhere = ""
        self._roll_call = RollCall(journal.redis_log.owner)
        self._is_renewing = False
        self._pause: Deferred[None] | None = None
        self._background: list[Deferred[None]] = []
        journal.outbox.on_rejected = self._write_rejected
        journal.on_connected = self._redis_connected
        self._role = account.role = NodeRole(self._dates.own())

    def startService(self) -> None:
        """Start to follow, and to compete for the lease."""
        super().startService()
        self._running_terms = Deferred.fromCoroutine(self._run_terms())
        self._running_terms.addErrback(self._failed)

    def stopService(self) -> Deferred[None] | None:
        """Stop; fires when the upstream is closed and the lease is released."""
        super().stopService()
        if self._term_over is not None:
            self._end_term("stopped")
        elif self._pause is not None:
            self._pause.cancel()
        return self._running_terms

    def shorten_stop(self) -> None:
        """Stop without waiting for Alpaca's answer. The lease is released as usual."""
        if self._upstream is not None:
            shorten_stop(self._upstream)

    async def _run_terms(self) -> None:
        while self.running:
            lease = await self._acquire_lease()
            if lease is not None:
                await self._lead(lease)
                await self._pause_for(COOLDOWN)

    async def _pause_for(self, seconds: float) -> None:
        """Wait; stopService ends the wait early."""
        if self.running:
            self._pause = deferLater(self._clock, seconds)
            with suppress(CancelledError):
                await self._pause
            self._pause = None

    async def _acquire_lease(self) -> LeaseState | None:
        """Wait until this node has the lease; None if the service stops first."""
        while self.running:
            try:
                acquire = self._may_acquire()
                lease = await self._query_lease(acquire=acquire, report=self._roll_call.reported)
                if acquire and self._is_ours(lease):
                    return lease
                await self._call_roll(lease)
            except RedisUnavailableError:
                self._lease_state = None
                self._roll_call.end()  # it may return without its newest data
                # Until then the last known leader may still be connected.
                if self._clock.seconds() >= self._held_elsewhere_until:
                    self._mark_down(LEADER_UNKNOWN)
            else:
                self._apply_leader(lease)
                if lease.owner is None and self._may_acquire():
                    continue  # it has just been released: do not wait for the next check
            await self._pause_for(CHECK_INTERVAL)
        return None

    def _may_acquire(self) -> bool:
        lease, now = self._lease_state, self._clock.seconds()
        if lease is None or now < self._held_elsewhere_until or self._account.has_failed:
            return False
        if lease.epoch is None:
            return self._roll_call.may_begin(now)
        return self._journal.may_lead(lease)

    async def _call_roll(self, lease: LeaseState) -> None:
        """Report to the other nodes while there is no log, unless this node cannot begin one."""
        journal = self._journal
        if lease.epoch is None and journal.is_connected and not self._account.has_failed:
            report = self._roll_call.report(journal.last if journal.epoch else None)
            reports = await journal.redis_log.call_roll(report, KEPT)
            self._roll_call.record_reports(report, reports, self._clock.seconds())

    async def _query_lease(self, *, acquire: bool, report: str = "") -> LeaseState:
        # All three are taken before the request: its reply is true of a later moment.
        journal = self._journal
        sent, asked, read = self._clock.seconds(), journal.replica.missing.asked, journal.last
        lost = journal.replica.lost_through
        lease = await journal.redis_log.query_lease(
            round(LEASE * 1000),
            acquire=acquire,
            epoch=journal.epoch,
            lost_through=lost,
            report=report,
        )
        self._lease_state = lease
        if lease.epoch is not None:
            self._roll_call.end()
        journal.observe_lease(lease, asked, read)
        if self._is_ours(lease):
            self._renewed = sent if acquire else self._renewed
        elif lease.owner is not None:
            self._held_elsewhere_until = self._clock.seconds() + lease.remaining
            self._grant_elsewhere = lease.grant
        elif lease.released in (self._grant_elsewhere, RELEASED):
            # Another one may have been released before a lease that a rollback of Redis has lost.
            self._held_elsewhere_until, self._grant_elsewhere = 0.0, ""
        self._role.update(lease.last - self._journal.last, self._dates.own())
        return lease

    def _is_ours(self, lease: LeaseState) -> bool:
        return lease.owner == self._journal.redis_log.owner

    def _apply_leader(self, lease: LeaseState) -> None:
        if lease.owner is None:
            self._mark_down(NO_LEADER)
        elif self._account.upstream.reason == LEADER_UNKNOWN:
            # The leader publishes its state only when that changes, so it may not come again.
            self._journal.reapply_stream_state()

    def _mark_down(self, reason: str) -> None:
        """Mark the upstream as down. No gap begins here: the next leader finds what was missed."""
        if self._account.upstream.streaming:
            down = UpstreamStatus(streaming=False, reason=reason, since=self._dates.own())
            self._account.apply_upstream(down)

    # A term.

    async def _lead(self, lease: LeaseState) -> None:
        over: Deferred[str] = Deferred()
        self._term_over = over
        self._role.start_leading(self._dates.own())
        if self._grant_elsewhere:
            self._grant_elsewhere = ""
            self._log.warn(
                "the lease of the leading node has run out; its last renewal was"
                " {seconds:.0f} s ago",
                seconds=self._clock.seconds() - self._held_elsewhere_until + LEASE,
            )
        self._log.info("this node is now the leader")
        self._grant = lease
        self._roll_call.end()
        # Concurrent, since reading the log may take longer than the lease lasts.
        self._in_background(self._keep_lease(over))
        starting = self._in_background(self._start(lease))
        if not self.running:
            self._end_term("stopped")
        reason = await over
        starting.cancel()
        # The lease goes last: Alpaca allows one connection, so the next node must not be early.
        for step in (self._end_upstream, self._drain, self._release_lease):
            try:
                await step()
            except Exception:  # a failed step must not keep the lease from the other nodes
                self._log.failure("a term did not end cleanly")
        self._role.start_following(self._dates.own())
        if self.running:
            self._account.mark_upstream_down(reason)
            self._journal.reapply_stream_state()
            self._log.warn("this node is no longer the leader: {reason}", reason=reason)

    async def _end_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            await maybeDeferred(upstream.stopService)
        self._account.flush()

    def _in_background(self, work: object) -> Deferred[None]:
        running: Deferred[None] = Deferred.fromCoroutine(work)  # type: ignore[arg-type]
        self._background = [each for each in self._background if not each.called]
        self._background.append(running.addErrback(self._term_failed))
        return running

    def _cancel_background(self) -> None:
        background, self._background = self._background, []
        for each in background:
            each.cancel()

    async def _start(self, lease: LeaseState) -> None:
        """Connect to Alpaca once this node has read the whole log."""
        await self._journal.lead(lease)
        self._role.is_writing = True
        self._account.take_over()
        self._upstream = self._make_upstream()
        self._upstream.startService()

    async def _keep_lease(self, over: Deferred[str]) -> None:
        while self._term_over is over and (remaining := self._remaining()) > 0:
            if self._account.has_failed:
                self._end_term(INTERNAL_ERROR)
            elif remaining <= STOP_AFTER - RENEW_AFTER:
                await self._renew()
            # If this coroutine itself ended the term, _cancel_background could not cancel it.
            if self._term_over is over:
                await deferLater(self._clock, min(CHECK_INTERVAL, max(self._remaining(), 0)))
        self._end_term("Redis could not be reached in time to renew the lease")

    def _remaining(self) -> float:
        """Return the seconds for which this node may still lead."""
        return self._renewed + STOP_AFTER - self._clock.seconds()

    async def _renew(self) -> None:
        if self._is_renewing or self._remaining() <= 0:
            return
        self._is_renewing = True
        try:
            query = Deferred.fromCoroutine(self._query_lease(acquire=True))
            # The machine may have slept since the check above, and a delay cannot be negative.
            lease = await query.addTimeout(max(self._remaining(), 0), self._clock)
            if not self._is_current(lease):
                leading = Deferred.fromCoroutine(self._continue_leading(lease))
                await leading.addTimeout(max(self._remaining(), 0), self._clock)
        except (RedisUnavailableError, NoAnswerError):
            pass  # _keep_lease tries again until the term must end
        finally:
            self._is_renewing = False

    def _is_current(self, lease: LeaseState) -> bool:
        """Whether the lease is still this term's, and the outbox writes to a log with its token."""
        can_write = lease.epoch is not None and self._journal.outbox.token == lease.token
        return lease.grant == self._grant.grant and (self._upstream is None or can_write)

    async def _continue_leading(self, lease: LeaseState) -> None:
        """Continue the term after Redis lost the lease, the log, or a part of the log.

        Ends the term if another node led meanwhile.
        """
        own = self._journal.redis_log.owner
        if lease.grant == self._grant.grant:  # only the log was lost: no other node led since
            lease = replace(lease, previous=own)
        if self._upstream is None or not self._is_ours(lease) or lease.previous not in ("", own):
            self._end_term("the lease was lost")
            return
        self._grant = lease
        await self._journal.lead(lease, continuing=True)
        self._account.on_stream_state(self._account.stream_state)

    def _redis_connected(self) -> None:
        if self._term_over is not None:
            self._in_background(self._renew())

    def _write_rejected(self, reason: str) -> None:
        # A restart of Redis may have lost the lease: a renewal shows whether another node has it.
        if reason == FENCED and self._remaining() > 0:
            self._redis_connected()
        else:
            self._end_term(reason)

    async def _drain(self) -> None:
        """Write the remaining events, if that takes at most DRAIN_TIMEOUT."""
        with suppress(NoAnswerError):
            await self._journal.outbox.when_written().addTimeout(DRAIN_TIMEOUT, self._clock)

    async def _release_lease(self) -> None:
        assert self._grant.token is not None
        self._journal.stop_leading()
        self._term_over = None  # first: a renewal would acquire the lease again
        self._cancel_background()
        with suppress(RedisUnavailableError):  # the lease then expires
            await self._journal.redis_log.release(self._grant.token)

    def _end_term(self, reason: str) -> None:
        if self._term_over is not None and not self._term_over.called:
            self._term_over.callback(reason)

    def _term_failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(RedisUnavailableError):
            self._end_term(f"Redis is away: {failure.getErrorMessage()}")
        else:
            self._log.failure("leading failed", failure)
            self._end_term(INTERNAL_ERROR)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("leader election failed", failure)
        self._account.has_failed = True
        self._account.mark_upstream_down(INTERNAL_ERROR)
