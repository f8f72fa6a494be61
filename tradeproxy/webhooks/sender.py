"""Sends one request to a receiver, and says what came of it. Redirects are not followed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOutError
from twisted.internet.error import ConnectError
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from tradeproxy.config.connect_proxy import ConnectProxy
from tradeproxy.config.webhooks import ReceiverUrl
from tradeproxy.runtime.connect_errors import describe_connect_error
from tradeproxy.runtime.http_body import BodyError, StreamedBody, read_body
from tradeproxy.runtime.reactor import Reactor
from tradeproxy.upstream.backoff import parse_retry_after
from tradeproxy.upstream.http import ConnectionPool, EndlessHeadError
from tradeproxy.upstream.tls import describe_tls_failure
from tradeproxy.webhooks.endpoint import ReceiverEndpoint
from tradeproxy.webhooks.formats import OutgoingRequest

REQUEST_TIMEOUT = 15.0
"""Seconds from the beginning of the connection to the head of the answer."""

BODY_TIMEOUT = 2.0
"""Seconds for the body of the answer, which is not used."""

MAX_ANSWER = 4096
"""Bytes of the body of an answer that are read. The connection is kept only behind a whole body of
an answer 2xx."""

IDLE_TIMEOUT = 10
"""Seconds for which a connection is kept for the next request. A NAT forgets one sooner or later,
and a request on it would get no answer."""

USER_AGENT = "tradeproxy"


@dataclass(frozen=True, slots=True)
class ReceiverAnswer:
    """What came of a request.

    status: the HTTP status, or None without an answer.
    reason: a fixed phrase or a status; it has no part of the URL.
    retry_after: seconds that the receiver asks to wait, or None.
    """

    status: int | None
    reason: str
    retry_after: float | None = None


class Sender(Protocol):
    """Sends requests to one receiver."""

    async def send(self, request: OutgoingRequest) -> ReceiverAnswer:
        """Send a request and return what came of it. It raises nothing, unless it is cancelled."""

    def close(self) -> None:
        """Close what is idle. A request afterwards connects again."""


class HttpSender:
    """Sends over one connection, in REQUEST_TIMEOUT + BODY_TIMEOUT at most for a request."""

    def __init__(
        self,
        url: ReceiverUrl,
        allow_http: bool,
        reactor: Reactor,
        proxy: ConnectProxy | None,
        wall_clock: Callable[[], float],
    ) -> None:
        """Create the sender.

        Args:
            url: the receiver's.
            allow_http: connections without TLS to private addresses are allowed.
            reactor: connects, resolves names and schedules the timeouts.
            proxy: the HTTP proxy for connections with TLS, or None.
            wall_clock: Unix time in seconds, for a date in Retry-After.
        """
        self._origin = url.origin.encode("ascii")
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._endpoint = ReceiverEndpoint(url, allow_http, reactor, proxy)
        self._pool = ConnectionPool(reactor, lambda: None, IDLE_TIMEOUT)
        self._agent: Agent = Agent.usingEndpointFactory(reactor, self._endpoint, self._pool)

    def close(self) -> None:
        """Close the connection if it is idle. A request afterwards connects again."""
        self._pool.closeCachedConnections()

    async def send(self, request: OutgoingRequest) -> ReceiverAnswer:
        """Send a request and return what came of it."""
        try:
            response: Any = await Deferred.fromCoroutine(self._request(request)).addTimeout(
                REQUEST_TIMEOUT, self._reactor, _raise_timeout
            )
        except CancelledError:
            raise
        except Exception as error:
            return ReceiverAnswer(None, _describe(error))
        answer = self._read_answer(response)
        await self._discard_body(response)
        if response.code // 100 != 2:
            # It may be of a server between, and the receiver's own answer may follow it. That one
            # would count for the next message.
            self.close()
        return answer

    async def _request(self, request: OutgoingRequest) -> Any:
        headers = Headers({"user-agent": [USER_AGENT]})
        for name, value in request.headers:
            headers.addRawHeader(name, value)
        url = self._origin + request.target
        body = StreamedBody(request.length, request.read_body)
        while True:
            before = self._endpoint.attempts
            try:
                return await self._agent.request(b"POST", url, headers, body)
            except (RequestTransmissionFailed, ResponseNeverReceived) as error:
                is_kept = self._endpoint.attempts == before
                if not is_kept or any(each.check(CancelledError) for each in error.reasons):
                    raise
                # The receiver has closed a connection that was idle. That is no failure.

    def _read_answer(self, response: IResponse) -> ReceiverAnswer:
        [retry_after, *_] = response.headers.getRawHeaders(b"retry-after") or [None]
        is_redirect = 300 <= response.code < 400
        return ReceiverAnswer(
            response.code,
            f"HTTP {response.code}" + (", which is not followed" if is_redirect else ""),
            None
            if retry_after is None
            else parse_retry_after(retry_after.decode("latin-1"), self._wall_clock()),
        )

    async def _discard_body(self, response: IResponse) -> None:
        body = Deferred.fromCoroutine(read_body(response, MAX_ANSWER))
        with suppress(BodyError, TimedOutError):
            await body.addTimeout(BODY_TIMEOUT, self._reactor)


def _raise_timeout(*_: object) -> None:
    # A request that is cancelled fails in several ways: see twisted.web._newclient.
    raise TimedOutError


def _describe(error: Exception) -> str:
    """Return why there is no answer, in one phrase."""
    if isinstance(error, TimedOutError):
        return "no answer in time"
    if isinstance(error, RequestGenerationFailed):
        return "its event could not be read"
    reasons = getattr(error, "reasons", None)
    for failure in reasons if isinstance(reasons, list) else [Failure(error)]:
        if failure.check(EndlessHeadError):
            return "its answer has too many headers"
        if phrase := describe_tls_failure(failure):
            return phrase
    if isinstance(error, ResponseFailed) or reasons:
        return "the connection was lost before the answer"
    if isinstance(error, OSError | ConnectError):
        return describe_connect_error(error)
    return f"it failed with {type(error).__name__}"  # the text of others may have the URL
