"""Tests for tradeproxy.web.rest_proxy: clients that come again, go, or do not read, and the proxy's own end."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.web.server import NOT_DONE_YET, Request

from tests.support.proxy import NarrowTransport, RawClient
from tests.upstream.support import never
from tests.web.rest_case import ORDERS, RestTestCase, begun, message_of
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.clients import STOP_TIMEOUT
from tradeproxy.web.rest_proxy import STALL_TIMEOUT
from tradeproxy.web.site import IDLE_TIMEOUT


class ClientTests(RestTestCase):
    """The client's end."""

    limits = Limits(max_clients=1)

    def ends(self, answer: Any) -> list[str]:
        """Let a client go while it is answered, and return how the requests at Alpaca ended."""
        ended: list[str] = []

        def noting(request: Request) -> int:
            request.notifyFinish().addCallbacks(
                lambda _: ended.append("done"), lambda _: ended.append("lost")
            )
            rendered: int = answer(request)
            return rendered

        self.answer = noting
        client = self.request(ORDERS)
        self.assertEqual((ended, len(self.factory.clients)), ([], 1))
        self.leave(client)
        return ended

    def leave(self, client: RawClient) -> None:
        assert client.transport is not None
        client.transport.loseConnection()
        self.wires.flush()

    def test_a_client_that_goes_ends_what_it_asked_for(self) -> None:
        """Before and in the middle of the answer; nothing is left behind."""
        for answer in (never, begun):
            self.assertEqual(self.ends(answer), ["lost"])
            self.assertEqual(len(self.factory.clients), 0)
        self.assertEqual(self.late_calls(), 0)

    def test_a_client_that_goes_before_alpaca_is_reached_asks_nothing(self) -> None:
        """Nothing is sent for it later."""
        self.host.hanging = True
        client = self.request(ORDERS)
        self.leave(client)
        self.assertEqual((len(self.factory.clients), self.late_calls(), self.asked()), (0, 0, []))

    def late_calls(self) -> int:
        """Return how many timers there are that would run for a minute, as ours do."""
        now = self.clock.seconds()
        return sum(call.getTime() - now == STALL_TIMEOUT for call in self.clock.getDelayedCalls())

    def test_requests_count_as_clients(self) -> None:
        """While they are under way, and no longer."""
        self.answer = never
        waiting = self.request(ORDERS)
        refused = self.request(ORDERS)
        self.assertEqual(refused.status, 503)
        self.assertIn("PROXY_MAX_CLIENTS", message_of(refused))
        self.assertEqual(self.upgrade().status, 503)
        self.leave(waiting)
        self.answer = {}
        for _ in range(3):
            self.assertEqual(self.request(ORDERS).status, 200)
        self.assertEqual(self.upgrade().status, 101)
        self.assertEqual(self.request(ORDERS).status, 503)

    def test_a_connection_is_kept_for_the_next_order(self) -> None:
        """Longer than the usual pauses of bots, and not for ever."""
        client = self.request(ORDERS)
        self.wires.advance(IDLE_TIMEOUT - 1)
        self.assertFalse(client.gone)
        self.wires.advance(1.1)
        self.assertTrue(client.gone)

    def test_a_further_request_must_be_whole_in_time_too(self) -> None:
        """As the first one, from its first byte."""
        client = self.request(ORDERS)
        self.wires.advance(10)
        assert client.transport is not None
        for line in (b"GET /paper/v2/x HTTP/1.1\r\n", b"X: Y\r\n"):
            self.assertFalse(client.gone)
            client.transport.write(line)
            self.wires.advance(self.limits.handshake_timeout / 2 + 0.1)
        self.assertTrue(client.gone)

    def test_a_further_request_may_wait_for_the_answer_to_the_one_before(self) -> None:
        """The time limit of requests is not for answers."""
        self.answer = lambda request: never(request) if request.uri.endswith(b"never") else b""
        lines = [
            f"GET /paper/v2/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for name in ("x", "never", "x")
        ]
        client = self.write("".join(lines[:2]).encode())
        assert client.transport is not None
        client.transport.write(lines[2].encode())
        self.wires.advance(10)
        self.assertEqual(self.asked(), ["GET /v2/x", "GET /v2/never"])
        self.assertFalse(client.gone)


class StopTests(RestTestCase):
    """The proxy stops while a request is under way."""

    def test_it_has_its_answer_if_that_comes(self) -> None:
        """Nobody who has placed an order is left without knowing; new ones are not taken."""
        under_way: list[Request] = []

        def answer(request: Request) -> int:
            under_way.append(request)
            return NOT_DONE_YET

        self.answer = answer
        client = self.post(b"{}")
        stopped = self.service.stopService()
        self.wires.flush()
        self.assertNoResult(stopped)
        self.assertEqual(self.post(b"{}").status, 503)
        under_way[0].write(b"[]")
        under_way[0].finish()
        self.wires.flush()
        self.successResultOf(stopped)
        self.assertEqual((client.status, len(under_way)), (200, 1))

    def test_it_is_dropped_if_not(self) -> None:
        """The stop is bounded."""
        self.answer = never
        client = self.post(b"{}")
        stopped = self.service.stopService()
        self.wires.advance(STOP_TIMEOUT)
        self.successResultOf(stopped)
        self.wires.flush()
        self.assertTrue(client.gone)


class SlowTests(RestTestCase):
    """Clients that do not read."""

    says_once = False

    def setUp(self) -> None:
        super().setUp()
        self.transports: list[NarrowTransport] = []
        self.wires.transport = self.narrow  # type: ignore[assignment]

    def narrow(self, protocol: Any, is_server: bool, **options: Any) -> NarrowTransport:
        transport = NarrowTransport(protocol, is_server, **options)
        transport.says_once = self.says_once
        self.transports.append(transport)
        return transport

    def slow(self) -> tuple[RawClient, NarrowTransport, NarrowTransport, Request]:
        """Return a client that reads nothing of an answer, the proxy's two ends, and the answer."""
        under_way: list[Request] = []

        def answer(request: Request) -> int:
            under_way.append(request)
            return begun(request)

        self.answer = answer
        client = self.request(ORDERS)
        toward_client, _, _, toward_alpaca = self.transports
        toward_client.blocked = True
        return client, toward_client, toward_alpaca, under_way[0]

    def test_little_is_held_for_one(self) -> None:
        """Alpaca's end is read no faster than the client's; over TLS too, where a pause is asked for once."""
        for self.says_once in (False, True):
            self.transports.clear()
            client, toward_client, toward_alpaca, answer = self.slow()
            for _ in range(100):
                answer.write(b"x" * 10_000)
                self.wires.flush()
            self.assertLess(toward_client.held, 96 * 1024)
            self.assertFalse(toward_alpaca.is_reading)
            toward_client.blocked = False
            self.wires.flush()
            answer.finish()
            self.wires.flush()
            self.assertEqual(client.body.count("x"), 1_000_000)
            self.assertTrue(client.received.endswith(b"0\r\n\r\n"))

    def test_one_is_given_up(self) -> None:
        """After a minute, and so is the other end."""
        client, toward_client, _, answer = self.slow()
        ended = answer.notifyFinish()
        for _ in range(20):
            answer.write(b"x" * 10_000)
            self.wires.flush()
        self.wires.advance(STALL_TIMEOUT + 0.1)
        self.failureResultOf(ended, error.ConnectionDone)
        toward_client.blocked = False
        self.wires.flush()
        self.assertTrue(client.gone)
        self.assertEqual(len(self.factory.clients), 0)

    def test_one_that_reads_on_in_time_waits_for_alpaca_anew(self) -> None:
        """Its own pause is not taken for one of Alpaca's."""
        client, toward_client, _, answer = self.slow()
        answer.write(b"x" * 100_000)
        self.wires.advance(STALL_TIMEOUT - 1)
        toward_client.blocked = False
        self.wires.advance(STALL_TIMEOUT - 1)
        self.assertFalse(client.gone)
        self.wires.advance(2)
        self.assertTrue(client.gone)
