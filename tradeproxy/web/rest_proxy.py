"""The REST proxy: it forwards a client's requests to Alpaca, with the client's own keys.

Off by default; PROXY_REST=1 turns it on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError, TCPTimedOutError
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import NO_BODY_CODES, PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IResponse
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from tradeproxy.downstream.admission import Admission, Rejection
from tradeproxy.downstream.clients import Clients
from tradeproxy.runtime.http_body import RequestBody, discard_body
from tradeproxy.web.responses import render_error, send_body
from tradeproxy.web.routes import RestRequest
from tradeproxy.wire.close_codes import CloseCode

METHODS = (b"DELETE", b"GET", b"HEAD", b"PATCH", b"POST", b"PUT")
"""The methods of Alpaca's REST interface.

OPTIONS is not among them. A CORS preflight fails, so no page of another origin may send keys.
"""

MAX_BODY_SIZE = 64 * 1024
"""Bytes of a request body; an order with several legs has a few thousand."""

STALL_TIMEOUT = 60.0
"""Seconds without progress: no response, no further part of it, or a client that does not read."""

MIN_STATUS, MAX_STATUS = 200, 599
"""The statuses of a final response (RFC 9110, 15). Another one is answered with 502."""

OFF = Rejection(404, "the REST proxy is off; PROXY_REST=1 turns it on")

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer"
    b" transfer-encoding upgrade".split()
)
"""Headers that apply to one connection (RFC 9110, 7.6.1), besides those that Connection names."""

# Twisted writes Host and Content-Length itself, and has already answered Expect. Cookies ignore the
# port (RFC 6265, 8.5): a cookie in a request belongs to another server on this machine, and
# a browser would send a cookie from Alpaca to that server.
_NOT_SENT_TO_ALPACA = frozenset({b"host", b"content-length", b"expect", b"cookie"})
# The others apply to the whole origin, which is the proxy's, or are set by the proxy itself.
_NOT_SENT_TO_CLIENTS = re.compile(
    rb"set-cookie2?|access-control-.*|clear-site-data|strict-transport-security|public-key-pins.*"
    rb"|alt-svc|nel|report-to|reporting-endpoints|service-worker-allowed"
    rb"|content-security-policy.*|x-content-type-options"
)
_UNPRINTABLE = re.compile(rb"[^ -~]")


class RestProxy:
    """Forwards requests to the base URL of their account; it has no keys and logs nothing.

    Args:
        agent: the HTTP client, shared by all accounts.
        base_urls: the REST base URL by account name, without a slash at the end.
        admission: the site's admission without its allowed origins. Pages of those origins may
            read the stream, but may not place orders.
        clients: the connected clients; a request counts as one until its response ends.
        clock: for the stall timeout.
    """

    def __init__(
        self,
        agent: IAgent,
        base_urls: Mapping[str, str],
        admission: Admission,
        clients: Clients,
        clock: IReactorTime,
    ) -> None:
        self.admission = admission
        self._agent = agent
        self._base_urls = {name: url.encode("ascii") for name, url in base_urls.items()}
        self._clients = clients
        self._clock = clock

    def render(self, request: Request, rest_request: RestRequest) -> bytes | int:
        """Forward `request`, which is admitted, and return what Resource.render must return.

        Errors are JSON in the format of Alpaca: 405 for another method, 413 for a long body, 502
        and 504 if Alpaca does not answer. A browser that shows an answer as a page runs no script
        of it, and does not count it to the proxy's origin.
        """
        request.setHeader(b"content-security-policy", b"sandbox")
        if request.method not in METHODS:
            request.setHeader(b"allow", b", ".join(METHODS))
            return render_error(request, 405, "Alpaca does not support this method")
        assert request.content is not None, "the request is complete"
        body = request.content.read()
        if len(body) > MAX_BODY_SIZE:
            return render_error(request, 413, f"the body has more than {MAX_BODY_SIZE} bytes")
        headers = Headers(dict(_forwarded_headers(request.requestHeaders, _NOT_SENT_TO_ALPACA)))
        headers.addRawHeader(b"via", request.clientproto.removeprefix(b"HTTP/") + b" tradeproxy")
        url = self._base_urls[rest_request.account] + rest_request.target
        round_trip = _RoundTrip(request, self._clients, self._clock)
        if not round_trip.reserve_sockets():
            request.setHeader(b"retry-after", b"5")
            return render_error(request, 503, "no connection is free")
        producer = RequestBody(body) if body else None
        round_trip.start(self._agent.request(request.method, url, headers, producer))
        return NOT_DONE_YET


@implementer(IPushProducer)
class _RoundTrip(TimeoutMixin, Protocol):
    """One request and its response.

    It is the protocol that receives the response's body, and the producer that writes it to the
    client. It counts as a client: requests share the limit of PROXY_MAX_CLIENTS, and an order in
    progress gets its response before the proxy stops.

        state      event                               next state
        waiting    the response's head arrives         streaming: the head is sent at once
        waiting    the request fails or times out      released: 502 or 504 is sent
        streaming  the body ends                       released: the response is finished
        streaming  the body breaks off, or stalls      released: both connections are aborted
        any        the client disconnects              released: the request to Alpaca is cancelled
    """

    grant = None  # the REST proxy is never on with tokens
    _log = Logger()

    def __init__(self, request: Request, clients: Clients, clock: IReactorTime) -> None:
        channel: Any = request.channel
        self.is_closed: Deferred[None] = Deferred()
        self._request = request
        self._client_transport = channel.transport
        self._response: Deferred[IResponse]
        self._clients = clients
        self._clock = clock
        self._is_released = False

    def reserve_sockets(self) -> bool:
        """Reserve two sockets until the end, the client's and one to Alpaca; False if none is free.

        While an order is under way, its connection is not closed for a newer one.
        """
        sockets = self._clients.sockets
        if sockets.log_in(self._client_transport) and sockets.open_outgoing(self):
            return True
        sockets.log_out(self._client_transport)
        return False

    def start(self, response: Deferred[IResponse]) -> None:
        """Wait for the response, or for the end of either connection."""
        self._response = response
        self._clients.add(self)
        self._request.notifyFinish().addBoth(self._on_request_finished)
        self.setTimeout(STALL_TIMEOUT)
        self._response.addCallbacks(self._on_response, self._on_failure)
        self._response.addErrback(
            lambda failure: self._log.failure("cannot forward a response", failure)
        )

    # For DownstreamService: the interface of a connected client.

    def close(self, code: CloseCode) -> None:
        """Do nothing: the response may complete. The service aborts the rest at its deadline."""

    def abort(self) -> None:
        self._release()
        transport: Any = self._request.transport
        transport.abortConnection()

    def stats(self) -> None:
        """Return None: a REST request is not a client of a stream."""

    # For the response: the interface of a protocol.

    def dataReceived(self, data: bytes) -> None:
        """Write a part of the body to the client."""
        if not self._is_released:
            self.resetTimeout()
            self._request.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Finish the response if the body is complete, else abort the client's connection.

        A body without a declared length ends with its connection: Twisted reports that as
        PotentialDataLoss. Aborting shows the client that a body is incomplete.
        """
        self.transport = None
        if self._is_released:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self._finish()
        else:
            self.abort()

    # For the client's connection: the interface of a producer.

    def pauseProducing(self) -> None:
        """Stop reading from Alpaca: the client does not read."""
        if not self._is_released:
            transport: Any = self.transport
            transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read from Alpaca again, with a new stall timeout."""
        if not self._is_released:
            self.resetTimeout()
            transport: Any = self.transport
            transport.resumeProducing()

    def stopProducing(self) -> None:
        """Do nothing: the request's notifyFinish reports the disconnect too."""

    # For TimeoutMixin.

    def callLater(self, period: float, func: Any) -> IDelayedCall:
        return self._clock.callLater(period, func)

    def timeoutConnection(self) -> None:
        """Abort the response, or send an error if there is none yet: STALL_TIMEOUT has passed."""
        if self.transport is not None:
            self.abort()
        elif self._request.method in (b"GET", b"HEAD"):
            self._send_error(504, "Alpaca did not answer in time")
        else:
            # Alpaca's Python SDKs retry after a 504, and a retry may place an order twice.
            self._send_error(502, "Alpaca did not answer in time, but it may have carried this out")

    # Internal.

    def _on_response(self, response: IResponse) -> None:
        request = self._request
        if not MIN_STATUS <= response.code <= MAX_STATUS:
            self._send_error(502, "Alpaca sent an invalid status; it may have carried this out")
            discard_body(response)
            return
        request.setResponseCode(response.code, _UNPRINTABLE.sub(b"", response.phrase))
        request.defaultContentType = None
        for name, values in _forwarded_headers(response.headers):
            if not _NOT_SENT_TO_CLIENTS.fullmatch(name.lower()):
                request.responseHeaders.setRawHeaders(name, values)
        has_body = request.method != b"HEAD" and response.code not in NO_BODY_CODES
        if has_body and response.length is not UNKNOWN_LENGTH:
            request.setHeader(b"content-length", b"%d" % response.length)
        request.write(b"")  # sends the head now; the body may come much later
        response.deliverBody(self)
        # Registering may pause the transport at once, and deliverBody would resume it. So the
        # producer is registered afterwards.
        if not self._is_released:
            request.registerProducer(self, True)

    def _on_failure(self, failure: Failure) -> None:
        if self._is_released:
            return
        if failure.check(ConnectTimeoutError, TCPTimedOutError):
            self._send_error(504, "no connection to Alpaca in time; nothing was sent")
        elif failure.check(ConnectError, DNSLookupError):
            self._send_error(502, "no connection to Alpaca; nothing was sent")
        else:
            self._send_error(
                502, "the connection was lost before Alpaca answered; it may have carried this out"
            )

    def _send_error(self, status: int, message: str) -> None:
        send_body(self._request, render_error(self._request, status, message))
        self._finish()

    def _finish(self) -> None:
        self._release()
        self._request.unregisterProducer()
        self._request.finish()

    def _on_request_finished(self, _: Failure | Any) -> None:
        self._release()
        self.is_closed.callback(None)

    def _release(self) -> None:
        """End the request to Alpaca and ignore what still arrives of it."""
        if self._is_released:
            return
        self._is_released = True
        # This comes before the end of the response, which starts the next pipelined request: both
        # must not count at the same time.
        self._clients.discard(self)
        self._clients.sockets.discard(self)
        self._clients.sockets.log_out(self._client_transport)
        self.setTimeout(None)
        if self.transport is None:
            self._response.cancel()
        else:
            transport: Any = self.transport
            transport.abortConnection()


def _forwarded_headers(
    headers: Headers, dropped: frozenset[bytes] = frozenset()
) -> Iterator[tuple[bytes, Sequence[bytes]]]:
    """Yield the headers to forward: all but those of the connection and those in `dropped`."""
    options = b",".join(headers.getRawHeaders(b"connection", ())).split(b",")
    excluded = _HOP_BY_HOP | dropped | {option.strip().lower() for option in options}
    for name, values in headers.getAllRawHeaders():
        if name.lower() not in excluded:
            yield name, values
