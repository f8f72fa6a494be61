"""Filters on every stream, through the site, in memory and in fake time."""

from __future__ import annotations

import json
from typing import Any

from tests.downstream.test_sse import Reader
from tests.support.filtered import update
from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.journals import event_id_of
from tests.support.proxy import Client, NarrowTransport, ProxyTestCase
from tests.support.send_groups import CrowdTestCase
from tradeproxy.downstream.feed import MAX_DIRECT_BYTES
from tradeproxy.downstream.log_reader import STEP_BYTES
from tradeproxy.downstream.subscription import POSITION_INTERVAL

EVENTS_PATH = "/paper/v2/events/trades"


def number_of(cursor: str) -> int:
    """Return the number that a cursor holds."""
    return int(cursor.split(".")[2])


class FilterTestCase(ProxyTestCase):
    """A proxy that has had ten events, of SPY and AAPL in turn; it holds no test."""

    def setUp(self) -> None:
        super().setUp()
        self.spy = [update(n, "SPY", owner="bot1-") for n in range(20)]
        self.aapl = [update(n, "AAPL", owner="bot2-") for n in range(20, 40)]
        for pair in zip(self.spy[:5], self.aapl[:5], strict=True):
            self.publish(self.paper, *pair)

    def stream(self, query: str, path: str = "/paper") -> Client:
        """Connect a client and return it, once it has what it is to be sent upon its auth message."""
        client = self.connect(f"{path}?{query}")
        client.sendMessage(AUTH)
        self.wires.flush()
        return client


class StreamTests(FilterTestCase):
    """Over WebSockets."""

    def test_only_what_matches_comes_byte_for_byte(self) -> None:
        """From the journal and live, in one burst or alone, by any of the parameters."""
        for query in ("symbols=SPY", "client_order_id_prefix=bot1-", "symbols=SPY,QQQ&events=fill"):
            client = self.stream(f"replay=10&{query}")
            self.assertEqual(client.taken(), [AUTHENTICATED, *self.spy[:5]], query)
        last = self.paper.journal.last
        self.publish(self.paper, self.aapl[6], self.spy[6], self.aapl[7], self.spy[7])
        self.publish(self.paper, self.aapl[8])
        self.publish(self.paper, self.spy[8])
        self.assertEqual(client.taken(), self.spy[6:9])
        self.assertEqual(self.paper.journal.last, last + 6)

    def test_others_have_everything(self) -> None:
        """And each its own."""
        plain = self.stream("")
        bots = [self.stream(f"client_order_id_prefix={name}") for name in ("bot1-", "bot2-")]
        for client in (plain, *bots):
            client.taken()
        self.publish(self.paper, self.spy[6], self.aapl[6])
        self.assertEqual(plain.taken(), [self.spy[6], self.aapl[6]])
        self.assertEqual([bot.taken() for bot in bots], [[self.spy[6]], [self.aapl[6]]])

    def test_a_number_counts_all_events(self) -> None:
        """The last three, of which those that match are sent."""
        self.assertEqual(self.stream("replay=3&symbols=SPY").taken()[1:], self.spy[4:5])

    def test_an_event_that_does_not_match_is_a_position_too(self) -> None:
        """What follows it is the same for everybody."""
        client = self.stream(f"since_id={event_id_of(22)}&symbols=SPY")
        self.assertEqual(client.taken()[1:], self.spy[3:5])

    def test_a_mistake_is_refused_on_every_path(self) -> None:
        """Before anything begins, with the line that names the parameter."""
        line = "events: there is no cancelled; the nearest is canceled\n"
        for path in ("/paper", "/trade-updates-paper/stream"):
            answer = self.upgrade(f"{path}?events=cancelled")
            self.assertEqual((answer.status, answer.body), (400, line), path)
        answer = self.request(f"{EVENTS_PATH}?events=cancelled")
        self.assertEqual((answer.status, answer.body), (400, line))

    def test_a_large_burst_of_which_little_matches_goes_at_once(self) -> None:
        """What counts is what is sent."""
        client = self.stream("symbols=SPY")
        client.taken()
        size = "x" * (MAX_DIRECT_BYTES // 10)
        self.publish(
            self.paper, *[update(n, "AAPL", note=size) for n in range(100, 130)], self.spy[6]
        )
        self.assertEqual(client.taken(), [self.spy[6]])
        self.publish(
            self.paper, *[update(n, "SPY", note=size) for n in range(200, 230)], self.aapl[6]
        )
        self.assertEqual(len(client.taken()), 30)

    def test_a_place_where_events_were_not_kept_is_told(self) -> None:
        """Nobody can tell whether one of them would have matched."""
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


class PlaceTests(FilterTestCase):
    """What a client with `proxy_status` learns of its place."""

    def follow(self, query: str = "") -> Client:
        """Return such a client, which wants QQQ."""
        client = self.stream(f"proxy_status=1&symbols=QQQ{query}")
        client.taken()
        return client

    def told(self, client: Client) -> list[Any]:
        """Return the cursors that it was told since the last call, each with what told it."""
        documents = [json.loads(message) for message in client.taken()]
        return [
            (document["data"]["event"], document.get("cursor", document["data"].get("cursor")))
            for document in documents
        ]

    def place(self) -> tuple[str, str | None]:
        """Return what says that all has been passed over."""
        return ("position", self.paper.cursor_at(self.paper.journal.last))

    def test_is_told_now_and_then_while_nothing_matches(self) -> None:
        """Not at each event, and not while nothing happens."""
        client = self.follow()
        self.publish(self.paper, self.spy[6])
        self.assertEqual(self.told(client), [])
        self.wires.advance(POSITION_INTERVAL)
        self.assertEqual(self.told(client), [])
        self.publish(self.paper, self.spy[7], self.spy[8])
        self.assertEqual(self.told(client), [self.place()])
        self.publish(self.paper, self.spy[9])
        self.wires.advance(POSITION_INTERVAL - 1)
        self.publish(self.paper, self.spy[10])
        self.assertEqual(self.told(client), [])
        self.wires.advance(1)
        self.publish(self.paper, self.spy[11])
        self.assertEqual(self.told(client), [self.place()])

    def test_an_event_tells_it_as_well(self) -> None:
        """The next word is due after it."""
        client = self.follow()
        self.wires.advance(POSITION_INTERVAL - 1)
        self.publish(self.paper, update(50, "QQQ"))
        self.assertEqual(self.told(client), [("fill", self.paper.cursor_at(11))])
        self.wires.advance(1)
        self.publish(self.paper, self.spy[6])
        self.assertEqual(self.told(client), [])

    def test_a_replay_of_nothing_ends_with_it(self) -> None:
        """As every replay does."""
        client = self.stream("proxy_status=1&symbols=QQQ&replay=4")
        client.messages.pop(0)
        begin, end = self.paper.cursor_at(6), self.paper.cursor_at(10)
        self.assertEqual(self.told(client), [("hello", begin), ("replay", begin), ("replay", end)])

    def test_in_the_middle_of_what_is_owed_it_is_where_that_has_come_to(self) -> None:
        """Whoever leaves there, and comes back with it, misses nothing."""
        self.wires.transport = NarrowTransport
        client = self.follow()
        transport = self.transport_of(0)
        transport.blocked = True
        note = "x" * (STEP_BYTES // 20)
        for first, symbol in ((100, "QQQ"), (200, "SPY"), (300, "QQQ")):
            self.publish(
                self.paper, *[update(n, symbol, note=note) for n in range(first, first + 60)]
            )
        self.wires.advance(POSITION_INTERVAL)
        transport.blocked = False
        self.wires.flush()
        told = self.told(client)
        self.assertEqual([name for name, _ in told if name != "fill"], ["position"])
        self.assertEqual(
            [cursor for _, cursor in told], sorted((cursor for _, cursor in told), key=number_of)
        )

    def test_is_not_told_while_it_may_not_last(self) -> None:
        """An event that is not on the disk is behind no cursor."""
        client = self.follow()
        self.wires.advance(POSITION_INTERVAL)
        self.disk.refuse_writing()
        self.publish(self.paper, self.spy[6])
        self.assertEqual(self.told(client), [("journal", None)])
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        self.publish(self.paper, self.spy[7])
        self.assertEqual(self.told(client), [("journal", None), self.place()])

    def test_nobody_else_is_told(self) -> None:
        """Neither without the status nor without a filter."""
        clients = [self.stream("symbols=QQQ"), self.stream("")]
        self.wires.advance(POSITION_INTERVAL)
        for client in clients:
            client.taken()
        self.publish(self.paper, self.spy[6])
        self.assertEqual([client.taken() for client in clients], [[], [self.spy[6]]])


class ServerSentTests(FilterTestCase):
    """As server-sent events."""

    def get(self, query: str, **headers: str) -> Reader:
        """Ask for the events."""
        return Reader(self.request(f"{EVENTS_PATH}?{query}", **headers))

    def test_only_what_matches_comes(self) -> None:
        """From the journal and live; up to an end that need not match."""
        reader = self.get("replay=10&symbols=spy&events=fill")
        self.assertEqual(reader.ids(), [event_id_of(n) for n in range(5)])
        self.publish(self.paper, self.aapl[6], self.spy[6], self.aapl[7])
        self.assertEqual(reader.ids()[5:], [event_id_of(6)])
        ended = self.get(f"since_id={event_id_of(0)}&until_id={event_id_of(22)}&symbols=SPY")
        self.assertEqual((ended.ids(), ended.has_ended), ([event_id_of(1), event_id_of(2)], True))
        ended = self.get(f"since_id={event_id_of(0)}&until_id={event_id_of(22)}&symbols=QQQ")
        self.assertEqual((ended.ids(), ended.has_ended), ([], True))

    def test_the_heartbeat_moves_the_place_on(self) -> None:
        """An id without data is no event, and a browser comes back with it; it comes where there is news."""
        reader = self.get("symbols=QQQ")
        self.assertEqual(reader.taken(), ": heartbeat\n\n")
        self.publish(self.paper, self.spy[6])
        self.wires.advance(31)
        place = self.paper.cursor_at(11)
        self.assertEqual(reader.taken(), f": heartbeat\nid: {place}\n\n: heartbeat\n\n")
        self.disk.refuse_writing()
        self.publish(self.paper, self.spy[7])
        self.wires.advance(15)
        self.assertEqual(reader.taken(), ": heartbeat\n\n")
        self.disk.refuse_writing(False)
        self.wires.advance(15)
        self.assertEqual(reader.taken(), f": heartbeat\nid: {self.paper.cursor_at(12)}\n\n")


class CrowdTests(CrowdTestCase):
    """Clients over plain TCP, some of which have a filter."""

    def test_who_has_a_filter_stays_out_of_the_crowd(self) -> None:
        """There everybody is sent the same."""
        filtered = self.connect("/paper?events=fill").subscribe()
        crowded = self.crowded(2)
        self.publish(event="fill")
        self.publish(2, event="canceled")
        self.publish(event="fill")
        self.assertIsNone(self.crowd_of(filtered))
        self.assert_all_came(*crowded)
        self.assertEqual(filtered.texts, [self.published[1], self.published[4]])
