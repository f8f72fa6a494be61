"""One HTTP connection: its time limits, whose turn it is, and what it may keep in memory."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from twisted.protocols.basic import LineReceiver
from twisted.web import http
from twisted.web.server import Request, Site

if TYPE_CHECKING:
    from tradeproxy.downstream.handshake_limits import HandshakeThrottle


class _Request(Request):
    def process(self) -> None:
        """Answer; no browser is to take an answer for something else than it is called."""
        self.setHeader(b"x-content-type-options", b"nosniff")
        super().process()

    def gotLength(self, length: int | None) -> None:
        """Keep a body in memory: twisted.web would put a long one into a file."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep of a body, which may be endless, no more than the site has a use for."""
        assert self.content is not None, "set when the headers ended"
        channel: Any = self.channel
        self.content.write(data[: channel.site.max_body_kept - self.content.tell()])


class _Channel(http.HTTPChannel):
    """HTTP/1.1 whose time limit is for a whole request.

    Twisted starts the limit anew with every byte, so that a client may take for ever.
    """

    site: ProxySite
    _has_answered = False

    def dataReceived(self, data: bytes) -> None:
        """Read on, when it is this connection's turn."""
        self.site.throttle.submit(self.transport, self._read_on, data)

    def _read_on(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.paused:  # the door lets it be read from again
            self._networkProducer.pauseProducing()

    def setLineMode(self, extra: bytes = b"") -> None:
        """Go on with what was kept during an answer; it came before what waits at the door."""
        self.line_mode = 1
        if extra:
            super().dataReceived(extra)

    def rawDataReceived(self, data: bytes) -> None:
        """Keep what comes during an answer, within bounds also where nobody reads the answer."""
        super().rawDataReceived(data)
        if sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize:
            self._networkProducer.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on with the requests that are here: answers are read again."""
        super().resumeProducing()
        if self.paused:
            self.paused = False
            LineReceiver.dataReceived(self, b"")

    def resetTimeout(self) -> None:
        """Let the limit run on; it is set with the connection, and with a further request's first byte."""
        if self._has_answered:
            self._has_answered = False
            self.setTimeout(self.site.timeOut)

    def requestDone(self, request: http.Request) -> None:
        """Wait for a further request, which may be here already."""
        self._has_answered = True
        self._savedTimeOut = self.site.idle_timeout
        if self._waitingForTransport:  # Twisted answers on, whether or not anybody reads
            self.paused = True
            self._networkProducer.pauseProducing()
        super().requestDone(request)


class ProxySite(Site):
    """The site. It keeps no access log: health checks would fill it, and requests hold credentials."""

    noisy = False
    protocol = _Channel  # type: ignore[assignment]  # without Twisted's switch between HTTP/1.1 and 2
    requestFactory = _Request
    throttle: HandshakeThrottle
    max_body_kept = 0
    """Bytes; a longer one is cut."""
    idle_timeout: float
    """Seconds from an answer to the beginning of a further request."""

    def log(self, request: http.Request) -> None:
        """Log nothing."""

    def acceptableProtocols(self) -> list[bytes]:
        """Offer HTTP/1.1 alone: a WebSocket cannot be had over HTTP/2 here."""
        return [b"http/1.1"]
