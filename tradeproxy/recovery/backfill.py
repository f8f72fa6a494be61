"""One backfill: request missed events from the history, or rebuild them from the orders.

Orders are used only if Alpaca rejects the history for this key. Times are microseconds since 1970,
unless a unit is given.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from tradeproxy.config.settings import RecoveryMode
from tradeproxy.journal.base import TrimmedError, UnreadableError
from tradeproxy.recovery.delivered import DeliveredEvent, read_delivered_event, summarize_delivered
from tradeproxy.recovery.history import HistoryReader
from tradeproxy.recovery.reconcile import (
    Document,
    find_missed_events,
    is_id,
    last_change,
    read_time,
)
from tradeproxy.recovery.snapshot import Snapshot, take_snapshot
from tradeproxy.runtime.dates import CONFIRM_AFTER, SECOND
from tradeproxy.upstream.rest import RestRefusedError, RestResponse, RestUnavailableError
from tradeproxy.wire.frame import Recovered, frame_event
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import GapOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.hub.account import Account
    from tradeproxy.journal.base import Journal
    from tradeproxy.upstream.rest import RestClient
    from tradeproxy.wire.event import Event


OVERLAP = 300 * SECOND
"""The request starts this long before the time up to which the log is complete.

The journal drops the duplicates. docs/protocol.md promises these five minutes.
"""

MARGIN = 60 * SECOND
"""Our log is read from this long before the request's start.

An event's time may be a little later than that of the fill that it reports.
"""

SETTLE = 2.0
"""Seconds in which the stream may deliver the events of changes that the snapshot shows."""

CLOCK_STEP = 1.0
"""Seconds: the resolution of Alpaca's Date header. After them, the second that it named is over."""

ROWS_A_READ = 1000
"""Rows of the log per read."""


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """The outcome of a backfill."""

    outcome: GapOutcome
    reason: str
    """Empty, or why the history was not used. It is published in `proxy_status`."""
    through: int
    """The log is now complete up to here, by Alpaca's clock, or cannot become so."""


class Backfill:
    """One backfill of an account. After RestUnavailableError it can be run again, and continues.

    It finds what happened after the time up to which the log is complete. Once Alpaca rejects the
    history, it is not requested again.
    """

    def __init__(
        self,
        account: Account,
        rest: RestClient,
        clock: IReactorTime,
        mode: RecoveryMode,
        deliver: Callable[[Event, Recovered], None],
        unknown: set[str],
        slack: int = 0,
    ) -> None:
        """Create the backfill; `run` sends the requests.

        Args:
            account: its log is compared with Alpaca's data.
            rest: the account's REST client.
            clock: schedules the waits.
            mode: EVENTS forbids the orders, if Alpaca rejects the history.
            deliver: gets each event found, duplicates included, and its source.
            unknown: ids of orders that Alpaca does not have; new ones are added.
            slack: microseconds before now that are left out; 0 includes everything up to now.
        """
        self._account = account
        self._journal = account.journal
        self._rest = rest
        self._clock = clock
        self._mode = mode
        self._deliver = deliver
        self._unknown = unknown
        self._slack = slack
        # Recorded now: once newer events are delivered, the journal has only the newer states.
        self._before = {state.id: state for state in self._journal.open_orders()}
        self._begin: int | None = None
        self._since = 0
        self._history: HistoryReader | None = None
        self._rejection = ""

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

    async def _find(self, begin: int, now: int, until: int) -> BackfillResult:
        if not self._rejection:
            try:
                return await self._read_history(until)
            except RestRefusedError as error:
                self._rejection = error.reason
        if self._mode is RecoveryMode.EVENTS:
            return BackfillResult(
                GapOutcome.LOST, f"the history is refused: {self._rejection}", now
            )
        try:
            through = await self._read_orders(begin, until)
        except RestRefusedError as error:
            reason = (
                f"the history is refused ({self._rejection}), the orders are too: {error.reason}"
            )
            return BackfillResult(GapOutcome.LOST, reason, now)
        return BackfillResult(
            GapOutcome.ORDERS, f"the history is refused: {self._rejection}", through
        )

    def _set_start(self, now: int) -> int:
        """Return the time up to which the log is complete, and set where the request starts.

        The request starts OVERLAP earlier, but not before the log began: older events were never
        in it. Exception: a log that replaced a damaged file began after the missed time.
        """
        known = self._account.gaps.backfill_from
        begin = now if known is None else known
        # The first run, or `identify_account` has found that the log is another account's.
        if begin != self._begin:
            self._begin, self._history = begin, None
            # `now` is truncated to a second.
            log_begins = min(self._journal.correct_complete_from(now) - SECOND, begin)
            self._since = max(min(begin, now) - OVERLAP, log_begins)
        return begin

    async def _read_history(self, until: int) -> BackfillResult:
        if self._history is None:
            self._history = HistoryReader(
                self._rest,
                self._clock,
                self._since,
                lambda event: self._deliver(event, Recovered.EVENTS),
                self._account.drop_frame,
            )
        await self._history.read(until)
        return BackfillResult(GapOutcome.RECOVERED, "", until)

    async def _read_orders(self, begin: int, until: int) -> int:
        """Deliver synthetic events for missed changes.

        Returns the time up to which they are complete. Raises RestRefusedError or
        RestUnavailableError.
        """
        if not self._slack:
            # `until` is then in the past: the snapshot shows all changes up to it. The stream
            # delivers the later ones.
            await deferLater(self._clock, CLOCK_STEP)
        open_orders = [state.id for state in self._journal.open_orders()]
        snapshot = await take_snapshot(self._rest, self._since, open_orders, self._unknown)
        await deferLater(self._clock, SETTLE)
        try:
            missed, through = self._find_missed(snapshot, begin, until)
        except (TrimmedError, UnreadableError):
            raise RestUnavailableError("the journal cannot be read") from None
        for data in missed:
            payload = json.dumps(data, separators=(",", ":")).encode()
            # The parser is what makes an Event: it keeps numbers as texts, which the digest needs.
            message = parse_server(frame_event(payload))
            if isinstance(message, TradeUpdate):
                self._deliver(message.event, Recovered.ORDERS)
        return through

    def _find_missed(
        self, snapshot: Snapshot, begin: int, until: int
    ) -> tuple[list[Document], int]:
        """Return the synthetic events, ordered by time, and the time up to which they are complete.

        With slack, an order that changed after `until` is left to the stream. If one of its older
        events is missing, nothing after `begin` counts as complete, so the next check finds it.
        """
        self._account.flush()  # the pending batch of this reactor turn counts as delivered
        logged = _group_by_order(_read_log_from(self._journal, self._since - MARGIN))
        buffered = _group_by_order(event.payload for event in self._account.buffered)
        dedup_horizon = self._journal.dedup_horizon
        missed: list[Document] = []
        through = until
        for order_id, order in snapshot.orders.items():
            before = self._before.get(order_id)
            delivered = summarize_delivered(
                self._journal.order(order_id),
                logged[order_id],
                buffered[order_id],
                begin,
                before if before is not None and before.time <= begin else None,
            )
            fills = snapshot.select_fills(order_id)
            events = find_missed_events(order, delivered, fills, self._since, dedup_horizon)
            if self._slack and last_change(order, fills) > until:
                if any(read_time(event["timestamp"]) <= until for event in events):
                    through = begin
            else:
                missed += events
        return sorted(missed, key=lambda event: read_time(event["timestamp"])), through


def _read_log_from(journal: Journal, time: int) -> Iterator[bytes]:
    """Yield the logged events from a time on. Raises TrimmedError or UnreadableError."""
    first = journal.first_since(time)
    after = journal.last if first is None else first - 1
    while (batch := journal.read(after, ROWS_A_READ)) is not None:
        yield from (row.payload for row in batch.rows if row.payload is not None)
        after = batch.last


def _group_by_order(payloads: Iterable[bytes]) -> defaultdict[str, list[DeliveredEvent]]:
    events: defaultdict[str, list[DeliveredEvent]] = defaultdict(list)
    for payload in payloads:
        if (event := read_delivered_event(payload)) is not None:
            events[event.state.id].append(event)
    return events


async def identify_account(account: Account, rest: RestClient) -> int:
    """Record Alpaca's id of the account, and return the time by Alpaca's clock.

    The time is in microseconds, truncated to whole seconds. It is from the Date header, which a
    rejection has too. Our own clock is no substitute: a difference would hide missed events. The
    header may be wrong: see `require_estimate`. Raises RestUnavailableError if there is no date.
    """
    answer = await _ask_account(rest)
    if account.dates.alpaca() is None:
        # The Date or this machine's clock is wrong. A second Date shows whether the first one was.
        answer = await _ask_account(rest)
    account.correct_times()
    now = _read_now(account, answer.date)
    match answer.document:
        case {"id": account_id} if is_id(account_id):
            account.identify(account_id)
    if account.gaps.complete_through is None and account.dates.is_right(now / SECOND):
        # `identify` has begun another account's log: no older event is missing.
        account.gaps.check_through(now)
    return now


def require_estimate(account: Account, now: int) -> None:
    """Raise RestUnavailableError unless `now` agrees with the estimate of Alpaca's clock.

    Events that were found up to `now` are delivered in any case. But a log that counts as complete
    up to a wrong time would hide missed events.
    """
    if not account.dates.is_right(now / SECOND):
        raise RestUnavailableError("Alpaca's clock is not known yet", CONFIRM_AFTER)


async def _ask_account(rest: RestClient) -> RestResponse:
    """Return the account; only the date, if Alpaca answers with an error that has one."""
    try:
        return await rest.get("/v2/account")
    except RestRefusedError as error:
        return RestResponse(None, error.date)
    except RestUnavailableError as error:
        if error.date is None:
            raise
        return RestResponse(None, error.date)


def _read_now(account: Account, date: float | None) -> int:
    """Return the time of an answer, or the estimate of it if its Date is wrong.

    Raises RestUnavailableError if neither is certain: the estimate is behind if the clock of
    intervals has stopped while the machine slept.
    """
    dates = account.dates
    if date is None:
        raise RestUnavailableError("an answer without a date")
    if (alpaca := dates.alpaca()) is not None and not dates.is_right(date):
        if not dates.is_right(dates.own()):
            raise RestUnavailableError("Alpaca's clock is not certain", CONFIRM_AFTER)
        date = alpaca
    return int(date) * SECOND
