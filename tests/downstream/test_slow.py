"""Clients that read more slowly than events come, over wires with back-pressure."""

from __future__ import annotations

import json
from typing import Any

from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.journals import event
from tests.support.proxy import Client, NarrowTransport, ProxyTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.connection import SLOW_CLOSE_TIMEOUT
from tradeproxy.downstream.feed import MAX_DIRECT_BYTES
from tradeproxy.journal.base import Row

MOST_HELD = 64 * 1024 + MAX_DIRECT_BYTES + 4096
"""What a transport may hold: what made it ask for a pause, one burst, and what is said besides."""


def ids_of(messages: list[bytes]) -> list[str]:
    """Return the ids of the events among messages."""
    documents = map(json.loads, messages)
    return [
        d["data"]["event_id"]
        for d in documents
        if isinstance(d, dict) and d["stream"] == "trade_updates"
    ]


class SlowTestCase(ProxyTestCase):
    """What the tests of slow clients share; it holds no test."""

    limits = Limits(stall_timeout=30)

    def setUp(self) -> None:
        super().setUp()
        self.wires.transport = NarrowTransport
        self.published: list[str] = []

    def subscribe(self, query: str = "") -> tuple[Client, Any]:
        """Return a client that is sent events, and the proxy's end of its wire."""
        client = self.connect(f"/trade-updates-paper{query}")
        transport = self.transport_of(len(self.factory.clients) - 1)
        self.say(client, AUTH)
        return client, transport

    def publish_events(self, count: int, size: int = 1500) -> None:
        """Publish new events of about `size` bytes, in one burst."""
        for _ in range(count):
            fresh = event(len(self.published), note="x" * (size - 700))
            self.published.append(fresh.identity)
            self.paper.publish(fresh)
        self.wires.flush()


class BackPressureTests(SlowTestCase):
    """A client that does not read costs bounded memory and nobody's time."""

    def test_what_is_held_for_it_does_not_grow(self) -> None:
        """However much comes, in bursts small and large; the others have everything meanwhile."""
        slow, transport = self.subscribe()
        other, _ = self.subscribe()
        transport.blocked = True
        for count in (1, 30, 100, 700, 1, 300):
            self.publish_events(count)
            self.assertLess(transport.held, MOST_HELD)
        self.assertEqual(ids_of(other.taken()), self.published)
        self.assertEqual(slow.taken(), [])
        transport.blocked = False
        self.wires.flush()
        self.assertEqual(ids_of(slow.taken()), self.published)

    def test_large_events_go_one_at_a_time(self) -> None:
        """One that is larger than a step is sent alone."""
        slow, transport = self.subscribe()
        transport.blocked = True
        for size in (300_000, 1500, 300_000, 200_000, 200_000):
            self.publish_events(2, size)
            self.assertLess(transport.held, MOST_HELD + 300_000)
        transport.blocked = False
        self.wires.flush()
        self.assertEqual(ids_of(slow.taken()), self.published)

    def test_a_burst_is_one_write(self) -> None:
        """Of the same bytes for every client that gets the same."""
        writes: list[Any] = []
        for _ in range(2):
            _, transport = self.subscribe()
            transport.write = writes.append
        self.publish_events(100)
        self.assertEqual(len(writes), 2)
        self.assertIs(writes[0], writes[1])

    def test_it_is_not_listened_to_while_it_does_not_read(self) -> None:
        """So that the answers to what it says cannot pile up; they come once it reads."""
        slow, transport = self.subscribe()
        transport.blocked = True
        self.publish_events(60)
        held = transport.held
        for _ in range(1000):
            slow.sendMessage(AUTH)
        slow.sendPing(b"hello")
        self.wires.flush()
        self.assertEqual(transport.held, held)
        transport.blocked = False
        self.wires.flush()
        messages = slow.taken()
        self.assertEqual(ids_of(messages), self.published)
        self.assertEqual(messages.count(AUTHENTICATED), 1000)
        self.assertEqual(slow.pongs, [b"hello"])

    def test_it_may_be_slow_again_and_again(self) -> None:
        """As long as it reads now and then."""
        slow, transport = self.subscribe()
        for _ in range(5):
            transport.blocked = True
            self.publish_events(100)
            self.wires.advance(29)
            transport.blocked = False
            self.wires.advance(1)
        self.assertIsNone(slow.closed)
        self.assertEqual(ids_of(slow.taken()), self.published)


class StallTests(SlowTestCase):
    """A client that reads nothing for a while is closed, and told where it was."""

    def stall(self, query: str = "") -> tuple[Client, Any]:
        """Return a client that has just been closed for it, and the proxy's end of its wire."""
        client, transport = self.subscribe(query)
        client.taken()
        transport.blocked = True
        self.publish_events(200)
        self.wires.advance(29.9)
        held = transport.held
        self.wires.advance(0.2)
        self.assertLess(transport.held - held, 150)
        self.assertEqual(len(self.paper.broadcaster), 0)
        return client, transport

    def test_is_closed_after_half_a_minute(self) -> None:
        """It finds the code behind what it has not read, nothing lost before it, and nothing after."""
        slow, transport = self.stall()
        self.publish_events(1)
        transport.blocked = False
        self.wires.flush()
        reason = "read too slowly: reconnect with your cursor, or your last event_id, as since_id"
        self.assertEqual(slow.closed, (4008, reason))
        ids = ids_of(slow.taken())
        self.assertEqual(ids, self.published[: len(ids)])
        self.assertEqual(len(self.factory.clients), 0)

    def test_goes_on_where_its_cursor_says(self) -> None:
        """Who is told of cursors finds in the reason the one behind the last event that it was sent."""
        slow, transport = self.stall("?proxy_status=1")
        transport.blocked = False
        self.wires.flush()
        assert slow.closed is not None
        code, reason = slow.closed
        messages = slow.taken()
        cursor = json.loads(messages[-1])["cursor"]
        self.assertEqual(
            (code, reason), (4008, f"read too slowly for 30 s: reconnect with since_id={cursor}")
        )
        again = self.connect(f"/paper?since_id={cursor}")
        self.assertEqual(ids_of(messages) + ids_of(self.say(again, AUTH)[1:]), self.published)

    def test_is_dropped_if_it_does_not_even_read_that(self) -> None:
        """Half a minute later."""
        self.stall()
        self.wires.advance(SLOW_CLOSE_TIMEOUT - 1)
        self.assertEqual(len(self.factory.clients), 1)
        self.wires.advance(2)
        self.assertEqual(len(self.factory.clients), 0)

    def test_what_it_missed_may_be_gone(self) -> None:
        """When it reads again after the events that it needs have been trimmed, it is closed."""
        slow, transport = self.subscribe()
        transport.blocked = True
        self.publish_events(200)
        self.paper.journal.first = self.paper.journal.last
        self.wires.advance(10)
        transport.blocked = False
        self.wires.flush()
        reason = "read too slowly: what comes next is no longer kept; reconnect"
        self.assertEqual(slow.closed, (4008, reason))

    def test_a_disk_that_does_not_answer_asks_for_another_try(self) -> None:
        """Its position is good: 4010 would have it given up."""
        slow, transport = self.subscribe()
        transport.blocked = True
        self.publish_events(200)
        resumed = f"/trade-updates-paper?since_id={self.published[0]}"
        self.disk.refuse_everything()
        transport.blocked = False
        self.wires.flush()
        other = self.connect(resumed)
        self.say(other, AUTH)
        self.disk.refuse_everything(False)
        for client in (slow, other):
            assert client.closed is not None
            self.assertEqual(client.closed[0], 1013)
        back = self.connect(resumed)
        self.say(back, AUTH)
        self.assertEqual(back.closed, None)

    def test_a_failing_journal_ends_it(self) -> None:
        """Rather than to leave it waiting."""
        slow, transport = self.subscribe()
        transport.blocked = True
        self.publish_events(200)

        def fail(after: int, limit: int) -> Row:
            raise RuntimeError("a defect")

        self.patch(self.paper.journal, "read", fail)
        transport.blocked = False
        self.wires.flush()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertFalse(slow.is_open_now)
