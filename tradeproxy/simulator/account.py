"""One simulated account over time: what happens on the exchange is told on the stream."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tradeproxy.simulator.exchange import Exchange, Outcome
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.orders import Document, Order, Refusal
from tradeproxy.simulator.slot import Slot
from tradeproxy.wire.messages import TRADE_UPDATES

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from tradeproxy.secret import Credentials
    from tradeproxy.simulator.slot import CloseFrame

EXECUTION_DELAY = (0.02, 0.25)
"""The shortest and the longest time, in seconds, until something happens to an order by itself."""

GOING_AWAY = 1001


class Account:
    """An exchange and the slot for its stream, joined by the reactor's clock.

    `now` is the time in UTC that events carry; by default it is the reactor's.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        random: Random,
        *,
        binary: bool = True,
        credentials: Credentials | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._reactor = reactor
        self.random = random
        self._pending: dict[str, IDelayedCall] = {}
        self.exchange = Exchange(now or (lambda: datetime.fromtimestamp(reactor.seconds(), UTC)), random)
        self.slot = Slot(reactor, binary=binary, credentials=credentials)

    # The stream's side

    @property
    def handshakes(self) -> int:
        """How many WebSocket handshakes have arrived, those turned away included."""
        return self.slot.handshakes

    @property
    def connected(self) -> bool:
        """Whether a client has the account's connection."""
        return self.slot.connected

    @property
    def listening(self) -> bool:
        """Whether that client listens to trade updates."""
        return self.slot.listening

    @property
    def last_close(self) -> CloseFrame | None:
        """What the client of the last connection that ended said in its close frame; None without one."""
        return self.slot.last_close

    def when_listening(self) -> Deferred[None]:
        """Fire once a client listens, at once if one does."""
        return self.slot.when_listening()

    def when_gone(self) -> Deferred[None]:
        """Fire once no client is connected, at once if none is."""
        return self.slot.when_gone()

    def emit(self, data: Document) -> bytes:
        """Send an event with this `data`, and return the payload; it is lost if nobody listens."""
        payload = event_payload(data)
        self.emit_payload(payload)
        return payload

    def emit_payload(self, payload: bytes) -> int:
        """Send bytes as they are in the place of an event; return to how many clients they went, 0 or 1."""
        return self.slot.publish([payload])

    def inject(self, fault: Fault) -> None:
        """Let something go wrong."""
        if fault.kind is FaultKind.BURST:
            self.carry_out(self.exchange.churn(fault.count))
        else:
            self.slot.inject(fault)

    # The exchange's side

    def carry_out(self, outcome: Outcome | Refusal) -> tuple[Order, ...] | Refusal:
        """Tell the stream what an operation of the exchange did, and let time take its course.

        The events of one outcome leave in one write.
        """
        if isinstance(outcome, Refusal):
            return outcome
        self.slot.publish([event_payload(data) for data in outcome.events])
        for order in outcome.orders:
            if self.exchange.due(order.id):
                delay = self.random.uniform(*EXECUTION_DELAY)
                self._pending[order.id] = self._reactor.callLater(delay, self._proceed, order.id)
        return outcome.orders

    def end(self) -> Deferred[None]:
        """Stop the clock and send the client a close frame; fire once it is gone, a second or so at most."""
        for call in self._pending.values():
            call.cancel()
        self._pending.clear()
        return self.slot.end(GOING_AWAY)

    def _proceed(self, order_id: str) -> None:
        del self._pending[order_id]
        self.carry_out(self.exchange.proceed(order_id))


def event_payload(data: Document) -> bytes:
    """Write an event's `data` as the stream carries it."""
    return json.dumps({"stream": TRADE_UPDATES, "data": data}, separators=(",", ":")).encode()
