"""The client for asyncio, over the library `websockets`, which the extra `asyncio` installs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tradeproxy.client.base import (
    CLOSE_TIMEOUT,
    CONNECT_TIMEOUT,
    MAX_MESSAGE_SIZE,
    MESSAGE_TOO_BIG,
    PING_INTERVAL,
    STATE_TIMEOUT,
    USER_AGENT,
    BaseClient,
    ConnectionClosedError,
    RefusedError,
    StateError,
    read_http_rejection,
)
from tradeproxy.client.resume import PositionLostError, Update
from tradeproxy.client.snapshot import MAX_STATE_SIZE, AccountSnapshot
from tradeproxy.runtime.connect_errors import describe_connect_error

__all__ = ["AccountSnapshot", "Client", "PositionLostError", "RefusedError", "StateError", "Update"]

MAX_FRAGMENTS = 1000
"""The maximum number of a message's fragments. The proxy sends a message in one."""


class AsyncioClient(BaseClient):
    """Follows one account from asyncio; see BaseClient.

    To stop, cancel the task or call `close`.
    """

    async def _open(self, url: str) -> AsyncioConnection:
        try:
            websocket = await _Connect(
                url,
                compression=None,  # the proxy does not compress
                proxy=None,  # the proxy is on the local network; HTTP_PROXY is for the internet
                user_agent_header=USER_AGENT,
                max_size=MAX_MESSAGE_SIZE,
                open_timeout=CONNECT_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                ping_interval=PING_INTERVAL,
                ping_timeout=PING_INTERVAL,
            )
        except InvalidStatus as error:
            response = error.response
            raise read_http_rejection(response.status_code, bytes(response.body or b"")) from None
        except (OSError, InvalidHandshake) as error:
            reason = describe_connect_error(error)
            raise ConnectionClosedError(f"cannot connect: {reason}") from None
        return AsyncioConnection(websocket)

    async def _get(self, url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        try:
            return await asyncio.wait_for(asyncio.to_thread(_fetch, url, headers), STATE_TIMEOUT)
        except OSError as error:
            raise StateError(f"cannot connect: {describe_connect_error(error)}") from None
        except (HTTPException, ValueError):  # not quoted: it may contain the token
            reason = "the answer is not HTTP, or the token has invalid characters"
            raise StateError(reason) from None

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _clock_seconds(self) -> float:
        return asyncio.get_running_loop().time()


Client = AsyncioClient
"""The public name."""


class _Connect(connect):
    """Follows no redirect: the token is for this server only."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class AsyncioConnection:
    """One connection.

    `websockets` buffers unread messages and pauses reading if there are too many.
    """

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    async def send(self, message: bytes) -> None:
        """Send a text frame. Raises ConnectionClosedError."""
        try:
            await self._websocket.send(message, text=True)
        except ConnectionClosed as closed:
            raise _build_closed_error(closed) from None

    async def receive(self) -> bytes:
        """Return the next message. Raises ConnectionClosedError.

        `websockets` limits the bytes of a message, but not its fragments.
        """
        fragments: list[bytes] = []
        try:
            async for fragment in self._websocket.recv_streaming(decode=False):
                fragments.append(fragment)
                if len(fragments) > MAX_FRAGMENTS:
                    break
            else:
                return b"".join(fragments)
        except ConnectionClosed as closed:
            raise _build_closed_error(closed) from None
        reason = f"a message of more than {MAX_FRAGMENTS} fragments"
        await self._websocket.close(MESSAGE_TOO_BIG, reason)
        raise ConnectionClosedError(reason, MESSAGE_TOO_BIG)

    async def close(self) -> None:
        """Send a close frame and wait up to CLOSE_TIMEOUT for the reply."""
        await self._websocket.close()


def _fetch(url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Block until the whole answer is read. Raises OSError, HTTPException, ValueError, StateError.

    asyncio has no HTTP client, and the state is requested seldom.
    """
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(parts.hostname or "", parts.port, timeout=CONNECT_TIMEOUT)) as connection:
        connection.request("GET", parts.path, headers=dict(headers))
        response = connection.getresponse()
        body = response.read(MAX_STATE_SIZE + 1)
    if len(body) > MAX_STATE_SIZE:
        raise StateError(f"an answer of more than {MAX_STATE_SIZE} bytes")
    return response.status, body


def _build_closed_error(closed: ConnectionClosed) -> ConnectionClosedError:
    if (frame := closed.rcvd) is None:
        return ConnectionClosedError("connection lost")
    return ConnectionClosedError(frame.reason or f"closed with code {frame.code}", frame.code)
