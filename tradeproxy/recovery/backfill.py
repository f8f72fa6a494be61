"""What the stream did not bring from a moment on: the history is asked, or, if it is refused, the orders."""

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
from tradeproxy.upstream.rest import RestRefusedError, RestUnavailableError
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


SECOND = 1_000_000
"""In microseconds, which are the unit of every time here that has no other."""

OVERLAP = 300 * SECOND
"""How far before the last moment that is known to be complete the question begins."""

MARGIN = 60 * SECOND
"""How far before that our own log is read: an event is told a little after the fill that it tells of."""

SETTLE = 2.0
"""Seconds in which the stream brings the events of what the orders already show."""

CLOCK_STEP = 1.0
"""Seconds to which Alpaca's clock is cut: when they are over, so is the second that it showed."""

ROWS_A_READ = 1000


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """What came of it, and up to when (by Alpaca's clock) nothing more is to be asked."""

    outcome: GapOutcome
    reason: str
    through: int


class Backfill:
    """One inquiry, to be asked again after an UnavailableError: it goes on where it was.

    It is about what happened from the moment on up to which the account's log is known to be complete, and
    up to `slack` seconds ago; 0 stands for all. What is refused once is not asked for again. `unknown` are
    the ids of orders that Alpaca does not know; it grows.
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
        self._account = account
        self._journal = account.journal
        self._rest = rest
        self._clock = clock
        self._mode = mode
        self._deliver = deliver
        self._unknown = unknown
        self._slack = slack
        # Noted now, before newer events are delivered: it may be too late when the orders are asked for.
        self._before = {state.id: state for state in self._journal.open_orders()}
        self._begin: int | None = None
        self._since = 0
        self._history: HistoryReader | None = None
        self._refusal = ""

    async def run(self) -> BackfillResult:
        """Find and deliver it; raises UnavailableError, after which this is to be called again."""
        now = await identify_account(self._account, self._rest)
        begin = self._look_back(now)
        # A second further, of which Alpaca lets us wait what is left: its Date is cut to whole seconds.
        until = now - self._slack if self._slack else now + SECOND
        finding = await self._find(begin, now, until)
        if until <= max(
            begin, self._since
        ):  # whatever was found: of the time in question nothing was asked
            raise RestUnavailableError("by Alpaca's clock what was missed is yet to come")
        return finding

    async def _find(self, begin: int, now: int, until: int) -> BackfillResult:
        if not self._refusal:
            try:
                return await self._ask_history(until)
            except RestRefusedError as error:
                self._refusal = error.reason
        if self._mode is RecoveryMode.EVENTS:
            return BackfillResult(GapOutcome.LOST, f"the history is refused: {self._refusal}", now)
        try:
            through = await self._ask_orders(begin, until)
        except RestRefusedError as error:
            reason = f"the history is refused ({self._refusal}), the orders are too: {error.reason}"
            return BackfillResult(GapOutcome.LOST, reason, now)
        return BackfillResult(
            GapOutcome.ORDERS, f"the history is refused: {self._refusal}", through
        )

    def _look_back(self, now: int) -> int:
        """Return the moment up to which the log is complete, and see to it that all from then on is asked.

        Not what was before the log, that is: unless the log is younger than that moment, as one that took a
        damaged one's place. When it began is told by our clock, which may be ahead of Alpaca's.
        """
        known = self._account.gaps.backfill_from
        begin = now if known is None else known
        if begin != self._begin:  # the first time; or the log turned out to be another account's
            self._begin, self._history = begin, None
            ahead = max(round(self._clock.seconds() * SECOND) - now, 0)
            log_begins = min(self._journal.complete_from - ahead - SECOND, begin)
            self._since = max(min(begin, now) - OVERLAP, log_begins)
        return begin

    async def _ask_history(self, until: int) -> BackfillResult:
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

    async def _ask_orders(self, begin: int, until: int) -> int:
        """Deliver what the orders show; return up to when nothing more of it is to come."""
        if not self._slack:
            # What follows `until` is the stream's affair; what does not is in the answers to come.
            await deferLater(self._clock, CLOCK_STEP)
        known = [state.id for state in self._journal.open_orders()]
        snapshot = await take_snapshot(self._rest, self._since, known, self._unknown)
        await deferLater(self._clock, SETTLE)
        try:
            missed, through = self._find_missed(snapshot, begin, until)
        except (TrimmedError, UnreadableError):
            raise RestUnavailableError("the journal cannot be read") from None
        for data in missed:
            payload = json.dumps(data, separators=(",", ":")).encode()
            message = parse_server(frame_event(payload))
            if isinstance(message, TradeUpdate):
                self._deliver(message.event, Recovered.ORDERS)
        return through

    def _find_missed(
        self, snapshot: Snapshot, begin: int, until: int
    ) -> tuple[list[Document], int]:
        """Return the events that are to be made, in the order of their times, and up to when these are all.

        Where there is slack, what has moved since `until` is left to the stream, and to the next inquiry if
        something older is missing of it.
        """
        self._account.flush()  # what waits in this turn is told, too
        logged = _group_by_order(_read_log_from(self._journal, self._since - MARGIN))
        held = _group_by_order(event.payload for event in self._account.buffered)
        horizon = self._journal.dedup_horizon
        missed: list[Document] = []
        through = until
        for order_id, order in snapshot.orders.items():
            before = self._before.get(order_id)
            told = summarize_delivered(
                self._journal.order(order_id),
                logged[order_id],
                held[order_id],
                begin,
                before if before is not None and before.time <= begin else None,
            )
            fills = snapshot.select_fills(order_id)
            events = find_missed_events(order, told, fills, self._since, horizon)
            if self._slack and last_change(order, fills) > until:
                if any(read_time(event["timestamp"]) <= until for event in events):
                    through = begin
            else:
                missed += events
        return sorted(missed, key=lambda event: read_time(event["timestamp"])), through


def _read_log_from(journal: Journal, time: int) -> Iterator[bytes]:
    """Yield the events in the log from a time on."""
    first = journal.first_since(time)
    after = journal.last if first is None else first - 1
    while (burst := journal.read(after, ROWS_A_READ)) is not None:
        yield from (row.payload for row in burst.rows if row.payload is not None)
        after = burst.last


def _group_by_order(payloads: Iterable[bytes]) -> defaultdict[str, list[DeliveredEvent]]:
    notices: defaultdict[str, list[DeliveredEvent]] = defaultdict(list)
    for payload in payloads:
        if (notice := read_delivered_event(payload)) is not None:
            notices[notice.state.id].append(notice)
    return notices


async def identify_account(account: Account, rest: RestClient) -> int:
    """Note whose log this is from now on, and return the time by Alpaca's clock.

    That is in microseconds, cut to whole seconds, and may be the time of a refusal. Our own clock does not
    do for it: raises UnavailableError where Alpaca's cannot be had.
    """
    try:
        answer = await rest.get("/v2/account")
    except RestRefusedError as error:
        return _time(error.date)
    except RestUnavailableError as error:
        if error.date is None:
            raise
        return _time(error.date)
    now = _time(answer.date)
    match answer.document:
        case {"id": account_id} if is_id(account_id):
            account.identify(account_id)
    if account.gaps.complete_through is None:
        account.gaps.start_log(now)
    return now


def _time(date: float | None) -> int:
    if date is None:
        raise RestUnavailableError("an answer without a date")
    return round(date) * 1_000_000
