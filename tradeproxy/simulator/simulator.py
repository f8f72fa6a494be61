"""One simulated account: its exchange, and its one connection, on which it tells what happens there."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, Protocol, TypeAlias

from twisted.internet.defer import Deferred

from tradeproxy.simulator.eventfeed import SseFeeds
from tradeproxy.simulator.exchange import Exchange
from tradeproxy.simulator.faults import Fault, FaultKind, LastingFault
from tradeproxy.simulator.history import EventHistory, event_record, payload_record
from tradeproxy.wire.messages import Authorization

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from tradeproxy.simulator.exchange import ExchangeResult
    from tradeproxy.simulator.history import EventRecord
    from tradeproxy.simulator.orders import Document, Order
    from tradeproxy.wire.credentials import Credentials

Frame: TypeAlias = tuple[bytes, bool]
"""A payload, and whether it is sent in a binary frame."""

CloseFrame: TypeAlias = tuple[int | None, str | None]
"""The code and the reason of a client's close frame; either may be absent."""

STEP_DELAY = (0.02, 0.25)
"""The shortest and the longest time, in seconds, until something happens to an order by itself."""

GOING_AWAY = 1001

GARBAGE: tuple[Frame, ...] = (
    (b'{"stream":"trade_updates","data":null}', False),  # really occurred
    (b"not JSON", False),
    (b'{"stream":"account_updates","data":{}}', False),
    (b'{"action":"error","data":{"error_message":"internal server error"}}', False),
    (b'{"stream":"trade_updates","data":{', True),
)


class StreamConnection(Protocol):
    """A client's connection to the stream, as the simulator uses it: see stream.StreamProtocol."""

    close_frame: CloseFrame | None

    @property
    def listening(self) -> bool:
        """Whether events go to this client."""

    @property
    def silent(self) -> bool:
        """Whether nothing at all is sent to this client."""

    def send_frames(self, frames: Iterable[Frame]) -> None:
        """Send frames, all in one write."""

    def silence(self, seconds: float | None) -> None:
        """Send nothing for some seconds; None: from now on."""

    def close(self, code: int) -> None:
        """Begin the closing handshake."""

    def drop(self, abort: bool) -> None:
        """End TCP without a close frame: at once (RST), or after what was written (FIN)."""


class Simulator:
    """An account without a listener: serve web.ApiSite(simulator) on any endpoint.

    With `credentials`, only a client that has them is let in. `history` holds every event, sent or not, and `feeds` are the responses that tell
    of it. `handshakes` counts the WebSocket handshakes, those turned away included; `last_close` is the close
    frame of the last client that is gone, None if it sent none.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        random: Random,
        *,
        binary: bool = True,
        credentials: Credentials | None = None,
        account_id: str | None = None,
        history: EventHistory | None = None,
    ) -> None:
        self.random = random
        self.binary = binary
        self.exchange = Exchange(reactor.seconds, random)
        self.account_id = account_id or self.exchange.account_id
        self.history = EventHistory() if history is None else history
        self.feeds = SseFeeds(reactor, self.history)
        self.handshakes = 0
        self.last_close: CloseFrame | None = None
        self.reactor = reactor
        self._credentials = credentials
        self._connection: StreamConnection | None = None
        self._steps: dict[str, IDelayedCall] = {}
        self._faults: dict[FaultKind, LastingFault] = {}
        self._awaited: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def account_id(self) -> str:
        """The account's id, a UUID; another one makes another account of it, with the same orders."""
        return self.exchange.account_id

    @account_id.setter
    def account_id(self, account_id: str) -> None:
        self.exchange.account_id = account_id

    @property
    def connected(self) -> bool:
        """Whether a client has the account's one connection."""
        return self._connection is not None

    @property
    def listening(self) -> bool:
        """Whether that client listens to trade updates."""
        return self._connection is not None and self._connection.listening

    def when_listening(self) -> Deferred[None]:
        """Fire once a client listens, at once if one does."""
        return self._when(lambda: self.listening)

    def when_gone(self) -> Deferred[None]:
        """Fire once no client is connected, at once if none is."""
        return self._when(lambda: not self.connected)

    def emit(self, data: Document) -> bytes:
        """Send an event with this `data`, and return the payload; unheard, it is in the history only."""
        record = event_record(data, self._now())
        self._publish([record])
        return record.payload

    def emit_payload(self, payload: bytes) -> int:
        """Send bytes as they are in the place of an event; return to how many clients they went, 0 or 1.

        If they are the frame of an event, it becomes part of the history.
        """
        if record := payload_record(payload, self._now()):
            return self._publish([record])
        return self._send([(payload, self.binary)])

    def apply(self, outcome: ExchangeResult) -> tuple[Order, ...]:
        """Tell the stream in one write what the exchange did, see to what follows, and return the orders."""
        now = self._now()
        self._publish([event_record(data, now) for data in outcome.events])
        for order in outcome.orders:
            if self.exchange.has_next_step(order.id):
                delay = self.random.uniform(*STEP_DELAY)
                self._steps[order.id] = self.reactor.callLater(delay, self._step, order.id)
        return outcome.orders

    def inject(self, fault: Fault) -> None:
        """Let something go wrong; without a client, only a fault that lasts has an effect."""
        match fault.kind, self._connection:
            case kind, _ if kind.lasting:
                self._faults[kind] = LastingFault(fault, self.reactor.seconds())
            case FaultKind.BURST, _:
                self.apply(self.exchange.burst(fault.count))
            case FaultKind.REPEAT, _:
                self._send(
                    [(record.payload, self.binary) for record in self.history.last(fault.count)]
                )
            case FaultKind.GARBAGE, _:
                self._send(list(islice(cycle(GARBAGE), fault.count)))
            case FaultKind.SILENCE, connection if connection is not None:
                connection.silence(fault.seconds)
            case FaultKind.CLOSE, connection if connection is not None:
                connection.close(1000)
            case FaultKind.DROP | FaultKind.RESET, connection if connection is not None:
                connection.drop(abort=fault.kind is FaultKind.RESET)

    def stop(self) -> Deferred[None]:
        """Stop the clock, cut the feeds off, and send the client of the stream a close frame.

        Fires once that client is gone, a second or so at most.
        """
        for call in self._steps.values():
            call.cancel()
        self._steps.clear()
        self.feeds.close_all()
        if self._connection is not None:
            self._connection.close(GOING_AWAY)
        return self.when_gone()

    def admit(self, connection: StreamConnection) -> Fault | None:
        """Give the account's connection to a client, or return what turns it away: one is allowed."""
        self.handshakes += 1
        if throttle := self.fault(FaultKind.THROTTLE):
            return throttle
        if self._connection is not None:
            return Fault(FaultKind.THROTTLE)
        self._connection = connection
        return None

    def authorize(self, credentials: Credentials) -> Authorization:
        """Give the verdict on a login on the stream. They are compared, and neither kept nor logged."""
        if self.fault(FaultKind.REFUSE):
            return Authorization(False)
        if not self.accepts(credentials):
            return Authorization(False, message="access key verification failed")
        return Authorization(True)

    def accepts(self, credentials: Credentials) -> bool:
        """Whether these are the account's credentials; without any, all are."""
        return self._credentials is None or credentials == self._credentials

    def release(self, connection: StreamConnection) -> None:
        """Take note that a connection has ended; one that was turned away never counted."""
        if connection is self._connection:
            self._connection = None
            self.last_close = connection.close_frame
            self.notify_waiters()

    def notify_waiters(self) -> None:
        """Tell those who wait for a client to listen or to be gone, if it is so."""
        for awaited in [awaited for awaited in self._awaited if awaited[0]()]:
            self._awaited.remove(awaited)
            awaited[1].callback(None)

    def seconds(self) -> float:
        """Return the time, in seconds since 1970."""
        return self.reactor.seconds()

    def fault(self, kind: FaultKind) -> Fault | None:
        """Return the lasting fault of a kind that is in force; asking is one of its occasions."""
        lasting = self._faults.get(kind)
        return lasting.fault if lasting and lasting.applies(self.reactor.seconds()) else None

    def _now(self) -> int:
        return int(self.reactor.seconds() * 1e9)

    def _publish(self, records: Sequence[EventRecord]) -> int:
        for record in records:
            self.history.append(record)
        sent = self._send([(record.payload, self.binary) for record in records])
        self.feeds.pump_all()
        return sent

    def _send(self, frames: Sequence[Frame]) -> int:
        connection = self._connection
        if connection is None or not connection.listening or connection.silent or not frames:
            return 0
        connection.send_frames(frames)
        return len(frames)

    def _step(self, order_id: str) -> None:
        del self._steps[order_id]
        if self.exchange.has_next_step(order_id):  # it may have been canceled
            self.apply(self.exchange.step(order_id))

    def _when(self, condition: Callable[[], bool]) -> Deferred[None]:
        awaited: Deferred[None] = Deferred()
        self._awaited.append((condition, awaited))
        self.notify_waiters()
        return awaited
