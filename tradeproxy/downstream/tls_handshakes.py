"""TLS handshakes of clients. OpenSSL's state of a connection is made when its first bytes arrive.

Twisted makes it when a socket is accepted: 45 KB, and 60 KB after a part of the handshake. Sockets
that send nothing would take that for nothing.
"""

# Twisted's transports have no public names for what is read and replaced here.
# ruff: noqa: SLF001

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from OpenSSL.SSL import WantReadError
from twisted.internet.interfaces import IReactorTime
from twisted.protocols.tls import TLSMemoryBIOProtocol

from tradeproxy.downstream.handshake_limits import HandshakeThrottle
from tradeproxy.runtime.socket_limit import SocketLimit

MAX_HANDSHAKE = 16_384
"""Bytes that a client may send before the end of its TLS handshake; a usual one sends 600 to 2,500.
OpenSSL accepts a ClientHello of 128 KiB, and keeps 200 KB for it."""

HELLOS_PER_TURN = 8
"""TLS handshakes that begin in one reactor turn, and further parts of unanswered hellos. Each may
take a signature, of up to 1 ms: a hello can come in any pieces. Fewer than the requests of a turn,
so that clients finish as fast as others begin."""


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

    Every method does nothing for a connection without TLS.
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
