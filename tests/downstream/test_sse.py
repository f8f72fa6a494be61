"""The stream as server-sent events, through the site, in memory and in fake time."""

from __future__ import annotations

import re
from typing import Any

from tests.support.frames import FILL
from tests.support.journals import BASE_URL, DAY, event, event_id_of
from tests.support.memory import CLIENT, LingeringTransport
from tests.support.proxy import NarrowTransport, ProxyTestCase, RawClient
from tests.support.redisjournals import leading_journal
from tests.support.redislog import SyncRedis
from tradeproxy.cluster.redis_journal import RedisJournal
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.log_reader import STEP_BYTES
from tradeproxy.hub.account import Account
from tradeproxy.web.site import build_site
from tradeproxy.wire.event import format_time
from tradeproxy.wire.frame import Recovered, frame_event, with_mark
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import GapOutcome

PATH = "/trade-updates-paper/v2/events/trades"
COMMENT = ": heartbeat\n\n"


class Reader:
    """A client that reads a chunked response."""

    def __init__(self, raw: RawClient) -> None:
        self.raw = raw
        self._seen = 0

    @property
    def text(self) -> str:
        """All that came, without the chunks around it."""
        rest, text = self.raw.received.partition(b"\r\n\r\n")[2], b""
        while (at := rest.find(b"\r\n")) >= 0:
            size = int(rest[:at], 16)
            text += rest[at + 2 : at + 2 + size]
            rest = rest[at + 2 + size + 2 :]
        return text.decode()

    @property
    def has_ended(self) -> bool:
        """Whether the response has come to a clean end."""
        return self.raw.received.endswith(b"\r\n0\r\n\r\n")

    def taken(self) -> str:
        """Return what came since the last call."""
        text, start = self.text, self._seen
        self._seen = len(text)
        return text[start:]

    def ids(self) -> list[str]:
        """Return the ids of all events that came."""
        return re.findall(r'^data: .*"event_id":"([^"]*)"', self.text, re.MULTILINE)


class EventsTestCase(ProxyTestCase):
    """A proxy that has had ten events; it holds no test."""

    def setUp(self) -> None:
        super().setUp()
        self.events = [event(n).payload for n in range(30)]
        self.ids = [*map(event_id_of, range(30))]
        self.publish(self.paper, *self.events[:10])

    def get(self, query: str = "", path: str = PATH, **headers: str) -> Reader:
        """Ask for the events."""
        return Reader(self.request(f"{path}?{query}", **headers))

    def cursor(self, seq: int) -> str:
        """Return the cursor behind the event with this number."""
        return str(self.paper.cursor_at(seq))


class FormTests(EventsTestCase):
    """What is sent, byte for byte."""

    def test_begins_at_once(self) -> None:
        """The headers keep everything in between from keeping it; a comment shows that it is alive."""
        for path in (PATH, "/paper/v2/events/trades/"):
            reader = self.get(path=path)
            self.assertEqual(reader.raw.status, 200)
            for line in (
                b"Content-Type: text/event-stream\r\n",
                b"Cache-Control: no-store\r\n",
                b"X-Content-Type-Options: nosniff\r\n",
                b"X-Accel-Buffering: no\r\n",
                b"Transfer-Encoding: chunked\r\n",
            ):
                self.assertIn(line, reader.raw.received)
            self.assertEqual(reader.text, COMMENT)

    def test_an_event_is_its_cursor_and_one_line_of_data(self) -> None:
        """The data object as Alpaca sent it."""
        reader = self.get()
        reader.taken()
        self.publish(self.paper, FILL)
        data = FILL.partition(b'"data":')[2].strip()[:-1].decode()
        self.assertEqual(reader.taken(), f"id: {self.cursor(11)}\ndata: {data}\n\n")
        self.assertIn(b'"data":' + data.encode(), FILL)

    def test_line_ends_within_an_event_are_none_here(self) -> None:
        """White space between JSON's tokens may be other white space."""
        reader = self.get()
        reader.taken()
        self.publish(
            self.paper, b'{"stream":"trade_updates",\r\n"data":{"event_id":"1",\n\r"x":[1,\n2]}}'
        )
        self.assertEqual(reader.taken().splitlines()[1], 'data: {"event_id":"1",  "x":[1, 2]}')

    def test_a_recovered_event_is_marked_by_a_comment(self) -> None:
        """Which no SDK takes for an event."""
        reader = self.get()
        reader.taken()
        for n, mark in enumerate(Recovered):
            data = b'{"event_id":"%d"}' % n
            update = parse_server(with_mark(frame_event(data), mark))
            assert isinstance(update, TradeUpdate)
            self.paper.publish(update.event)
            self.wires.flush()
            expected = f': recovered {mark.value}\nid: {self.cursor(11 + n)}\ndata: {{"event_id":"{n}"}}\n\n'
            self.assertEqual(reader.taken(), expected)

    def test_a_mark_of_alpacas_own_is_no_mark(self) -> None:
        """Whatever it may hold."""
        reader = self.get()
        reader.taken()
        self.publish(
            self.paper,
            b'{"stream":"trade_updates","data":{"event_id":"1"},"recovered":{"a":["\\n"]}}',
        )
        self.publish(
            self.paper, b'{"stream":"trade_updates","data":{"event_id":"2"},"recovered":"a\\nb"}'
        )
        self.assertNotIn("recovered", reader.taken())

    def test_an_event_that_is_not_on_the_disk_has_no_id(self) -> None:
        """A browser then comes back with the one before, and gets this one again."""
        reader = self.get()
        reader.taken()
        self.disk.refuse_writing()
        self.publish(self.paper, self.events[10])
        self.assertTrue(reader.taken().startswith("data: "))

    def test_a_comment_comes_every_fifteen_seconds(self) -> None:
        """As long as nothing else waits to be read."""
        reader = self.get()
        reader.taken()
        self.wires.advance(61)
        self.assertEqual(reader.taken(), COMMENT * 4)

    def test_head_and_other_methods(self) -> None:
        """The one gets the headers, the others are not allowed."""
        answer = self.request(PATH, method="HEAD")
        self.assertEqual((answer.status, answer.body), (200, ""))
        self.assertIn(b"text/event-stream", answer.received)
        self.assertEqual(self.request(PATH + "?since=x", method="HEAD").status, 400)
        self.assertEqual(self.request(PATH, method="POST").status, 405)
        self.assertEqual(len(self.factory.clients), 0)

    def test_a_websocket_is_told_where_it_is(self) -> None:
        """Instead of waiting for an upgrade that never comes."""
        answer = self.upgrade(PATH)
        self.assertEqual(answer.status, 400)
        self.assertIn("server-sent events", answer.body)


class SpanTests(EventsTestCase):
    """Where the events begin and end."""

    def test_without_a_beginning_only_what_comes(self) -> None:
        """As at Alpaca."""
        reader = self.get()
        self.publish(self.paper, *self.events[10:12])
        self.assertEqual(reader.ids(), self.ids[10:12])

    def test_a_beginning_is_followed_by_what_comes(self) -> None:
        """In each of the ways to name one; Last-Event-ID beats the others, as browsers need it."""
        readers = [
            self.get(f"since_id={self.ids[6]}"),
            self.get(f"since_id={self.cursor(7)}"),
            self.get("replay=3"),
            self.get("replay=9", Last_Event_ID=self.cursor(7)),
            self.get(f"since_id={self.ids[0]}", Last_Event_ID=self.ids[6]),
        ]
        self.publish(self.paper, *self.events[10:12])
        for reader in readers:
            self.assertEqual(reader.ids(), self.ids[7:12])
            self.assertFalse(reader.has_ended)

    def test_ends_with_the_id_that_was_asked_for(self) -> None:
        """Cleanly, with that event; with nothing if it is not behind the beginning."""
        for begin, end in ((2, 5), (2, 9), (5, 5), (5, 2)):
            reader = self.get(f"since_id={self.ids[begin]}&until_id={self.ids[end]}")
            self.assertEqual(
                (reader.ids(), reader.has_ended), (self.ids[begin + 1 : end + 1], True)
            )
        self.assertEqual(len(self.factory.clients), 0)
        self.assertEqual(len(self.paper.broadcaster), 0)

    def test_the_connection_outlives_a_clean_end(self) -> None:
        """Like after any response in HTTP/1.1."""
        reader = self.get(f"since_id={self.ids[0]}&until_id={self.ids[1]}")
        self.assertFalse(reader.raw.gone)
        assert reader.raw.transport is not None
        reader.raw.received = b""
        reader.raw.transport.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.wires.flush()
        self.assertEqual(reader.raw.status, 200)

    def timed(self, *seconds: int) -> list[str]:
        """Publish events of this moment and some seconds on, and return their ids."""
        now = round(self.clock.seconds() * 1_000_000)
        numbers = [500 + second for second in seconds]
        for n, second in zip(numbers, seconds, strict=True):
            self.publish(self.paper, event(n, at=format_time(now + second * 1_000_000)).payload)
        return [*map(event_id_of, numbers)]

    def test_ends_at_a_time(self) -> None:
        """What came late and is older is had, what is newer is not."""
        start = self.clock.seconds()
        ids = self.timed(1, 2, 4, 3, 5)
        since, until = (format_time(round((start + second) * 1_000_000)) for second in (2, 3))
        self.wires.advance(5)
        reader = self.get(f"since={since}&until={until}")
        self.assertEqual((reader.ids(), reader.has_ended), ([ids[1], ids[3]], True))

    def test_a_time_in_the_future_is_waited_for(self) -> None:
        """What comes until then is had; the end is when the clock passes it."""
        start = self.clock.seconds()
        since, until = (format_time(round((start + second) * 1_000_000)) for second in (0, 20))
        reader = self.get(f"since={since}&until={until}")
        ids = self.timed(1, 21, 20)
        self.wires.advance(19)
        self.assertEqual((reader.ids(), reader.has_ended), ([ids[0], ids[2]], False))
        self.wires.advance(2)
        self.assertFalse(reader.has_ended, "an event of that time may be on its way")
        self.wires.advance(2)
        self.assertTrue(reader.has_ended)

    def test_does_not_end_while_something_of_that_time_is_sought(self) -> None:
        """A clean end says that this was all; it waits for a gap to be settled, and for what is held."""
        start = self.clock.seconds()
        since, until = (format_time(round((start + second) * 1_000_000)) for second in (0, 20))
        self.paper.mark_upstream_up()
        (first,) = self.timed(1)
        self.paper.mark_upstream_down("lost")
        self.wires.advance(30)
        reader = self.get(f"since={since}&until={until}")
        self.assertEqual((reader.ids(), reader.has_ended), ([first], False))
        self.paper.start_buffering()
        self.paper.mark_upstream_up()
        self.paper.gaps.settle(GapOutcome.RECOVERED)
        self.wires.advance(5)
        self.assertFalse(reader.has_ended)
        (late,) = self.timed(-20)
        self.paper.stop_buffering()
        self.wires.advance(5)
        self.assertEqual((reader.ids(), reader.has_ended), ([first, late], True))

    def test_does_not_end_on_a_node_that_is_cut_off_from_the_log(self) -> None:
        """Another node may have written more of that time; it comes before the end."""
        redis = SyncRedis(self.clock)
        leader = leading_journal(redis)
        links = redis.make_client(), redis.make_client()
        journal = RedisJournal(
            "paper", links, "reader", self.clock, base_url=BASE_URL, max_age=DAY, max_events=1000
        )
        self.paper = Account("paper", journal, self.clock)
        self.paper.open()
        for each in (leader, journal):
            self.addCleanup(each.close)
        self.site = build_site(
            {"paper": self.paper}, self.factory, Admission((), (), Tokens(())), self.clock
        )
        start = round(self.clock.seconds() * 1_000_000)
        missed = event(1, at=format_time(start + 1_000_000))
        for link in links:
            link.cut()
        leader.append([missed])
        reader = self.get(f"since={format_time(start)}&until={format_time(start + 2_000_000)}")
        self.wires.advance(10)
        self.assertEqual((reader.ids(), reader.has_ended), ([], False))
        for link in links:
            link.restore()
        self.wires.advance(5)
        self.assertEqual((reader.ids(), reader.has_ended), ([event_id_of(1)], True))

    def test_what_cannot_be_had_is_told_before_the_response_begins(self) -> None:
        """400 for what cannot be read, 410 for a position, 404 for an end, each with a line."""
        gone = "position unknown: no such event is in the journal: it never was, or is no longer kept\n"
        for query, status, line in (
            ("replay=x", 400, "replay: is not a number from 0 to 1000000\n"),
            ("until_id=1", 400, "until_id: needs since_id\n"),
            ("since_id=nonsense", 410, gone),
            (
                f"since_id={self.ids[1]}&until_id=nonsense",
                404,
                "until_id: no such event is in the journal: it never was, or is no longer kept\n",
            ),
        ):
            answer = self.request(f"{PATH}?{query}")
            self.assertEqual((answer.status, answer.body), (status, line))
        self.assertEqual(self.request(PATH, Last_Event_ID="nonsense").body, gone)
        self.assertEqual(self.request("/desk/v2/events/trades").status, 404)

    def test_a_place_where_events_were_not_kept_breaks_it_off_once(self) -> None:
        """A browser comes back with the last id before it, and is then told for good."""
        self.disk.refuse_writing()
        for n in range(100, 118):
            self.publish(self.paper, event(n, note="x" * 1_000_000).payload)
        self.disk.refuse_writing(False)
        self.wires.advance(2)
        reader = self.get(f"since_id={self.ids[8]}")
        self.assertTrue(reader.raw.gone)
        self.assertFalse(reader.has_ended)
        last = re.findall("^id: (.*)$", reader.text, re.MULTILINE)[-1]
        answer = self.request(PATH, Last_Event_ID=last)
        self.assertEqual(
            (answer.status, answer.body),
            (410, "position unknown: events at this place were not kept\n"),
        )


READY = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
EVENTS = b"GET /paper/v2/events/trades?replay=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n"


class SlowTests(EventsTestCase):
    """Clients that do not read."""

    def setUp(self) -> None:
        super().setUp()
        self.servers: list[NarrowTransport] = []
        self.wires.transport = self.narrow  # type: ignore[assignment]  # it is only called

    def narrow(self, protocol: Any, is_server: bool, **options: Any) -> NarrowTransport:
        """Return an end of a wire; the proxy's are kept."""
        transport = NarrowTransport(protocol, is_server, **options)
        if is_server:
            self.servers.append(transport)
        return transport

    def test_answers_before_it_that_nobody_reads_count_too(self) -> None:
        """Over TLS Twisted says only once that the transport is full: to who came before, in a pipeline."""
        self.publish(self.paper, *[event(n, note="x" * 1000).payload for n in range(100, 1100)])
        client = RawClient()
        self.wires.join(self.site.buildProtocol(CLIENT), client)
        transport = self.servers[-1]
        transport.says_once = transport.blocked = True
        assert client.transport is not None
        client.transport.write(READY * 120 + EVENTS)
        self.wires.flush()
        self.assertLess(transport.held, 256 * 1024)

    def blocked(self, query: str = "") -> tuple[Reader, NarrowTransport]:
        """Return a client that reads no more, and the proxy's end of its wire."""
        reader = self.get(query)
        transport = self.servers[-1]
        transport.blocked = True
        return reader, transport

    def test_little_is_held_for_them(self) -> None:
        """And everything comes once they read."""
        reader, transport = self.blocked()
        self.publish(self.paper, *[event(n, note="x" * 1000).payload for n in range(100, 1100)])
        self.wires.advance(29)
        self.assertLess(transport.held, 64 * 1024 + STEP_BYTES + 4096)
        transport.blocked = False
        self.wires.flush()
        self.assertEqual(reader.ids(), [*map(event_id_of, range(100, 1100))])

    def test_are_dropped_after_half_a_minute(self) -> None:
        """Without a clean end, so that they come back."""
        reader, _ = self.blocked()
        self.publish(self.paper, *[event(n, note="x" * 1000).payload for n in range(100, 300)])
        self.wires.advance(30.1)
        self.assertTrue(reader.raw.gone)
        self.assertFalse(reader.has_ended)
        self.assertEqual(len(self.factory.clients), 0)
        self.assertEqual(len(self.paper.broadcaster), 0)

    def test_are_dropped_when_their_place_is_gone(self) -> None:
        """They are told so when they come back."""
        reader, transport = self.blocked()
        self.publish(self.paper, *[event(n, note="x" * 1000).payload for n in range(100, 300)])
        self.paper.journal.first = self.paper.journal.last
        transport.blocked = False
        self.wires.flush()
        self.assertTrue(reader.raw.gone)
        self.assertFalse(reader.has_ended)

    def test_the_end_of_time_finds_them_later(self) -> None:
        """What is owed up to then comes first."""
        now = round(self.clock.seconds() * 1_000_000)
        reader, transport = self.blocked(
            f"since={format_time(now)}&until={format_time(now + 20_000_000)}"
        )
        at = format_time(now + 1)
        self.publish(
            self.paper, *[event(n, note="x" * 1000, at=at).payload for n in range(100, 300)]
        )
        self.wires.advance(25)
        transport.blocked = False
        self.wires.flush()
        self.assertEqual((len(reader.ids()), reader.has_ended), (200, True))


class ServiceTests(EventsTestCase):
    """They are clients like the others."""

    limits = Limits(max_clients=2)

    def test_count_against_the_limit(self) -> None:
        """503, until one leaves."""
        reader = self.get()
        self.connect()
        self.assertEqual(self.request(PATH).status, 503)
        self.assertEqual(self.upgrade().status, 503)
        self.assertEqual(len(self.paper.broadcaster), 2)
        assert reader.raw.transport is not None
        reader.raw.transport.loseConnection()
        self.wires.advance(1)
        self.assertEqual(len(self.paper.broadcaster), 1)
        self.assertEqual(self.request(PATH).status, 200)

    def test_are_dropped_when_the_proxy_stops(self) -> None:
        """Without a clean end, after which the Go SDK would never come back."""
        reader = self.get("replay=3")
        stopped = self.service.stopService()
        self.wires.flush()
        self.successResultOf(stopped)
        self.assertEqual(
            (reader.ids(), reader.raw.gone, reader.has_ended), (self.ids[7:10], True, False)
        )

    def test_one_that_does_not_go_is_dropped(self) -> None:
        """After two seconds."""
        self.wires.transport = LingeringTransport
        self.get()
        stopped = self.service.stopService()
        self.wires.advance(1.9)
        self.assertNoResult(stopped)
        self.wires.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(len(self.factory.clients), 0)


class DoorTests(EventsTestCase):
    """Who may have them."""

    tokens = ("open-sesame",)
    origins = ("https://desk.example",)

    def test_the_token_is_in_the_headers(self) -> None:
        """No auth message can follow, whatever the request says of an upgrade."""
        self.assertEqual(self.request(PATH).status, 401)
        self.assertEqual(self.upgrade(PATH).status, 401)
        for headers in (
            {"Authorization": "Bearer open-sesame"},
            {"APCA_API_SECRET_KEY": "open-sesame"},
        ):
            self.assertEqual(self.request(PATH, **headers).status, 200)

    def test_a_page_of_another_site_gets_nothing(self) -> None:
        """With its Origin, or as an image without one; an allowed one may read what it gets."""
        token = {"Authorization": "Bearer open-sesame"}
        for headers in ({"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
            for path in (PATH, "/healthz"):
                self.assertEqual(self.request(path, **headers, **token).status, 403, headers)
        answer = self.request(PATH, Origin="https://desk.example", **token)
        self.assertEqual(answer.status, 200)
        self.assertIn(b"Access-Control-Allow-Origin: https://desk.example\r\n", answer.received)
