"""Tests for tradeproxy.web.rest_proxy: an Alpaca that is out of reach, or does not answer to the end."""

from __future__ import annotations

from twisted.internet import error
from twisted.internet.defer import fail
from twisted.web.server import Request

from tests.upstream.support import never
from tests.web.rest_case import ORDERS, RestTestCase, begun, message_of
from tradeproxy.web.rest_proxy import STALL_TIMEOUT

SENT_NOTHING = "nothing was sent"
MAY_HAVE = "may have carried this out"


class FailureTests(RestTestCase):
    """Alpaca does not answer. What is told lets a bot, or its SDK, know whether it may ask again."""

    def test_a_host_that_is_away_is_502(self) -> None:
        """Told in one line, without the error's text."""
        self.host.refusing = True
        answer = self.post(b"{}")
        self.assertEqual((answer.status, answer.body.count("\n")), (502, 1))
        self.assertIn(SENT_NOTHING, message_of(answer))
        self.assertNotIn("PKUPSTREAM", answer.body)
        self.assertIn(b"Content-Type: application/json\r\n", answer.received)

    def test_a_name_that_is_not_known_is_502(self) -> None:
        """As without a network."""
        self.patch(self.host, "connect", lambda _: fail(error.DNSLookupError()))
        answer = self.request(ORDERS)
        self.assertEqual(answer.status, 502)
        self.assertIn(SENT_NOTHING, message_of(answer))

    def test_a_host_that_takes_too_long_to_reach_is_504(self) -> None:
        """SDKs may repeat it: nothing was sent."""
        for timeout in (error.TimeoutError, error.TCPTimedOutError):
            self.patch(self.host, "connect", lambda _, timeout=timeout: fail(timeout()))
            answer = self.post(b"{}")
            self.assertEqual(answer.status, 504)
            self.assertIn(SENT_NOTHING, message_of(answer))

    def test_a_question_that_is_not_answered_is_504(self) -> None:
        """After a minute."""
        self.answer = never
        for method in ("GET", "HEAD"):
            client = self.request(ORDERS, method=method)
            self.wires.advance(STALL_TIMEOUT - 0.1)
            self.assertEqual(client.received, b"")
            self.wires.advance(0.2)
            self.assertEqual(client.status, 504)
            self.assertEqual(client.body == "", method == "HEAD")

    def test_an_order_that_is_not_answered_is_not_504(self) -> None:
        """Alpaca's Python SDKs repeat what gets that, and it may have been placed."""
        self.answer = never
        for method in ("POST", "PATCH", "DELETE", "PUT"):
            client = self.request(ORDERS, method=method)
            self.wires.advance(STALL_TIMEOUT)
            self.assertEqual(client.status, 502)
            self.assertIn(MAY_HAVE, message_of(client))

    def test_a_host_that_cannot_be_reached_at_all_is_given_up(self) -> None:
        """Whatever keeps it, the look-up of its name for instance."""
        self.host.hanging = True
        client = self.request(ORDERS)
        self.wires.advance(STALL_TIMEOUT)
        self.assertEqual(client.status, 504)

    def test_a_connection_that_is_lost_before_the_answer_is_502(self) -> None:
        """Also when what came is no answer."""
        for data in (
            b"",
            b"HTTP/1.1 200 OK\r\n",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX Y: Z\r\n\r\n",
        ):
            self.serve(data)
            answer = self.post(b"{}")
            self.assertEqual(answer.status, 502)
            self.assertIn(MAY_HAVE, message_of(answer))

    def test_the_next_request_is_answered_as_if_nothing_had_been(self) -> None:
        """The client's connection is as good as before."""
        self.host.refusing = True
        client = self.post(b"{}")
        self.host.refusing = False
        assert client.transport is not None
        client.transport.write(b"GET /paper/v2/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.wires.flush()
        self.assertTrue(client.received.endswith(b"\r\n\r\n{}"), client.received)

    def test_an_answer_that_is_cut_short_is_cut_short(self) -> None:
        """With a length or in chunks: the client can tell."""
        for head in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
            self.serve(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n3\r\nabc\r\n")
            client = self.request(ORDERS)
            self.assertIn(b"abc", client.received)
            self.assertTrue(client.gone)
            self.assertFalse(client.received.endswith(b"0\r\n\r\n"))

    def test_an_answer_that_stops_is_cut_short(self) -> None:
        """When nothing more comes for a minute; one that goes on may take any time."""
        under_way: list[Request] = []

        def answer(request: Request) -> int:
            under_way.append(request)
            return begun(request)

        self.answer = answer
        client = self.request(ORDERS)
        for _ in range(3):
            self.wires.advance(STALL_TIMEOUT - 1)
            under_way[0].write(b" ")
            self.wires.flush()
        self.assertFalse(client.gone)
        self.wires.advance(STALL_TIMEOUT)
        self.assertTrue(client.gone)
