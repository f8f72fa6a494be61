"""Resuming clients: by cursor, by event id, by time, and over server-sent events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from time import time
from typing import Any
from urllib.parse import urlencode

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor as chosen
from twisted.internet.protocol import Protocol, connectionDone

from tests.support.frames import AUTH
from tests.system.chaos.checker import DeclaredGap
from tests.system.chaos.resuming import ResumingClient
from tradeproxy.wire.event import parse_time

reactor: Any = chosen
PATH = "/trade-updates-paper"


class ChaosConnection(WebSocketClientProtocol):
    """One connection of a WebSocket client."""

    def __init__(self, owner: ResumingWebSocketClient) -> None:
        super().__init__()
        self._owner = owner

    def onOpen(self) -> None:
        self.sendMessage(AUTH)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._owner.receive(json.loads(payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._owner.connection_closed(self.remoteCloseCode)
        self._owner.connection_ended()


class ResumingWebSocketClient(ResumingClient):
    """A WebSocket client that resumes by cursor, with `proxy_status`, or by event id."""

    def __init__(self, name: str, port: Callable[[], int], since: int, *, by_cursor: bool) -> None:
        super().__init__(name, port, since)
        self.log.has_cursors = self._by_cursor = by_cursor
        self._position: str | None = None
        self._first_entries: dict[str, int] = {}
        """The index of the first entry with each event id. A correction has the id of its fill."""

    @property
    def resumes_by_cursor(self) -> bool:
        return self._by_cursor

    def _protocol(self) -> ChaosConnection:
        # The port in this URL only appears in the Host header, and is not checked.
        factory = WebSocketClientFactory(
            f"ws://localhost{PATH}?{urlencode(self._query())}", reactor=reactor
        )
        factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=10)
        protocol = ChaosConnection(self)
        protocol.factory = factory
        return protocol

    def _query(self) -> dict[str, str]:
        query = self._since_query() if self._position is None else {"since_id": self._position}
        if self._position is not None and not self._by_cursor:
            # Later events without an id of their own come again.
            self._allow_repeats(self._first_entries[self._position] + 1)
        return query | ({"proxy_status": "1"} if self._by_cursor else {})

    def receive(self, frame: Any) -> None:
        """Record one message."""
        match frame:
            case {"stream": "trade_updates", "data": data}:
                cursor, event_id = frame.get("cursor"), data.get("event_id")
                if event_id is not None:
                    self._first_entries.setdefault(event_id, len(self.log.entries))
                self._record(
                    data, frame.get("recovered"), cursor is not None or not self._by_cursor
                )
                position = cursor if self._by_cursor else event_id
                self._position = position or self._position
            case {"stream": "proxy_status", "data": data}:
                self._take_status(data)

    def connection_closed(self, code: int | None) -> None:
        """After close code 4010, resume from the time of the newest event, or live."""
        if code == 4010:
            was_time, self._position = self._position is None, None
            self._position_rejected(was_time=was_time)

    def _take_status(self, data: dict[str, Any]) -> None:
        match data:
            case {"event": "hello", "cursor": cursor, "gaps": gaps}:
                self._position = cursor or self._position
                for gap in gaps:
                    self._take_gap(gap)
            case {"event": "gap"}:
                self._take_gap(data)
            case {"event": "replay", "state": "impossible"}:
                self._record_lost_position()

    def _take_gap(self, gap: dict[str, Any]) -> None:
        if gap["outcome"] in ("orders", "lost"):
            end = parse_time(gap["end"] or gap["begin"]) / 1e6
            # By a clock that is ahead, a gap may end in the future. It has no event from there.
            self.gaps[gap["begin"]] = DeclaredGap(
                parse_time(gap["begin"]) / 1e6, min(end, time()), gap["outcome"] == "orders"
            )


class SseConnection(Protocol):
    """One connection of a client of server-sent events: HTTP/1.1 with chunks."""

    def __init__(self, owner: ResumingSseClient, request: bytes) -> None:
        self._owner = owner
        self._request = request
        self._buffer = b""
        self._chunks: bytes = b""
        self._left: int | None = None
        self._head = True

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        self._chunks += data
        if self._head:
            head, found, rest = self._chunks.partition(b"\r\n\r\n")
            if not found:
                return
            self._head, self._chunks = False, rest
            status = int(head.split(b" ")[1])
            self._owner.status_received(status)
            if status != 200 and self.transport is not None:
                # The proxy keeps it open for another request. A client begins anew.
                self.transport.loseConnection()
                return
        while self._next_chunk():
            pass

    def _next_chunk(self) -> bool:
        size, found, rest = self._chunks.partition(b"\r\n")
        if not found or len(rest) < (length := int(size, 16)) + 2:
            return False
        self._buffer += rest[:length]
        self._chunks = rest[length + 2 :]
        *events, self._buffer = self._buffer.split(b"\n\n")
        for event in events:
            self._owner.receive(event.decode().splitlines())
        return True

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self._owner.connection_ended()


class ResumingSseClient(ResumingClient):
    """A client of server-sent events, which resumes like a browser's EventSource."""

    _last_id: str | None = None
    _recovered: str | None = None

    def _protocol(self) -> SseConnection:
        query = urlencode(self._query())
        last_id = "" if self._last_id is None else f"Last-Event-ID: {self._last_id}\r\n"
        request = (
            f"GET {PATH}/v2/events/trades?{query} HTTP/1.1\r\nHost: localhost\r\n{last_id}\r\n"
        )
        return SseConnection(self, request.encode())

    def _query(self) -> dict[str, str]:
        return self._since_query()

    def status_received(self, status: int) -> None:
        """After HTTP 410, resume from the time of the newest event, or live."""
        if status == 410:
            was_time, self._last_id = self._last_id is None, None
            self._position_rejected(was_time=was_time)

    def receive(self, lines: list[str]) -> None:
        """Record the lines of one event or comment."""
        fields = dict(line.partition(": ")[::2] for line in lines)
        for line in lines:
            if line.startswith(": recovered "):
                self._recovered = line.removeprefix(": recovered ")
        if "data" in fields:
            self._record(json.loads(fields["data"]), self._recovered, "id" in fields)
            self._recovered = None
        # As in browsers, an id without data counts too.
        self._last_id = fields.get("id", self._last_id)


class LiveSseClient(ResumingSseClient):
    """A client that starts with live events, and resumes by the ids of events and comments."""

    def __init__(self, name: str, port: Callable[[], int], since: int) -> None:
        super().__init__(name, port, since)
        self._since = None
        self._is_answered = False

    @property
    def is_ready(self) -> bool:
        return self._is_answered

    def status_received(self, status: int) -> None:
        super().status_received(status)
        self._is_answered = self._is_answered or status == 200


class SinceSseClient(ResumingSseClient):
    """A client that resumes as Alpaca's Go SDK: one nanosecond after the `at` of its last event.

    Several events may have that time, so events may come again. It sends no Last-Event-ID.
    """

    _last_at: str | None = None

    def __init__(self, name: str, port: Callable[[], int], since: int) -> None:
        super().__init__(name, port, since)
        self.log.may_repeat = True

    def _query(self) -> dict[str, str]:
        if self._last_at is None:
            return self._since_query()
        return {"since": f"{self._last_at.removesuffix('Z')}001Z"}  # Alpaca sends six decimals

    def status_received(self, status: int) -> None:
        """After HTTP 400, and first after 410, resume from the newest time that is not ahead."""
        if status in (400, 410) and self._last_at is not None:
            self._last_at = None
            return
        super().status_received(status)

    def receive(self, lines: list[str]) -> None:
        super().receive(lines)
        self._last_id = None

    def _record(self, data: dict[str, Any], recovered: str | None, certain: bool) -> None:
        super()._record(data, recovered, certain)
        self._last_at = data.get("at", self._last_at)


def declared_gaps(clients: Iterable[ResumingClient]) -> list[DeclaredGap]:
    """Return the gaps that any client saw reported as incomplete."""
    return [gap for client in clients for gap in client.gaps.values()]


SSE_CLIENTS: dict[str, type[ResumingSseClient]] = {
    "sse": ResumingSseClient,
    "live": LiveSseClient,
    "since": SinceSseClient,
}
"""The kinds of clients of server-sent events."""


def build_clients(
    kinds: Mapping[str, int], port: Callable[[], int], since: int
) -> list[ResumingClient]:
    """Return clients; `kinds` has the number of each: cursor, event_id, or one of SSE_CLIENTS."""
    return [
        SSE_CLIENTS[kind](f"{kind} {number}", port, since)
        if kind in SSE_CLIENTS
        else ResumingWebSocketClient(f"{kind} {number}", port, since, by_cursor=kind == "cursor")
        for kind, count in kinds.items()
        for number in range(1, count + 1)
    ]
