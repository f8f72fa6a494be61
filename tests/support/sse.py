"""Readers of server-sent events, and a proxy that sends them."""

from __future__ import annotations

import re
from typing import Any

from tests.support.journals import event, event_id_of
from tests.support.proxy import NarrowTransport, ProxyTestCase, RawClient
from tradeproxy.journal.base import Batch

PATH = "/trade-updates-paper/v2/events/trades"


class SseReader:
    """A client that reads a chunked response."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self._seen = 0

    @property
    def text(self) -> str:
        """The whole body that arrived, without the chunk framing."""
        rest, text = self.raw.received.partition(b"\r\n\r\n")[2], b""
        while (at := rest.find(b"\r\n")) >= 0:
            size = int(rest[:at], 16)
            text += rest[at + 2 : at + 2 + size]
            rest = rest[at + 2 + size + 2 :]
        return text.decode()

    @property
    def has_ended(self) -> bool:
        """Whether the response has ended cleanly."""
        return self.raw.received.endswith(b"\r\n0\r\n\r\n")

    def taken(self) -> str:
        """Return what arrived since the last call."""
        text, start = self.text, self._seen
        self._seen = len(text)
        return text[start:]

    @property
    def last_event_id(self) -> str:
        """The id from which a browser resumes: of the last complete block with an `id:` line."""
        complete = self.text.rpartition("\n\n")[0]
        ids: list[str] = re.findall("^id: (.*)$", complete, re.MULTILINE)
        return ids[-1] if ids else ""

    def ids(self) -> list[str]:
        """Return the ids of all events that arrived."""
        return re.findall(r'^data: .*"event_id":"([^"]*)"', self.text, re.MULTILINE)


class SseTestCase(ProxyTestCase):
    """A proxy with ten events, without tests."""

    def setUp(self) -> None:
        super().setUp()
        self.events = [event(n).payload for n in range(30)]
        self.ids = [*map(event_id_of, range(30))]
        self.publish(self.paper, *self.events[:10])

    def get(self, query: str = "", path: str = PATH, **headers: str) -> SseReader:
        """Request the events."""
        return SseReader(self.request(f"{path}?{query}", **headers))

    def record_steps(self) -> list[int]:
        """Return a list that gets the position of each step that is read from now on."""
        steps: list[int] = []
        read = self.paper.journal.read

        def record(after: int, limit: int) -> Batch | None:
            if limit > 1:  # not the search for one row
                steps.append(after)
            return read(after, limit)

        self.patch(self.paper.journal, "read", record)
        return steps

    def cursor(self, seq: int) -> str:
        """Return the cursor after the event with this sequence number."""
        return str(self.paper.cursor_at(seq))

    def heartbeat(self, seq: int) -> str:
        """Return a heartbeat of a stream that is behind the event with this sequence number."""
        return f": heartbeat\nid: {self.cursor(seq)}\n\n"


class ClosingTransport(NarrowTransport):
    """A transport that closes as TCP does: only an abort loses what is not sent."""

    _is_closing = False

    def loseConnection(self) -> None:
        self._is_closing = True

    def abortConnection(self) -> None:
        self.stream: list[bytes] = []
        self.disconnecting = True

    def getOutBuffer(self) -> Any:
        taken = super().getOutBuffer()
        self.disconnecting = self.disconnecting or (self._is_closing and not self.stream)
        return taken


class NarrowSseCase(SseTestCase):
    """A proxy with ten events, whose clients can stop reading, without tests."""

    transport_type: type[NarrowTransport] = NarrowTransport

    def setUp(self) -> None:
        super().setUp()
        self.servers: list[Any] = []
        self.wires.transport = self.make_transport  # type: ignore[assignment]  # it is only called

    def make_transport(self, protocol: Any, is_server: bool, **options: Any) -> NarrowTransport:
        """Return one end of a wire, and keep the proxy's ends."""
        transport = self.transport_type(protocol, is_server, **options)
        if is_server:
            self.servers.append(transport)
        return transport

    def get_blocked(self, query: str = "") -> tuple[SseReader, Any]:
        """Return a client that has stopped reading, and the proxy's end of its wire."""
        reader = self.get(query)
        transport = self.servers[-1]
        transport.blocked = True
        return reader, transport

    def publish_many(self, count: int = 200) -> None:
        """Publish more bytes than a wire takes."""
        self.publish(
            self.paper, *[event(n, note="x" * 1000).payload for n in range(100, 100 + count)]
        )
