"""The client's loop, the same over Twisted and asyncio: connect, read, and come back where it stood."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from random import random
from typing import TYPE_CHECKING, Protocol, Self, TypedDict
from urllib.parse import urlencode, urlsplit

from tradeproxy.client.resume import PositionLostError, ResumeState, Update
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.credentials import KeyPair, Secret
from tradeproxy.wire.messages import (
    TRADE_UPDATES,
    Authenticate,
    Authorization,
    Dialect,
    Listen,
    encode,
    parse_server,
)
from tradeproxy.wire.proxy_status import PROXY_STATUS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from tradeproxy.client.resume import Item, StatusData

INITIAL_CEILING = 0.5
"""Seconds: the most that the first attempt waits; it doubles with every further one."""

MAX_CEILING = 30.0
"""Seconds: the most that any attempt waits."""

STABLE_AFTER = 10.0
"""Seconds of a connection after which its end is a first one again."""

CONNECT_TIMEOUT = 15.0
"""Seconds for TCP, TLS and the WebSocket handshake."""

PING_INTERVAL = 20
"""Seconds; a silently dead connection is found within two of them."""

CLOSE_TIMEOUT = 2
"""Seconds that the proxy has to answer a close frame."""

MAX_MESSAGE_SIZE = 16 * 1024 * 1024
USER_AGENT = "tradeproxy-client"

_MESSAGE_TOO_BIG = 1009
_FINAL = {code.code for code in CloseCode if not code.may_reconnect} | {_MESSAGE_TOO_BIG}


class ClientOptions(TypedDict, total=False):
    """What a client may be told beside the URL; of since_id, since and replay one at most."""

    key: str
    secret: str
    """Where the proxy has PROXY_TOKENS, one of these is a token. They go into the auth message alone."""
    since_id: str | None
    """Where an earlier client stood, its `cursor`; or an `event_id`."""
    since: str | datetime | None
    """An RFC 3339 time, or one that knows its offset from UTC."""
    replay: int | None
    """How many of the last events come first."""
    symbols: Iterable[str]
    events: Iterable[str]
    client_order_id_prefix: str
    """Filters: which events come at all."""
    on_status: Callable[[StatusData], None] | None
    """Called with the `data` of each `proxy_status` frame, in the order of the events, and with
    `{"event": "connection", "state": "up" or "down", "reason": …, "retry_in": seconds}`."""
    random: Callable[[], float]
    """Floats from 0 to 1, for the time between attempts."""


class RefusedError(Exception):
    """The proxy refuses this client for good; `code` is a close code, or the status of an HTTP answer."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"refused with {code}: {reason}" if reason else f"refused with {code}")
        self.code = code
        self.reason = reason


class ConnectionClosedError(Exception):
    """A connection is over, or could not be made: a close code, an HTTP status, or neither."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class WebSocketConnection(Protocol):
    """An open WebSocket."""

    async def send(self, message: bytes) -> None:
        """Send a text frame. Raises EndedError."""

    async def receive(self) -> bytes:
        """Return the next message; all that came is returned before EndedError is raised."""

    async def close(self) -> None:
        """End it with a close frame, within a few seconds."""


class BaseClient(ABC):
    """Follows the trade updates of one account: an asynchronous iterator that yields each event once.

    `url` is that of the account's stream, such as `ws://localhost:8099/trade-updates-paper`. It connects
    when it is first asked for an event, again after every end, and goes on where it stood. It reads no
    further than it is iterated over; one task at a time may do that. Iterating raises PositionLostError
    where events are not to be had, after which it can be iterated on, and RefusedError for good.
    """

    def __init__(self, url: str, options: ClientOptions) -> None:
        self._url = _check_url(url)
        self._query = _build_query(options)
        key, secret = (Secret(options.get("key", "any")), Secret(options.get("secret", "any")))
        self._login = Authenticate(KeyPair(key, secret), Dialect.AUTHENTICATE)
        self._on_status = options.get("on_status") or (lambda _: None)
        self._random = options.get("random", random)
        self._resume = ResumeState(_read_start(options))
        self._ceiling = INITIAL_CEILING
        self._connection: WebSocketConnection | None = None
        self._up_since: float | None = None
        self._is_closed = False

    @property
    def cursor(self) -> str | None:
        """Where the client stands, behind the last event that it has yielded: a later one's `since_id`."""
        return self._resume.cursor

    def __repr__(self) -> str:
        return f"<Client {self._url} at {self.cursor}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        while not self._is_closed:
            match await self._next_item():
                case Update() as update:
                    return update
                case PositionLostError() as lost:
                    raise lost
                case dict() as status:
                    self._on_status(status)
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and the iteration."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    # What is different over Twisted and asyncio.

    @abstractmethod
    async def _dial(self, url: str) -> WebSocketConnection:
        """Open a WebSocket, within CONNECT_TIMEOUT. Raises EndedError."""

    @abstractmethod
    async def _sleep(self, seconds: float) -> None: ...

    @abstractmethod
    def _seconds(self) -> float: ...

    # The loop.

    async def _next_item(self) -> Item | None:
        try:
            if self._connection is None:
                self._connection = await self._connect()
                # The answer to the login comes first; if it is no, the end is next, with its reason.
                answer = parse_server(await self._connection.receive())
                is_refused = isinstance(answer, Authorization) and not answer.authorized
                return None if is_refused else {"event": "connection", "state": "up"}
            return self._resume.receive(await self._connection.receive())
        except ConnectionClosedError as ended:
            self._connection = None
            if not self._is_closed:
                await self._wait_to_reconnect(ended)
            return None

    async def _connect(self) -> WebSocketConnection:
        self._up_since = None
        query = {**self._query, **self._resume.next_query()}
        connection = await self._dial(f"{self._url}?{urlencode(query)}")
        self._up_since = self._seconds()
        await connection.send(encode(self._login))
        # On `…/stream` events follow only this; elsewhere it changes nothing.
        await connection.send(encode(Listen((TRADE_UPDATES, PROXY_STATUS))))
        return connection

    async def _wait_to_reconnect(self, ended: ConnectionClosedError) -> None:
        """Wait for the next attempt, or raise what makes it vain."""
        if ended.code == CloseCode.POSITION_LOST.code:
            self._resume.reset()
            raise PositionLostError(ended.reason) from None
        if ended.code is not None and (ended.code in _FINAL or 400 <= ended.code < 500):
            raise RefusedError(ended.code, ended.reason) from None
        if self._up_since is not None and self._seconds() - self._up_since >= STABLE_AFTER:
            self._ceiling = INITIAL_CEILING
        # Full jitter, so that a proxy that comes back is not met by all at once.
        delay = self._random() * self._ceiling
        self._ceiling = min(2 * self._ceiling, MAX_CEILING)
        self._on_status(
            {
                "event": "connection",
                "state": "down",
                "reason": ended.reason,
                "retry_in": round(delay, 1),
            }
        )
        await self._sleep(delay)


def read_http_rejection(status: int, body: bytes) -> ConnectionClosedError:
    """Return what an HTTP answer in the place of a WebSocket comes to: its body's first line says why."""
    lines = body[:1000].decode(errors="replace").strip().splitlines()
    return ConnectionClosedError(lines[0][:300] if lines else f"HTTP {status}", status)


def _check_url(url: str) -> str:
    # Never quoted: a URL may hold a password.
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ValueError("url: is not such as ws://localhost:8099/trade-updates-paper")
    if parts.username is not None or "?" in url or "#" in url:
        raise ValueError(
            "url: has a user name, a query or a fragment; what they would say are arguments"
        )
    return url


def _read_start(options: ClientOptions) -> dict[str, str]:
    since = options.get("since")
    if isinstance(since, datetime):
        if since.tzinfo is None:
            raise ValueError("since: has no offset from UTC")
        since = since.isoformat()
    replay = options.get("replay")
    given = {
        "since_id": options.get("since_id"),
        "since": since,
        "replay": None if replay is None else str(replay),
    }
    chosen = {name: text for name, text in given.items() if text is not None}
    if len(chosen) > 1:
        raise ValueError(f"{', '.join(chosen)}: one of them at most")
    return chosen


def _build_query(options: ClientOptions) -> dict[str, str]:
    filters = {
        "symbols": ",".join(options.get("symbols", ())),
        "events": ",".join(options.get("events", ())),
        "client_order_id_prefix": options.get("client_order_id_prefix", ""),
    }
    return {"proxy_status": "1", **{name: text for name, text in filters.items() if text}}
