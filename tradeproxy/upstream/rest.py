"""Alpaca's REST interface, as far as it is read: one account's requests, sparing and bounded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as OverdueError
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.policies import TimeoutMixin
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers

from tradeproxy.upstream.backoff import parse_retry_after
from tradeproxy.upstream.http import RateLimiter, build_agent
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.iweb import IResponse

INACTIVITY_TIMEOUT = 20.0
"""Seconds without an answer, or without more of it; Alpaca's event streams send a comment more often."""

MAX_RESPONSE_SECONDS = 60.0
"""Seconds for a JSON body, however much of it there is, and however slowly it comes."""

MAX_BODY_SIZE = 16 * 1024 * 1024
"""Bytes of a JSON body; 500 orders have about a million."""

_EVENT_STREAM = "text/event-stream"
_FINAL = (401, 403, 404)
"""Alpaca means these; the rest may be a proxy's, a portal's, or of a bad moment."""

_T = TypeVar("_T")


class RestRefusedError(Exception):
    """Alpaca will not answer this, however often it is asked; the text is fit for a log."""

    def __init__(self, reason: str, status: int = 0, date: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.date = date


class RestUnavailableError(Exception):
    """Alpaca did not answer, not to the end, or not now; the text is fit for a log."""

    def __init__(self, reason: str, retry_after: float = 0.0, date: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.date = date


@dataclass(frozen=True, slots=True)
class RestResponse:
    """A JSON document, and Alpaca's clock when it was sent: Unix time in whole seconds, None if unknown."""

    document: Any
    date: float | None


class RestClient:
    """Asks `base_url` with one account's credentials. All of its methods can be cancelled.

    A reason holds a status or a fixed phrase, never a URL, a header, a body or the text of an exception. The
    `date` of an error is that of the answer, where there was one.
    """

    def __init__(
        self,
        http: HTTPClient,
        base_url: str,
        credentials: Credentials,
        clock: IReactorTime,
        budget: RateLimiter | None = None,
    ) -> None:
        self._http = http
        self._base_url = base_url
        self._credentials = credentials
        self._clock = clock
        self._rate_limiter = budget or RateLimiter()

    async def get(self, path: str, parameters: Mapping[str, str] | None = None) -> RestResponse:
        """Return the JSON document at a path; raises RefusedError or UnavailableError."""
        body = bytearray()

        def take(chunk: bytes) -> None:
            body.extend(chunk)
            if len(body) > MAX_BODY_SIZE:
                raise RestUnavailableError("an answer of more than 16 MiB")

        response = await self._request(path, parameters, "application/json")
        ended = self._read(response, take)
        ended.addTimeout(MAX_RESPONSE_SECONDS, self._clock)
        try:
            await ended
        except OverdueError:
            raise RestUnavailableError("an answer that takes too long") from None
        try:
            return RestResponse(json.loads(body.decode()), _date(response))
        except (ValueError, RecursionError):
            raise RestUnavailableError("an answer that is not JSON") from None

    async def stream(
        self, path: str, parameters: Mapping[str, str], take: Callable[[bytes], None]
    ) -> None:
        """Hand a stream of server-sent events to `take`, chunk by chunk, until its proper end.

        Raises RefusedError, or UnavailableError where the end was not a proper one; what `take` raises ends
        the response and is raised here.
        """
        response = await self._request(path, parameters, _EVENT_STREAM)
        kind = _header(response, b"content-type").partition(";")[0].strip().lower()
        if kind != _EVENT_STREAM:
            _discard(response)
            raise RestUnavailableError("an answer that is no event stream")
        await self._read(response, take)

    async def _request(
        self, path: str, parameters: Mapping[str, str] | None, accepted: str
    ) -> IResponse:
        while (wait := self._rate_limiter.delay(self._clock.seconds())) > 0:
            await deferLater(self._clock, wait)
        self._rate_limiter.count_request(self._clock.seconds())
        sent = self._http.get(
            self._base_url + path,
            params=dict(parameters or {}),
            headers=self._headers(accepted),
            allow_redirects=False,  # the keys are for this host only
            unbuffered=True,
            reactor=cast("Any", self._clock),  # or treq would import the global one
        )
        answered = _cancellable(sent)
        answered.addTimeout(INACTIVITY_TIMEOUT, self._clock)
        response = await _translated(answered)
        if response.code != 200:
            _discard(response)
            raise self._build_error(response)
        return response

    def _headers(self, accepted: str) -> Headers:
        headers = Headers({"Accept": [accepted], "User-Agent": ["tradeproxy"]})
        match self._credentials:
            case KeyPair(key_id, secret_key):
                headers.setRawHeaders("APCA-API-KEY-ID", [key_id.reveal()])
                headers.setRawHeaders("APCA-API-SECRET-KEY", [secret_key.reveal()])
            case OAuthToken(token):
                headers.setRawHeaders("Authorization", [f"Bearer {token.reveal()}"])
        return headers

    def _read(self, response: IResponse, take: Callable[[bytes], None]) -> Deferred[None]:
        body = _BodyReader(take, self._clock)
        response.deliverBody(body)
        return body.ended

    def _build_error(self, response: IResponse) -> RestRefusedError | RestUnavailableError:
        status, date, now = response.code, _date(response), self._clock.seconds()
        retry_after = parse_retry_after(_header(response, b"retry-after"), now) or 0.0
        if status in _FINAL:
            return RestRefusedError(f"HTTP {status}", status, date)
        if status == 429:
            self._rate_limiter.block_until(now + retry_after)
        return RestUnavailableError(f"HTTP {status}", retry_after, date)


def http_client(reactor: Any) -> HTTPClient:
    """Return a client that verifies certificates and names, and keeps no connection."""
    return HTTPClient(build_agent(reactor))


class _BodyReader(TimeoutMixin, Protocol):
    """Hands on a response's body until it ends, nothing comes for a while, or `take` raises.

    `ended` can be cancelled, and fails with UnavailableError or with what `take` raised.
    """

    def __init__(self, take: Callable[[bytes], None], clock: IReactorTime) -> None:
        self._clock = clock
        self.ended: Deferred[None] = Deferred(lambda _: self._end(CancelledError()))
        self._take = take
        self._is_over = False

    def callLater(self, period: float, func: Callable[[], None]) -> IDelayedCall:
        """Schedule TimeoutMixin's call."""
        return self._clock.callLater(period, func)

    def connectionMade(self) -> None:
        """Begin to wait."""
        self.setTimeout(INACTIVITY_TIMEOUT)

    def dataReceived(self, data: bytes) -> None:
        """Hand a chunk on; after the end, whatever still comes is nobody's."""
        if self._is_over:
            return
        self.resetTimeout()
        try:
            self._take(data)
        except Exception as error:
            self._end(error)

    def timeoutConnection(self) -> None:
        """Give up: nothing came for a while."""
        self._end(RestUnavailableError("no more of an answer in time"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note the end; without a length and without chunks nobody can tell whether it was the end."""
        complete = reason.check(ResponseDone) is not None
        self._end(None if complete else RestUnavailableError("an answer that was cut short"))

    def _end(self, error: Exception | None = None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self.setTimeout(None)
        if self.transport is not None:
            self.transport.loseConnection()
        if error is None:
            self.ended.callback(None)
        else:
            self.ended.errback(error)


def _discard(response: IResponse) -> None:
    """End the connection of a response of which no more is wanted."""
    response.deliverBody(_Unwanted())


class _Unwanted(Protocol):
    """Ends the connection; takes nothing of what was under way."""

    def connectionMade(self) -> None:
        assert self.transport is not None, "just set"
        self.transport.loseConnection()


async def _translated(response: Deferred[_T]) -> _T:
    """Await an answer; of an error only its kind is told, since its text may hold anything."""
    try:
        return await response
    except CancelledError:
        raise
    except OverdueError:
        raise RestUnavailableError("no answer in time") from None
    except (ConnectError, DNSLookupError):
        raise RestUnavailableError("cannot connect") from None
    except Exception:
        raise RestUnavailableError("the connection was lost before an answer") from None


def _cancellable(inner: Deferred[_T]) -> Deferred[_T]:
    """Return what `inner` does, but for a cancellation: CancelledError, where Agent has its own errors."""

    def cancel(outer: Deferred[_T]) -> None:
        outer.errback(CancelledError())
        inner.cancel()

    def forward(result: _T | Failure) -> None:
        if not outer.called:
            outer.callback(result)

    outer: Deferred[_T] = Deferred(cancel)
    inner.addBoth(forward)
    return outer


def _header(response: IResponse, name: bytes) -> str:
    values = response.headers.getRawHeaders(name) or [b""]
    return str(values[-1], "latin-1")


def _date(response: IResponse) -> float | None:
    try:
        moment = parsedate_to_datetime(_header(response, b"date"))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
