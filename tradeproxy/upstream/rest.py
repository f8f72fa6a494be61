"""A read-only client of Alpaca's REST API, for one account, with bounded rate, size and time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from msgspec import DecodeError, Raw
from msgspec.json import Decoder
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as OverdueError
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from tradeproxy.runtime.dates import Dates
from tradeproxy.runtime.http_body import BodyError, BodyReader, discard_body
from tradeproxy.upstream.backoff import parse_retry_after
from tradeproxy.upstream.http import EndlessHeadError
from tradeproxy.upstream.http_date import parse_date
from tradeproxy.upstream.keys import AccountKeys
from tradeproxy.upstream.rate_limiter import RateLimiter
from tradeproxy.upstream.tunnel import ProxyError
from tradeproxy.wire.amount import read_float, read_int
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, list_secrets
from tradeproxy.wire.quote import MAX_WORD, quote_text

INACTIVITY_TIMEOUT = 20.0
"""Seconds without data from Alpaca. Its event streams send a comment more often than that."""

MAX_RESPONSE_SECONDS = 60.0
"""Seconds for a whole JSON body."""

MAX_LIST_SIZE = 8 * 1024 * 1024
"""Bytes of the body of a list. A page of 500 orders has about a million."""

MAX_LIST_ITEMS = 200_000
"""Commas and opened brackets of a list. A page of 500 orders has about 50,000."""

PART_SIZE = 256 * 1024
"""Bytes of a list that are parsed in one turn of the reactor: a few milliseconds."""

MAX_DOCUMENT_SIZE = 1024 * 1024
"""Bytes of another body, and of each entry of a list. An order has about 2,000."""

MAX_DOCUMENT_ITEMS = 25_000
"""Commas and opened brackets of such a document. Each may take 250 bytes once it is parsed."""

MAX_LEVELS = 100
"""Levels of such a document. Other parsers and encoders of Python's read fewer than its own one."""

SHAPE = "an answer of another shape"
_NOT_JSON = "an answer that is not JSON"
_EVENT_STREAM = "text/event-stream"
_DECODER = json.JSONDecoder(parse_int=read_int, parse_float=read_float, parse_constant=str)
_LIST = Decoder(list[Raw])
_FINAL = (401, 403, 404)
"""Statuses that do not change on a retry. Others may be temporary, or from a proxy or portal."""

_T = TypeVar("_T")


class RestRefusedError(Exception):
    """Alpaca rejects the request; a retry does not help.

    `reason` is safe to log. `status` is the HTTP status. `date` is Alpaca's clock when it answered:
    Unix time in seconds, or None.
    """

    def __init__(self, reason: str, status: int, date: float | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.date = date


class RestUnavailableError(Exception):
    """There is no complete answer now; a later retry may succeed.

    `reason` is safe to log. `retry_after` are the seconds that Alpaca asks for, or 0. `date` is
    Alpaca's clock if it answered: Unix time in seconds, or None.
    """

    def __init__(self, reason: str, retry_after: float = 0.0, date: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after
        self.date = date


class RestOversizedError(RestUnavailableError):
    """An answer is too large. A retry does not help, but a smaller page may."""


@dataclass(frozen=True, slots=True)
class RestResponse:
    """A JSON document and its Date header: Unix time in whole seconds, None if there is none."""

    document: Any
    date: float | None


class RestList:
    """The entries of a JSON list. Each is parsed when it is iterated over: all take much memory.

    Other work has its turn after each PART_SIZE.
    """

    def __init__(self, entries: list[Any], clock: IReactorTime) -> None:
        self._entries = entries
        self._clock = clock

    def __len__(self) -> int:
        return len(self._entries)

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Yield each entry; None for one that is too large or cannot be parsed."""
        size = 0
        for entry in self._entries:
            if size >= PART_SIZE:
                size = 0
                await deferLater(self._clock, 0)
            body = memoryview(entry).tobytes() if isinstance(entry, Raw) else b""
            size += len(body)
            try:
                document = _parse(body) if body else entry
            except RestUnavailableError:
                document = None
            yield document


class RestClient:
    """Sends GET requests to `base_url` with one account's credentials.

    Every method can be cancelled at any point. The `reason` of an error holds a status or a fixed
    phrase. It never holds a URL, a header, a body or the text of an exception: these may contain
    secrets.
    """

    def __init__(
        self,
        agent: IAgent,
        base_url: str,
        keys: AccountKeys,
        clock: IReactorTime,
        dates: Dates,
        rate_limiter: RateLimiter | None = None,
    ) -> None:
        """Create the client.

        Args:
            agent: sends the requests; see `build_agent`.
            base_url: scheme and host, without a slash at the end.
            keys: the account's key pair or OAuth token; read again if Alpaca refuses them.
            clock: schedules the timeouts.
            dates: gets the Date header of every answer.
            rate_limiter: shared by all requests of the account; a new one by default.
        """
        self._agent = agent
        self._base_url = base_url
        self._keys = keys
        self._clock = clock
        self._dates = dates
        self._rate_limiter = rate_limiter or RateLimiter()

    async def get(self, path: str, parameters: Mapping[str, str] | None = None) -> RestResponse:
        """Return the JSON document at `path`.

        Raises RestRefusedError, RestUnavailableError, or RestOversizedError.
        """
        body, date = await self._get_body(path, parameters, MAX_DOCUMENT_SIZE)
        return RestResponse(_parse(body), date)

    async def get_list(self, path: str, parameters: Mapping[str, str] | None = None) -> RestList:
        """Return the JSON list at `path`.

        Raises RestRefusedError, RestUnavailableError, or RestOversizedError.
        """
        body, _ = await self._get_body(path, parameters, MAX_LIST_SIZE)
        if _count_items(body) > MAX_LIST_ITEMS:
            raise RestOversizedError(f"an answer of more than {MAX_LIST_ITEMS} items")
        try:
            return RestList(_LIST.decode(body), self._clock)
        except (DecodeError, RecursionError):
            document = _parse(body)  # it may have NaN, or half of an emoji, as some servers send
        if not isinstance(document, list):
            raise RestUnavailableError(SHAPE)
        return RestList(document, self._clock)

    async def _get_body(
        self, path: str, parameters: Mapping[str, str] | None, max_size: int
    ) -> tuple[bytearray, float | None]:
        """Return a body of at most `max_size` bytes, and its date."""
        body = bytearray()

        def take(chunk: bytes) -> None:
            body.extend(chunk)
            if len(body) > max_size:
                raise RestOversizedError(f"an answer of more than {max_size // 1024**2} MiB")

        response = await self._request(path, parameters, "application/json")
        ended = Deferred.fromCoroutine(self._read(response, take))
        ended.addTimeout(MAX_RESPONSE_SECONDS, self._clock)
        try:
            await ended
        except OverdueError:
            raise RestUnavailableError("an answer that takes too long") from None
        return body, _date(response)

    async def stream(
        self, path: str, parameters: Mapping[str, str], take: Callable[[bytes], None]
    ) -> None:
        """Pass a stream of server-sent events to `take`, in chunks, until the response is complete.

        Raises RestRefusedError, or RestUnavailableError if the response breaks off. An exception
        of `take` closes the response and is raised here.
        """
        response = await self._request(path, parameters, _EVENT_STREAM)
        kind = _header(response, b"content-type").partition(";")[0].strip().lower()
        if kind != _EVENT_STREAM:
            discard_body(response)
            raise RestUnavailableError("an answer that is not an event stream")
        await self._read(response, take)

    async def wait_for_slot(self) -> None:
        """Wait until the rate limit allows a request."""
        # Another request may take the slot, or a 429 may block it, during the wait: check again.
        while (wait := self._rate_limiter.delay(self._clock.seconds())) > 0:
            await deferLater(self._clock, wait)

    async def _request(
        self, path: str, parameters: Mapping[str, str] | None, accepted: str
    ) -> IResponse:
        await self.wait_for_slot()
        credentials = self._keys.credentials
        self._rate_limiter.count_request(self._clock.seconds())
        query = f"?{urlencode(parameters)}" if parameters else ""
        # A plain Agent follows no redirect, which would send the keys to another host.
        sent = self._agent.request(
            b"GET", f"{self._base_url}{path}{query}".encode(), self._headers(accepted, credentials)
        )
        answered = _cancellable(sent)
        answered.addTimeout(INACTIVITY_TIMEOUT, self._clock)
        response = await _await_response(answered)
        if (date := _date(response)) is not None:
            self._dates.observe(date)
        if response.code != 200:
            discard_body(response)
            # Alpaca answers 401 to some wrong keys, and 403 to others.
            if response.code in (401, 403) and self._keys.have_replaced(credentials):
                return await self._request(path, parameters, accepted)
            raise self._build_error(response)
        if _header(response, b"content-encoding").strip().lower() not in ("", "identity"):
            discard_body(response)
            raise RestUnavailableError("an answer that is compressed")
        return response

    def quote(self, text: str, max_word: int = MAX_WORD) -> str:
        """Return a text of Alpaca's for the log, without the account's credentials."""
        return quote_text(text, list_secrets(self._keys.credentials), max_word)

    def _headers(self, accepted: str, credentials: Credentials) -> Headers:
        # A few bytes of gzip can be a gigabyte, which would block the reactor.
        headers = Headers(
            {"Accept": [accepted], "Accept-Encoding": ["identity"], "User-Agent": ["tradeproxy"]}
        )
        match credentials:
            case KeyPair(key_id, secret_key):
                headers.setRawHeaders("APCA-API-KEY-ID", [key_id.reveal()])
                headers.setRawHeaders("APCA-API-SECRET-KEY", [secret_key.reveal()])
            case OAuthToken(token):
                headers.setRawHeaders("Authorization", [f"Bearer {token.reveal()}"])
        return headers

    async def _read(self, response: IResponse, take: Callable[[bytes], None]) -> None:
        reader = _TimedReader(take, self._clock)
        response.deliverBody(reader)
        try:
            await reader.ended
        except BodyError:
            raise RestUnavailableError("an answer that was cut short") from None

    def _build_error(self, response: IResponse) -> RestRefusedError | RestUnavailableError:
        status, date = response.code, _date(response)
        sent = self._dates.own() if date is None else date
        retry_after = parse_retry_after(_header(response, b"retry-after"), sent) or 0.0
        # Alpaca's clock is in the error too: the recovery needs it even if a request is rejected.
        if status in _FINAL:
            return RestRefusedError(f"HTTP {status}", status, date)
        if status == 429:
            self._rate_limiter.block_until(self._clock.seconds() + retry_after)
        return RestUnavailableError(f"HTTP {status}", retry_after, date)


class _TimedReader(TimeoutMixin, BodyReader):
    """A reader that fails after INACTIVITY_TIMEOUT seconds without data."""

    def __init__(self, take: Callable[[bytes], None], clock: IReactorTime) -> None:
        super().__init__(take, needs_length=True)
        self._clock = clock

    def callLater(self, period: float, func: Callable[[], None]) -> IDelayedCall:
        return self._clock.callLater(period, func)

    def connectionMade(self) -> None:
        self.setTimeout(INACTIVITY_TIMEOUT)

    def dataReceived(self, data: bytes) -> None:
        self.resetTimeout()
        super().dataReceived(data)

    def timeoutConnection(self) -> None:
        self.end(RestUnavailableError("no more of an answer in time"))

    def end(self, error: Exception | None = None) -> None:
        self.setTimeout(None)
        super().end(error)


def _parse(body: bytes | bytearray) -> Any:
    """Return a JSON document. Raises RestUnavailableError or RestOversizedError."""
    error = RestOversizedError("a document of more than 1 MiB, 25,000 items or 100 levels")
    if len(body) > MAX_DOCUMENT_SIZE or _count_items(body) > MAX_DOCUMENT_ITEMS:
        raise error
    try:
        # json.loads would guess UTF-16 or UTF-32 from bytes.
        document = _DECODER.decode(body.decode())
    except ValueError:
        raise RestUnavailableError(_NOT_JSON) from None
    except RecursionError:  # "[[[[…"
        raise error from None
    if body.count(b"{") + body.count(b"[") > MAX_LEVELS and _is_deep(document):
        raise error
    return document


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_LEVELS):
        level = [
            each
            for parent in level
            if isinstance(parent, dict | list)
            for each in (parent.values() if isinstance(parent, dict) else parent)
        ]
    return bool(level)


def _count_items(body: bytes | bytearray) -> int:
    return sum(map(body.count, (b",", b"[", b"{")))


async def _await_response(response: Deferred[_T]) -> _T:
    """Await a response, and translate errors to RestUnavailableError.

    The error's own text is left out: it may hold anything.
    """
    try:
        return await response
    except CancelledError:
        raise
    except OverdueError:
        raise RestUnavailableError("no answer in time") from None
    except ProxyError:
        raise RestUnavailableError("the HTTP proxy opens no connection") from None
    except (ConnectError, DNSLookupError):
        raise RestUnavailableError("cannot connect") from None
    except Exception as error:
        reasons = error.reasons if isinstance(error, ResponseFailed) else ()
        if any(reason.check(EndlessHeadError) for reason in reasons):
            raise RestUnavailableError("an answer whose headers do not end") from None
        raise RestUnavailableError("the connection was lost before an answer") from None


def _cancellable(inner: Deferred[_T]) -> Deferred[_T]:
    """Return a Deferred with the result of `inner` that fails with CancelledError if cancelled.

    Agent reports a cancellation with several errors of its own.
    """

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
    """Return the Date header as Unix time; None if there is none."""
    return parse_date(_header(response, b"date"))
