"""A filtered log is the filtered log, whatever happens to the client meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.downstream.test_sse import Reader
from tests.support.filtered import update
from tests.support.frames import AUTH
from tests.support.journals import event_id_of
from tests.support.memory import Wires
from tests.support.proxy import NarrowTransport, ProxyTestCase
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
BURST = st.lists(TRAITS, min_size=5, max_size=30)
STEPS = st.lists(
    # Events come; or the client vanishes, having dealt with so many more messages; or something else happens.
    st.one_of(
        *[BURST] * 3,
        *[st.integers(0, 20)] * 2,
        *[st.just("come back")] * 2,
        *[st.just("flush")] * 2,
        st.sampled_from(["stop reading", "read", "wait", "fill the disk", "free the disk"]),
    ),
    min_size=3,
    max_size=25,
)


class Follower:
    """A client that keeps its cursor, and comes back with it; what follows the cursor it then gets again."""

    def __init__(self, case: CompletenessTests, query: str) -> None:
        self.case = case
        self.query = query
        self.cursor = case.paper.cursor_at(case.paper.journal.last)
        self.log: list[str] = []
        self.certain = 0
        """How many of the events come before the cursor."""
        self.is_here = False
        self.come_back()

    def come_back(self) -> None:
        """Connect behind what is certain, unless it is connected."""
        if not self.is_here:
            self.is_here = True
            del self.log[self.certain :]
            self.connect()
            self.transport = self.case.servers[-1]

    def leave(self, count: int) -> None:
        """Vanish, and deal with only so many of the messages that came."""
        if self.is_here:
            self.is_here = False
            self.transport.abortConnection()
            self.transport.blocked = False
            self.case.wires.flush()
            self.look(count)

    def look(self, count: int | None = None) -> None:
        """Deal with what came, or as much of it."""
        for event_id, cursor in self.taken()[:count]:
            if event_id is not None:
                self.log.append(event_id)
            if cursor is not None:
                self.cursor, self.certain = cursor, len(self.log)

    def connect(self) -> None:
        raise NotImplementedError

    def taken(self) -> list[tuple[str | None, str | None]]:
        """Return what came since the last call: each an event's id, or a cursor, or both."""
        raise NotImplementedError


class Bot(Follower):
    """Over a WebSocket."""

    def connect(self) -> None:
        self.client = self.case.connect(f"/paper?proxy_status=1&since_id={self.cursor}{self.query}")
        self.client.sendMessage(AUTH)
        self.case.wires.flush()

    def taken(self) -> list[tuple[str | None, str | None]]:
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


class Browser(Follower):
    """Of server-sent events, as the standard says."""

    def connect(self) -> None:
        path = f"/paper/v2/events/trades?{self.query}"
        self.reader = Reader(self.case.request(path, Last_Event_ID=str(self.cursor)))

    def taken(self) -> list[tuple[str | None, str | None]]:
        found: list[tuple[str | None, str | None]] = []
        for block in self.reader.taken().split("\n\n"):
            fields = dict(
                line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")
            )
            event_id = json.loads(fields["data"])["event_id"] if "data" in fields else None
            found.append((event_id, fields.get("id")))
        return found


class CompletenessTests(ProxyTestCase):
    """Whatever happens in whatever order, a filtered log is the filtered log."""

    limits = Limits(stall_timeout=1e9)

    @settings(deadline=None, derandomize=True, max_examples=150)
    @given(STEPS, WANTED, st.sampled_from([Bot, Browser]), st.sampled_from([10, 3_000]))
    def test_nothing_that_matches_is_missing_or_comes_twice(
        self, steps: list[Any], wanted: tuple[Any, ...], kind: Callable[..., Follower], size: int
    ) -> None:
        """Live, behind, and over any number of resumes."""
        self.setUp()
        self.wires = Wires(self.clock)
        self.wires.transport = self.narrow  # type: ignore[assignment]  # it is only called
        self.servers: list[NarrowTransport] = []
        symbols, kinds, prefix = wanted
        lists = {
            "symbols": ",".join(symbols),
            "events": ",".join(kinds),
            "client_order_id_prefix": prefix,
        }
        query = "".join(f"&{name}={quote(value)}" for name, value in lists.items() if value)
        follower, expected, number = kind(self, query), list[str](), 0
        for step in steps:
            match step:
                case int():
                    follower.leave(step)
                case "come back":
                    follower.come_back()
                case "flush":
                    self.wires.flush()
                case "stop reading" | "read":
                    follower.transport.blocked = follower.is_here and step == "stop reading"
                case "wait":
                    self.wires.advance(POSITION_INTERVAL + 1)
                case "fill the disk" | "free the disk":
                    self.disk.refuse_writing(step == "fill the disk")
                case _:
                    for symbol, event_kind, owner in step:
                        number += 1
                        self.bring(update(number, symbol, event_kind, owner, note="x" * size))
                        if (
                            (not symbols or symbol in symbols)
                            and (not kinds or event_kind in kinds)
                            and owner.startswith(prefix)
                        ):
                            expected.append(event_id_of(number))
        self.disk.refuse_writing(False)
        follower.transport.blocked = False
        self.wires.advance(POSITION_INTERVAL + 1)
        follower.come_back()
        self.wires.flush()
        follower.look()
        self.assertEqual(follower.log, expected)
        follower.leave(0)
        follower.come_back()
        self.wires.flush()
        follower.look()
        self.assertEqual(follower.log, expected)

    def narrow(self, protocol: Any, is_server: bool, **options: Any) -> NarrowTransport:
        """Return an end of a wire; the proxy's are kept."""
        transport = NarrowTransport(protocol, is_server, **options)
        if is_server:
            self.servers.append(transport)
        return transport

    def bring(self, payload: bytes) -> None:
        """Publish an event together with the others of this turn."""
        message = parse_server(payload)
        assert isinstance(message, TradeUpdate)
        self.paper.publish(message.event)
