"""Server-sent events through the site, in memory and in fake time."""

from __future__ import annotations

import re

from tests.support.frames import AUTH, FILL
from tests.support.journals import BASE_URL, DAY, dates_of, event, event_id_of
from tests.support.memory import CLIENT, LingeringTransport
from tests.support.proxy import RawClient
from tests.support.redisjournals import leading_journal
from tests.support.redislog import SyncRedis
from tests.support.sse import PATH, NarrowSseCase, SseTestCase
from tradeproxy.cluster.redis_journal import RedisJournal
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.log_reader import STEP_BYTES
from tradeproxy.hub.account import Account
from tradeproxy.journal.metadata import OPEN_SINCE, UNKNOWN
from tradeproxy.web.site import build_site
from tradeproxy.wire.event import format_time
from tradeproxy.wire.frame import Recovered, frame_event, with_mark
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import GapOutcome


class SseFormatTests(SseTestCase):
    """The bytes of a response."""

    def test_response_begins_with_headers_and_a_heartbeat(self) -> None:
        """The headers forbid caching and buffering on the way to the client."""
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
            self.assertEqual(reader.text, self.heartbeat(10))

    def test_event_is_its_cursor_and_one_line_of_data(self) -> None:
        """The data is Alpaca's data object, byte for byte."""
        reader = self.get()
        reader.taken()
        self.publish(self.paper, FILL)
        data = FILL.partition(b'"data":')[2].strip()[:-1].decode()
        self.assertEqual(reader.taken(), f"id: {self.cursor(11)}\ndata: {data}\n\n")
        self.assertIn(b'"data":' + data.encode(), FILL)

    def test_event_line_ends_become_blanks(self) -> None:
        """White space between JSON tokens may be replaced by other white space."""
        reader = self.get()
        reader.taken()
        self.publish(
            self.paper, b'{"stream":"trade_updates",\r\n"data":{"event_id":"1",\n\r"x":[1,\n2]}}'
        )
        self.assertEqual(reader.taken().splitlines()[1], 'data: {"event_id":"1",  "x":[1, 2]}')

    def test_recovered_event_has_a_comment_before_it(self) -> None:
        """No SDK mistakes a comment for an event."""
        reader = self.get()
        reader.taken()
        for n, mark in enumerate(Recovered):
            data = b'{"event_id":"%d"}' % n
            update = parse_server(with_mark(frame_event(data), mark))
            assert isinstance(update, TradeUpdate)
            self.paper.publish(update.event)
            self.wires.flush()
            cursor = self.cursor(11 + n)
            expected = f': recovered {mark.value}\nid: {cursor}\ndata: {{"event_id":"{n}"}}\n\n'
            self.assertEqual(reader.taken(), expected)

    def test_unknown_recovered_value_makes_no_comment(self) -> None:
        """Alpaca may use the same name for any value."""
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

    def test_event_not_durable_has_no_id(self) -> None:
        """A browser then resumes from the event before, and gets this one again."""
        reader = self.get()
        reader.taken()
        self.disk.refuse_writing()
        self.publish(self.paper, self.events[10])
        self.assertTrue(reader.taken().startswith("data: "))

    def test_idle_stream_has_a_heartbeat_every_15_seconds(self) -> None:
        """It is sent as long as the client reads."""
        reader = self.get()
        reader.taken()
        for _ in range(4):
            self.wires.advance(14.5)
            self.assertEqual(reader.taken(), "")
            self.wires.advance(0.5)
            self.assertEqual(reader.taken(), self.heartbeat(10))

    def test_head_gets_headers_and_other_methods_405(self) -> None:
        """HEAD makes no client."""
        answer = self.request(PATH, method="HEAD")
        self.assertEqual((answer.status, answer.body), (200, ""))
        self.assertIn(b"text/event-stream", answer.received)
        self.assertEqual(self.request(PATH + "?since=x", method="HEAD").status, 400)
        self.assertEqual(self.request(PATH, method="POST").status, 405)
        self.assertEqual(len(self.factory.clients), 0)

    def test_websocket_upgrade_gets_400_with_a_hint(self) -> None:
        """Without an answer it would wait for an upgrade that never happens."""
        answer = self.upgrade(PATH)
        self.assertEqual(answer.status, 400)
        self.assertIn("server-sent events", answer.body)


class SseRangeTests(SseTestCase):
    """The beginning and the end of a response."""

    def test_range_without_position_is_live_only(self) -> None:
        """This is what Alpaca does."""
        reader = self.get()
        self.publish(self.paper, *self.events[10:12])
        self.assertEqual(reader.ids(), self.ids[10:12])

    def test_range_from_a_position_continues_live(self) -> None:
        """This holds for each form of position. Last-Event-ID takes precedence."""
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

    def test_range_until_id_ends_cleanly_with_that_event(self) -> None:
        """The response is empty if the end is not after the beginning."""
        for begin, end in ((2, 5), (2, 9), (5, 5), (5, 2), (9, 9), (9, 2)):
            reader = self.get(f"since_id={self.ids[begin]}&until_id={self.ids[end]}")
            self.assertEqual(
                (reader.ids(), reader.has_ended), (self.ids[begin + 1 : end + 1], True)
            )
        self.assertEqual(len(self.factory.clients), 0)
        self.assertEqual(len(self.paper.broadcaster), 0)

    def test_range_clean_end_keeps_the_connection(self) -> None:
        """HTTP/1.1 allows another request on it."""
        reader = self.get(f"since_id={self.ids[0]}&until_id={self.ids[1]}")
        self.assertFalse(reader.raw.gone)
        assert reader.raw.transport is not None
        reader.raw.received = b""
        reader.raw.transport.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.wires.flush()
        self.assertEqual(reader.raw.status, 200)

    def publish_timed(self, *seconds: int) -> list[str]:
        """Publish events with times some seconds from now, and return their ids."""
        now = round(self.clock.seconds() * 1_000_000)
        numbers = [500 + second for second in seconds]
        for n, second in zip(numbers, seconds, strict=True):
            self.publish(self.paper, event(n, at=format_time(now + second * 1_000_000)).payload)
        return [*map(event_id_of, numbers)]

    def test_range_until_time_leaves_out_later_events(self) -> None:
        """An older event that arrived late is included."""
        start = self.clock.seconds()
        ids = self.publish_timed(1, 2, 4, 3, 5)
        since, until = (format_time(round((start + second) * 1_000_000)) for second in (2, 3))
        self.wires.advance(5)
        reader = self.get(f"since={since}&until={until}")
        self.assertEqual((reader.ids(), reader.has_ended), ([ids[1], ids[3]], True))

    def test_range_until_future_time_ends_after_that_time(self) -> None:
        """Live events up to that time are included."""
        start = self.clock.seconds()
        since, until = (format_time(round((start + second) * 1_000_000)) for second in (0, 20))
        reader = self.get(f"since={since}&until={until}")
        ids = self.publish_timed(1, 21, 20)
        self.wires.advance(19)
        self.assertEqual((reader.ids(), reader.has_ended), ([ids[0], ids[2]], False))
        self.wires.advance(2.5)
        self.assertFalse(reader.has_ended, "an event of that time may be on its way")
        self.wires.advance(0.5)
        self.assertTrue(reader.has_ended)

    def test_range_until_time_waits_for_an_open_gap(self) -> None:
        """A clean end means that nothing is missing. Buffered events are waited for, too."""
        start = self.clock.seconds()
        since, until = (format_time(round((start + second) * 1_000_000)) for second in (0, 20))
        self.paper.mark_upstream_up()
        (first,) = self.publish_timed(1)
        self.paper.mark_upstream_down("lost")
        self.wires.advance(30)
        reader = self.get(f"since={since}&until={until}")
        self.assertEqual((reader.ids(), reader.has_ended), ([first], False))
        self.paper.start_buffering()
        self.paper.mark_upstream_up()
        self.paper.gaps.settle(GapOutcome.RECOVERED)
        self.wires.advance(5)
        self.assertFalse(reader.has_ended)
        (late,) = self.publish_timed(-20)
        self.paper.stop_buffering()
        self.wires.advance(5)
        self.assertEqual((reader.ids(), reader.has_ended), ([first, late], True))

    def test_range_until_time_waits_for_a_gap_of_unknown_begin(self) -> None:
        """The gap may lie in the range."""
        self.paper.journal.set_metadata(OPEN_SINCE, UNKNOWN)
        start = self.clock.seconds()
        since, until = (format_time(round((start + second) * 1_000_000)) for second in (0, 20))
        self.paper.mark_upstream_up()
        self.wires.advance(30)
        reader = self.get(f"since={since}&until={until}")
        self.wires.advance(5)
        self.assertFalse(reader.has_ended)
        self.paper.gaps.settle(GapOutcome.LOST)
        self.wires.advance(5)
        self.assertTrue(reader.has_ended)

    def test_range_until_time_waits_for_the_shared_log(self) -> None:
        """Another node may have written events of that time."""
        redis = SyncRedis(self.clock)
        leader = leading_journal(redis)
        redis_clients = redis.make_client(), redis.make_client()
        journal = RedisJournal(
            "paper",
            redis_clients,
            "reader",
            self.clock,
            dates_of(self.clock),
            base_url=BASE_URL,
            max_age=DAY,
            max_events=1000,
        )
        self.paper = Account("paper", journal, self.clock)
        self.paper.open()
        for each in (leader, journal):
            self.addCleanup(each.close)
        self.site = build_site(
            {"paper": self.paper},
            self.factory,
            Admission((), (), Tokens(())),
            self.clock,
            self.clock.seconds,
        )
        start = round(self.clock.seconds() * 1_000_000)
        missed = event(1, at=format_time(start + 1_000_000))
        for redis_client in redis_clients:
            redis_client.cut()
        leader.append([missed])
        reader = self.get(f"since={format_time(start)}&until={format_time(start + 2_000_000)}")
        self.wires.advance(10)
        self.assertEqual((reader.ids(), reader.has_ended), ([], False))
        for redis_client in redis_clients:
            redis_client.restore()
        self.wires.advance(5)
        self.assertEqual((reader.ids(), reader.has_ended), ([event_id_of(1)], True))

    def test_range_unavailable_is_rejected_before_the_response(self) -> None:
        """A bad parameter is 400, an unknown position 410, an unknown end 404, each with a line."""
        not_found = "no such event is in the journal: it never was, or is no longer kept"
        lost = f"position unknown: {not_found}"
        for query, status, line in (
            ("replay=x", 400, "replay: is not a number from 0 to 1000000"),
            ("until_id=1", 400, "until_id: needs since_id"),
            ("since_id=nonsense", 410, lost),
            (
                f"since_id={self.ids[1]}&until_id=nonsense",
                404,
                f"until_id: {not_found}",
            ),
        ):
            answer = self.request(f"{PATH}?{query}")
            self.assertEqual((answer.status, answer.reason), (status, line))
        self.assertEqual(self.request(PATH, Last_Event_ID="nonsense").reason, lost)
        self.assertEqual(self.request("/desk/v2/events/trades").status, 404)


READY = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
EVENTS = b"GET /paper/v2/events/trades?replay=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n"


class SlowSseTests(NarrowSseCase):
    """Clients that do not read."""

    def test_slow_sse_pipelined_answers_count_as_buffered(self) -> None:
        """Over TLS Twisted reports a full transport once, to an earlier request of a pipeline."""
        self.publish_many(1000)
        client = RawClient()
        self.wires.join(self.site.buildProtocol(CLIENT), client)
        transport = self.servers[-1]
        transport.pauses_once = transport.blocked = True
        assert client.transport is not None
        client.transport.write(READY * 120 + EVENTS)
        self.wires.flush()
        self.assertLess(transport.buffered, 256 * 1024)

    def test_slow_sse_buffer_is_bounded(self) -> None:
        """All events are sent once the client reads."""
        reader, transport = self.get_blocked()
        self.publish_many(1000)
        self.wires.advance(29)
        self.assertLess(transport.buffered, 64 * 1024 + STEP_BYTES + 4096)
        transport.blocked = False
        self.wires.flush()
        self.assertEqual(reader.ids(), [*map(event_id_of, range(100, 1100))])

    def test_slow_sse_ids_are_never_ahead_of_the_events(self) -> None:
        """A heartbeat that overtook events would make the client skip them when it resumes."""
        reader, transport = self.get_blocked()
        self.publish_many(1000)
        self.wires.advance(20)
        transport.blocked = False
        self.wires.flush()
        self.wires.advance(15)
        ids = re.findall("^id: (.*)$", reader.text, re.MULTILINE)
        self.assertEqual(ids, [*map(self.cursor, range(10, 1011)), self.cursor(1010)])

    def test_slow_sse_stall_drops_without_a_clean_end(self) -> None:
        """So the client reconnects."""
        reader, _ = self.get_blocked()
        self.publish_many()
        self.wires.advance(30.1)
        self.assertTrue(reader.raw.gone)
        self.assertFalse(reader.has_ended)
        self.assertEqual(len(self.factory.clients), 0)
        self.assertEqual(len(self.paper.broadcaster), 0)

    def test_slow_sse_trimmed_position_drops(self) -> None:
        """A client that reconnects gets the reason."""
        reader, transport = self.get_blocked()
        self.publish_many()
        self.paper.journal.first = self.paper.journal.last
        transport.blocked = False
        self.wires.flush()
        self.assertTrue(reader.raw.gone)
        self.assertFalse(reader.has_ended)

    def test_slow_sse_until_time_ends_after_all_events(self) -> None:
        """Events up to that time are sent before the end."""
        now = round(self.clock.seconds() * 1_000_000)
        reader, transport = self.get_blocked(
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


class SseServiceTests(SseTestCase):
    """These responses are clients like all others."""

    limits = Limits(max_clients=2)

    def test_sse_clients_count_against_max_clients(self) -> None:
        """Above the limit the status is 503."""
        reader = self.get()
        self.say(self.connect(), AUTH)
        self.assertEqual(self.request(PATH).status, 503)
        self.assertEqual(self.upgrade().status, 503)
        self.assertEqual(len(self.paper.broadcaster), 2)
        assert reader.raw.transport is not None
        reader.raw.transport.loseConnection()
        self.wires.advance(1)
        self.assertEqual(len(self.paper.broadcaster), 1)
        self.assertEqual(self.request(PATH).status, 200)

    def test_stop_service_drops_sse_without_a_clean_end(self) -> None:
        """The Go SDK never reconnects after a clean end."""
        reader = self.get("replay=3")
        stopped = self.service.stopService()
        self.wires.flush()
        self.successResultOf(stopped)
        self.assertEqual(
            (reader.ids(), reader.raw.gone, reader.has_ended), (self.ids[7:10], True, False)
        )

    def test_stop_service_aborts_lingering_sse(self) -> None:
        """It does so after two seconds."""
        self.wires.transport = LingeringTransport
        self.get()
        stopped = self.service.stopService()
        self.wires.advance(1.9)
        self.assertNoResult(stopped)
        self.wires.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(len(self.factory.clients), 0)


class SseAdmissionTests(SseTestCase):
    """Requests that may get the events."""

    tokens = ("open-sesame",)
    origins = ("https://desk.example",)

    def test_sse_without_token_header_gets_401(self) -> None:
        """No auth message can follow, even if the request asks for an upgrade."""
        self.assertEqual(self.request(PATH).status, 401)
        self.assertEqual(self.upgrade(PATH).status, 401)
        for headers in (
            {"Authorization": "Bearer open-sesame"},
            {"APCA_API_SECRET_KEY": "open-sesame"},
        ):
            self.assertEqual(self.request(PATH, **headers).status, 200)

    def test_sse_from_a_foreign_page_gets_403(self) -> None:
        """This holds with an Origin or without. An allowed origin may read the response."""
        token = {"Authorization": "Bearer open-sesame"}
        for headers in ({"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
            for path in (PATH, "/healthz"):
                self.assertEqual(self.request(path, **headers, **token).status, 403, headers)
        answer = self.request(PATH, Origin="https://desk.example", **token)
        self.assertEqual(answer.status, 200)
        self.assertIn(b"Access-Control-Allow-Origin: https://desk.example\r\n", answer.received)
