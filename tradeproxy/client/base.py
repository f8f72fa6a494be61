"""The client's loop, common to Twisted and asyncio: connect, read, reconnect and resume.

state         | event                          | action                      | next
--------------+--------------------------------+-----------------------------+-------------
disconnected  | next event requested           | connect, log in, listen     | connected
connected     | message                        | yield it, report it or skip | connected
connected     | replay impossible              | raise PositionLostError     | connected
connected     | the same, a snapshot wanted    | close, and raise the same   | disconnected
connected     | close code 4010                | raise PositionLostError     | disconnected
any           | final close code, HTTP 4xx     | raise RefusedError          | disconnected
any           | other close, failed connection | wait for a random delay     | disconnected
any           | close() called                 | close, end the iteration    | closed
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from random import random
from typing import Protocol, Self, TypedDict, Unpack
from urllib.parse import urlencode, urlsplit

from tradeproxy.client.resume import Item, PositionLostError, ResumeState, StatusData, Update
from tradeproxy.client.snapshot import MAX_STATE_SIZE, AccountSnapshot, read_snapshot
from tradeproxy.wire.amount import read_int
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

INITIAL_CEILING = 0.5
"""Seconds: the maximum delay before the first reconnect. It doubles with each further attempt."""

MAX_CEILING = 30.0
"""Seconds: the maximum delay before any reconnect."""

STABLE_AFTER = 10.0
"""Seconds after which a connection is stable; the delay then starts at INITIAL_CEILING again."""

CONNECT_TIMEOUT = 15.0
"""Seconds for TCP, TLS and the WebSocket handshake."""

PING_INTERVAL = 20
"""Seconds. A silently dead connection is detected within two intervals."""

CLOSE_TIMEOUT = 2
"""Seconds to wait for the proxy's reply to a close frame."""

STATE_TIMEOUT = 30.0
"""Seconds for the answer to a request for the state."""

MAX_MESSAGE_SIZE = 16 * 1024 * 1024
"""The maximum size of a message, in bytes.

A larger message closes the connection with 1009, which is final: a retry gets it again.
"""

USER_AGENT = "tradeproxy-client"

MESSAGE_TOO_BIG = 1009
_FINAL = {code.code for code in CloseCode if not code.may_reconnect} | {MESSAGE_TOO_BIG}


class ClientOptions(TypedDict, total=False):
    """The options of a client. At most one of since_id, since and replay may be set."""

    key: str
    secret: str
    """If the proxy sets PROXY_TOKENS, one of these is a token.

    Only the auth message contains them.
    """
    since_id: str | None
    """The `cursor` of an earlier client, or an `event_id`."""
    since: str | datetime | None
    """An RFC 3339 time, or a datetime with an offset from UTC."""
    replay: int | None
    """The number of past events to send first."""
    symbols: Iterable[str]
    events: Iterable[str]
    client_order_id_prefix: str
    """Filters: the proxy sends only events that match."""
    snapshot: bool
    """Whether to yield the state of the account first, and again after a lost position."""
    on_status: Callable[[StatusData], None] | None
    """Called with the `data` of each `proxy_status` frame, in order with the events.

    Also called with `{"event": "connection", "state": "up"}` and with `{"event": "connection",
    "state": "down", "reason": …, "retry_in": seconds}`.
    """
    random: Callable[[], float]
    """Returns floats from 0 to 1, for the delay between attempts."""


class RefusedError(Exception):
    """The proxy rejects this client permanently. `code` is a close code or an HTTP status."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"rejected with {code}: {reason}" if reason else f"rejected with {code}")
        self.code = code
        self.reason = reason


class StateError(Exception):
    """The proxy gave no state. A later request may succeed. The text is one line."""


class ConnectionClosedError(Exception):
    """A connection closed or failed to open. `code` is a close code, an HTTP status or None."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class WebSocketConnection(Protocol):
    """An open WebSocket."""

    async def send(self, message: bytes) -> None:
        """Send a text frame. Raises ConnectionClosedError."""

    async def receive(self) -> bytes:
        """Return the next message.

        Raises ConnectionClosedError, but only after all received messages are returned.
        """

    async def close(self) -> None:
        """Close with a close frame, within a few seconds."""


class BaseClient(ABC):
    """Follows one account: an asynchronous iterator that yields each trade update once.

    With `snapshot` it also yields the state of the account, an AccountSnapshot: before the
    new events, and again before those behind a lost position. After a disconnect it resumes
    without one.

    `url` is the account's stream, such as `ws://localhost:8099/trade-updates-paper`. The client
    connects when the first event is requested. After each disconnect it reconnects and resumes.
    It reads only as fast as the caller iterates. Only one task at a time may iterate.

    Iterating raises PositionLostError if events are lost; the caller can then iterate again. It
    raises RefusedError if the proxy rejects the client permanently. The constructor raises
    ValueError for an invalid URL or option.
    """

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        self._url = _check_url(url)
        self._query = _build_query(options)
        key, secret = (Secret(options.get("key", "any")), Secret(options.get("secret", "any")))
        self._keys = KeyPair(key, secret)
        self._login = Authenticate(self._keys, Dialect.AUTHENTICATE)
        self._on_status = options.get("on_status") or (lambda _: None)
        self._random = options.get("random", random)
        snapshot = options.get("snapshot", False)
        self._resume = ResumeState(_read_start(options), wants_snapshot=snapshot)
        self._ceiling = INITIAL_CEILING
        self._connection: WebSocketConnection | None = None
        self._up_since: float | None = None
        self._is_closed = False

    @property
    def cursor(self) -> str | None:
        """The position after the last yielded event. Pass it to a later client as `since_id`."""
        return self._resume.cursor

    def __repr__(self) -> str:
        return f"<Client {self._url} at {self.cursor}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update | AccountSnapshot:
        while not self._is_closed:
            match await self._next_item():
                case Update() | AccountSnapshot() as item:
                    return item
                case PositionLostError() as lost:
                    raise lost
                case dict() as status:
                    self._on_status(status)
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection and end the iteration."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def state(self) -> AccountSnapshot:
        """Return the state of the account now, by a request of its own.

        It changes nothing about the iteration, and filters do not apply. Raises RefusedError for an
        HTTP 4xx status, and StateError if there is no answer now.
        """
        url = f"{self._url.replace('ws', 'http', 1).rstrip('/')}/state"
        headers = {
            "User-Agent": USER_AGENT,
            "APCA-API-KEY-ID": self._keys.key_id.reveal(),
            "APCA-API-SECRET-KEY": self._keys.secret_key.reveal(),
        }
        return _read_state(*await self._get(url, headers))

    # Implemented for Twisted and for asyncio.

    @abstractmethod
    async def _get(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Return the status and the body of an answer, which comes within STATE_TIMEOUT.

        Raises StateError, also for a body of more than MAX_STATE_SIZE.
        """

    @abstractmethod
    async def _open(self, url: str) -> WebSocketConnection:
        """Open a WebSocket within CONNECT_TIMEOUT. Raises ConnectionClosedError."""

    @abstractmethod
    async def _sleep(self, seconds: float) -> None: ...

    @abstractmethod
    def _clock_seconds(self) -> float: ...

    # The loop.

    async def _next_item(self) -> Item | None:
        try:
            if self._connection is None:
                self._connection = await self._connect()
                # The first message answers the login. After a rejection the proxy closes with its
                # reason, and the next receive raises it.
                reply = parse_server(await self._connection.receive())
                is_rejected = isinstance(reply, Authorization) and not reply.authorized
                return None if is_rejected else {"event": "connection", "state": "up"}
            item = self._receive(await self._connection.receive())
            if isinstance(item, PositionLostError) and self._resume.is_snapshot_missing:
                connection, self._connection = self._connection, None
                await connection.close()
            return item
        except ConnectionClosedError as closed:
            self._connection = None
            if not self._is_closed:
                await self._wait_to_reconnect(closed)
            return None

    def _receive(self, message: bytes) -> Item | None:
        try:
            return self._resume.receive(message)
        except OverflowError:
            reason = f"a snapshot of more than {MAX_STATE_SIZE} bytes"
            raise RefusedError(MESSAGE_TOO_BIG, reason) from None

    async def _connect(self) -> WebSocketConnection:
        self._up_since = None
        query = {**self._query, **self._resume.next_query()}
        connection = await self._open(f"{self._url}?{urlencode(query)}")
        self._up_since = self._clock_seconds()
        await connection.send(encode(self._login))
        # `…/stream` sends events only after this message. Other paths accept it without effect.
        await connection.send(encode(Listen((TRADE_UPDATES, PROXY_STATUS))))
        return connection

    async def _wait_to_reconnect(self, closed: ConnectionClosedError) -> None:
        """Wait for the next attempt.

        Raise PositionLostError or RefusedError if a retry cannot help.
        """
        if closed.code == CloseCode.POSITION_LOST.code:
            self._resume.reset()
            raise PositionLostError(closed.reason) from None
        if closed.code is not None and (closed.code in _FINAL or 400 <= closed.code < 500):
            raise RefusedError(closed.code, closed.reason) from None
        if self._up_since is not None and self._clock_seconds() - self._up_since >= STABLE_AFTER:
            self._ceiling = INITIAL_CEILING
        # Full jitter: after a restart of the proxy, clients must not reconnect all at once.
        delay = self._random() * self._ceiling
        self._ceiling = min(2 * self._ceiling, MAX_CEILING)
        status = {"event": "connection", "state": "down", "reason": closed.reason}
        self._on_status(status | {"retry_in": round(delay, 1)})
        await self._sleep(delay)


def read_http_rejection(status: int, body: bytes) -> ConnectionClosedError:
    """Return the error for an HTTP response instead of a WebSocket.

    Its reason is the message of the proxy's error, or the first line that something else sent.
    """
    body = body[:1000]
    try:
        text = str(json.loads(body)["message"]).removeprefix("tradeproxy: ")
    except (ValueError, LookupError, TypeError, RecursionError):
        text = body.decode(errors="replace")
    lines = text.strip().splitlines()
    return ConnectionClosedError(lines[0][:300] if lines else f"HTTP {status}", status)


def _read_state(status: int, body: bytes) -> AccountSnapshot:
    if status != 200:
        reason = read_http_rejection(status, body).reason
        if 400 <= status < 500:
            raise RefusedError(status, reason)
        raise StateError(reason)
    try:
        document = json.loads(body, parse_int=read_int)
        if isinstance(document, dict) and "complete" in document:
            return read_snapshot(document)
    except (ValueError, RecursionError):
        pass
    raise StateError("the answer is not the state of an account")


def _check_url(url: str) -> str:
    # The errors never quote the URL: it may contain a password.
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("ws", "wss") and parts.hostname and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("url: must be like ws://localhost:8099/trade-updates-paper")
    if parts.username is not None or "?" in url or "#" in url:
        raise ValueError("url: must have no user name, query or fragment; pass them as arguments")
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
        raise ValueError(f"{', '.join(chosen)}: at most one may be set")
    return chosen


def _build_query(options: ClientOptions) -> dict[str, str]:
    filters = {
        "symbols": ",".join(options.get("symbols", ())),
        "events": ",".join(options.get("events", ())),
        "client_order_id_prefix": options.get("client_order_id_prefix", ""),
    }
    return {"proxy_status": "1", **{name: text for name, text in filters.items() if text}}
