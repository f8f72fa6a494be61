"""Filters on every kind of stream, through the site, in memory and in fake time."""

from __future__ import annotations

import json
from typing import Any

from tests.support.filtered import update
from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.journals import event_id_of
from tests.support.proxy import Client, NarrowTransport, ProxyTestCase
from tests.support.send_groups import SendGroupTestCase
from tests.support.sse import SseReader
from tradeproxy.downstream.log_reader import STEP_BYTES
from tradeproxy.downstream.subscription import POSITION_INTERVAL

EVENTS_PATH = "/paper/v2/events/trades"


def get_seq(cursor: str) -> int:
    """Return the sequence number in a cursor."""
    return int(cursor.split(".")[2])


class FilteredTestCase(ProxyTestCase):
    """A proxy with ten events, of SPY and AAPL in turn, without tests."""

    def setUp(self) -> None:
        super().setUp()
        self.spy = [update(n, "SPY", owner="bot1-") for n in range(20)]
        self.aapl = [update(n, "AAPL", owner="bot2-") for n in range(20, 40)]
        for pair in zip(self.spy[:5], self.aapl[:5], strict=True):
            self.publish(self.paper, *pair)

    def stream(self, query: str, path: str = "/paper") -> Client:
        """Connect and authenticate a client, and deliver what it gets at once."""
        client = self.connect(f"{path}?{query}")
        client.sendMessage(AUTH)
        self.wires.flush()
        return client


class FilteredWebSocketTests(FilteredTestCase):
    """Filters over WebSockets."""

    def test_filter_sends_only_matches_byte_for_byte(self) -> None:
        """This holds for replays and live events, in one batch or alone, for each parameter."""
        for query in ("symbols=SPY", "client_order_id_prefix=bot1-", "symbols=SPY,QQQ&events=fill"):
            client = self.stream(f"replay=10&{query}")
            self.assertEqual(client.taken(), [AUTHENTICATED, *self.spy[:5]], query)
        last = self.paper.journal.last
        self.publish(self.paper, self.aapl[6], self.spy[6], self.aapl[7], self.spy[7])
        self.publish(self.paper, self.aapl[8])
        self.publish(self.paper, self.spy[8])
        self.assertEqual(client.taken(), self.spy[6:9])
        self.assertEqual(self.paper.journal.last, last + 6)

    def test_filter_does_not_affect_other_clients(self) -> None:
        """A client without a filter gets every event."""
        plain = self.stream("")
        bots = [self.stream(f"client_order_id_prefix={name}") for name in ("bot1-", "bot2-")]
        for client in (plain, *bots):
            client.taken()
        self.publish(self.paper, self.spy[6], self.aapl[6])
        self.assertEqual(plain.taken(), [self.spy[6], self.aapl[6]])
        self.assertEqual([bot.taken() for bot in bots], [[self.spy[6]], [self.aapl[6]]])

    def test_filter_replay_count_includes_events_without_match(self) -> None:
        """Of the last three events the matching ones are sent."""
        self.assertEqual(self.stream("replay=3&symbols=SPY").taken()[1:], self.spy[4:5])

    def test_filter_since_id_without_match_is_a_valid_position(self) -> None:
        """A position is found among all events."""
        client = self.stream(f"since_id={event_id_of(22)}&symbols=SPY")
        self.assertEqual(client.taken()[1:], self.spy[3:5])

    def test_filter_invalid_parameter_is_rejected_on_every_path(self) -> None:
        """Status 400 names the parameter before the stream begins."""
        line = "events: there is no cancelled; the nearest is canceled"
        for path in ("/paper", "/trade-updates-paper/stream"):
            answer = self.upgrade(f"{path}?events=cancelled")
            self.assertEqual((answer.status, answer.reason), (400, line), path)
        answer = self.request(f"{EVENTS_PATH}?events=cancelled")
        self.assertEqual((answer.status, answer.reason), (400, line))

    def test_filter_large_batch_with_few_matches_is_sent_at_once(self) -> None:
        """The size limit of a direct write applies to the encoded matches."""
        client = self.stream("symbols=SPY")
        client.taken()
        size = "x" * (STEP_BYTES // 10)
        self.publish(
            self.paper, *[update(n, "AAPL", note=size) for n in range(100, 130)], self.spy[6]
        )
        self.assertEqual(client.taken(), [self.spy[6]])
        self.publish(
            self.paper, *[update(n, "SPY", note=size) for n in range(200, 230)], self.aapl[6]
        )
        self.assertEqual(len(client.taken()), 30)

    def test_filter_hole_closes_4010(self) -> None:
        """The lost events may have matched."""
        live = self.stream("symbols=QQQ")
        live.taken()
        self.disk.refuse_writing()
        for n in range(100, 118):
            self.publish(self.paper, update(n, "AAPL", note="x" * 1_000_000))
        self.publish(self.paper, update(118, "QQQ"))
        self.assertEqual(live.taken(), [update(118, "QQQ")])
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        client = self.stream(f"since_id={event_id_of(24)}&symbols=QQQ")
        reason = "position unknown: events at this place were not kept"
        self.assertEqual((client.taken(), client.closed), ([AUTHENTICATED], (4010, reason)))
        self.assertIsNone(live.closed)


class PositionFrameTests(FilteredTestCase):
    """A filtered client with `proxy_status` gets the position of its stream."""

    def subscribe_qqq(self, query: str = "") -> Client:
        """Return a client with `proxy_status` and a filter for QQQ."""
        client = self.stream(f"proxy_status=1&symbols=QQQ{query}")
        client.taken()
        return client

    def take_cursors(self, client: Client) -> list[Any]:
        """Return the kind and the cursor of each frame since the last call."""
        documents = [json.loads(message) for message in client.taken()]
        return [
            (document["data"]["event"], document.get("cursor", document["data"].get("cursor")))
            for document in documents
        ]

    def position_frame(self) -> tuple[str, str | None]:
        """Return the kind and the cursor of a `position` frame at the end of the log."""
        return ("position", self.paper.cursor_at(self.paper.journal.last))

    def test_position_without_matches_is_sent_once_per_interval(self) -> None:
        """No frame is sent for each event, nor while no events arrive."""
        client = self.subscribe_qqq()
        self.publish(self.paper, self.spy[6])
        self.assertEqual(self.take_cursors(client), [])
        self.wires.advance(POSITION_INTERVAL)
        self.assertEqual(self.take_cursors(client), [])
        self.publish(self.paper, self.spy[7], self.spy[8])
        self.assertEqual(self.take_cursors(client), [self.position_frame()])
        self.publish(self.paper, self.spy[9])
        self.wires.advance(POSITION_INTERVAL - 1)
        self.publish(self.paper, self.spy[10])
        self.assertEqual(self.take_cursors(client), [])
        self.wires.advance(1)
        self.publish(self.paper, self.spy[11])
        self.assertEqual(self.take_cursors(client), [self.position_frame()])

    def test_position_after_a_match_waits_a_full_interval(self) -> None:
        """The matching event has a cursor of its own."""
        client = self.subscribe_qqq()
        self.wires.advance(POSITION_INTERVAL - 1)
        self.publish(self.paper, update(50, "QQQ"))
        self.assertEqual(self.take_cursors(client), [("fill", self.paper.cursor_at(11))])
        self.wires.advance(1)
        self.publish(self.paper, self.spy[6])
        self.assertEqual(self.take_cursors(client), [])

    def test_position_replay_without_match_has_begun_and_complete(self) -> None:
        """The last frame has the cursor at the end of the replay."""
        client = self.stream("proxy_status=1&symbols=QQQ&replay=4")
        client.messages.pop(0)
        begin, end = self.paper.cursor_at(6), self.paper.cursor_at(10)
        self.assertEqual(
            self.take_cursors(client), [("hello", begin), ("replay", begin), ("replay", end)]
        )

    def test_position_while_behind_is_the_position_of_the_replay(self) -> None:
        """A client that resumes from it misses nothing."""
        self.wires.transport = NarrowTransport
        client = self.subscribe_qqq()
        transport = self.server_transport(0)
        transport.blocked = True
        self.publish(self.paper, update(100, "QQQ", note="x" * 2 * STEP_BYTES))
        note = "x" * (STEP_BYTES // 20)
        for first, symbol in ((200, "SPY"), (300, "QQQ")):
            self.publish(
                self.paper, *[update(n, symbol, note=note) for n in range(first, first + 60)]
            )
        self.wires.advance(POSITION_INTERVAL)
        transport.blocked = False
        self.wires.flush()
        cursors = self.take_cursors(client)
        self.assertEqual([name for name, _ in cursors if name != "fill"], ["position"])
        self.assertEqual(
            [cursor for _, cursor in cursors],
            sorted((cursor for _, cursor in cursors), key=get_seq),
        )

    def test_position_events_not_durable_is_not_sent(self) -> None:
        """A cursor includes only events that are on the disk."""
        client = self.subscribe_qqq()
        self.wires.advance(POSITION_INTERVAL)
        self.disk.refuse_writing()
        self.publish(self.paper, self.spy[6])
        self.assertEqual(self.take_cursors(client), [("journal", None)])
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        hello = ("hello", self.paper.cursor_at(self.paper.journal.last))
        self.publish(self.paper, self.spy[7])
        expected = [("journal", None), hello, self.position_frame()]
        self.assertEqual(self.take_cursors(client), expected)

    def test_position_without_status_or_filter_is_not_sent(self) -> None:
        """Such clients get only events."""
        clients = [self.stream("symbols=QQQ"), self.stream("")]
        self.wires.advance(POSITION_INTERVAL)
        for client in clients:
            client.taken()
        self.publish(self.paper, self.spy[6])
        self.assertEqual([client.taken() for client in clients], [[], [self.spy[6]]])


class FilteredSseTests(FilteredTestCase):
    """Filters over server-sent events."""

    def get(self, query: str, **headers: str) -> SseReader:
        """Request the events."""
        return SseReader(self.request(f"{EVENTS_PATH}?{query}", **headers))

    def test_sse_filter_sends_only_matches(self) -> None:
        """This holds for replays and live events. The event at the end need not match."""
        reader = self.get("replay=10&symbols=spy&events=fill")
        self.assertEqual(reader.ids(), [event_id_of(n) for n in range(5)])
        self.publish(self.paper, self.aapl[6], self.spy[6], self.aapl[7])
        self.assertEqual(reader.ids()[5:], [event_id_of(6)])
        ended = self.get(f"since_id={event_id_of(0)}&until_id={event_id_of(22)}&symbols=SPY")
        self.assertEqual((ended.ids(), ended.has_ended), ([event_id_of(1), event_id_of(2)], True))
        ended = self.get(f"since_id={event_id_of(0)}&until_id={event_id_of(22)}&symbols=QQQ")
        self.assertEqual((ended.ids(), ended.has_ended), ([], True))

    def test_sse_heartbeat_has_the_new_position(self) -> None:
        """An `id:` line without data is no event, and a browser resumes from it."""
        reader = self.get("symbols=QQQ")
        before = self.paper.cursor_at(10)
        self.publish(self.paper, self.spy[6])
        after = self.paper.cursor_at(11)
        self.wires.advance(15)
        self.assertEqual(
            reader.taken(), f": heartbeat\nid: {before}\n\n: heartbeat\nid: {after}\n\n"
        )
        self.disk.refuse_writing()
        self.publish(self.paper, self.spy[7])
        self.wires.advance(15)
        self.assertEqual(reader.taken(), ": heartbeat\n\n")
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        self.assertEqual(reader.taken(), f": heartbeat\nid: {self.paper.cursor_at(12)}\n\n")


class FilteredSendGroupTests(SendGroupTestCase):
    """Clients over plain TCP, some with a filter."""

    def test_filtered_client_joins_no_send_group(self) -> None:
        """All members of a send group get the same bytes."""
        filtered = self.connect("/paper?events=fill").subscribe()
        grouped = self.form_group(2)
        self.publish(event="fill")
        self.publish(2, event="canceled")
        self.publish(event="fill")
        self.assertIsNone(self.find_group(filtered))
        self.assert_all_received(*grouped)
        self.assertEqual(filtered.texts, [self.published[1], self.published[4]])
