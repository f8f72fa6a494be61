"""Clients that read more slowly than events arrive, over wires with back-pressure."""

from __future__ import annotations

import json
from typing import Any

from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.journals import event
from tests.support.proxy import Client, NarrowTransport, ProxyTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.connection import SLOW_CLOSE_TIMEOUT
from tradeproxy.downstream.log_reader import STEP_BYTES
from tradeproxy.journal.base import Row

MAX_BUFFERED = 64 * 1024 + STEP_BYTES + 4096
"""Bytes that a transport may buffer: its pause threshold, one step, and some small frames."""


def get_event_ids(messages: list[bytes]) -> list[str]:
    """Return the ids of the events among the messages."""
    documents = map(json.loads, messages)
    return [
        d["data"]["event_id"]
        for d in documents
        if isinstance(d, dict) and d["stream"] == "trade_updates"
    ]


class SlowClientTestCase(ProxyTestCase):
    """Shared helpers for slow clients, without tests."""

    limits = Limits(stall_timeout=30)

    def setUp(self) -> None:
        super().setUp()
        self.wires.transport = NarrowTransport
        self.published: list[str] = []

    def subscribe(self, query: str = "") -> tuple[Client, Any]:
        """Return a client that gets events, and the proxy's end of its wire."""
        client = self.connect(f"/trade-updates-paper{query}")
        transport = self.server_transport(len(self.factory.clients) - 1)
        self.say(client, AUTH)
        return client, transport

    def publish_events(self, count: int, size: int = 1500) -> None:
        """Publish new events of about `size` bytes in one batch."""
        for _ in range(count):
            fresh = event(len(self.published), note="x" * (size - 700))
            self.published.append(fresh.identity)
            self.paper.publish(fresh)
        self.wires.flush()


class BackPressureTests(SlowClientTestCase):
    """A slow client costs bounded memory and delays no other client."""

    def test_slow_client_buffer_is_bounded(self) -> None:
        """Batches may be small or large. Other clients get everything meanwhile."""
        slow, transport = self.subscribe()
        other, _ = self.subscribe()
        transport.blocked = True
        for count in (1, 30, 100, 700, 1, 300):
            self.publish_events(count)
            self.assertLess(transport.buffered, MAX_BUFFERED)
        self.assertEqual(get_event_ids(other.taken()), self.published)
        self.assertEqual(slow.taken(), [])
        transport.blocked = False
        self.wires.flush()
        self.assertEqual(get_event_ids(slow.taken()), self.published)

    def test_slow_client_event_over_a_step_is_sent_alone(self) -> None:
        """At most one large event is buffered beyond the limit."""
        slow, transport = self.subscribe()
        transport.blocked = True
        for size in (300_000, 1500, 300_000, 200_000, 200_000):
            self.publish_events(2, size)
            self.assertLess(transport.buffered, MAX_BUFFERED + 300_000)
        transport.blocked = False
        self.wires.flush()
        self.assertEqual(get_event_ids(slow.taken()), self.published)

    def test_batch_is_one_write_of_shared_bytes(self) -> None:
        """All clients that get the same events are sent the same bytes object."""
        writes: list[Any] = []
        for _ in range(2):
            _, transport = self.subscribe()
            transport.write = writes.append
        self.publish_events(30)
        self.assertEqual(len(writes), 2)
        self.assertIs(writes[0], writes[1])

    def test_slow_client_messages_are_not_read_while_it_is_paused(self) -> None:
        """So its replies cannot pile up. They are sent once it reads."""
        slow, transport = self.subscribe()
        transport.blocked = True
        self.publish_events(60)
        buffered = transport.buffered
        for _ in range(1000):
            slow.sendMessage(AUTH)
        slow.sendPing(b"hello")
        self.wires.flush()
        self.assertEqual(transport.buffered, buffered)
        transport.blocked = False
        self.wires.flush()
        messages = slow.taken()
        self.assertEqual(get_event_ids(messages), self.published)
        self.assertEqual(messages.count(AUTHENTICATED), 1000)
        self.assertEqual(slow.pongs, [b"hello"])

    def test_slow_client_that_reads_now_and_then_stays_connected(self) -> None:
        """Each pause is shorter than the stall timeout."""
        slow, transport = self.subscribe()
        for _ in range(5):
            transport.blocked = True
            self.publish_events(100)
            self.wires.advance(29)
            transport.blocked = False
            self.wires.advance(1)
        self.assertIsNone(slow.closed)
        self.assertEqual(get_event_ids(slow.taken()), self.published)


class SlowClientStallTests(SlowClientTestCase):
    """A client that reads nothing for the stall timeout is closed with 4008."""

    def stall(self, query: str = "") -> tuple[Client, Any]:
        """Return a client that has just been closed, and the proxy's end of its wire."""
        client, transport = self.subscribe(query)
        client.taken()
        transport.blocked = True
        self.publish_events(200)
        self.wires.advance(29.9)
        buffered = transport.buffered
        self.wires.advance(0.2)
        self.assertLess(transport.buffered - buffered, 150)
        self.assertEqual(len(self.paper.broadcaster), 0)
        return client, transport

    def test_stall_closes_4008_after_the_unread_events(self) -> None:
        """Every event before the close frame is delivered, none after it."""
        slow, transport = self.stall()
        self.publish_events(1)
        transport.blocked = False
        self.wires.flush()
        reason = "read too slowly: reconnect with your cursor, or your last event_id, as since_id"
        self.assertEqual(slow.closed, (4008, reason))
        ids = get_event_ids(slow.taken())
        self.assertEqual(ids, self.published[: len(ids)])
        self.assertEqual(len(self.factory.clients), 0)

    def test_stall_with_status_has_the_cursor_in_the_reason(self) -> None:
        """The cursor is the one after the last event that was sent."""
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
        self.assertEqual(
            get_event_ids(messages) + get_event_ids(self.say(again, AUTH)[1:]), self.published
        )

    def test_stall_close_frame_not_read_drops_the_connection(self) -> None:
        """The connection is dropped after the close timeout."""
        self.stall()
        self.wires.advance(SLOW_CLOSE_TIMEOUT - 1)
        self.assertEqual(len(self.factory.clients), 1)
        self.wires.advance(2)
        self.assertEqual(len(self.factory.clients), 0)

    def test_slow_client_trimmed_events_close_4008(self) -> None:
        """The events that it needs next were trimmed while it did not read."""
        slow, transport = self.subscribe()
        transport.blocked = True
        self.publish_events(200)
        self.paper.journal.first = self.paper.journal.last
        self.wires.advance(10)
        transport.blocked = False
        self.wires.flush()
        reason = "read too slowly: what comes next is no longer kept; reconnect"
        self.assertEqual(slow.closed, (4008, reason))

    def test_unreadable_journal_closes_1013(self) -> None:
        """The position is still valid. 4010 would make clients give it up."""
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

    def test_journal_error_drops_the_slow_client(self) -> None:
        """Without that the client would wait forever."""
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
