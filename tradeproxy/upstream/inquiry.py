"""What the stream did not bring from a moment on: the history is asked, or, if it is refused, the orders."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twisted.internet.task import deferLater

from tradeproxy.recoverysettings import RecoveryMode
from tradeproxy.upstream.history import History
from tradeproxy.upstream.orders import Document, missed_events, read_time
from tradeproxy.upstream.rest import RefusedError, UnavailableError
from tradeproxy.upstream.snapshot import Snapshot, take_snapshot
from tradeproxy.upstream.told import Notice, read_notice, told_of
from tradeproxy.wire.frame import Recovered, event_frame
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.status import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.hub.account import Account
    from tradeproxy.hub.journal import Journal
    from tradeproxy.upstream.rest import RestClient
    from tradeproxy.wire.event import Event

SECOND = 1_000_000
"""In microseconds, which are the unit of every time here that has no other."""

OVERLAP = 300 * SECOND
"""How far before the last moment that is known to be complete the question begins."""

MARGIN = 60 * SECOND
"""How far before that our own log is read: an event is told a little after the fill that it tells of."""

SETTLE = 1.0
"""Seconds in which the stream brings the events of what the orders already show."""

ROWS_A_READ = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of it, and up to when (by Alpaca's clock) nothing more is to be asked."""

    outcome: Outcome
    reason: str
    through: int


class Inquiry:
    """One inquiry, to be asked again after an UnavailableError: it goes on where it was.

    `begin` is the moment up to which the account's log is complete. The history is asked for what happened
    up to `slack` seconds ago; 0 stands for all. What is refused once is not asked for again.
    """

    def __init__(
        self,
        account: Account,
        rest: RestClient,
        clock: IReactorTime,
        mode: RecoveryMode,
        begin: int,
        deliver: Callable[[Event, Recovered], None],
        slack: int = 0,
    ) -> None:
        self._account = account
        self._journal = account.journal
        self._rest = rest
        self._clock = clock
        self._mode = mode
        self._begin = begin
        self._deliver = deliver
        self._slack = slack
        # Noted now, before newer events are delivered: it may be too late when the orders are asked for.
        self._before = {state.id: state for state in self._journal.open_orders() if state.time <= begin}
        self._since: int | None = None
        self._history: History | None = None
        self._refusal = ""

    async def ask(self) -> Finding:
        """Find and deliver it; raises UnavailableError, after which this is to be called again."""
        now = await self._alpacas_now()
        asked = self._clock.seconds()
        since = self._first_moment(now)
        if not self._refusal:
            try:
                return await self._ask_history(since, now)
            except RefusedError as error:
                self._refusal = error.reason
        if self._mode is RecoveryMode.EVENTS:
            return Finding(Outcome.LOST, f"the history is refused: {self._refusal}", now)
        try:
            await self._ask_orders(since)
        except RefusedError as error:
            reason = f"the history is refused ({self._refusal}), the orders are too: {error.reason}"
            return Finding(Outcome.LOST, reason, now)
        # By now: whatever the orders showed lies SETTLE back at least, and what followed came by the stream.
        through = now + round((self._clock.seconds() - asked) * SECOND)
        self._journal.know_through(through)
        return Finding(Outcome.ORDERS, f"the history is refused: {self._refusal}", through)

    async def _alpacas_now(self) -> int:
        """Return the time by Alpaca's clock, cut to the second; by ours if it cannot be had."""
        ours = round(self._clock.seconds() * SECOND)
        try:
            answer = await self._rest.get("/v2/account")
        except (RefusedError, UnavailableError):
            return ours  # the question itself may still be answered
        match answer.document:
            case {"id": str(account_id)}:
                self._journal.identify(account_id)
        return ours if answer.date is None else round(answer.date) * SECOND

    def _first_moment(self, now: int) -> int:
        """Return from when on to ask: not from before the log, and never from a time yet to come.

        The moments of the log may be of our clock, which may be ahead of Alpaca's.
        """
        if self._since is None:
            ahead = max(round(self._clock.seconds() * SECOND) - now, 0)
            self._since = max(min(self._begin, now) - OVERLAP, self._journal.begins - ahead - SECOND)
        return self._since

    async def _ask_history(self, since: int, now: int) -> Finding:
        if self._history is None:
            self._history = History(
                self._rest, since, lambda event: self._deliver(event, Recovered.EVENTS), self._account.drop
            )
        # A second further, of which Alpaca lets us wait what is left: its Date is cut to whole seconds.
        until = now - self._slack if self._slack else now + SECOND
        if until > since:
            await self._history.read(until)
        return Finding(Outcome.RECOVERED, "", until)

    async def _ask_orders(self, since: int) -> None:
        open_orders = [state.id for state in self._journal.open_orders()]
        snapshot = await take_snapshot(self._rest, since, open_orders)
        await deferLater(self._clock, SETTLE)
        for data in self._missed(snapshot, since):
            payload = json.dumps(data, separators=(",", ":")).encode()
            message = parse_server(event_frame(payload))
            if isinstance(message, TradeUpdate):
                self._deliver(message.event, Recovered.ORDERS)

    def _missed(self, snapshot: Snapshot, since: int) -> list[Document]:
        """Return the events that are to be made, in the order of their times."""
        logged = _by_order(_log_from(self._journal, since - MARGIN))
        held = _by_order(event.payload for event in self._account.held)
        horizon = self._journal.horizon
        events = [
            event
            for order_id, order in snapshot.orders.items()
            for event in missed_events(
                order,
                told_of(
                    self._journal.order(order_id),
                    logged[order_id],
                    held[order_id],
                    self._begin,
                    self._before.get(order_id),
                ),
                snapshot.fills_of(order_id),
                since,
                horizon,
            )
        ]
        return sorted(events, key=lambda event: read_time(event["timestamp"]))


def _log_from(journal: Journal, time: int) -> Iterator[bytes]:
    """Yield the events in the log from a time on."""
    first = journal.first_since(time)
    after = journal.last if first is None else first - 1
    while (burst := journal.read(after, ROWS_A_READ)) is not None:
        yield from (row.payload for row in burst.rows if row.payload is not None)
        after = burst.last


def _by_order(payloads: Iterable[bytes]) -> defaultdict[str, list[Notice]]:
    notices: defaultdict[str, list[Notice]] = defaultdict(list)
    for payload in payloads:
        if (notice := read_notice(payload)) is not None:
            notices[notice.state.id].append(notice)
    return notices
