"""Limits on what clients cost before they are authenticated: in work, in bytes and in time.

In the order in which a connection meets them: the header of the PROXY protocol, the TLS handshake,
the reads of its request, and the deadline of its auth message.
"""

# Twisted's transports have no public names for what is read and replaced here.
# ruff: noqa: SLF001

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from OpenSSL.SSL import WantReadError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.protocols.haproxy._info import ProxyInfo
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

from tradeproxy.runtime.fair_queue import FairQueue
from tradeproxy.runtime.peer import get_peer_key
from tradeproxy.runtime.socket_limit import SocketLimit, unwrap

PER_TURN = 32
"""Reads and requests handled in one reactor turn. 32 usual requests take about 5 ms together."""

FRAMES_PER_TURN = 8
"""WebSocket frames of one client that are handled at once; the others wait for the throttle. A bot
sends two messages when it connects, and later a pong now and then."""

MAX_READ = 2048
"""Bytes that one read of a client's socket returns. Twisted's 64 KiB can hold 10,000 tiny frames
or 1,500 requests, which would block the reactor; a usual handshake has 200 to 1,000 bytes."""

MAX_HEADER = 2_048
"""Bytes in which a header of the PROXY protocol must end. HAProxy's have 16 to 52, and some hundred
more with options; Twisted takes up to 64 KiB, for as long as a handshake may take."""

MAX_HANDSHAKE = 16_384
"""Bytes that a client may send before the end of its TLS handshake; a usual one sends 600 to 2,500.
OpenSSL accepts a ClientHello of 128 KiB, and keeps 200 KB for it."""

HELLOS_PER_TURN = 8
"""TLS handshakes that begin in one reactor turn, and further parts of unanswered hellos. Each may
take a signature, of up to 1 ms: a hello can come in any pieces. Fewer than the requests of a turn,
so that clients finish as fast as others begin."""

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
        for transport in [self._order.pop() for _ in range(min(self.per_turn, len(self._waiting)))]:
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


def bound_header(transport: Any) -> None:
    """Abort the connection if its header is longer than MAX_HEADER; without one, do nothing."""
    if isinstance(transport, HAProxyProtocolWrapper):
        transport.dataReceived = partial(  # type: ignore[method-assign]  # until the header's end
            _receive_header, transport, 0
        )


def release_header(transport: Any) -> None:
    """Drop what `bound_header` set: it refers to the transport, a reference cycle."""
    if isinstance(transport, HAProxyProtocolWrapper):
        vars(transport).pop("dataReceived", None)


def _receive_header(transport: HAProxyProtocolWrapper, before: int, data: bytes) -> None:
    if transport._parser is None and data.startswith(V1Parser.PROXYSTR):
        transport._parser = _V1Parser()
    try:
        HAProxyProtocolWrapper.dataReceived(transport, data)
    except ValueError:  # of a port that is no number, or an address that is not UTF-8
        if transport._proxyInfo is not None:
            raise  # of the request behind it
        release_header(transport)
        transport.abortConnection()
        return
    size = before + len(data)
    if transport._proxyInfo is not None:
        release_header(transport)
    elif size >= MAX_HEADER:
        release_header(transport)
        transport.abortConnection()
    else:
        transport.dataReceived = partial(  # type: ignore[method-assign]  # as above
            _receive_header, transport, size
        )


class _V1Parser(V1Parser):
    """Accepts the shortest header too. Twisted expects a space behind UNKNOWN."""

    @classmethod
    def parse(cls, line: bytes) -> ProxyInfo:
        return super().parse(b"%b " % line if line == b"PROXY UNKNOWN" else line)


class _Unstarted:
    """Stands in for OpenSSL's connection until the first bytes: one that has received nothing."""

    def do_handshake(self) -> NoReturn:
        raise WantReadError

    def bio_read(self, _: int) -> NoReturn:
        raise WantReadError

    def recv(self, _: int) -> NoReturn:
        raise WantReadError

    def send(self, _: bytes) -> NoReturn:
        raise WantReadError

    def shutdown(self) -> bool:
        return False

    def bio_shutdown(self) -> None:
        pass


_UNSTARTED = _Unstarted()


class TlsHandshakes:
    """Begins a few TLS handshakes in each turn, and bounds what each one and all may take.

    OpenSSL's state of a connection is made when its first bytes arrive. Twisted makes it when a
    socket is accepted: 45 KB, and 60 KB after a part of the handshake. Sockets that send nothing
    would take that for nothing. Every method does nothing for a connection without TLS.
    """

    def __init__(self, sockets: SocketLimit, clock: IReactorTime) -> None:
        self._sockets = sockets
        self._clock = clock
        self._throttle = HandshakeThrottle(
            clock,
            HELLOS_PER_TURN,
            lambda transport: sockets.make_room_for_tls(transport, clock.seconds()),
            newest_first=True,
        )
        # Those that have begun need no room, and none of them comes before another.
        self._begun = HandshakeThrottle(clock, HELLOS_PER_TURN)
        self._answered = HandshakeThrottle(clock)

    def accept(self, transport: Any) -> None:
        """Drop OpenSSL's state of an accepted connection, until its first bytes arrive.

        The connection is aborted if its handshake has over MAX_HANDSHAKE bytes.
        """
        if isinstance(transport, TLSMemoryBIOProtocol):
            if hasattr(transport.factory, "_creatorCallable"):
                transport._tlsConnection = _UNSTARTED  # type: ignore[assignment]  # stands in
            transport.dataReceived = partial(  # type: ignore[method-assign]  # until `complete`
                self._throttle.submit, transport, partial(self._begin, transport)
            )

    def complete(self, transport: Any) -> None:
        """Let a connection receive any number of bytes: its handshake is complete."""
        vars(transport).pop("dataReceived", None)

    def discard(self, transport: Any) -> None:
        """Forget a connection that is lost."""
        self._throttle.discard(transport)
        self._begun.discard(transport)
        self._answered.discard(transport)
        self.complete(transport)
        if isinstance(transport, TLSMemoryBIOProtocol):
            transport._producer = None  # refers to the channel, which refers to the transport

    def _begin(self, tls: Any, data: bytes) -> None:
        self._sockets.begin_tls(tls, self._clock.seconds())
        if tls._tlsConnection is _UNSTARTED:
            tls._tlsConnection = tls.factory._creatorCallable(tls)
        left = MAX_HANDSHAKE

        def receive(data: bytes) -> None:
            nonlocal left
            left -= len(data)
            if left < 0:
                tls.abortConnection()
            else:
                type(tls).dataReceived(tls, data)

        tls.dataReceived = partial(self._go_on, tls, receive)
        receive(data)

    def _go_on(self, tls: Any, receive: Callable[[bytes], None], data: bytes) -> None:
        # In TLS 1.3 the answer to the hello has the signature and ends with `Finished`. In TLS 1.2
        # the server sends that last, and there may be a decryption with the private key before.
        is_answered = tls._tlsConnection.get_finished() is not None
        (self._answered if is_answered else self._begun).submit(tls, receive, data)


class AuthDeadlines:
    """The auth deadlines of all unauthenticated clients, each by the method that it calls.

    The timeout is the same for all, so deadlines expire in FIFO order. One timer suffices.
    """

    def __init__(self, seconds: float, clock: IReactorTime) -> None:
        self._seconds = seconds
        self._clock = clock
        self._due: dict[Callable[[], None], float] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._due)

    def add(self, time_out: Callable[[], None]) -> None:
        """Call `time_out` after the timeout, unless it is discarded first."""
        self._due[time_out] = self._clock.seconds() + self._seconds
        self._schedule()

    def discard(self, time_out: Callable[[], None]) -> None:
        """Remove a deadline. An unknown one is ignored."""
        self._due.pop(time_out, None)
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
        for time_out in [each for each, due in self._due.items() if due <= now]:
            # The close of an earlier client may have discarded this one.
            if self._due.pop(time_out, None) is not None:
                time_out()
        self._schedule()
