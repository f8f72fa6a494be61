"""Alpaca's REST interface, passed through: a client's requests, with its own keys, to the account's host."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectError, DNSLookupError, TCPTimedOutError
from twisted.internet.error import TimeoutError as ConnectTimeoutError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.web.client import ResponseDone
from twisted.web.http import NO_BODY_CODES, PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.iweb import IAgent, IResponse
    from twisted.web.server import Request

    from tradeproxy.downstream.admission import Admission
    from tradeproxy.downstream.clients import Clients
    from tradeproxy.web.routes import RestRequest
    from tradeproxy.wire.close_codes import CloseCode

METHODS = (b"DELETE", b"GET", b"HEAD", b"PATCH", b"POST", b"PUT")
"""Alpaca's. OPTIONS is not among them: no other page is told that it may send keys."""

MAX_BODY_SIZE = 64 * 1024
"""Bytes of a request; an order of several legs has a few thousand."""

STALL_TIMEOUT = 60.0
"""Seconds in which nothing comes of a request: no answer, no more of it, or nobody who reads it."""

OFF = "Alpaca's REST interface is not passed through here; PROXY_REST=1 turns that on"

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer"
    b" transfer-encoding upgrade".split()
)
"""Headers of one connection (RFC 9110, 7.6.1), beside those that Connection names."""

# Twisted writes the first two anew and has answered the third. A cookie goes by the host name alone: it is of
# something else on this machine, or would be sent to that.
_FOR_US = frozenset({b"host", b"content-length", b"expect", b"cookie"})
_NOT_FOR_CLIENTS = re.compile(rb"set-cookie|access-control-.*")
_UNPRINTABLE = re.compile(rb"[^ -~]")


def render_error(request: Request, status: int, message: str) -> bytes:
    """Set the status, and return one line in the shape of Alpaca's errors.

    Alpaca's Python SDKs raise what has a `code`, made as Alpaca's own are; the older one takes any other text
    that holds this word for a success.
    """
    request.setResponseCode(status, HTTPStatus(status).phrase.encode())
    request.setHeader(b"content-type", b"application/json")
    document = {"code": status * 100_000 + 10_000, "message": f"tradeproxy: {message}"}
    return json.dumps(document).encode() + b"\n"


class RestProxy:
    """Sends requests on to the base URLs of their accounts; it has no keys of its own, and logs nothing.

    `admission` is the site's without its foreign origins: their pages may watch, and not give orders.
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

    def render(self, request: Request, call: RestRequest) -> bytes | int:
        """Answer `request`, which has been admitted, as the account's host does; for Resource.render."""
        if request.method not in METHODS:
            request.setHeader(b"allow", b", ".join(METHODS))
            return render_error(request, 405, "Alpaca has no such method")
        assert request.content is not None, "the request is complete"
        body = request.content.read()
        if len(body) > MAX_BODY_SIZE:
            return render_error(request, 413, f"the body has more than {MAX_BODY_SIZE} bytes")
        headers = Headers(dict(_forwarded_headers(request.requestHeaders, _FOR_US)))
        headers.addRawHeader(b"via", request.clientproto.removeprefix(b"HTTP/") + b" tradeproxy")
        url = self._base_urls[call.account] + call.target
        asked = self._agent.request(
            request.method, url, headers, _BodyProducer(body) if body else None
        )
        _RoundTrip(request, asked, self._clients, self._clock).begin()
        return NOT_DONE_YET


@implementer(IPushProducer)
class _RoundTrip(TimeoutMixin, Protocol):
    """One request and its answer: the protocol that is sent the body, and the producer that writes it.

    It is among the clients, so that they are limited together, and so that an order under way has its answer
    before the proxy stops.
    """

    _log = Logger()

    def __init__(
        self, request: Request, asked: Deferred[IResponse], clients: Clients, clock: IReactorTime
    ) -> None:
        self.is_closed: Deferred[None] = Deferred()
        self._request = request
        self._asked = asked
        self._clients = clients
        self._clock = clock
        self._is_over = False

    def begin(self) -> None:
        """Wait for the answer, or for the end of either connection."""
        self._clients.add(self)
        self._request.notifyFinish().addBoth(self._client_is_done)
        self.setTimeout(STALL_TIMEOUT)
        self._asked.addCallbacks(self._answered, self._failed)
        self._asked.addErrback(lambda failure: self._log.failure("passing an answer on", failure))

    # What the service calls.

    def close(self, code: CloseCode) -> None:
        """Let it come to its own end, for as long as there is time."""

    def abort(self) -> None:
        """Drop both connections."""
        self._release()
        transport: Any = self._request.transport
        transport.abortConnection()

    def stats(self) -> None:
        """Return nothing: a request follows no stream."""

    # What the response calls.

    def dataReceived(self, data: bytes) -> None:
        """Write a part of the body."""
        if not self._is_over:
            self.resetTimeout()
            self._request.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the answer as it ended there: a body of no stated length ends with its connection."""
        self.transport = None
        if self._is_over:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self._finish()
        else:
            self.abort()

    # What the client's connection calls.

    def pauseProducing(self) -> None:
        """Read no further: the client does not."""
        if not self._is_over:
            transport: Any = self.transport
            transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        if not self._is_over:
            self.resetTimeout()
            transport: Any = self.transport
            transport.resumeProducing()

    def stopProducing(self) -> None:
        """Do nothing: that the client is gone is told by the request too."""

    # What the clock calls.

    def callLater(self, period: float, func: Any) -> IDelayedCall:
        """Schedule TimeoutMixin's call."""
        return self._clock.callLater(period, func)

    def timeoutConnection(self) -> None:
        """Give up: there was no answer in time, or no more of it, or the client does not read."""
        if self.transport is not None:
            self.abort()
        elif self._request.method in (b"GET", b"HEAD"):
            self._refuse(504, "Alpaca did not answer in time")
        else:
            # Alpaca's Python SDKs repeat what is answered by 504, and an order must not be placed twice.
            self._refuse(
                502, "Alpaca did not answer in time; it may have carried this out all the same"
            )

    # Ours.

    def _answered(self, response: IResponse) -> None:
        request = self._request
        request.setResponseCode(response.code, _UNPRINTABLE.sub(b"", response.phrase))
        request.defaultContentType = None
        for name, values in _forwarded_headers(response.headers):
            if not _NOT_FOR_CLIENTS.fullmatch(name.lower()):
                request.responseHeaders.setRawHeaders(name, values)
        has_body = request.method != b"HEAD" and response.code not in NO_BODY_CODES
        if has_body and response.length is not UNKNOWN_LENGTH:
            request.setHeader(b"content-length", b"%d" % response.length)
        request.write(b"")  # the head goes out at once, whenever the body comes
        response.deliverBody(self)
        if not self._is_over:  # not earlier: deliverBody lets the response flow, paused or not
            request.registerProducer(self, True)

    def _failed(self, failure: Failure) -> None:
        if self._is_over:
            return
        if failure.check(ConnectTimeoutError, TCPTimedOutError):
            self._refuse(504, "Alpaca cannot be reached in time; nothing was sent")
        elif failure.check(ConnectError, DNSLookupError):
            self._refuse(502, "Alpaca cannot be reached; nothing was sent")
        else:
            self._refuse(
                502, "the connection was lost before Alpaca's answer; it may have carried this out"
            )

    def _refuse(self, status: int, message: str) -> None:
        line = render_error(self._request, status, message)
        self._request.setHeader(b"content-length", b"%d" % len(line))
        self._request.write(line)
        self._finish()

    def _finish(self) -> None:
        self._release()
        self._request.unregisterProducer()
        self._request.finish()

    def _client_is_done(self, _: Failure | Any) -> None:
        self._release()
        self.is_closed.callback(None)

    def _release(self) -> None:
        """End what is under way toward Alpaca, and expect no more of it."""
        if self._is_over:
            return
        self._is_over = True
        self._clients.discard(
            self
        )  # before the end of the answer, with which the next request may begin
        self.setTimeout(None)
        if self.transport is None:
            self._asked.cancel()
        else:
            transport: Any = self.transport
            transport.abortConnection()


@implementer(IBodyProducer)
class _BodyProducer:
    """A request's body, which is so short that it goes out at once."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all of it."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: all of it is written."""

    def resumeProducing(self) -> None:
        """Do nothing: all of it is written."""

    def stopProducing(self) -> None:
        """Do nothing: all of it is written."""


def _forwarded_headers(
    headers: Headers, dropped: frozenset[bytes] = frozenset()
) -> Iterator[tuple[bytes, Sequence[bytes]]]:
    """Yield the headers that are for the other end: not those of the connection, nor those `dropped`."""
    options = b",".join(headers.getRawHeaders(b"connection", ())).split(b",")
    ours = _HOP_BY_HOP | dropped | {option.strip().lower() for option in options}
    for name, values in headers.getAllRawHeaders():
        if name.lower() not in ours:
            yield name, values
