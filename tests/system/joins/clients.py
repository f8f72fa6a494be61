"""Clients that join with a snapshot, and the one that follows from the beginning."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor as chosen

from tests.support.frames import AUTHENTICATE, LISTEN
from tests.system.chaos.clients import SseConnection
from tests.system.chaos.resuming import SingleProtocolFactory
from tradeproxy.wire.position import Cursor

reactor: Any = chosen
PATH = "/trade-updates-paper"
RETRY = 0.3
"""Seconds before a client connects again."""


parse = lru_cache(maxsize=8192)(json.loads)
"""All clients get the same bytes. They would take minutes to parse them, and a gigabyte."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to join."""

    name: str
    query: dict[str, str] = field(default_factory=dict)
    """Besides `snapshot=1`."""
    path: str = PATH
    replays: int = 0
    """How many events before the snapshot the first connection asks for."""
    rejoins: bool = False
    """Whether each later connection asks for a snapshot again."""

    def wants(self, data: dict[str, Any]) -> bool:
        """Return whether an event matches the filter, as the contract has it."""
        order, query = data["order"], self.query
        return (
            order["symbol"] in query.get("symbols", order["symbol"]).split(",")
            and data["event"] in query.get("events", data["event"]).split(",")
            and order["client_order_id"].startswith(query.get("client_order_id_prefix", ""))
        )


KINDS = (
    Kind("plain"),
    Kind("symbols", {"symbols": "AAPL"}),
    Kind("prefix", {"client_order_id_prefix": "grid-"}),
    Kind("kinds", {"events": "fill,canceled"}),
    Kind("status", {"proxy_status": "1"}),
    Kind("replay", replays=30),
    Kind("rejoining", rejoins=True),
    Kind("rejoining by symbol", {"symbols": "MSFT,AAPL"}, replays=10, rejoins=True),
    Kind("alpaca", path=f"{PATH}/stream"),
    Kind("sse", path=f"{PATH}/v2/events/trades"),
    Kind("sse by symbol", {"symbols": "AAPL"}, f"{PATH}/v2/events/trades", rejoins=True),
)


@dataclass(slots=True)
class Snapshot:
    """A snapshot that was received whole."""

    seq: int
    before: int
    """How many events the client had before it."""
    is_complete: bool
    orders: list[Any]
    positions: list[Any]
    fills: list[Any]


class JoiningClient:
    """A client that joins once with a snapshot, and resumes after each lost connection."""

    def __init__(
        self, kind: Kind, port: Callable[[], int], shared: dict[str, dict[str, Any]]
    ) -> None:
        """Create a client that is not connected.

        Args:
            kind: how it joins.
            port: returns the port for each attempt to connect.
            shared: each event by its id, for all clients.
        """
        self.kind = kind
        self._shared = shared
        self.events: list[dict[str, Any]] = []
        """The `data` of each event."""
        self.snapshots: list[Snapshot] = []
        self.largest = 0
        """Bytes of the largest frame of a snapshot."""
        self.problems: list[str] = []
        self.connects = 0
        self._parts: list[Any] = []
        self._position: str | None = None
        self._port = port
        self._connection: Any = None
        self._is_running = False

    def start(self) -> None:
        """Connect, and connect again until `stop`."""
        self._is_running = True
        self._connect()

    def stop(self) -> None:
        """Disconnect, and stay so."""
        self._is_running = False
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.abortConnection()

    def has(self, event_id: str) -> bool:
        """Return whether an event is among the last ones."""
        return any(data["event_id"] == event_id for data in self.events[:-100:-1])

    # Called by connections.

    def receive_message(self, text: bytes) -> None:
        """Take one message of a WebSocket."""
        match parse(text):
            case {"stream": "trade_updates", "data": data}:
                self._take_event(data)
            case {"stream": "snapshot", "data": data}:
                self.largest = max(self.largest, len(text))
                self._take_part(data)

    def receive(self, lines: list[str]) -> None:
        """Take the lines of one server-sent event."""
        fields = dict(line.partition(": ")[::2] for line in lines)
        if fields.get("event") == "snapshot":
            self.largest = max(self.largest, len(fields["data"]))
            self._take_part(json.loads(fields["data"]))
        elif "data" in fields:
            self._take_event(parse(fields["data"]))

    def status_received(self, status: int) -> None:
        """Take the status of a response."""
        if status != 200 and status != 503:
            self.problems.append(f"HTTP {status}")

    def connection_ended(self) -> None:
        """Connect again after RETRY seconds. What came of a snapshot is of no use."""
        self._connection = None
        self._parts = []
        if self._is_running:
            reactor.callLater(RETRY, self._connect)

    def connection_closed(self, code: int | None) -> None:
        """Take the code of a close frame."""
        if code not in (None, 1000, 1006, 1012, 1013):
            self.problems.append(f"closed with {code}")

    def _take_event(self, data: dict[str, Any]) -> None:
        self.events.append(self._share(data))
        self._position = data["event_id"]

    def _share(self, data: dict[str, Any]) -> dict[str, Any]:
        known = self._shared.setdefault(data["event_id"], data)
        if known != data:
            self.problems.append(f"another event with the id {data['event_id']}")
        return known

    def _take_part(self, part: Any) -> None:
        if part["part"] == 1:
            self._parts = []
        self._parts.append(part)
        if part["part"] != len(self._parts):
            self.problems.append(f"part {part['part']} came as number {len(self._parts)}")
        if not part["last"]:
            return
        cursor = Cursor.parse(part["cursor"] or "")
        if cursor is None:
            self.problems.append("a snapshot without a cursor")
            return
        parts, self._parts = self._parts, []
        objects = {
            name: [each for part in parts for each in part[name]]
            for name in ("orders", "positions", "fills")
        }
        self.snapshots.append(Snapshot(cursor.seq, len(self.events), part["complete"], **objects))
        self._position = str(cursor)

    def _query(self) -> dict[str, str]:
        query = dict(self.kind.query)
        if not self.snapshots or self.kind.rejoins:
            query["snapshot"] = "1"
        if self.snapshots and self._position is not None:
            query["since_id"] = self._position
        elif self.kind.replays:
            self.events.clear()  # those of a connection that was lost before its snapshot
            query["replay"] = str(self.kind.replays)
        return query

    def _connect(self) -> None:
        if not self._is_running:
            return
        self.connects += 1
        target = f"{self.kind.path}?{urlencode(self._query())}"
        protocol: Any
        if self.kind.path.endswith("/trades"):
            head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            protocol = SseConnection(self, head.encode())  # type: ignore[arg-type]
        else:
            factory = WebSocketClientFactory(f"ws://localhost{target}", reactor=reactor)
            factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=20)
            protocol = _Connection(self)
            protocol.factory = factory
        self._connection = protocol
        connecting = _Connecting(protocol, self.connection_ended)
        reactor.connectTCP("127.0.0.1", self._port(), connecting, timeout=10)


class _Connecting(SingleProtocolFactory):
    """Connects one protocol; reports if that fails."""

    def __init__(self, protocol: Any, on_failed: Callable[[], None]) -> None:
        super().__init__(protocol)
        self._on_failed = on_failed

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self._on_failed()


class _Connection(WebSocketClientProtocol):
    """One connection of a WebSocket client."""

    def __init__(self, owner: JoiningClient) -> None:
        super().__init__()
        self._owner = owner

    def onOpen(self) -> None:
        self.sendMessage(AUTHENTICATE)
        self.sendMessage(LISTEN)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._owner.receive_message(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._owner.connection_closed(self.remoteCloseCode)
        self._owner.connection_ended()


class Reference(JoiningClient):
    """The client that follows the stream from its beginning, by cursors: it has the whole."""

    def __init__(self, port: Callable[[], int], shared: dict[str, dict[str, Any]]) -> None:
        super().__init__(Kind("reference", {"proxy_status": "1"}), port, shared)
        self.by_seq: dict[int, dict[str, Any]] = {}

    def receive_message(self, text: bytes) -> None:
        """Record one event under its number."""
        match json.loads(text):
            case {"stream": "trade_updates", "data": data, "cursor": cursor}:
                self._note(cursor)
                self.events.append(self._share(data))
                self.by_seq[Cursor.parse(cursor).seq] = data  # type: ignore[union-attr]
            case {"stream": "trade_updates"}:
                self.problems.append("an event without a cursor")
            case {"stream": "proxy_status", "data": {"event": "hello", "cursor": str(cursor)}}:
                self._note(cursor)

    @property
    def is_ready(self) -> bool:
        """Whether it misses no event from now on."""
        return self._position is not None

    def _note(self, cursor: str) -> None:
        self._position = cursor

    def _query(self) -> dict[str, str]:
        begin = {} if self._position is None else {"since_id": self._position}
        return self.kind.query | begin
