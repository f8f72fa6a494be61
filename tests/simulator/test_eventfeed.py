"""Tests of trade events as server-sent events: in memory, and on real sockets."""

from __future__ import annotations

from typing import Any

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed

from tests.simulator.support import HttpTestCase, Response, ulid
from tests.simulator.test_exchange import market
from tests.support.memory import CLIENT
from tests.support.proxy import RawClient
from tests.support.sockets import SocketTestCase
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.history import EventHistory
from tradeproxy.simulator.web import ApiSite

START = 1_800_000_000
EPOCH, BEGINNING = "1970-01-01T00:00:00Z", ulid(0, 0)
IDS = [ulid(number) for number in range(6)]


def in_seconds(seconds: int) -> str:
    """Return the time some seconds after the start of a test, 08:00:00."""
    return f"2027-01-15T08:00:{seconds:02}Z"


class FeedTests(HttpTestCase):
    """GET /v2/events/trades."""

    def test_response_starts_with_welcome(self) -> None:
        """Headers and a comment come immediately; the clock is the simulator's."""
        response = self.read()
        self.assertEqual((response.status, response.text), (200, ": welcome\n\n"))
        self.assertEqual(response.header("Content-Type"), "text/event-stream")
        self.assertEqual(response.header("Date"), "Fri, 15 Jan 2027 08:00:00 GMT")
        self.assertFalse(response.ended)

    def test_event_is_one_data_line(self) -> None:
        """It has the bytes of the stream's `data` object, and a blank line follows."""
        response = self.read()
        self.simulator.emit({"n": "é\n"})
        self.simulator.send_payload(b'{"stream":"trade_updates","data":null}')
        self.simulator.emit({"event": "new"})
        self.flush()
        self.assertEqual(
            response.text,
            ': welcome\n\ndata: {"n":"\\u00e9\\n"}\n\ndata: {"event":"new"}\n\n',
        )

    def test_history_precedes_live_events(self) -> None:
        """Past events come first, then live ones, without a gap."""
        self.emit(*IDS[:2])
        self.listener()
        self.inject(FaultKind.SILENCE)
        self.emit(IDS[2])
        response = self.read(since_id=IDS[0])
        self.emit(*IDS[3:])
        self.assertEqual(response.ids, IDS[1:])
        self.assertEqual(self.read(since=EPOCH).ids, IDS)

    def test_orders_and_bursts_are_in_history(self) -> None:
        """The history has the events of the stream."""
        client = self.listener()
        self.simulator.apply(self.simulator.exchange.submit(market()))
        self.advance(1)
        self.inject(FaultKind.BURST, count=4)
        names = client.events()
        self.assertEqual(len(names), 6)
        self.assertEqual([event["event"] for event in self.read(since=in_seconds(0)).events], names)

    def test_past_end_completes_response(self) -> None:
        """A range in the past ends with a complete HTTP response."""
        self.emit(*IDS)
        response = self.read(since_id=IDS[1], until_id=IDS[3])
        self.assertEqual((response.ids, response.ended), (IDS[2:4], True))
        self.assertEqual(len(self.simulator.feeds), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_future_until_completes_after_it(self) -> None:
        """The range includes the time `until`."""
        response = self.read(since=in_seconds(0), until=in_seconds(20))
        self.emit(IDS[0])
        self.advance(20)
        self.emit(IDS[1])
        self.assertFalse(response.ended)
        self.advance(0.01)
        self.assertEqual((response.ids, response.ended), (IDS[:2], True))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_heartbeat_every_15_seconds(self) -> None:
        """Heartbeats stop when the client disconnects."""
        response = self.read()
        self.advance(31)
        self.assertEqual(response.lines, [": welcome", ": heartbeat", ": heartbeat"])

    def test_disconnect_releases_the_response(self) -> None:
        """An open and a delayed response leave nothing behind."""
        self.inject(FaultKind.HISTORY_DELAY, delay=5)
        for _ in range(2):
            client = RawClient()
            self.wires.join(ApiSite(self.simulator).buildProtocol(CLIENT), client)
            assert client.transport is not None
            client.transport.write(b"GET /v2/events/trades HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.wires.flush()
            self.assertEqual(len(self.simulator.feeds), 1)
            client.transport.loseConnection()
            self.wires.flush()
            self.assertEqual(len(self.simulator.feeds), 0)
            self.emit(IDS[0])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_aborts_all_responses(self) -> None:
        """The simulator's stop aborts open and delayed responses."""
        first = self.read()
        self.inject(FaultKind.HISTORY_DELAY, delay=5)
        second = self.read()
        self.successResultOf(self.simulator.stop())
        self.flush()
        for response, status in ((first, 200), (second, 0)):
            self.assertEqual(response.status, status)
            assert response.failure is not None
            response.failure.trap(ResponseFailed)
        self.assertEqual((len(self.simulator.feeds), self.clock.getDelayedCalls()), (0, []))

    def test_invalid_range_returns_400(self) -> None:
        """The response is JSON and names the parameter."""
        response = self.read(until=in_seconds(1))
        self.assertEqual((response.status, response.ended), (400, True))
        self.assertEqual(response.json, {"code": 40010001, "message": "until needs since"})


class FeedFaultTests(HttpTestCase):
    """Faults of the history."""

    def setUp(self) -> None:
        super().setUp()
        self.emit(*IDS[:5])

    def test_history_refuse_affects_count_requests(self) -> None:
        """`count` requests get the status; the rest of the API is unaffected."""
        self.inject(FaultKind.HISTORY_REFUSE, count=2)
        self.inject(FaultKind.THROTTLE)
        self.assertEqual(self.read().json["code"], 40310000)
        self.assertEqual(self.get("/v2/account").status, 200)
        self.assertEqual(self.read(until=EPOCH).status, 403)
        self.assertEqual(self.read().status, 200)

    def test_history_refuse_for_seconds_sends_retry_after(self) -> None:
        """Any error status is possible, with Retry-After."""
        self.inject(FaultKind.HISTORY_REFUSE, status=429, retry_after=7, seconds=10)
        response = self.read()
        self.assertEqual((response.status, response.header("Retry-After")), (429, "7"))
        self.advance(10)
        self.assertEqual(self.read().status, 200)

    def test_history_delay_postpones_the_response(self) -> None:
        """The response then includes newer events."""
        self.inject(FaultKind.HISTORY_DELAY, delay=5)
        response = self.read(since_id=IDS[3])
        self.advance(4.9)
        self.assertEqual(response.status, 0)
        self.emit(IDS[5])
        self.advance(0.1)
        self.assertEqual((response.status, response.ids), (200, IDS[4:]))
        self.assertEqual(response.header("Date"), "Fri, 15 Jan 2027 08:00:05 GMT")
        self.assertEqual(self.read(since_id=IDS[3]).ids, IDS[4:])

    def test_history_delay_of_error_is_complete(self) -> None:
        """A delayed error is a complete response."""
        self.inject(FaultKind.HISTORY_DELAY, delay=5, count=2)
        self.inject(FaultKind.HISTORY_REFUSE)
        refused, senseless = self.read(), self.read(since="x")
        self.advance(5)
        self.assertEqual(
            (refused.status, refused.ended, refused.json["code"]), (403, True, 40310000)
        )
        self.assertEqual((senseless.status, senseless.ended), (400, True))

    def test_history_truncate_is_an_incomplete_response(self) -> None:
        """The client can see that the response is incomplete."""
        self.inject(FaultKind.HISTORY_TRUNCATE, events=3)
        response = self.read(since=EPOCH)
        self.assertEqual(response.ids, IDS[:3])
        assert response.failure is not None
        response.failure.trap(ResponseFailed)
        self.assertEqual((len(self.simulator.feeds), self.clock.getDelayedCalls()), (0, []))
        self.assertIsNone(self.read(since=EPOCH).failure)

    def test_history_truncate_counts_live_events(self) -> None:
        """Earlier responses are unaffected."""
        before = self.read()
        self.inject(FaultKind.HISTORY_TRUNCATE, events=6)
        response = self.read(since=EPOCH)
        self.assertIsNone(response.failure)
        self.emit(IDS[5])
        self.assertIsNotNone(response.failure)
        self.assertEqual((response.ids, before.ids, before.failure), (IDS, IDS[5:], None))

    def test_history_not_sse_is_any_body(self) -> None:
        """By default it is a web page; the next response is a feed."""
        error = '{"code":50010000,"message":"internal server error"}'
        for details, content_type, body in (
            ({}, "text/html", "<html><body>Please try again later.</body></html>"),
            ({"content_type": "text/event-stream", "body": error}, "text/event-stream", error),
        ):
            self.inject(FaultKind.HISTORY_NOT_SSE, **details)
            response = self.read(since=EPOCH)
            self.assertEqual((response.status, response.ended), (200, True))
            self.assertEqual((response.header("Content-Type"), response.text), (content_type, body))
            self.assertIsNotNone(response.header("Date"))
        self.assertEqual(self.read(since=EPOCH).ids, IDS[:5])

    def test_history_hang_sends_nothing(self) -> None:
        """Not even headers come; other requests are unaffected."""
        self.inject(FaultKind.HISTORY_HANG)
        response = self.read(since=EPOCH)
        self.advance(1_000)
        self.assertEqual((response.status, response.failure), (0, None))
        self.assertEqual(len(self.simulator.feeds), 1)
        self.assertEqual(self.read(since=EPOCH).ids, IDS[:5])
        self.simulator.feeds.close_all()
        self.flush()
        self.assertIsNotNone(response.failure)

    def test_history_stall_sends_headers_and_some_events(self) -> None:
        """Neither a heartbeat, nor a live event, nor the end follows."""
        until = in_seconds(5)
        for events, lines in ((0, []), (2, [": welcome", "data", "data"])):
            self.inject(FaultKind.HISTORY_STALL, events=events)
            response = self.read(since=EPOCH, until=until)
            self.emit(IDS[5])
            self.advance(1_000)
            self.assertEqual(
                (response.status, response.ended, response.failure), (200, False, None)
            )
            self.assertEqual([line.partition(": {")[0] for line in response.lines], lines)

    def test_history_drop_reports_and_omits_events(self) -> None:
        """Alpaca's comment reports the loss."""
        self.inject(FaultKind.HISTORY_DROP, events=1, dropped=2)
        lines = self.read(since=EPOCH).lines
        self.assertEqual(lines[2], ": you are reading too slowly, dropped 2 messages")
        self.assertEqual([line[:4] for line in lines], [": we", "data", ": yo", "data", "data"])


class SocketTests(SocketTestCase):
    """The feed on a real socket."""

    async def read(self, **parameters: str) -> tuple[Response, Any]:
        """Start to read; return the response, and a Deferred that fires at its end."""
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        url = f"http://127.0.0.1:{self.alpaca_port}/v2/events/trades"
        response = Response()
        ended = response.begin(await HTTPClient(agent).get(url, params=parameters))
        return response, ended

    async def test_slow_client_loses_and_learns_the_count(self) -> None:
        """Unsent events wait in the history; events that it drops are reported as a loss."""
        alpaca = await self.simulate(history=EventHistory(events_kept=500))
        last = ulid(0, 2**48 - 1)
        response, ended = await self.read(since_id=BEGINNING, until_id=last)
        for number in range(2000):
            alpaca.emit({"event_id": ulid(number), "filling": "x" * 1000})
        alpaca.emit({"event_id": last})
        await ended
        self.assertTrue(response.ended)
        [loss] = [line for line in response.lines if "reading too slowly" in line]
        lost = int(loss.split()[-2])
        self.assertGreater(lost, 1000)
        self.assertEqual(len(response.ids) + lost, 2001)
        self.assertEqual(response.ids, sorted(set(response.ids)))
        self.assertEqual(len(alpaca.feeds), 0)

    async def test_truncated_large_history_arrives_up_to_the_cut(self) -> None:
        """All bytes before the cut arrive."""
        alpaca = await self.simulate()
        for number in range(3000):
            alpaca.emit({"event_id": ulid(number), "filling": "x" * 1000})
        alpaca.inject(Fault(FaultKind.HISTORY_TRUNCATE, events=2500))
        response, ended = await self.read(since_id=BEGINNING)
        await ended
        self.assertEqual(response.ids, [ulid(number) for number in range(2500)])
        assert response.failure is not None
        response.failure.trap(ResponseFailed)
        self.assertEqual(len(alpaca.feeds), 0)
