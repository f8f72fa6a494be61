"""Clients that resume: by cursor, by the last event's id, and over server-sent events."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor as chosen
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone

from tests.support.frames import AUTH
from tests.system.chaos.checker import DeclaredGap, Entry, Log
from tradeproxy.wire.event import format_time, parse_time

reactor: Any = chosen
RETRY = 0.05
"""Seconds before a client connects again."""

SMALL_BUFFER = 4096
"""Bytes that the kernel keeps for a client: one that does not read is soon felt at the other end."""

PATH = "/trade-updates-paper"


class ReadyMade(ClientFactory):
    """Gives a connection the protocol that is there already."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Any:
        return self._protocol


class Resuming:
    """What all of them have: a log, a connection that is made again and again, and a way to stall."""

    def __init__(self, name: str, port: Callable[[], int], since: int) -> None:
        """`port` is asked for at every attempt to connect."""
        self.log = Log(name)
        self.connects = 0
        self.gaps: dict[str, DeclaredGap] = {}
        """Those of which the client was told that they are not whole, by their beginnings."""
        self._port = port
        self._since: int | None = since  # None: nothing is asked for but what is yet to come
        self._connection: Any = None
        self._running = True

    def start(self) -> None:
        """Connect, and stay so."""
        self._connect()

    def stop(self) -> None:
        """Disconnect for good."""
        self._running = False
        self.kill()

    def has(self, number: int) -> bool:
        """Whether an event has come."""
        return any(entry.number == number for entry in reversed(self.log.entries))

    def kill(self) -> None:
        """Lose the connection, as in a crash."""
        if self._connection is not None:
            self._connection.transport.abortConnection()

    def stall(self) -> None:
        """Read nothing until woken."""
        if self._connection is not None and self._connection.transport.connected:
            self._connection.transport.pauseProducing()

    def wake(self) -> None:
        """Read again."""
        if self._connection is not None and self._connection.transport.connected:
            self._connection.transport.resumeProducing()

    def ended(self) -> None:
        """Connect again, after a moment."""
        self._connection = None
        if self._running:
            reactor.callLater(RETRY, self._connect)

    def _connect(self) -> None:
        if not self._running:
            return
        end = socket.socket()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        end.settimeout(5)
        try:
            end.connect(("127.0.0.1", self._port()))
        except OSError:
            end.close()
            self.ended()
            return
        end.setblocking(False)
        self.connects += 1
        self._connection = self._protocol()
        reactor.adoptStreamConnection(end.fileno(), socket.AF_INET, ReadyMade(self._connection))
        end.close()

    def _protocol(self) -> Any:
        raise NotImplementedError

    def _note(self, data: dict[str, Any], recovered: str | None, certain: bool) -> None:
        if "n" in data:  # not one that was made of an order
            self._since = parse_time(data["at"])
            self.log.entries.append(
                Entry(data["n"], recovered, certain, self.connects, self._since)
            )

    def _from_time(self) -> dict[str, str]:
        return {} if self._since is None else {"since": format_time(self._since)}

    def _position_lost(self) -> None:
        """Note that what follows cannot be had whole."""
        self.log.positions_lost.append(len(self.log.entries))


class SocketClient(WebSocketClientProtocol):
    """One connection of a client over a WebSocket."""

    def __init__(self, owner: WebSocketResuming) -> None:
        super().__init__()
        self._owner = owner

    def onOpen(self) -> None:
        self.sendMessage(AUTH)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self._owner.take(json.loads(payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._owner.closed(self.remoteCloseCode)
        self._owner.ended()


class WebSocketResuming(Resuming):
    """A client over a WebSocket; by cursor, with `proxy_status`, or by event id, without."""

    def __init__(self, name: str, port: Callable[[], int], since: int, *, by_cursor: bool) -> None:
        super().__init__(name, port, since)
        self.log.knows_cursors = self._by_cursor = by_cursor
        self._position: str | None = None

    def _protocol(self) -> SocketClient:
        # It is all the same which port is named here; that of the connection is another matter.
        factory = WebSocketClientFactory(
            f"ws://localhost{PATH}?{urlencode(self._query())}", reactor=reactor
        )
        factory.setProtocolOptions(failByDrop=False, openHandshakeTimeout=10)
        protocol = SocketClient(self)
        protocol.factory = factory
        return protocol

    def _query(self) -> dict[str, str]:
        query = self._from_time() if self._position is None else {"since_id": self._position}
        return query | ({"proxy_status": "1"} if self._by_cursor else {})

    def take(self, frame: Any) -> None:
        """Take one message."""
        match frame:
            case {"stream": "trade_updates", "data": data}:
                cursor = frame.get("cursor")
                self._note(data, frame.get("recovered"), cursor is not None or not self._by_cursor)
                position = cursor if self._by_cursor else data.get("event_id")
                self._position = position or self._position
            case {"stream": "proxy_status", "data": data}:
                self._take_status(data)

    def closed(self, code: int | None) -> None:
        """Note that the position was lost: all behind the first event of its time is asked for again.

        If that is not to be had either, what follows is.
        """
        if code == 4010 and self._position is None:
            self._since = None
            self._position_lost()
        elif code == 4010:
            self._position = None
            entries = self.log.entries
            since = self._since or 0
            later = (index for index, entry in enumerate(entries) if entry.time >= since)
            again = next(later, len(entries))
            entries[again:] = [replace(entry, certain=False) for entry in entries[again:]]

    def _take_status(self, data: dict[str, Any]) -> None:
        match data:
            case {"event": "hello", "cursor": cursor, "gaps": gaps}:
                self._position = cursor or self._position
                for gap in gaps:
                    self._take_gap(gap)
            case {"event": "gap"}:
                self._take_gap(data)
            case {"event": "replay", "state": "impossible"}:
                self._position_lost()

    def _take_gap(self, gap: dict[str, Any]) -> None:
        if gap["outcome"] in ("orders", "lost"):
            end = gap["end"] or gap["begin"]
            self.gaps[gap["begin"]] = DeclaredGap(
                parse_time(gap["begin"]) / 1e6, parse_time(end) / 1e6
            )


class LineClient(Protocol):
    """One connection of a client over server-sent events, in plain HTTP/1.1 with chunks."""

    def __init__(self, owner: EventSourceResuming, request: bytes) -> None:
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
            self._owner.answered(int(head.split(b" ")[1]))
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
            self._owner.take_event(event.decode().splitlines())
        return True

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self._owner.ended()


class EventSourceResuming(Resuming):
    """A client over server-sent events, as a browser's EventSource is."""

    _last_id: str | None = None
    _recovered: str | None = None

    def _protocol(self) -> LineClient:
        query = urlencode(self._from_time())
        last_id = "" if self._last_id is None else f"Last-Event-ID: {self._last_id}\r\n"
        request = (
            f"GET {PATH}/v2/events/trades?{query} HTTP/1.1\r\nHost: localhost\r\n{last_id}\r\n"
        )
        return LineClient(self, request.encode())

    def answered(self, status: int) -> None:
        """Note that the position was not to be had."""
        if status == 410:
            self._position_lost()
            if self._last_id is None:
                self._since = None
            self._last_id = None

    def take_event(self, lines: list[str]) -> None:
        """Take the lines of one event, or of a comment."""
        fields = dict(line.partition(": ")[::2] for line in lines)
        for line in lines:
            if line.startswith(": recovered "):
                self._recovered = line.removeprefix(": recovered ")
        if "data" in fields:
            self._note(json.loads(fields["data"]), self._recovered, "id" in fields)
            self._last_id = fields.get("id", self._last_id)
            self._recovered = None


def declared_gaps(clients: Iterable[Resuming]) -> list[DeclaredGap]:
    """Return the gaps of which one of them was told that they are not whole."""
    return [gap for client in clients for gap in client.gaps.values()]


def resuming(kinds: Mapping[str, int], port: Callable[[], int], since: int) -> list[Resuming]:
    """Return so many clients of each kind: cursor, event_id, and sse."""
    return [
        EventSourceResuming(f"{kind} {number}", port, since)
        if kind == "sse"
        else WebSocketResuming(f"{kind} {number}", port, since, by_cursor=kind == "cursor")
        for kind, count in kinds.items()
        for number in range(1, count + 1)
    ]
