"""Tests for tradeproxy.web.rest_proxy: clients that disconnect or do not read, and shutdown."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.web.server import NOT_DONE_YET, Request

from tests.support.frames import AUTH
from tests.support.proxy import NarrowTransport, RawClient
from tests.upstream.support import never
from tests.web.rest_case import ORDERS, RestTestCase, answer_partly, read_message
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.clients import STOP_TIMEOUT
from tradeproxy.web.rest_proxy import STALL_TIMEOUT
from tradeproxy.web.site import IDLE_TIMEOUT


class ClientTests(RestTestCase):
    """The client's side of a REST request."""

    limits = Limits(max_clients=1)

    def disconnect_during(self, answer: Any) -> list[str]:
        """Disconnect a client during `answer`; return how its requests to Alpaca ended."""
        outcomes: list[str] = []

        def record(request: Request) -> int:
            request.notifyFinish().addCallbacks(
                lambda _: outcomes.append("done"), lambda _: outcomes.append("lost")
            )
            rendered: int = answer(request)
            return rendered

        self.answer = record
        client = self.request(ORDERS)
        self.assertEqual((outcomes, len(self.factory.clients)), ([], 1))
        self.disconnect(client)
        return outcomes

    def disconnect(self, client: RawClient) -> None:
        assert client.transport is not None
        client.transport.loseConnection()
        self.wires.flush()

    def test_disconnect_cancels_request_to_alpaca(self) -> None:
        """Before and during the response; no client and no timer is left."""
        for answer in (never, answer_partly):
            self.assertEqual(self.disconnect_during(answer), ["lost"])
            self.assertEqual(len(self.factory.clients), 0)
        self.assertEqual(self.count_stall_timers(), 0)

    def test_disconnect_before_connection_sends_nothing(self) -> None:
        """The request is not sent later either."""
        self.host.hanging = True
        client = self.request(ORDERS)
        self.disconnect(client)
        self.assertEqual(
            (len(self.factory.clients), self.count_stall_timers(), self.take_requests()), (0, 0, [])
        )

    def count_stall_timers(self) -> int:
        """Return the number of timers that end after STALL_TIMEOUT."""
        now = self.clock.seconds()
        return sum(call.getTime() - now == STALL_TIMEOUT for call in self.clock.getDelayedCalls())

    def test_request_counts_as_client_until_answered(self) -> None:
        """Requests and streams share PROXY_MAX_CLIENTS."""
        self.answer = never
        pending = self.request(ORDERS)
        rejected = self.request(ORDERS)
        self.assertEqual(rejected.status, 503)
        self.assertIn("PROXY_MAX_CLIENTS", read_message(rejected))
        self.assertEqual(self.upgrade().status, 503)
        self.disconnect(pending)
        self.answer = {}
        for _ in range(3):
            self.assertEqual(self.request(ORDERS).status, 200)
        self.say(self.connect(), AUTH)
        self.assertEqual(self.request(ORDERS).status, 503)

    def test_idle_connection_is_kept_for_idle_timeout(self) -> None:
        """It is longer than the usual pauses of bots, but bounded."""
        client = self.request(ORDERS)
        self.wires.advance(IDLE_TIMEOUT - 1)
        self.assertFalse(client.gone)
        self.wires.advance(1.1)
        self.assertTrue(client.gone)

    def test_later_request_incomplete_closes_at_handshake_timeout(self) -> None:
        """The time limit starts with the first byte of the request."""
        client = self.request(ORDERS)
        self.wires.advance(10)
        assert client.transport is not None
        for line in (b"GET /paper/v2/x HTTP/1.1\r\n", b"X: Y\r\n"):
            self.assertFalse(client.gone)
            client.transport.write(line)
            self.wires.advance(self.limits.handshake_timeout / 2 + 0.1)
        self.assertTrue(client.gone)

    def test_pipelined_request_waits_without_time_limit(self) -> None:
        """The time limit for requests does not apply to responses."""
        self.answer = lambda request: never(request) if request.uri.endswith(b"never") else b""
        lines = [
            f"GET /paper/v2/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for name in ("x", "never", "x")
        ]
        client = self.write("".join(lines[:2]).encode())
        assert client.transport is not None
        client.transport.write(lines[2].encode())
        self.wires.advance(10)
        self.assertEqual(self.take_requests(), ["GET /v2/x", "GET /v2/never"])
        self.assertFalse(client.gone)


class StopTests(RestTestCase):
    """Shutdown during a request."""

    def test_stop_waits_for_response(self) -> None:
        """A client that placed an order learns the result; new requests are rejected."""
        requests: list[Request] = []

        def answer(request: Request) -> int:
            requests.append(request)
            return NOT_DONE_YET

        self.answer = answer
        client = self.post(b"{}")
        stopped = self.service.stopService()
        self.wires.flush()
        self.assertNoResult(stopped)
        self.assertEqual(self.post(b"{}").status, 503)
        requests[0].write(b"[]")
        requests[0].finish()
        self.wires.flush()
        self.successResultOf(stopped)
        self.assertEqual((client.status, len(requests)), (200, 1))

    def test_stop_aborts_request_at_deadline(self) -> None:
        """The time for shutdown is bounded."""
        self.answer = never
        client = self.post(b"{}")
        stopped = self.service.stopService()
        self.wires.advance(STOP_TIMEOUT)
        self.successResultOf(stopped)
        self.wires.flush()
        self.assertTrue(client.gone)


class SlowTests(RestTestCase):
    """Clients that do not read the response."""

    pauses_once = False

    def setUp(self) -> None:
        super().setUp()
        self.transports: list[NarrowTransport] = []
        self.wires.transport = self.narrow  # type: ignore[assignment]

    def narrow(self, protocol: Any, is_server: bool, **options: Any) -> NarrowTransport:
        transport = NarrowTransport(protocol, is_server, **options)
        transport.pauses_once = self.pauses_once
        self.transports.append(transport)
        return transport

    def start_unread(self) -> tuple[RawClient, NarrowTransport, NarrowTransport, Request]:
        """Return a client that reads nothing, the proxy's two transports, and Alpaca's response."""
        requests: list[Request] = []

        def answer(request: Request) -> int:
            requests.append(request)
            return answer_partly(request)

        self.answer = answer
        client = self.request(ORDERS)
        toward_client, _, _, toward_alpaca = self.transports
        toward_client.blocked = True
        return client, toward_client, toward_alpaca, requests[0]

    def test_unread_response_is_bounded_in_memory(self) -> None:
        """Alpaca's response is read no faster than the client reads; over TLS too."""
        for self.pauses_once in (False, True):
            self.transports.clear()
            client, toward_client, toward_alpaca, answer = self.start_unread()
            for _ in range(100):
                answer.write(b"x" * 10_000)
                self.wires.flush()
            self.assertLess(toward_client.buffered, 96 * 1024)
            self.assertFalse(toward_alpaca.is_reading)
            toward_client.blocked = False
            self.wires.flush()
            answer.finish()
            self.wires.flush()
            self.assertEqual(client.body.count("x"), 1_000_000)
            self.assertTrue(client.received.endswith(b"0\r\n\r\n"))

    def test_unread_response_is_aborted_at_stall_timeout(self) -> None:
        """Both connections end after a minute."""
        client, toward_client, _, answer = self.start_unread()
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

    def test_client_that_reads_again_restarts_stall_timeout(self) -> None:
        """A pause of the client does not count as a pause of Alpaca."""
        client, toward_client, _, answer = self.start_unread()
        answer.write(b"x" * 100_000)
        self.wires.advance(STALL_TIMEOUT - 1)
        toward_client.blocked = False
        self.wires.advance(STALL_TIMEOUT - 1)
        self.assertFalse(client.gone)
        self.wires.advance(2)
        self.assertTrue(client.gone)
