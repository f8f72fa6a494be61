"""Tests of trade events as server-sent events: in memory, but for what only a kernel can show."""

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
    """Return the time some seconds after the start of a test; the start is at 08:00:00."""
    return f"2027-01-15T08:00:{seconds:02}Z"


class FeedTests(HttpTestCase):
    """GET /v2/events/trades."""

    def test_begins_with_a_welcome(self) -> None:
        """The head and a comment come at once, then nothing; the clock is the simulator's."""
        response = self.read()
        self.assertEqual((response.status, response.text), (200, ": welcome\n\n"))
        self.assertEqual(response.header("Content-Type"), "text/event-stream")
        self.assertEqual(response.header("Date"), "Fri, 15 Jan 2027 08:00:00 GMT")
        self.assertFalse(response.ended)

    def test_an_event_is_a_line(self) -> None:
        """It is the `data` object of the stream, the same bytes, and a blank line follows."""
        response = self.read()
        self.simulator.emit_payload(b'{"data":{ "n":"\xc3\xa9",\n"m":1 },"stream":"trade_updates"}')
        self.simulator.emit_payload(b'{"stream":"trade_updates","data":null}')
        self.simulator.emit({"event": "new"})
        self.flush()
        self.assertEqual(
            response.text, ': welcome\n\ndata: { "n":"é", "m":1 }\n\ndata: {"event":"new"}\n\n'
        )

    def test_history_and_then_live(self) -> None:
        """What nobody heard is told, then what happens, with no seam."""
        self.emit(*IDS[:2])
        self.listener()
        self.inject(FaultKind.SILENCE)
        self.emit(IDS[2])
        response = self.read(since_id=IDS[0])
        self.emit(*IDS[3:])
        self.assertEqual(response.ids, IDS[1:])
        self.assertEqual(self.read(since=EPOCH).ids, IDS)

    def test_tells_of_the_exchange(self) -> None:
        """Orders and bursts are in the history as they were on the stream."""
        client = self.listener()
        self.simulator.apply(self.simulator.exchange.submit(market()))
        self.advance(1)
        self.inject(FaultKind.BURST, count=4)
        names = client.events()
        self.assertEqual(len(names), 6)
        self.assertEqual([event["event"] for event in self.read(since=in_seconds(0)).events], names)

    def test_ends_where_it_is_to_end(self) -> None:
        """Reaching the end of the past ends the response as HTTP has it."""
        self.emit(*IDS)
        response = self.read(since_id=IDS[1], until_id=IDS[3])
        self.assertEqual((response.ids, response.ended), (IDS[2:4], True))
        self.assertEqual(len(self.simulator.feeds), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waits_for_an_end_that_is_to_come(self) -> None:
        """What happens in the very moment of `until` belongs to it; then the clock passes it."""
        response = self.read(since=in_seconds(0), until=in_seconds(20))
        self.emit(IDS[0])
        self.advance(20)
        self.emit(IDS[1])
        self.assertFalse(response.ended)
        self.advance(0.01)
        self.assertEqual((response.ids, response.ended), (IDS[:2], True))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_says_that_it_is_there(self) -> None:
        """A comment comes every 15 seconds, until the client is gone."""
        response = self.read()
        self.advance(31)
        self.assertEqual(response.lines, [": welcome", ": heartbeat", ": heartbeat"])

    def test_forgets_a_client_that_is_gone(self) -> None:
        """Whether it was being told something or held back, nothing of it remains."""
        self.inject(FaultKind.HISTORY_DELAY, delay=5)
        for _ in range(2):
            client = RawClient()
            self.wires.join(ApiSite(self.simulator).buildProtocol(CLIENT), client)
            assert client.transport is not None
            client.transport.write(b"GET /v2/events/trades HTTP/1.1\r\nHost: x\r\n\r\n")
            self.wires.flush()
            self.assertEqual(len(self.simulator.feeds), 1)
            client.transport.loseConnection()
            self.wires.flush()
            self.assertEqual(len(self.simulator.feeds), 0)
            self.emit(IDS[0])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_is_cut_off_at_the_end(self) -> None:
        """When the simulator ends, so do its responses, in the middle, and those held back."""
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

    def test_refuses_what_makes_no_sense(self) -> None:
        """The answer is 400 and JSON, and it names the parameter."""
        response = self.read(until=in_seconds(1))
        self.assertEqual((response.status, response.ended), (400, True))
        self.assertEqual(response.json, {"code": 40010001, "message": "until needs since"})


class FeedFaultTests(HttpTestCase):
    """What can be made to go wrong with the history."""

    def setUp(self) -> None:
        super().setUp()
        self.emit(*IDS[:5])

    def test_refuse(self) -> None:
        """So many requests get the status, and nothing else of the API is affected."""
        self.inject(FaultKind.HISTORY_REFUSE, count=2)
        self.inject(FaultKind.THROTTLE)
        self.assertEqual(self.read().json["code"], 40310000)
        self.assertEqual(self.get("/v2/account").status, 200)
        self.assertEqual(self.read(until=EPOCH).status, 403)
        self.assertEqual(self.read().status, 200)

    def test_refuse_as_too_many(self) -> None:
        """Any status of an error can be had for a time, with Retry-After."""
        self.inject(FaultKind.HISTORY_REFUSE, status=429, retry_after=7, seconds=10)
        response = self.read()
        self.assertEqual((response.status, response.header("Retry-After")), (429, "7"))
        self.advance(10)
        self.assertEqual(self.read().status, 200)

    def test_delay(self) -> None:
        """Nothing at all is answered for a while, and then what there is by then."""
        self.inject(FaultKind.HISTORY_DELAY, delay=5)
        response = self.read(since_id=IDS[3])
        self.advance(4.9)
        self.assertEqual(response.status, 0)
        self.emit(IDS[5])
        self.advance(0.1)
        self.assertEqual((response.status, response.ids), (200, IDS[4:]))
        self.assertEqual(response.header("Date"), "Fri, 15 Jan 2027 08:00:05 GMT")
        self.assertEqual(self.read(since_id=IDS[3]).ids, IDS[4:])

    def test_delay_of_a_refusal(self) -> None:
        """A refusal is held back too, and is then a complete answer."""
        self.inject(FaultKind.HISTORY_DELAY, delay=5, count=2)
        self.inject(FaultKind.HISTORY_REFUSE)
        refused, senseless = self.read(), self.read(since="x")
        self.advance(5)
        self.assertEqual(
            (refused.status, refused.ended, refused.json["code"]), (403, True, 40310000)
        )
        self.assertEqual((senseless.status, senseless.ended), (400, True))

    def test_truncate(self) -> None:
        """After so many events the connection ends, and the client can tell that this is no end."""
        self.inject(FaultKind.HISTORY_TRUNCATE, events=3)
        response = self.read(since=EPOCH)
        self.assertEqual(response.ids, IDS[:3])
        assert response.failure is not None
        response.failure.trap(ResponseFailed)
        self.assertEqual((len(self.simulator.feeds), self.clock.getDelayedCalls()), (0, []))
        self.assertIsNone(self.read(since=EPOCH).failure)

    def test_truncate_live(self) -> None:
        """Events yet to come count as well; responses under way before the order are not affected."""
        before = self.read()
        self.inject(FaultKind.HISTORY_TRUNCATE, events=6)
        response = self.read(since=EPOCH)
        self.assertIsNone(response.failure)
        self.emit(IDS[5])
        self.assertIsNotNone(response.failure)
        self.assertEqual((response.ids, before.ids, before.failure), (IDS, IDS[5:], None))

    def test_drop(self) -> None:
        """In the middle there is Alpaca's comment on a loss, and the loss."""
        self.inject(FaultKind.HISTORY_DROP, events=1, dropped=2)
        lines = self.read(since=EPOCH).lines
        self.assertEqual(lines[2], ": you are reading too slowly, dropped 2 messages")
        self.assertEqual([line[:4] for line in lines], [": we", "data", ": yo", "data", "data"])


class SocketTests(SocketTestCase):
    """The feed on a real socket."""

    async def read(self, **parameters: str) -> tuple[Response, Any]:
        """Begin to read; return the response, and a Deferred that fires at its end."""
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        url = f"http://127.0.0.1:{self.alpaca_port}/v2/events/trades"
        response = Response()
        ended = response.begin(await HTTPClient(agent).get(url, params=parameters))
        return response, ended

    async def test_writes_no_more_than_is_taken(self) -> None:
        """What a transport does not take waits in the history, and what that forgets is told as a loss."""
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

    async def test_a_large_history_is_truncated_where_it_was_ordered(self) -> None:
        """All that was written before the cut arrives, however much it is."""
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
