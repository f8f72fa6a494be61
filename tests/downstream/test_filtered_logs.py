"""Filtered streams are complete over disconnects, resumes, slow reads and a full disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from tests.support.filtered import update
from tests.support.frames import AUTH
from tests.support.journals import event_id_of
from tests.support.memory import Wires
from tests.support.properties import examples
from tests.support.proxy import NarrowTransport, ProxyTestCase
from tests.support.sse import SseReader
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.subscription import POSITION_INTERVAL
from tradeproxy.wire.messages import TradeUpdate, parse_server

SYMBOLS, KINDS, OWNERS = ("SPY", "AAPL", "BTC/USD"), ("new", "fill", "canceled"), ("bot1-", "bot2-")
TRAITS = st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(KINDS), st.sampled_from(OWNERS))
WANTED = st.tuples(
    st.sampled_from([(), SYMBOLS[:1], SYMBOLS[1:]]),
    st.sampled_from([(), KINDS[:1], KINDS[1:]]),
    st.sampled_from(["", "bot", *OWNERS]),
)
BATCH = st.lists(TRAITS, min_size=5, max_size=30)
STEPS = st.lists(
    # A list: events arrive. A number: the client drops the connection after it has read that many
    # more messages.
    st.one_of(
        *[BATCH] * 3,
        *[st.integers(0, 20)] * 2,
        *[st.just("reconnect")] * 2,
        *[st.just("flush")] * 2,
        st.sampled_from(["stop reading", "read", "wait", "fill the disk", "free the disk"]),
    ),
    min_size=3,
    max_size=25,
)


class CursorStoringClient:
    """A client that stores its cursor and resumes from it.

    Events after the cursor are sent again, so it forgets them when it resumes.
    """

    def __init__(self, case: FilteredLogTests, query: str) -> None:
        self.case = case
        self.query = query
        self.cursor = case.paper.cursor_at(case.paper.journal.last)
        self.log: list[str] = []
        self.confirmed = 0
        """How many of the events are before the cursor."""
        self.is_connected = False
        self.reconnect()

    def reconnect(self) -> None:
        """Connect with the stored cursor, unless connected."""
        if not self.is_connected:
            self.is_connected = True
            del self.log[self.confirmed :]
            self.connect()
            self.transport = self.case.servers[-1]

    def drop(self, count: int) -> None:
        """Drop the connection, and read only the first `count` of the messages that came."""
        if self.is_connected:
            self.is_connected = False
            self.transport.abortConnection()
            self.transport.blocked = False
            self.case.wires.flush()
            self.read(count)

    def read(self, count: int | None = None) -> None:
        """Read all messages that came, or the first `count` of them."""
        for event_id, cursor in self.take_messages()[:count]:
            if event_id is not None:
                self.log.append(event_id)
            if cursor is not None:
                self.cursor, self.confirmed = cursor, len(self.log)

    def connect(self) -> None:
        raise NotImplementedError

    def take_messages(self) -> list[tuple[str | None, str | None]]:
        """Return the messages since the last call, each as an event id, a cursor, or both."""
        raise NotImplementedError


class WebSocketCursorClient(CursorStoringClient):
    """A client over a WebSocket."""

    def connect(self) -> None:
        self.client = self.case.connect(f"/paper?proxy_status=1&since_id={self.cursor}{self.query}")
        self.client.sendMessage(AUTH)
        self.case.wires.flush()

    def take_messages(self) -> list[tuple[str | None, str | None]]:
        assert self.client.closed is None, self.client.closed
        found: list[tuple[str | None, str | None]] = []
        document: Any
        for document in map(json.loads, self.client.taken()):
            match document:
                case {"stream": "trade_updates", "data": {"event_id": event_id}}:
                    found.append((event_id, document.get("cursor")))
                case {"stream": "proxy_status", "data": {"cursor": cursor}}:
                    found.append((None, cursor))
        return found


class SseCursorClient(CursorStoringClient):
    """A client of server-sent events that follows the standard."""

    def connect(self) -> None:
        path = f"/paper/v2/events/trades?{self.query}"
        self.reader = SseReader(self.case.request(path, Last_Event_ID=str(self.cursor)))

    def take_messages(self) -> list[tuple[str | None, str | None]]:
        found: list[tuple[str | None, str | None]] = []
        for block in self.reader.taken().split("\n\n"):
            fields = dict(
                line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")
            )
            event_id = json.loads(fields["data"])["event_id"] if "data" in fields else None
            found.append((event_id, fields.get("id")))
        return found


class FilteredLogTests(ProxyTestCase):
    """A filtered stream has every matching event once, in every sequence of actions."""

    limits = Limits(stall_timeout=1e9)

    @examples(40)
    @given(
        STEPS,
        WANTED,
        st.sampled_from([WebSocketCursorClient, SseCursorClient]),
        st.sampled_from([10, 3_000]),
    )
    def test_any_sequence_of_actions_sends_each_match_once_in_order(
        self,
        steps: list[Any],
        wanted: tuple[Any, ...],
        make_client: Callable[..., CursorStoringClient],
        size: int,
    ) -> None:
        """This holds live, behind, and over any number of resumes."""
        self.setUp()
        self.wires = Wires(self.clock)
        self.wires.transport = self.make_transport  # type: ignore[assignment]  # it is only called
        self.servers: list[NarrowTransport] = []
        symbols, kinds, prefix = wanted
        lists = {
            "symbols": ",".join(symbols),
            "events": ",".join(kinds),
            "client_order_id_prefix": prefix,
        }
        query = "".join(f"&{name}={quote(value)}" for name, value in lists.items() if value)
        client, expected, number = make_client(self, query), list[str](), 0
        for step in steps:
            match step:
                case int():
                    client.drop(step)
                case "reconnect":
                    client.reconnect()
                case "flush":
                    self.wires.flush()
                case "stop reading" | "read":
                    client.transport.blocked = client.is_connected and step == "stop reading"
                case "wait":
                    self.wires.advance(POSITION_INTERVAL + 1)
                case "fill the disk" | "free the disk":
                    self.disk.refuse_writing(step == "fill the disk")
                case _:
                    for symbol, event_kind, owner in step:
                        number += 1
                        self.publish_later(
                            update(number, symbol, event_kind, owner, note="x" * size)
                        )
                        if (
                            (not symbols or symbol in symbols)
                            and (not kinds or event_kind in kinds)
                            and owner.startswith(prefix)
                        ):
                            expected.append(event_id_of(number))
        self.disk.refuse_writing(False)
        client.transport.blocked = False
        self.wires.advance(POSITION_INTERVAL + 1)
        client.reconnect()
        self.wires.flush()
        client.read()
        self.assertEqual(client.log, expected)
        client.drop(0)
        client.reconnect()
        self.wires.flush()
        client.read()
        self.assertEqual(client.log, expected)

    def make_transport(self, protocol: Any, is_server: bool, **options: Any) -> NarrowTransport:
        """Return one end of a wire, and keep the proxy's ends."""
        transport = NarrowTransport(protocol, is_server, **options)
        if is_server:
            self.servers.append(transport)
        return transport

    def publish_later(self, payload: bytes) -> None:
        """Publish an event together with the others of this reactor turn."""
        message = parse_server(payload)
        assert isinstance(message, TradeUpdate)
        self.paper.publish(message.event)
