"""Limits on the work for clients: a throttle, and the deadlines of those not authenticated yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper

from tradeproxy.runtime.fair_queue import FairQueue
from tradeproxy.runtime.peer import get_peer_key
from tradeproxy.runtime.socket_limit import unwrap

PER_TURN = 32
"""Reads and requests handled in one reactor turn. 32 usual requests take about 5 ms together."""

FRAMES_PER_TURN = 8
"""WebSocket frames of one client that are handled at once; the others wait for the throttle. A bot
sends two messages when it connects, and later a pong now and then."""

MAX_READ = 2048
"""Bytes that one read of a client's socket returns. Twisted's 64 KiB can hold 10,000 tiny frames
or 1,500 requests, which would block the reactor; a usual handshake has 200 to 1,000 bytes."""

ROOM_RETRY = 0.05
"""Seconds after which a throttle without room tries again."""


class HandshakeThrottle:
    """Handles at most `per_turn` handshakes per reactor turn, so a reconnect storm delays no event.

    The others wait for later turns. Each address has its turn, however many connections of another
    one wait; those of one address are handled in FIFO order by default. A waiting transport is
    paused. So the memory for each is bounded by what one read of its socket returned; over TLS this
    arrives in up to 70 pieces, and each waits for a turn of its own. Clients that send more than
    they need to, before or after the handshake, wait in the same queue: pipelined requests, and
    frames beyond FRAMES_PER_TURN.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        per_turn: int = PER_TURN,
        make_room: Callable[[Any], bool] = lambda _: True,
        *,
        newest_first: bool = False,
    ) -> None:
        """Create a throttle.

        Args:
            clock: the reactor.
            per_turn: how many pieces of work one turn handles.
            make_room: returns whether the work of this transport may begin. If none may, all wait
                for ROOM_RETRY seconds.
            newest_first: handles those of an address first that wait for the shortest time. This is
                fairer if sockets that never finish wait too: a client does not wait behind all.
        """
        self._clock = clock
        self.per_turn = per_turn
        self._make_room = make_room
        self._remaining = per_turn
        self._waiting: dict[Any, list[tuple[Callable[[bytes], None], bytes]]] = {}
        self._order = FairQueue[str, Any](newest_first=newest_first)
        self._is_scheduled = False

    def __contains__(self, transport: object) -> bool:
        """Return whether data of a connection wait."""
        return transport in self._waiting

    def submit(self, transport: Any, work: Callable[[bytes], None], data: bytes) -> None:
        """Call `work(data)` now, or in a later turn if this turn's limit is reached.

        Args:
            transport: the connection that `data` came from. It is paused while it waits.
            work: handles the data. It is not called if the connection is lost while it waits.
            data: the received bytes.

        Raises:
            Exception: what `work` raises when it is called now. In a later turn the exception is
                logged, and the connection is aborted.
        """
        if self._remaining and not self._waiting and self._make_room(transport):
            self._schedule()
            self._remaining -= 1
            work(data)
        else:
            self.defer(transport, work, data)

    def defer(self, transport: Any, work: Callable[[bytes], None], data: bytes = b"") -> None:
        """Call `work(data)` in a later turn, after what already waits; see `submit`."""
        self._schedule()
        transport.pauseProducing()
        if transport not in self._waiting:
            self._wait(transport, [])
        self._waiting[transport].append((work, data))

    def discard(self, transport: Any) -> None:
        """Forget the data of a connection that is lost, so that it uses up no turn."""
        self._waiting.pop(transport, None)
        self._order.discard(transport)

    def _wait(self, transport: Any, pieces: list[tuple[Callable[[bytes], None], bytes]]) -> None:
        self._waiting[transport] = pieces
        self._order.push(get_peer_key(transport), transport)

    def _schedule(self, seconds: float = 0) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._clock.callLater(seconds, self._next_turn)

    def _next_turn(self) -> None:
        self._is_scheduled = False
        self._remaining = self.per_turn
        refused = []
        # A client that is deferred again meanwhile is not handled twice in this turn.
        for transport in [self._order.pop() for _ in range(min(self.per_turn, len(self._order)))]:
            if transport not in self._waiting:
                continue  # lost meanwhile
            if not self._make_room(transport):
                refused.append(transport)
                continue
            self._remaining -= 1
            (work, data), *rest = self._waiting.pop(transport)
            if rest:
                self._wait(transport, rest)
            self._handle(transport, work, data)
        for transport in reversed(refused):  # for the order of newest_first
            if transport in self._waiting:
                self._wait(transport, self._waiting[transport])
        if self._waiting:
            self._schedule(ROOM_RETRY if refused and self._remaining == self.per_turn else 0)

    def _handle(self, transport: Any, work: Callable[[bytes], None], data: bytes) -> None:
        # The reactor closes a connection whose dataReceived raises. This call comes from a timer,
        # where an exception would end the loop over the other clients.
        try:
            if _is_connected(transport):
                transport.resumeProducing()
                work(data)
                if transport in self._waiting:  # it has more; `work` may have resumed it
                    transport.pauseProducing()
        except Exception:
            self._log.failure("a client's handshake failed; the connection is aborted")
            transport.abortConnection()


def bound_reads(transport: Any) -> None:
    """Limit what one read of an accepted connection returns to MAX_READ bytes."""
    unwrap(transport).bufferSize = MAX_READ


def _is_connected(transport: Any) -> bool:
    # Twisted never resets `connected` of a wrapper (TLS, or the parser of HAProxy's header).
    # Only the TCP transport inside has a reliable value.
    while isinstance(transport, ProtocolWrapper):
        if transport.disconnecting:
            return False
        transport = transport.transport
    return transport.connected and not transport.disconnecting


class UnauthenticatedClient(Protocol):
    """A connected client without an accepted auth message. Compared and hashed by identity."""

    def auth_timed_out(self) -> None:
        """Close the client: its auth deadline has passed."""


class AuthDeadlines:
    """The auth deadlines of all unauthenticated clients.

    The timeout is the same for all, so deadlines expire in FIFO order. One timer suffices.
    """

    def __init__(self, seconds: float, clock: IReactorTime) -> None:
        self._seconds = seconds
        self._clock = clock
        self._due: dict[UnauthenticatedClient, float] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._due)

    def add(self, client: UnauthenticatedClient) -> None:
        """Call `client.auth_timed_out()` after the timeout, unless `client` is discarded first."""
        self._due[client] = self._clock.seconds() + self._seconds
        self._schedule()

    def discard(self, client: UnauthenticatedClient) -> None:
        """Remove the deadline of `client`. An unknown client is ignored."""
        self._due.pop(client, None)
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        if self._timer is None and self._due:
            first = next(iter(self._due.values()))
            self._timer = self._clock.callLater(max(first - self._clock.seconds(), 0), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for client in [client for client, due in self._due.items() if due <= now]:
            # The close of an earlier client may have discarded this one.
            if self._due.pop(client, None) is not None:
                client.auth_timed_out()
        self._schedule()
