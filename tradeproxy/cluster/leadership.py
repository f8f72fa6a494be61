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
from tradeproxy.cluster.redis_client import AwayError
from tradeproxy.hub.account import OWN_ERROR
from tradeproxy.hub.replication import Role
from tradeproxy.wire.proxy_status import UpstreamStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from tradeproxy.cluster.redis_journal import RedisJournal
    from tradeproxy.cluster.redis_log import Look
    from tradeproxy.hub.account import Account

LEASE = 10.0
"""Seconds for which Redis lends the connection."""

RENEW = LEASE / 3
"""Seconds after which the lease is renewed."""

GIVE_UP = 7.0
"""Seconds after the renewal that succeeded last, when it was sent: the upstream then has two to close, and
one is left for what clocks, and a busy reactor, may differ by."""

TICK = 0.5
"""Seconds between two looks: for a lease that is free, or at one that is to be renewed."""

REST = 2 * TICK
"""Seconds after a turn in which another node may take the next one; and a fault that stays makes no rush."""

LAST_WORDS = 1.0
"""Seconds that a node which stops has for what is yet to be written."""

UNKNOWN = "Redis is away: whether a node holds the connection to Alpaca is not known"
NOBODY = "no node holds the connection to Alpaca at the moment"


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
        self._taking_turns: Deferred[None] | None = None
        self._over: Deferred[str] | None = None  # fires with the reason when this turn ends
        self._look: Look | None = None
        self._grant: Look  # of this turn
        self._renewed = 0.0
        self._theirs_until = 0.0  # another node may lead until then, though Redis may have forgotten it
        self._is_renewing = False
        self._pause: Deferred[None] | None = None
        self._background: list[Deferred[None]] = []
        journal.outbox.on_refused = self._refused
        journal.on_reached = self._reached
        self._role = account.role = Role(clock.seconds())

    def startService(self) -> None:
        """Begin to follow, and to look for the lease."""
        super().startService()
        self._taking_turns = Deferred.fromCoroutine(self._take_turns())
        self._taking_turns.addErrback(self._failed)

    def stopService(self) -> Deferred[None] | None:
        """Stop for good; fires when the connection is closed, and the lease is free."""
        super().stopService()
        if self._over is not None:
            self._end_turn("stopped")
        elif self._pause is not None:
            self._pause.cancel()
        return self._taking_turns

    async def _take_turns(self) -> None:
        while self.running:
            look = await self._lease()
            if look is not None:
                await self._lead(look)
                await self._rest_for(REST)

    async def _rest_for(self, seconds: float) -> None:
        """Wait, but not beyond the end of the service."""
        if self.running:
            self._pause = deferLater(self._clock, seconds)
            with suppress(CancelledError):
                await self._pause
            self._pause = None

    async def _lease(self) -> Look | None:
        """Wait until this node has the lease; None if the service stops before."""
        while self.running:
            try:
                wanted = self._may_take()
                look = await self._ask(wanted=wanted)
            except AwayError:
                self._look = None
                if self._monotonic() >= self._theirs_until:
                    self._note_down(UNKNOWN)
            else:
                if wanted and self._is_ours(look):
                    return look
                self._note_leader(look)
                if look.owner is None and self._may_take():
                    continue  # it has just been given back
            await self._rest_for(TICK)
        return None

    def _may_take(self) -> bool:
        is_free = self._monotonic() >= self._theirs_until and not self._account.has_failed
        return is_free and self._journal.may_lead(self._look)

    async def _ask(self, *, wanted: bool) -> Look:
        sent, asked, read = self._monotonic(), self._journal.absent.asked, self._journal.last
        look = await self._journal.shared.look(round(LEASE * 1000), wanted=wanted)
        self._look = look
        self._journal.looked(look, asked, read)
        if self._is_ours(look):
            self._renewed = sent if wanted else self._renewed
        elif look.owner is not None:
            self._theirs_until = self._monotonic() + look.rest
        elif look.is_released:
            self._theirs_until = 0.0
        self._role.looked(look.last - self._journal.last, self._clock.seconds())
        return look

    def _is_ours(self, look: Look) -> bool:
        return look.owner == self._journal.shared.owner

    def _note_leader(self, look: Look) -> None:
        if look.owner is None:
            self._note_down(NOBODY)
        elif self._account.upstream.reason == UNKNOWN:
            self._journal.hear_again()

    def _note_down(self, reason: str) -> None:
        """Note that nobody is known to stream. What was missed is for whoever streams next to find out."""
        standing = self._account.standing
        if standing.upstream.streaming:
            down = UpstreamStatus(streaming=False, reason=reason, since=self._clock.seconds())
            self._account.follow(replace(standing, upstream=down))

    # A turn.

    async def _lead(self, look: Look) -> None:
        over: Deferred[str] = Deferred()
        self._over = over
        self._role.begin_to_lead(self._clock.seconds())
        self._log.info(
            "{account}: this node holds the connection to Alpaca from now on", account=self._account.name
        )
        self._grant = look
        self._in_background(self._keep_lease(over))
        starting = self._in_background(self._start(look))
        if not self.running:
            self._end_turn("stopped")
        reason = await over
        starting.cancel()
        for step in (self._end_upstream, self._say_last_words, self._let_go):
            try:
                await step()
            except Exception:  # another node must be able to lead all the same
                self._log.failure("{account}: a turn did not end cleanly", account=self._account.name)
        self._role.begin_to_follow(self._clock.seconds())
        if self.running:
            self._account.upstream_is_down(reason)
            self._journal.hear_again()
            self._log.warn(
                "{account}: this node leads no longer: {reason}", account=self._account.name, reason=reason
            )

    async def _end_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            await maybeDeferred(upstream.stopService)
        self._account.flush()

    def _in_background(self, work: object) -> Deferred[None]:
        running: Deferred[None] = Deferred.fromCoroutine(work)  # type: ignore[arg-type]
        self._background = [each for each in self._background if not each.called]
        self._background.append(running.addErrback(self._turn_failed))
        return running

    def _cancel_background(self) -> None:
        background, self._background = self._background, []
        for each in background:
            each.cancel()

    async def _start(self, look: Look) -> None:
        """Connect to Alpaca, once all that the log holds is known here."""
        await self._journal.lead(look)
        self._account.take_over()
        self._upstream = self._make_upstream()
        self._upstream.startService()

    async def _keep_lease(self, over: Deferred[str]) -> None:
        while self._over is over and (rest := self._rest()) > 0:
            if self._account.has_failed:
                self._end_turn(OWN_ERROR)
            elif rest <= GIVE_UP - RENEW:
                await self._renew()
            if self._over is over:  # who ends the turn from here is not cancelled by its end
                await deferLater(self._clock, min(TICK, max(self._rest(), 0)))
        self._end_turn("Redis could not be reached in time to renew the lease")

    def _rest(self) -> float:
        """Return for how many seconds this node may lead yet."""
        return self._renewed + GIVE_UP - self._monotonic()

    async def _renew(self) -> None:
        if self._is_renewing or self._rest() <= 0:
            return
        self._is_renewing = True
        try:
            look = await Deferred.fromCoroutine(self._ask(wanted=True)).addTimeout(self._rest(), self._clock)
            if not self._is_current(look):
                leading = Deferred.fromCoroutine(self._lead_on(look))
                await leading.addTimeout(max(self._rest(), 0), self._clock)
        except (AwayError, NoAnswerError):
            pass  # until the lease ends
        finally:
            self._is_renewing = False

    def _is_current(self, look: Look) -> bool:
        """Whether the lease is still the one of this turn, and what is written bears its token."""
        is_same = (look.owner, look.token) == (self._grant.owner, self._grant.token)
        return is_same and (self._upstream is None or self._journal.outbox.token == look.token)

    async def _lead_on(self, look: Look) -> None:
        """Go on with a lease that Redis had forgotten, and maybe the log with it, unless another node led."""
        own = self._journal.shared.owner
        if self._upstream is None or not self._is_ours(look) or look.previous not in ("", own):
            self._end_turn("the lease was lost")
            return
        self._grant = look
        await self._journal.lead(look, on=True)
        self._account.on_standing(self._account.standing)

    def _reached(self) -> None:
        if self._over is not None:
            self._in_background(self._renew())

    def _refused(self, reason: str) -> None:
        if reason == FENCED and self._rest() > 0:  # Redis may have forgotten that this node leads
            self._reached()
        else:
            self._end_turn(reason)

    async def _say_last_words(self) -> None:
        """Write what is left, if that goes at once."""
        with suppress(NoAnswerError):
            await self._journal.outbox.when_written().addTimeout(LAST_WORDS, self._clock)

    async def _let_go(self) -> None:
        """Let another node have the lease."""
        assert self._grant.token is not None
        self._journal.stop_leading()
        self._over = None  # a renewal would take it again
        self._cancel_background()
        with suppress(AwayError):  # it runs out by itself
            await self._journal.shared.release(self._grant.token)

    def _end_turn(self, reason: str) -> None:
        if self._over is not None and not self._over.called:
            self._over.callback(reason)

    def _turn_failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if failure.check(AwayError):
            self._end_turn(f"Redis is away: {failure.getErrorMessage()}")
        else:
            self._log.failure("{account}: leading failed", failure, account=self._account.name)
            self._end_turn(OWN_ERROR)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("{account}: the lease is not looked after", failure, account=self._account.name)
        self._account.has_failed = True
        self._account.upstream_is_down(OWN_ERROR)
