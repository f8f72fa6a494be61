"""The bodies of HTTP: of a response, as one text of limited size or by pieces; of a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

PIECE = 64 * 1024
"""Bytes of a request's body that are written at once: what Twisted's transports buffer."""


class BodyError(Exception):
    """The body is cut off, or too long."""


class BodyReader(Protocol):
    """Passes a body to `take` until it ends, `take` raises, or `ended` is cancelled.

    `ended` fails with the exception of `take`, or with BodyError for a body that is cut off. The
    connection is closed then.
    """

    def __init__(self, take: Callable[[bytes], None], *, needs_length: bool = False) -> None:
        """Create the reader, for IResponse.deliverBody.

        With `needs_length`, a body without a length and without chunks counts as cut off: its end
        looks like a lost connection.
        """
        self.ended: Deferred[None] = Deferred(lambda _: self.end(CancelledError()))
        self._take = take
        self._ends = (ResponseDone,) if needs_length else (ResponseDone, PotentialDataLoss)

    def dataReceived(self, data: bytes) -> None:
        """Pass on a piece. What arrives after the end is ignored."""
        if not self.ended.called:
            try:
                self._take(data)
            except Exception as error:
                self.end(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Finish, or fail if the body is incomplete."""
        self.end(None if reason.check(*self._ends) else BodyError("the answer was cut off"))

    def end(self, error: Exception | None = None) -> None:
        """Close the connection, and finish or fail. A second call has no effect."""
        if self.ended.called:
            return
        if self.transport is not None:
            abort(self.transport)
        if error is None:
            self.ended.callback(None)
        else:
            self.ended.errback(error)


async def read_body(response: IResponse, max_size: int) -> bytes:
    """Return a body of at most `max_size` bytes. Raises BodyError. It can be cancelled."""
    body = bytearray()

    def take(data: bytes) -> None:
        body.extend(data)
        if len(body) > max_size:
            raise BodyError(f"an answer of more than {max_size} bytes")

    reader = BodyReader(take)
    response.deliverBody(reader)
    await reader.ended
    return bytes(body)


def discard_body(response: IResponse) -> None:
    """Close the connection of a response without reading its body."""
    response.deliverBody(_ClosedBody())


@implementer(IBodyProducer)
class RequestBody:
    """A request's body; it is short enough to be written at once."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write the whole body."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: the whole body is written."""

    resumeProducing = stopProducing = pauseProducing


@implementer(IBodyProducer)
class StreamedBody:
    """A request's body that is read again for each piece, and is in memory for no longer.

    A server that reads slowly, or not at all, then costs the pieces in the transport's buffers.
    """

    def __init__(self, length: int, read: Callable[[], bytes]) -> None:
        """Create the body.

        Args:
            length: of the body, in bytes.
            read: returns the whole body. If it raises, the request fails.
        """
        self.length = length
        self._read = read
        self._is_paused = self._has_ended = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write the first piece; the result fires behind the last one."""
        self._consumer, self._at, self._has_ended = consumer, 0, False
        self._written: Deferred[None] = Deferred()
        self.resumeProducing()
        return self._written

    def pauseProducing(self) -> None:
        """Write no further piece: the transport's buffer is full."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Write until the transport's buffer is full, or all is written."""
        self._is_paused = False
        if self._has_ended:
            return
        try:
            body = self._read()
            if len(body) != self.length:
                raise BodyError("the body has another length")
        except Exception:
            self._has_ended = True
            self._written.errback()
            return
        while not self._is_paused and self._at < self.length:
            self._consumer.write(body[self._at : self._at + PIECE])
            self._at += PIECE
        if self._at >= self.length and not self._has_ended:
            self._has_ended = True
            self._written.callback(None)

    def stopProducing(self) -> None:
        """Write nothing more: the connection is lost, or the request is answered."""
        self._is_paused = self._has_ended = True


class _ClosedBody(Protocol):
    def connectionMade(self) -> None:
        abort(self.transport)


def abort(transport: Any) -> None:
    """Close the connection of a body. `loseConnection` over TLS would read the whole of it."""
    # Twisted's own Agent gives a body no more than ITransport: see upstream.http.
    getattr(transport, "abortConnection", transport.loseConnection)()
