"""One simulated account: its exchange, and the single connection that receives its events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle, islice
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from tradeproxy.simulator.connection import CloseFrame, Frame, StreamConnection
from tradeproxy.simulator.eventfeed import SseFeeds
from tradeproxy.simulator.exchange import Exchange, ExchangeResult
from tradeproxy.simulator.faults import Fault, FaultKind, LastingFault
from tradeproxy.simulator.history import EventHistory, EventRecord, event_record
from tradeproxy.simulator.orders import Document, Order
from tradeproxy.simulator.session import CodedError, LoginResult
from tradeproxy.simulator.variants import EVENT_FAULTS, FILL_FAULTS, follow_fills, make_copies
from tradeproxy.wire.credentials import Credentials
from tradeproxy.wire.messages import Authorization, ServerError

STEP_DELAY = (0.02, 0.25)
"""The minimum and maximum seconds until the next step of an order."""

GOING_AWAY = 1001

LIMIT_MESSAGE = "connection limit exceeded"

GARBAGE: tuple[Frame, ...] = (
    (b'{"stream":"trade_updates","data":null}', False),  # seen from Alpaca
    (b"not JSON", False),
    (b'{"stream":"account_updates","data":{}}', False),
    (b'{"action":"error","data":{"error_message":"internal server error"}}', False),
    (b'{"stream":"trade_updates","data":{', True),
)


class Simulator:
    """An account without a listener: serve web.ApiSite(simulator) on any endpoint.

    `history` contains every event, sent or not, and `feeds` are the responses that send it.
    `handshakes` counts the WebSocket handshakes, rejected ones included. `last_close` is the close
    frame of the last disconnected client, or None if it sent none.

    Args:
        reactor: The clock and timers.
        random: The source of ids, prices and delays.
        binary: Whether events are binary frames, as for Alpaca's paper accounts.
        credentials: The only valid credentials; None accepts any.
        account_id: The account's id, a UUID; by default random.
        history: The history to use; by default a new one.
        wall_clock: Returns Unix time in seconds; the reactor's clock only measures intervals.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        random: Random,
        *,
        binary: bool = True,
        credentials: Credentials | None = None,
        account_id: str | None = None,
        history: EventHistory | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.random = random
        self.binary = binary
        self.exchange = Exchange(wall_clock, random)
        if account_id is not None:
            self.exchange.portfolio.account_id = account_id
        self.history = EventHistory() if history is None else history
        self._unreported = EventHistory()
        self.feeds = SseFeeds(reactor, self.history, wall_clock)
        self.handshakes = 0
        self.last_close: CloseFrame | None = None
        self.reactor = reactor
        self.wall_clock = wall_clock
        self._credentials = credentials
        self._connection: StreamConnection | None = None
        self._steps: dict[str, IDelayedCall] = {}
        self._faults: dict[FaultKind, LastingFault] = {}
        self._waiters: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def connected(self) -> bool:
        """Whether a client is connected."""
        return self._connection is not None

    @property
    def listening(self) -> bool:
        """Whether the connected client listens to trade updates."""
        return self._connection is not None and self._connection.listening

    def when_listening(self) -> Deferred[None]:
        """Return a Deferred that fires when a client listens; immediately if one does."""
        return self._when(lambda: self.listening)

    def when_gone(self) -> Deferred[None]:
        """Return a Deferred that fires when no client is connected; immediately if none is."""
        return self._when(lambda: not self.connected)

    def emit(self, data: Document) -> bytes:
        """Send an event with this `data` and return its payload on the stream.

        The history always contains it. Faults may change it.
        """
        record = self._record(data)
        self._publish([record])
        return record.payload

    def emit_stamped(self, data: Document) -> int:
        """Send an event; a missing id or time is set. Return the number of clients, 0 or 1."""
        return self._publish([self._record(self.exchange.stamped(data))])

    def send_payload(self, payload: bytes) -> None:
        """Send a frame that is not in the history."""
        self._send([(payload, self.binary)])

    def apply(self, result: ExchangeResult) -> tuple[Order, ...]:
        """Send the events of a result in one write, schedule next steps, and return the orders."""
        self._publish([self._record(data) for data in result.events if self._is_reported(data)])
        for order in result.orders:
            if self.exchange.has_next_step(order.id):
                delay = self.random.uniform(*STEP_DELAY)
                self._steps[order.id] = self.reactor.callLater(delay, self._step, order.id)
        return result.orders

    def inject(self, fault: Fault) -> None:
        """Inject a fault. Without a client, only a lasting fault and new events remain."""
        self._log.info("simulated Alpaca: the fault {fault} is injected", fault=fault.kind.value)
        match fault.kind, self._connection:
            case kind, connection if kind.lasting:
                self._faults[kind] = LastingFault(fault, self.reactor.seconds())
                if kind is FaultKind.OUTAGE and connection is not None:
                    connection.drop(abort=True)
            case FaultKind.BURST, _:
                self.apply(self.exchange.burst(fault.count))
            case kind, _ if kind in FILL_FAULTS:
                self._follow_fills(fault)
            case FaultKind.REPEAT, _:
                records = self.history.last(fault.count)
                self._send([(record.payload, self.binary) for record in records])
            case FaultKind.GARBAGE, _:
                self._send(list(islice(cycle(GARBAGE), fault.count)))
            case FaultKind.SILENCE | FaultKind.MUTE, connection if connection is not None:
                connection.quiet(fault.kind, fault.seconds)
            case FaultKind.CLOSE, connection if connection is not None:
                connection.close(1000)
            case FaultKind.DROP | FaultKind.RESET, connection if connection is not None:
                connection.drop(abort=fault.kind is FaultKind.RESET)

    def faults(self) -> list[FaultKind]:
        """List the kinds of the faults in force."""
        now, connection = self.reactor.seconds(), self._connection
        kinds = [kind for kind, lasting in self._faults.items() if lasting.in_force(now)]
        if connection is not None:
            kinds += filter(connection.is_quiet, (FaultKind.SILENCE, FaultKind.MUTE))
        return kinds

    def end_faults(self, only: FaultKind | None = None) -> list[FaultKind]:
        """End the faults in force, or those of one kind, and return the kinds that have ended."""
        ended = [kind for kind in self.faults() if only in (None, kind)]
        for kind in ended:
            match kind, self._connection:
                case FaultKind.SILENCE | FaultKind.MUTE, connection if connection is not None:
                    connection.quiet(kind, 0)
                case _:
                    del self._faults[kind]
            self._log.info("simulated Alpaca: the fault {fault} has ended", fault=kind.value)
        return ended

    def stop(self) -> Deferred[None]:
        """Cancel all timers, abort the feeds, and close the client's connection with 1001.

        The Deferred fires after the client disconnects, within about a second.
        """
        for call in self._steps.values():
            call.cancel()
        self._steps.clear()
        self.feeds.close_all()
        if self._connection is not None:
            self._connection.close(GOING_AWAY)
        return self.when_gone()

    def admit(self, connection: StreamConnection) -> Fault | None:
        """Accept a connection, or return the fault that rejects it. Only one is allowed."""
        self.handshakes += 1
        for kind in (FaultKind.OUTAGE, FaultKind.THROTTLE):
            if fault := self.fault(kind):
                return fault
        if self._connection is not None:
            return Fault(FaultKind.THROTTLE)
        self._connection = connection
        return None

    def authorize(self, credentials: Credentials) -> LoginResult:
        """Decide on a login on the stream.

        The simulator neither stores nor logs the credentials.
        """
        if fault := self.fault(FaultKind.REFUSE):
            return Authorization(False, message=fault.message)
        if fault := self.fault(FaultKind.LIMIT):
            message = fault.message or LIMIT_MESSAGE
            return ServerError(message) if fault.code is None else CodedError(fault.code, message)
        if not self.accepts(credentials):
            return Authorization(False, message="access key verification failed")
        return Authorization(True)

    def accepts(self, credentials: Credentials) -> bool:
        """Whether the credentials are valid; any are if the account has none."""
        return self._credentials is None or credentials == self._credentials

    def release(self, connection: StreamConnection) -> None:
        """Free the account's connection after a disconnect; ignore a rejected connection."""
        if connection is self._connection:
            self._connection = None
            self.last_close = connection.close_frame
            self.notify_waiters()

    def notify_waiters(self) -> None:
        """Fire each Deferred whose condition is now true."""
        for waiter in [waiter for waiter in self._waiters if waiter[0]()]:
            self._waiters.remove(waiter)
            waiter[1].callback(None)

    def executions(self) -> Iterator[EventRecord]:
        """Iterate over the events of which the account's activities list the fills.

        An unreported fill has no event for clients, but an activity.
        """
        return chain(self.history, self._unreported)

    def date(self) -> float:
        """Return the Unix time for the Date header of one response, in seconds.

        A DATE_SHIFT fault makes it wrong.
        """
        shift = self.fault(FaultKind.DATE_SHIFT)
        return self.wall_clock() + (shift.offset if shift else 0)

    def fault(self, kind: FaultKind) -> Fault | None:
        """Return the lasting fault of a kind if it applies now.

        The call counts as one request or event.
        """
        lasting = self._faults.get(kind)
        return lasting.fault if lasting and lasting.applies(self.reactor.seconds()) else None

    def _now(self) -> int:
        return int(self.wall_clock() * 1e9)

    def _is_reported(self, data: Document) -> bool:
        """Whether a change of an order has an event. One that has none is recorded apart."""
        if self.fault(FaultKind.UNREPORTED) is None:
            return True
        self._unreported.append(event_record(data, self._now()))
        return False

    def _follow_fills(self, fault: Fault) -> None:
        fills = [json.loads(record.data) for record in self.history.last_fills(fault.count)]
        events = follow_fills(fault, fills, self.exchange.clock.stamp)
        self._publish([self._record(data) for data in events])

    def _record(self, data: Document) -> EventRecord:
        """Apply the event faults, and append the event to the history."""
        faults = [fault for kind in EVENT_FAULTS if (fault := self.fault(kind)) is not None]
        previous = [record.time for record in self.history.last(1)]
        account_id = self.exchange.portfolio.account_id
        copies = make_copies(data, faults, previous[0] if previous else None, account_id)
        streamed = None if copies.stream is copies.history else copies.stream
        record = event_record(copies.history, self._now(), streamed)
        self.history.append(record)
        return record

    def _publish(self, records: Sequence[EventRecord]) -> int:
        """Send events that the history has, and return how many went to a client."""
        streamed = [record for record in records if self.fault(FaultKind.OMIT) is None]
        sent = self._send([(record.payload, self.binary) for record in streamed])
        self.feeds.pump_all()
        return sent

    def _send(self, frames: Sequence[Frame]) -> int:
        connection = self._connection
        if connection is None or not connection.listening or not frames:
            return 0
        if connection.is_quiet(FaultKind.SILENCE) or connection.is_quiet(FaultKind.MUTE):
            return 0
        connection.send_frames(frames)
        return len(frames)

    def _step(self, order_id: str) -> None:
        del self._steps[order_id]
        if self.exchange.has_next_step(order_id):  # it may have been canceled
            self.apply(self.exchange.step(order_id))

    def _when(self, condition: Callable[[], bool]) -> Deferred[None]:
        waiter: Deferred[None] = Deferred()
        self._waiters.append((condition, waiter))
        self.notify_waiters()
        return waiter
