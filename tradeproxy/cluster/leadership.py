"""Which node holds an account's connection to Alpaca: the one that has the lease, for as long as it has."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.defer import TimeoutError as NoAnswerError
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tradeproxy.cluster.outbox import FENCED
from tradeproxy.cluster.redis_client import RedisUnavailableError
from tradeproxy.hub.account import INTERNAL_ERROR
from tradeproxy.hub.replication import NodeRole
from tradeproxy.wire.proxy_status import UpstreamStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from tradeproxy.cluster.redis_journal import RedisJournal
    from tradeproxy.cluster.redis_log import LeaseState
    from tradeproxy.hub.account import Account

LEASE = 10.0
"""Seconds for which Redis lends the connection."""

RENEW_AFTER = LEASE / 3
"""Seconds after which the lease is renewed."""

STOP_AFTER = 7.0
"""Seconds after the renewal that succeeded last, when it was sent: the upstream then has two to close, and
one is left for what clocks, and a busy reactor, may differ by."""

CHECK_INTERVAL = 0.5
"""Seconds between two looks: for a lease that is free, or at one that is to be renewed."""

COOLDOWN = 2 * CHECK_INTERVAL
"""Seconds after a turn in which another node may take the next one; and a fault that stays makes no rush."""

DRAIN_TIMEOUT = 1.0
"""Seconds that a node which stops has for what is yet to be written."""

LEADER_UNKNOWN = "Redis is away: whether a node holds the connection to Alpaca is not known"
NO_LEADER = "no node holds the connection to Alpaca at the moment"


class Leadership(Service):
    """Takes turns with the other nodes: follows until it has the lease, and leads until it has it no more.

    The time of the lease is measured here by a monotonic clock, from before it is asked for, so that it ends
    here before it can begin elsewhere.
    """

    _log = Logger()

    def __init__(
        self,
        account: Account,
        journal: RedisJournal,
        make_upstream: Callable[[], Service],
        clock: IReactorTime,
        monotonic: Callable[[], float],
    ) -> None:
        """`make_upstream` returns a service that connects to Alpaca, for one turn."""
        self._account = account
        self._journal = journal
        self._make_upstream = make_upstream
        self._clock = clock
        self._monotonic = monotonic
        self._upstream: Service | None = None
        self._running_terms: Deferred[None] | None = None
        self._term_over: Deferred[str] | None = None  # fires with the reason when this turn ends
        self._lease_state: LeaseState | None = None
        self._grant: LeaseState  # of this turn
        self._renewed = 0.0
        self._held_elsewhere_until = (
            0.0  # another node may lead until then, though Redis may have forgotten it
        )
        self._is_renewing = False
        self._pause: Deferred[None] | None = None
        self._background: list[Deferred[None]] = []
        journal.outbox.on_refused = self._write_refused
        journal.on_reached = self._redis_reached
        self._role = account.role = NodeRole(clock.seconds())

    def startService(self) -> None:
        """Begin to follow, and to look for the lease."""
        super().startService()
        self._running_terms = Deferred.fromCoroutine(self._run_terms())
        self._running_terms.addErrback(self._failed)

    def stopService(self) -> Deferred[None] | None:
        """Stop for good; fires when the connection is closed, and the lease is free."""
        super().stopService()
        if self._term_over is not None:
            self._end_term("stopped")
        elif self._pause is not None:
            self._pause.cancel()
        return self._running_terms

    async def _run_terms(self) -> None:
        while self.running:
            look = await self._acquire_lease()
            if look is not None:
                await self._lead(look)
                await self._pause_for(COOLDOWN)

    async def _pause_for(self, seconds: float) -> None:
        """Wait, but not beyond the end of the service."""
        if self.running:
            self._pause = deferLater(self._clock, seconds)
            with suppress(CancelledError):
                await self._pause
            self._pause = None

    async def _acquire_lease(self) -> LeaseState | None:
        """Wait until this node has the lease; None if the service stops before."""
        while self.running:
            try:
                wanted = self._may_acquire()
                look = await self._query_lease(wanted=wanted)
            except RedisUnavailableError:
                self._lease_state = None
                if self._monotonic() >= self._held_elsewhere_until:
                    self._note_down(LEADER_UNKNOWN)
            else:
                if wanted and self._is_ours(look):
                    return look
                self._note_leader(look)
                if look.owner is None and self._may_acquire():
                    continue  # it has just been given back
            await self._pause_for(CHECK_INTERVAL)
        return None

    def _may_acquire(self) -> bool:
        is_free = self._monotonic() >= self._held_elsewhere_until and not self._account.has_failed
        return is_free and self._journal.may_lead(self._lease_state)

    async def _query_lease(self, *, wanted: bool) -> LeaseState:
        sent, asked, read = self._monotonic(), self._journal.missing.asked, self._journal.last
        look = await self._journal.redis_log.query_lease(round(LEASE * 1000), wanted=wanted)
        self._lease_state = look
        self._journal.lease_seen(look, asked, read)
        if self._is_ours(look):
            self._renewed = sent if wanted else self._renewed
        elif look.owner is not None:
            self._held_elsewhere_until = self._monotonic() + look.remaining
        elif look.is_released:
            self._held_elsewhere_until = 0.0
        self._role.update(look.last - self._journal.last, self._clock.seconds())
        return look

    def _is_ours(self, look: LeaseState) -> bool:
        return look.owner == self._journal.redis_log.owner

    def _note_leader(self, look: LeaseState) -> None:
        if look.owner is None:
            self._note_down(NO_LEADER)
        elif self._account.upstream.reason == LEADER_UNKNOWN:
            self._journal.reapply_stream_state()

    def _note_down(self, reason: str) -> None:
        """Note that nobody is known to stream. What was missed is for whoever streams next to find out."""
        standing = self._account.stream_state
        if standing.upstream.streaming:
            down = UpstreamStatus(streaming=False, reason=reason, since=self._clock.seconds())
            self._account.apply_stream_state(replace(standing, upstream=down))

    # A turn.

    async def _lead(self, look: LeaseState) -> None:
        over: Deferred[str] = Deferred()
        self._term_over = over
        self._role.start_leading(self._clock.seconds())
        self._log.info(
            "{account}: this node holds the connection to Alpaca from now on",
            account=self._account.name,
        )
        self._grant = look
        self._in_background(self._keep_lease(over))
        starting = self._in_background(self._start(look))
        if not self.running:
            self._end_term("stopped")
        reason = await over
        starting.cancel()
        for step in (self._end_upstream, self._drain, self._release_lease):
            try:
                await step()
            except Exception:  # another node must be able to lead all the same
                self._log.failure(
                    "{account}: a turn did not end cleanly", account=self._account.name
                )
        self._role.start_following(self._clock.seconds())
        if self.running:
            self._account.mark_upstream_down(reason)
            self._journal.reapply_stream_state()
            self._log.warn(
                "{account}: this node leads no longer: {reason}",
                account=self._account.name,
                reason=reason,
            )

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

    async def _start(self, look: LeaseState) -> None:
        """Connect to Alpaca, once all that the log holds is known here."""
        await self._journal.lead(look)
        self._account.take_over()
        self._upstream = self._make_upstream()
        self._upstream.startService()

    async def _keep_lease(self, over: Deferred[str]) -> None:
        while self._term_over is over and (rest := self._remaining()) > 0:
            if self._account.has_failed:
                self._end_term(INTERNAL_ERROR)
            elif rest <= STOP_AFTER - RENEW_AFTER:
                await self._renew()
            if self._term_over is over:  # who ends the turn from here is not cancelled by its end
                await deferLater(self._clock, min(CHECK_INTERVAL, max(self._remaining(), 0)))
        self._end_term("Redis could not be reached in time to renew the lease")

    def _remaining(self) -> float:
        """Return for how many seconds this node may lead yet."""
        return self._renewed + STOP_AFTER - self._monotonic()

    async def _renew(self) -> None:
        if self._is_renewing or self._remaining() <= 0:
            return
        self._is_renewing = True
        try:
            look = await Deferred.fromCoroutine(self._query_lease(wanted=True)).addTimeout(
                self._remaining(), self._clock
            )
            if not self._is_current(look):
                leading = Deferred.fromCoroutine(self._continue_leading(look))
                await leading.addTimeout(max(self._remaining(), 0), self._clock)
        except (RedisUnavailableError, NoAnswerError):
            pass  # until the lease ends
        finally:
            self._is_renewing = False

    def _is_current(self, look: LeaseState) -> bool:
        """Whether the lease is still the one of this turn, and what is written bears its token."""
        is_same = (look.owner, look.token) == (self._grant.owner, self._grant.token)
        return is_same and (self._upstream is None or self._journal.outbox.token == look.token)

    async def _continue_leading(self, look: LeaseState) -> None:
        """Go on with a lease that Redis had forgotten, and maybe the log with it, unless another node led."""
        own = self._journal.redis_log.owner
        if self._upstream is None or not self._is_ours(look) or look.previous not in ("", own):
            self._end_term("the lease was lost")
            return
        self._grant = look
        await self._journal.lead(look, on=True)
        self._account.on_stream_state(self._account.stream_state)

    def _redis_reached(self) -> None:
        if self._term_over is not None:
            self._in_background(self._renew())

    def _write_refused(self, reason: str) -> None:
        if (
            reason == FENCED and self._remaining() > 0
        ):  # Redis may have forgotten that this node leads
            self._redis_reached()
        else:
            self._end_term(reason)

    async def _drain(self) -> None:
        """Write what is left, if that goes at once."""
        with suppress(NoAnswerError):
            await self._journal.outbox.when_written().addTimeout(DRAIN_TIMEOUT, self._clock)

    async def _release_lease(self) -> None:
        """Let another node have the lease."""
        assert self._grant.token is not None
        self._journal.stop_leading()
        self._term_over = None  # a renewal would take it again
        self._cancel_background()
        with suppress(RedisUnavailableError):  # it runs out by itself
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
            self._log.failure("{account}: leading failed", failure, account=self._account.name)
            self._end_term(INTERNAL_ERROR)

    def _failed(self, failure: Failure) -> None:
        self._log.failure(
            "{account}: the lease is not looked after", failure, account=self._account.name
        )
        self._account.has_failed = True
        self._account.mark_upstream_down(INTERNAL_ERROR)
