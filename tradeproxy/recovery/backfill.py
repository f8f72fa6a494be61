"""One backfill: request missed events from the history, or make them of the orders.

Orders are used if Alpaca rejects the history for this key, or if the history fails otherwise for
some seconds. Times are microseconds since 1970, unless a unit is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from tradeproxy.config.settings import RecoveryMode
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import TrimmedError, UnreadableError
from tradeproxy.recovery.history import PATIENCE, HistoryReader
from tradeproxy.recovery.identity import identify_account, require_estimate
from tradeproxy.recovery.order_backfill import MARGIN, OrderBackfill
from tradeproxy.recovery.synthetic import SyntheticEvents
from tradeproxy.runtime.dates import SECOND
from tradeproxy.upstream.rest import (
    RestClient,
    RestOversizedError,
    RestRefusedError,
    RestUnavailableError,
)
from tradeproxy.wire.event import Event
from tradeproxy.wire.frame import Recovered
from tradeproxy.wire.proxy_status import GapOutcome

OVERLAP = 300 * SECOND
"""The request starts this long before the time up to which the log is complete.

The journal drops the duplicates. docs/protocol.md promises these five minutes.
"""

TRIES = 3
"""How often the history may fail before the orders are used as well."""

ORDERS_AFTER = 10.0
"""Seconds after which the orders are used as well, even if the history failed less often."""

GIVE_UP_AFTER = 300.0
"""Seconds after which a gap is settled by the orders. The checks go on requesting the history."""


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """The outcome of a backfill."""

    outcome: GapOutcome
    reason: str
    """Empty, or why the history was not used. It is published in `proxy_status`."""
    through: int
    """The log is now complete up to here, by Alpaca's clock, or cannot become so."""
    history_from: int | None = None
    """From when on the history must still be read, as it fails now; None if it need not be."""
    has_oversized: bool = False
    """Whether an event was left out: it is too large, or made of an order and unusable."""
    unusable: frozenset[str] = frozenset()
    """The orders of these events that need no other gap: see OpenOrders.unusable."""


class Backfill:
    """One backfill of an account. After RestUnavailableError it can be run again, and continues.

    It finds what happened after the time up to which the log is complete:

        the history             effect
        ----------------------  ---------------------------------------------------------------
        answers                 RECOVERED
        is rejected             ORDERS, or LOST if the orders are rejected or forbidden too. The
                                history is not requested for this time again.
        fails `tries` times, or  Events are made of the orders once. Then the history is tried on.
        for ORDERS_AFTER s      What was made of orders is not delivered again.
        fails GIVE_UP_AFTER s,  ORDERS, with `history_from`: the next check requests the history
        or in a check           again.
    """

    def __init__(
        self,
        account: Account,
        rest: RestClient,
        clock: IReactorTime,
        mode: RecoveryMode,
        deliver: Callable[[Event, Recovered], None],
        orders: OrderBackfill,
        synthetic: SyntheticEvents,
        slack: int,
        tries: int,
    ) -> None:
        """Create the backfill; `run` sends the requests.

        Args:
            account: its log is compared with Alpaca's data.
            rest: the account's REST client.
            clock: schedules the waits.
            mode: EVENTS forbids the orders.
            deliver: gets each event found, duplicates included, and its source.
            orders: makes events of orders.
            synthetic: the events that were made of orders before.
            slack: microseconds before now that are left out; 0 includes everything up to now.
            tries: how often the history may fail before the orders are used as well.
        """
        self._account = account
        self._rest = rest
        self._clock = clock
        self._mode = mode
        self._deliver = deliver
        self._orders = orders
        self._synthetic = synthetic
        self._slack = slack
        self._tries = tries
        self._begin: int | None = None
        self._since = 0
        self._history: HistoryReader | None = None
        self._rejection = ""
        self._failures = 0
        self._tried_at = 0.0
        self._has_used_orders = False

    async def run(self) -> BackfillResult:
        """Find and deliver the missed events.

        Raises RestUnavailableError; then call this again later.
        """
        now = await identify_account(self._account, self._rest)
        begin = self._set_start(now)
        # Alpaca's Date header is truncated to whole seconds, so its true time is up to a second
        # later. The history request for that second ends when the second is over.
        until = now - self._slack if self._slack else now + SECOND
        result = await self._find(begin, now, until)
        # The range was empty, so an answer without events proves nothing.
        if until <= max(begin, self._since):
            raise RestUnavailableError("by Alpaca's clock, the missed time is in the future")
        require_estimate(self._account, now)
        return result

    def _set_start(self, now: int) -> int:
        """Return the time up to which the log is complete, and set where the request starts.

        The request starts OVERLAP earlier, but not before the log began: older events were never
        in it. Exception: with a dedup horizon, events up to it count as duplicates in any case. A
        log that replaced a lost one has a horizon, and began after the missed time.
        """
        known = self._account.completeness.backfill_from
        begin = now if known is None else known
        # The first run, or `identify_account` has found that the log is another account's.
        if begin != self._begin:
            self._begin, self._history = begin, None
            # `now` is truncated to a second.
            log_begins = min(self._account.log.correct_complete_from(now) - SECOND, begin)
            self._since = min(begin, now) - OVERLAP
            if self._account.log.dedup_horizon is None:
                self._since = max(self._since, log_begins)
        return begin

    async def _find(self, begin: int, now: int, until: int) -> BackfillResult:
        failure = None
        if not self._rejection:
            try:
                return await self._read_history(until)
            except RestRefusedError as error:
                self._rejection = f"the history is refused: {error.reason}"
            except RestUnavailableError as error:
                failure = error
                if not self._is_time_for_orders():
                    raise
        reason = self._rejection if failure is None else f"the history fails: {failure.reason}"
        if self._mode is RecoveryMode.EVENTS:
            return BackfillResult(GapOutcome.LOST, reason, now)
        try:
            through = await self._read_orders(begin, until)
        except (RestRefusedError, RestOversizedError) as error:
            if failure is not None:
                raise failure from None
            is_refused = isinstance(error, RestRefusedError)
            orders = "the orders are too" if is_refused else "the orders cannot be read"
            reason = f"{reason}, {orders}: {error.reason}"
            return BackfillResult(GapOutcome.LOST, reason, now)
        if failure is None:
            return self._build_result(reason, through)
        if not self._slack and self._failed_for < GIVE_UP_AFTER:
            raise failure
        return self._build_result(reason, through, begin)

    def _build_result(
        self, reason: str, through: int, history_from: int | None = None
    ) -> BackfillResult:
        return BackfillResult(
            GapOutcome.ORDERS,
            reason,
            through,
            history_from,
            self._orders.has_left_out,
            frozenset(self._orders.unusable),
        )

    def _is_time_for_orders(self) -> bool:
        """Count a failure of the history, and return whether the orders are used now."""
        self._failures += 1
        if self._mode is RecoveryMode.EVENTS:
            return False
        if self._has_used_orders:
            return self._failed_for >= GIVE_UP_AFTER
        return self._failures >= self._tries or self._failed_for >= ORDERS_AFTER

    @property
    def _failed_for(self) -> float:
        """Seconds since the first request of the history, while none has succeeded."""
        return self._clock.seconds() - self._tried_at

    async def _read_history(self, until: int) -> BackfillResult:
        # Our own limit is no failure of the history.
        await self._rest.wait_for_slot()
        if not self._failures:
            self._tried_at = self._clock.seconds()
        if self._history is None:
            take, drop = self._deliver_from_history, self._account.drop_frame
            self._history = HistoryReader(self._rest, self._clock, self._since, take, drop)
        await self._find_synthetic()
        # Once the orders are used, a history that answers slowly gets the time that it needs.
        has_orders = self._mode is not RecoveryMode.EVENTS and not self._has_used_orders
        must_hurry = has_orders and not self._slack
        await self._history.read(until, ORDERS_AFTER if must_hurry else PATIENCE)
        return BackfillResult(
            GapOutcome.RECOVERED, "", until, has_oversized=self._history.has_oversized
        )

    async def _find_synthetic(self) -> None:
        synthetic_until = self._account.completeness.synthetic_until
        if synthetic_until is None or synthetic_until < self._since - MARGIN:
            self._synthetic.clear()
            return
        try:
            await self._synthetic.update(self._since - MARGIN)
        except (TrimmedError, UnreadableError):
            raise RestUnavailableError("the journal cannot be read") from None

    def _deliver_from_history(self, event: Event) -> None:
        if not self._synthetic.covers(event):
            self._deliver(event, Recovered.EVENTS)

    async def _read_orders(self, begin: int, until: int) -> int:
        """Deliver synthetic events, and return the time up to which they are complete.

        Raises RestRefusedError or RestUnavailableError.
        """
        # While the history fails, its own time does not advance.
        begin = max(begin, self._account.completeness.orders_through or begin)
        since = max(self._since, begin - OVERLAP)
        through = await self._orders.run(begin, since, until)
        self._has_used_orders = True
        # The next backfill of this gap begins at that time. It must find again what was left out.
        if self._slack or not self._orders.has_left_out:
            self._account.completeness.check_orders_through(through)
        return through
