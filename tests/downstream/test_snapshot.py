"""Clients that get the state of the account before the events that follow it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from tests.book.support import make_snapshot
from tests.support.frames import AUTH, AUTHENTICATE, LISTEN, LISTENING, UNLISTEN
from tests.support.proxy import NarrowTransport
from tests.support.sse import SseReader
from tests.support.state import StateTestCase, kinds, order_event, order_ids, parts
from tradeproxy.book import old_documents
from tradeproxy.downstream import log_reader, snapshot
from tradeproxy.downstream.log_reader import MIN_STEP_BYTES, STEP_BYTES
from tradeproxy.downstream.snapshot import (
    BUILD_TIMEOUT,
    PARSED_PER_STEP,
    SEND_TIMEOUT,
    SnapshotInsert,
    split,
)
from tradeproxy.downstream.subscription import NOT_KEPT, TRIMMED
from tradeproxy.query.filters import Filter
from tradeproxy.wire.close_codes import CloseCode

if TYPE_CHECKING:
    from tradeproxy.downstream.feed import Feed

SSE_PATH = "/trade-updates-paper/v2/events/trades"
MAX_FRAME = 256 * 1024


class FeedBehind:
    """A feed whose position is before the book's whenever it has caught up."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.inserted: Iterator[bytes | None] = iter(())

    def insert(self, frames: Iterator[bytes | None]) -> None:
        """See Feed."""
        self.inserted = frames


class SnapshotTests(StateTestCase):
    """WebSocket clients with `snapshot=1`."""

    def test_snapshot_then_events_behind_it(self) -> None:
        """Open orders, positions and fills come first. No event in them comes again."""
        self.trade("1")
        self.trade("2")
        filled = self.trade("2", "fill")
        client = self.join()
        [part] = parts(client.taken())
        self.assertEqual((part["part"], part["last"], part["account"]), (1, True, "paper"))
        self.assertEqual(order_ids(part), ["1"])
        self.assertEqual([fill["event_id"] for fill in part["fills"]], [_event_id(filled)])
        self.assertEqual([each["symbol"] for each in part["positions"]], ["AAPL"])
        self.assertEqual(part["cursor"], self.paper.cursor_at(3))
        later = self.trade("1", "canceled")
        self.assertEqual(client.taken(), [later])

    def test_snapshot_of_empty_account_has_one_part(self) -> None:
        """A client need not treat an account without orders in another way."""
        [part] = parts(self.join().taken())
        self.assertEqual((part["orders"], part["positions"], part["fills"]), ([], [], []))
        self.assertEqual(part["cursor"], self.paper.cursor_at(0))
        self.assertIs(part["complete"], False)  # nothing asked Alpaca

    def test_without_snapshot_nothing_is_added(self) -> None:
        """Other clients get Alpaca's frames alone."""
        self.trade("1")
        for query in ("snapshot=0", ""):
            self.assertEqual(kinds(self.join(query).taken()), [])

    def test_replay_comes_before_the_snapshot(self) -> None:
        """The replay ends where the snapshot begins."""
        first, second = self.trade("1"), self.trade("2")
        client = self.join("snapshot=1&replay=2&proxy_status=1")
        messages = client.taken()
        self.assertEqual(
            kinds(messages),
            ["hello", "replay", "trade_updates", "trade_updates", "replay", "snapshot"],
        )
        self.assertEqual(
            [json.loads(each)["data"]["event_id"] for each in messages[3:5]],
            [_event_id(first), _event_id(second)],
        )
        self.assertEqual(parts(messages)[0]["cursor"], self.paper.cursor_at(2))

    def test_cursor_resumes_behind_the_snapshot(self) -> None:
        """A client that loses its connection just after the snapshot misses nothing."""
        self.trade("1")
        [part] = parts(self.join().taken())
        second = self.trade("2")
        client = self.join(f"since_id={part['cursor']}")
        self.assertEqual(client.taken()[1:], [second])

    def test_lost_position_with_status_gets_snapshot(self) -> None:
        """Its events are lost, and the state is what it needs then."""
        self.trade("1")
        messages = self.join("snapshot=1&proxy_status=1&since_id=unknown").taken()
        self.assertEqual(kinds(messages), ["hello", "replay", "snapshot"])

    def test_alpaca_mode_snapshot_follows_the_ack(self) -> None:
        """There, nothing is sent before `listen`."""
        self.trade("1")
        client = self.connect("/trade-updates-paper/stream?snapshot=1")
        self.assertEqual(kinds(self.say(client, AUTHENTICATE)), ["authorization"])
        for _ in range(2):
            ack, *rest = self.say(client, LISTEN, binary=True)
            self.assertEqual(ack, LISTENING)
            first, self.first = getattr(self, "first", rest), rest
            self.say(client, UNLISTEN)
        self.assertEqual(order_ids(parts(first)[0]), ["1"])
        self.assertEqual(self.first, [], "the second time it has had its snapshot")

    def test_filters_select_orders_positions_and_fills(self) -> None:
        """The kinds of events select only events."""
        self.trade("1", symbol="AAPL")
        self.trade("2", symbol="MSFT")
        self.trade("3", "fill", symbol="MSFT")
        self.trade("4", symbol=None, legs=[{"id": "5", "symbol": "MSFT", "status": "new"}])
        [part] = parts(self.join("snapshot=1&symbols=msft&events=canceled").taken())
        self.assertEqual(order_ids(part), ["2", "4"])
        self.assertEqual([each["symbol"] for each in part["positions"]], ["MSFT"])
        self.assertEqual([fill["order"]["id"] for fill in part["fills"]], ["3"])
        [part] = parts(self.join("snapshot=1&client_order_id_prefix=bot-1").taken())
        self.assertEqual((order_ids(part), part["fills"]), (["1"], []))
        self.assertEqual([each["symbol"] for each in part["positions"]], ["MSFT"])

    def test_many_orders_come_in_parts(self) -> None:
        """Each frame is small enough for any client library."""
        ids = self.trade_often(300, note="x" * 2000)
        messages = [each for each in self.join().taken() if b'"snapshot"' in each]
        self.assertLess(max(map(len, messages)), MAX_FRAME)
        found = parts(messages)
        self.assertGreater(len(found), 3)
        self.assertEqual([part["part"] for part in found], [*range(1, len(found) + 1)])
        self.assertEqual([part["last"] for part in found], [False] * (len(found) - 1) + [True])
        self.assertEqual([order for part in found for order in order_ids(part)], ids)
        self.assertEqual([part for part in found if "cursor" in part], found[-1:])

    def test_no_part_is_empty_whatever_the_size_of_an_object(self) -> None:
        """A large order is alone in its part. An empty part before it would be a frame too many."""
        self.trade("1", note="x" * 2 * STEP_BYTES)
        self.trade("2", note="x" * 2 * STEP_BYTES)
        found = parts(self.join().taken())
        self.assertEqual([order_ids(part) for part in found[:2]], [["1"], ["2"]])
        names = ("orders", "positions", "fills", "strategies")
        self.assertTrue(all(any(part[name] for name in names) for part in found))

    def test_filtered_many_orders_are_all_examined(self) -> None:
        """A step parses few of them, and most have no part."""
        self.trade_often(100)
        self.trade("7", symbol="MSFT")
        [part] = parts(self.join("snapshot=1&symbols=MSFT").taken())
        self.assertEqual(order_ids(part), ["7"])

    def test_book_is_still_building_client_waits(self) -> None:
        """The events up to the snapshot are in it, so they do not come again."""
        self.books["paper"].stop()
        client = self.join()
        self.assertEqual(kinds(client.taken()), [])
        self.trade("1")
        self.assertEqual(client.taken(), [])
        self.start_book()
        self.wires.advance(1)
        [part] = parts(client.taken())
        self.assertEqual(order_ids(part), ["1"])
        later = self.trade("2")
        self.assertEqual(client.taken(), [later])

    def test_book_never_ready_closes_1013(self) -> None:
        """The client may come again."""
        self.books["paper"].stop()
        client = self.join()
        self.wires.advance(BUILD_TIMEOUT - 1)
        self.assertIsNone(client.closed)
        self.wires.advance(2)
        self.assertEqual(client.closed, (1013, CloseCode.NOT_READY.reason))

    def test_book_always_ahead_client_with_position_waits_no_longer(self) -> None:
        """Each time that its events had come, its time began again: the wait had no end."""
        ended: list[float] = []
        insert = SnapshotInsert(
            self.books["paper"],
            None,
            lambda part: part.data,
            self.clock,
            lambda: ended.append(self.clock.seconds()),
            is_replay=True,
        )
        began = self.clock.seconds()
        for _ in range(100):
            self.trade("1")
            feed = FeedBehind(self.paper.log.last - 1)
            insert.begin(cast("Feed", feed))
            self.assertEqual(list(feed.inserted), [])
            if ended:
                break
            self.clock.advance(1)
        self.assertEqual(ended, [began + BUILD_TIMEOUT])

    def test_client_leaves_while_it_waits(self) -> None:
        """No timer is left."""
        self.books["paper"].stop()
        client = self.join()
        client.dropConnection(abort=True)
        self.wires.flush()
        planned = [call for call in self.clock.getDelayedCalls() if "Feed" in str(call)]
        self.assertEqual(planned, [])

    def test_waiting_client_with_position_gets_every_event(self) -> None:
        """It has events before the snapshot, so none may be left out."""
        first = self.trade("1")
        self.books["paper"].stop()
        client = self.join("snapshot=1&replay=1")
        second = self.trade("2")
        self.start_book()
        self.wires.advance(1)
        messages = client.taken()[1:]
        self.assertEqual(messages[:2], [first, second])
        self.assertEqual(order_ids(parts(messages)[0]), ["1", "2"])

    def test_filter_parses_a_few_objects_in_a_step(self) -> None:
        """Those that it leaves out make no part, and 50,000 of them took a second."""
        for number in range(2 * PARSED_PER_STEP):
            self.trade(str(number))
        self.books["paper"].catch_up()
        found = split(
            make_snapshot(self.books["paper"]),
            "paper",
            Filter(frozenset(("QQQ",))),
            lambda: MIN_STEP_BYTES,
        )
        self.assertEqual([part is None for part in found], [True, True, False])

    def test_books_are_off_is_404(self) -> None:
        """The answer names the variable."""
        self.books.clear()
        for answer in (
            self.upgrade("/trade-updates-paper?snapshot=1"),
            self.request(f"{SSE_PATH}?snapshot=1"),
        ):
            self.assertEqual(answer.status, 404)
            self.assertIn("PROXY_BOOK", answer.reason)

    def test_misspelt_snapshot_is_400(self) -> None:
        """Otherwise the client would wait for it forever."""
        for name, value, line in (
            ("snapshots", "1", "snapshots: there is no such parameter; the nearest is snapshot"),
            ("snapshot", "yes", "snapshot: is neither 1 nor 0"),
        ):
            answer = self.upgrade(f"/trade-updates-paper?{name}={value}")
            self.assertEqual((answer.status, answer.reason), (400, line))


class SlowSnapshotTests(StateTestCase):
    """Clients that read slowly, over wires with back-pressure."""

    def setUp(self) -> None:
        super().setUp()
        self.wires.transport = NarrowTransport
        self.ids = self.trade_often(300, note="x" * 2000)

    def join_blocked(self, query: str = "snapshot=1") -> tuple[Any, Any]:
        """Return a client that reads nothing, and the proxy's end of its wire."""
        client = self.connect(f"/trade-updates-paper?{query}")
        transport = self.server_transport(len(self.factory.clients) - 1)
        transport.blocked = True
        client.sendMessage(AUTH)
        self.wires.flush()
        return client, transport

    def unblock(self, transport: Any) -> None:
        transport.blocked = False
        self.wires.flush()

    def test_client_that_does_not_read_costs_one_part(self) -> None:
        """The rest is made when it reads. What changes meanwhile follows as events."""
        client, transport = self.join_blocked()
        self.assertLess(transport.buffered, 2 * STEP_BYTES + 8192)
        later = [self.trade(self.ids[0], "fill"), self.trade("1")]
        self.assertLess(transport.buffered, 2 * STEP_BYTES + 8192)
        self.unblock(transport)
        messages = client.taken()
        found = parts(messages)
        self.assertEqual([order for part in found for order in order_ids(part)], self.ids)
        self.assertEqual(messages[-2:], later)

    def test_snapshot_must_be_read_in_three_minutes(self) -> None:
        """A client that read a part each 29 s held the state of hours ago.

        The reason named the stall timeout: 30 s.
        """
        self.patch(snapshot, "SEND_TIMEOUT", SEND_TIMEOUT / 3)
        client, transport = self.join_blocked("snapshot=1&proxy_status=1")
        for _ in range(3):
            self.assertEqual(len(self.factory.clients), 1)
            self.wires.advance(29)
            transport.producer.resumeProducing()
            self.clock.advance(0)
        self.unblock(transport)
        reason = f"read too slowly for 60 s: reconnect with since_id={self.paper.cursor_at(300)}"
        self.assertEqual(client.closed, (CloseCode.TOO_SLOW.code, reason))

    def change_all(self) -> None:
        """Let every order have a new document."""
        self.ids = self.trade_often(300, note="x" * 2000)
        self.wires.advance(1)

    def test_old_snapshots_are_too_many_client_that_does_not_read_is_closed(self) -> None:
        """Each kept the orders as they were: twelve of them took 200 MB."""
        self.patch(old_documents, "MAX_OLD_BYTES", 300 * 3000)
        clients = []
        for _ in range(5):
            clients.append(self.join_blocked())
            self.change_all()
        for _, transport in clients:
            self.unblock(transport)
        self.wires.advance(1)
        closed = [client.closed for client, _ in clients]
        reason = "read too slowly: reconnect with your cursor, or your last event_id, as since_id"
        self.assertEqual(closed, [(4008, reason)] * 4 + [None])
        last = clients[-1][0].taken()
        ids = [order for part in parts(last) for order in order_ids(part)]
        self.assertEqual(ids, self.ids)
        self.assertEqual(kinds(last).count("trade_updates"), 300)

    def test_others_do_not_read_parts_are_small(self) -> None:
        """3,000 clients that did not read took 480 MB: two copies of 64 KiB each."""
        self.patch(log_reader, "PAUSED_BYTES", 2 * MIN_STEP_BYTES)
        self.join_blocked()
        second, transport = self.join_blocked()
        transport.blocked = False
        self.wires.flush()
        found = [each for each in second.taken() if b'"snapshot"' in each]
        self.assertLess(max(map(len, found)), 2 * MIN_STEP_BYTES + 200)
        ids = [order for part in parts(found) for order in order_ids(part)]
        self.assertEqual(ids, self.ids)

    def test_new_epoch_during_the_snapshot_begins_it_again(self) -> None:
        """The rest would be of another account. Part 1 shows that it begins."""
        self.paper.identify("1")
        client, transport = self.join_blocked()
        self.paper.identify("2")
        for _ in range(100):
            self.clock.advance(0)
        self.trade("9")
        self.unblock(transport)
        self.wires.advance(2)
        numbers = [part["part"] for part in parts(client.messages)]
        self.assertEqual(numbers.count(1), 2, numbers)
        last = parts(client.taken())[-1]
        self.assertEqual((last["part"], last["last"], order_ids(last)), (1, True, ["9"]))
        self.assertEqual(last["cursor"], self.paper.cursor_at(self.paper.journal.last))

    def test_hole_behind_the_snapshot_closes_4010(self) -> None:
        """As for every other client: it cannot know what it misses."""
        client, transport = self.join_blocked()
        self.disk.refuse_writing()
        for _ in range(18):  # the first sixteen fit into the backlog
            self.trade("1", note="x" * 1_000_000)
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        self.unblock(transport)
        self.wires.advance(2)
        messages = client.taken()
        self.assertTrue(parts(messages)[-1]["last"])
        self.assertEqual(kinds(messages)[-16:], ["trade_updates"] * 16)
        self.assertEqual(client.closed, (4010, f"position unknown: {NOT_KEPT}"))

    def test_trimmed_during_the_snapshot_closes_4008(self) -> None:
        """The events behind the snapshot are gone."""
        client, transport = self.join_blocked()
        self.trade("1")
        self.trade("2")
        self.paper.journal.first = self.paper.journal.last
        self.unblock(transport)
        self.assertTrue(parts(client.taken())[-1]["last"])
        self.assertEqual(client.closed, (4008, TRIMMED))

    def test_unlisten_during_the_snapshot_drops_the_rest(self) -> None:
        """With the next `listen` it begins again."""
        client = self.connect("/trade-updates-paper/stream?snapshot=1")
        transport = self.server_transport(len(self.factory.clients) - 1)
        self.say(client, AUTHENTICATE)
        transport.blocked = True
        client.sendMessage(LISTEN)
        self.wires.flush()
        [member] = [each for each in self.factory.clients if hasattr(each, "subscriber")]
        member.subscriber.set_events(False)
        self.unblock(transport)
        self.assertFalse(parts(client.taken())[-1]["last"])
        member.subscriber.set_events(True)
        self.wires.flush()
        found = parts(client.taken())
        self.assertEqual((found[0]["part"], found[-1]["last"]), (1, True))


class SseSnapshotTests(StateTestCase):
    """Server-sent events with `snapshot=1`."""

    def get(self, query: str, **headers: str) -> SseReader:
        """Request the events."""
        return SseReader(self.request(f"{SSE_PATH}?{query}", **headers))

    def test_snapshot_is_an_event_of_its_own_name(self) -> None:
        """A listener for messages does not get it. Its id is where an EventSource resumes."""
        self.trade("1")
        reader = self.get("snapshot=1")
        heartbeat, snapshot, rest = reader.taken().split("\n\n")
        self.assertTrue(heartbeat.startswith(": heartbeat"))
        name, position, data = snapshot.split("\n")
        cursor = self.paper.cursor_at(1)
        self.assertEqual((name, position, rest), ("event: snapshot", f"id: {cursor}", ""))
        part = json.loads(data.removeprefix("data: "))
        self.assertEqual((order_ids(part), part["cursor"]), (["1"], cursor))
        self.trade("2")
        self.assertEqual(len(reader.ids()), 1)

    def test_response_without_the_parameter_has_no_snapshot(self) -> None:
        """A client that knows Alpaca's events alone gets nothing else."""
        self.trade("1")
        self.assertNotIn("snapshot", self.get("").taken())

    def test_replay_comes_before_the_snapshot(self) -> None:
        """An EventSource that reconnects gets what it missed, then the state."""
        self.trade("1")
        cursor = self.paper.cursor_at(1)
        self.trade("2")
        reader = self.get("snapshot=1", Last_Event_ID=str(cursor))
        names = [line for line in reader.taken().splitlines() if line[:5] in ("data:", "event")]
        self.assertEqual([name[:6] for name in names], ["data: ", "event:", "data: "])

    def test_waiting_client_with_position_gets_events_then_the_snapshot(self) -> None:
        """The book was built meanwhile, from an event that the client did not have yet."""
        self.trade("1")
        cursor = self.paper.cursor_at(0)
        self.books["paper"].stop()
        reader = self.get("snapshot=1", Last_Event_ID=str(cursor))
        self.trade("2")
        self.start_book()
        self.wires.advance(1)
        names = [line for line in reader.taken().splitlines() if line[:5] in ("data:", "event")]
        self.assertEqual([name[:6] for name in names], ["data: ", "data: ", "event:", "data: "])

    def test_long_snapshot_has_the_id_in_its_last_part(self) -> None:
        """A client that is cut off before it resumes at its old position."""
        self.trade_often(300, note="x" * 2000)
        blocks = self.get("snapshot=1").text.split("\n\n")[1:-1]
        self.assertGreater(len(blocks), 3)
        self.assertEqual([block.count("\nid: ") for block in blocks], [0] * (len(blocks) - 1) + [1])

    def test_line_breaks_of_alpaca_stay_out(self) -> None:
        """One would end the line of data."""
        frame = order_event(1, "1").replace(b',"qty"', b',\n"qty"')
        self.publish(self.paper, frame)
        [block] = [each for each in self.get("snapshot=1").text.split("\n\n") if "event:" in each]
        self.assertEqual(order_ids(json.loads(block.split("data: ")[1])), ["1"])

    def test_snapshot_with_an_end_is_400(self) -> None:
        """The state follows after the events, so it cannot end before."""
        for query in ("since=2026-01-01T00:00:00Z&until=2026-01-02T00:00:00Z",):
            answer = self.request(f"{SSE_PATH}?snapshot=1&{query}")
            self.assertEqual(answer.status, 400)
            self.assertEqual(answer.reason, "until: cannot be given together with snapshot")

    def test_book_never_ready_ends_the_connection(self) -> None:
        """The end is not a clean one, so the client reconnects."""
        self.books["paper"].stop()
        reader = self.get("snapshot=1")
        self.wires.advance(BUILD_TIMEOUT + 1)
        self.assertTrue(reader.raw.gone)
        self.assertFalse(reader.has_ended)


def _event_id(frame: bytes) -> str:
    return str(json.loads(frame)["data"]["event_id"])
