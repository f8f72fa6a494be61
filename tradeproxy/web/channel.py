"""One HTTP connection: its time limits, its handshake throttle and its memory limits."""

from __future__ import annotations

import re
from http import HTTPStatus
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.server import Request, Site
from zope.interface import implementer

from tradeproxy.downstream.handshake_limits import (
    HandshakeThrottle,
    TlsHandshakes,
    bound_header,
    bound_reads,
    release_header,
)
from tradeproxy.downstream.shared_names import share_late_names
from tradeproxy.runtime.socket_limit import SocketLimit
from tradeproxy.web.responses import encode_error

MAX_LENGTH_DIGITS = 19
"""Digits of a Content-Length. Python's `int` raises an error for more than 4300."""

LINGER = 1
"""Seconds that a client has to read the answer to a request that was not read to its end."""

_ABSOLUTE = re.compile(rb"https?://(?P<authority>[^/?]*)(?P<rest>.*)", re.IGNORECASE)
_TWISTED_LOG = Logger("twisted.web.http")


share_late_names()


class _LibraryLog:
    """The `_log` of the subclasses below: what Twisted logs in them is a line of the library.

    Twisted's Logger is named after the subclass, so these lines would pass as ours, which are never
    throttled: see `LogThrottle`.
    """

    def __get__(self, instance: object, owner: type | None = None) -> Logger:
        return _TWISTED_LOG


class _Request(Request):
    _log = _LibraryLog()
    _target: bytes

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Create a request whose body stays unparsed, a form too."""
        super().__init__(*args, **kwargs, parsePOSTFormSubmission=False)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Accept an absolute URI as the target; its host replaces the header (RFC 9112, 3.2.2)."""
        if match := _ABSOLUTE.fullmatch(path):
            self.requestHeaders.setRawHeaders(b"host", [match["authority"]])
            path = match["rest"] if match["rest"].startswith(b"/") else b"/" + match["rest"]
        self._target = path
        channel: Any = self.channel
        channel.site.sockets.complete(channel.transport)
        # Twisted would make a dict of the query, of 250 KB, without a limit of its items.
        super().requestReceived(command, path.partition(b"?")[0], version)

    def connectionLost(self, reason: Failure) -> None:
        """Drop the producer too, which refers to this request: a reference cycle."""
        super().connectionLost(reason)
        self.producer = None

    def parseCookies(self) -> None:
        """Parse none: nothing here reads a cookie, and thousands fit into a head."""

    def process(self) -> None:
        """Answer, and forbid browsers to guess another content type."""
        self.uri = self._target
        self.setHeader(b"x-content-type-options", b"nosniff")
        super().process()

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory: twisted.web writes a body over 100 kB to a temporary file."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep at most `max_body_kept` bytes: a chunked body has no declared length."""
        assert self.content is not None, "set when the headers ended"
        channel: Any = self.channel
        self.content.write(data[: channel.site.max_body_kept - self.content.tell()])


@implementer(IHandshakeListener)
class _Channel(http.HTTPChannel):
    """An HTTP/1.1 connection with a time limit for a whole request.

    Twisted restarts its limit with every byte, so a client that sends slowly never reaches it.
    Here the limit starts with the connection, and again with the first byte of a later request.
    """

    _log = _LibraryLog()
    site: ProxySite
    _has_answered = False

    def connectionMade(self) -> None:
        """Count the socket and bound its reads: over TLS this comes before the handshake."""
        super().connectionMade()
        bound_reads(self.transport)
        bound_header(self.transport)
        self.site.tls_handshakes.accept(self.transport)
        self.site.sockets.accept(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop counting the socket. A WebSocket that took it over does this in `onClose`."""
        self.site.sockets.discard(self.transport)
        self.site.throttle.discard(self.transport)
        self.site.tls_handshakes.discard(self.transport)
        release_header(self.transport)
        super().connectionLost(reason)
        self._transferDecoder = None  # of a body without its end; it refers to this channel

    def handshakeCompleted(self) -> None:
        """Read any number of bytes from now on: the TLS handshake is complete."""
        self.site.tls_handshakes.complete(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Submit received bytes to the handshake throttle, which calls back at once or later."""
        self.site.sockets.receive(self.transport, len(data))
        self.site.throttle.submit(self.transport, self._process_data, data)

    def _process_data(self, data: bytes) -> None:
        self.paused = self._waitingForTransport
        super().dataReceived(data)
        # The throttle resumes the transport after this call. That must not undo our own pause.
        if self.paused:
            self._networkProducer.pauseProducing()

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is over the limit of all headers."""
        self._receivedHeaderSize += len(line)
        self._respondToBadRequestAndDisconnect()

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header == b"Content-Length" and len(data) > MAX_LENGTH_DIGITS:
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super()._maybeChooseTransferDecoder(header, data))

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Refuse a request that cannot be parsed, and discard the rest of it.

        Twisted would close at once. If unread bytes are left then, the kernel resets the
        connection, and the client may lose the answer.
        """
        status, message = 400, "this is no valid HTTP request"
        if self._receivedHeaderSize > self.totalHeadersSize:
            status, message = 431, f"the head has over {self.totalHeadersSize} bytes"
        elif self._receivedHeaderCount > self.maxHeaders:
            status, message = 431, f"there are more than {self.maxHeaders} headers"
        body = encode_error(status, message)
        transport: Any = self.transport
        transport.write(
            b"HTTP/1.1 %d %b\r\nConnection: close\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b"
            % (status, HTTPStatus(status).phrase.encode(), len(body), body)
        )
        self.clearLineBuffer()
        self.dataReceived = lambda data: None  # type: ignore[method-assign]  # as Twisted does
        self.setTimeout(LINGER)

    def setLineMode(self, extra: bytes = b"") -> None:
        """Parse bytes that were buffered during a response, without the throttle.

        They arrived before any bytes that wait in the throttle, so they must be parsed first.
        """
        self.line_mode = 1
        if extra:
            super().dataReceived(extra)

    def rawDataReceived(self, data: bytes) -> None:
        """Buffer pipelined requests during a response, up to Twisted's limit.

        Twisted does not apply its limit while the client reads nothing of the response.
        """
        super().rawDataReceived(data)
        if sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize:
            self._networkProducer.pauseProducing()

    def resumeProducing(self) -> None:
        """Continue with buffered requests: the client reads responses again."""
        super().resumeProducing()
        if self.paused:
            self._continue()

    def resetTimeout(self) -> None:
        """Start the time limit with the first byte of a later request; otherwise do nothing.

        Twisted calls this for every read, which would restart the limit.
        """
        if self._has_answered:
            self._has_answered = False
            self.setTimeout(self.site.timeOut)

    def requestDone(self, request: http.Request) -> None:
        """Wait for the next request, which may be buffered already."""
        self._has_answered = True
        self._savedTimeOut = self.site.idle_timeout
        # Twisted would answer all buffered requests in this turn, even if the client reads no
        # responses.
        self.paused = self._busyReceiving or self._waitingForTransport
        super().requestDone(request)
        if self._waitingForTransport:
            self._networkProducer.pauseProducing()
        elif self._busyReceiving:
            self._continue()

    def _continue(self) -> None:
        """Parse the next buffered request, now or in a later turn, as the throttle says."""
        if self._buffer:
            self.site.throttle.submit(self.transport, self._process_data, b"")
        else:
            self.paused = False


class ProxySite(Site):
    """The twisted.web site.

    It keeps no access log: health checks would fill it, and requests hold credentials.
    """

    _log = _LibraryLog()
    noisy = False
    protocol = _Channel  # type: ignore[assignment]  # not the one that may switch to HTTP/2
    requestFactory = _Request
    throttle: HandshakeThrottle
    tls_handshakes: TlsHandshakes
    sockets: SocketLimit
    max_body_kept = 0
    """Bytes of a request body that are kept; the rest is discarded."""
    idle_timeout: float
    """Seconds between a response and the first byte of the next request."""

    def log(self, request: http.Request) -> None:
        """Log nothing."""

    def _updateLogDateTime(self) -> None:
        """Keep no time for the log. Twisted wakes the process every second for it."""

    def acceptableProtocols(self) -> list[bytes]:
        """Offer only HTTP/1.1 over TLS: Autobahn cannot open a WebSocket over HTTP/2."""
        return [b"http/1.1"]
