"""Tests for tradeproxy.web.rest_proxy: Alpaca is unreachable or does not complete a response."""

from __future__ import annotations

from twisted.internet import error
from twisted.internet.defer import fail
from twisted.web.server import Request

from tests.upstream.support import never
from tests.web.rest_case import ORDERS, RestTestCase, answer_partly, read_message
from tradeproxy.web.rest_proxy import STALL_TIMEOUT

NOT_SENT = "nothing was sent"
MAY_BE_DONE = "may have carried this out"


class FailureTests(RestTestCase):
    """Errors show a bot, or its SDK, whether it may safely retry."""

    def test_connection_refused_is_502(self) -> None:
        """The error is one line of JSON without the text of the exception."""
        self.host.refusing = True
        answer = self.post(b"{}")
        self.assertEqual((answer.status, answer.body.count("\n")), (502, 1))
        self.assertIn(NOT_SENT, read_message(answer))
        self.assertNotIn("PKUPSTREAM", answer.body)
        self.assertIn(b"Content-Type: application/json\r\n", answer.received)

    def test_dns_failure_is_502(self) -> None:
        """The same happens without a network."""
        self.patch(self.host, "connect", lambda _: fail(error.DNSLookupError()))
        answer = self.request(ORDERS)
        self.assertEqual(answer.status, 502)
        self.assertIn(NOT_SENT, read_message(answer))

    def test_connect_timeout_is_504(self) -> None:
        """SDKs may retry: nothing was sent."""
        for timeout in (error.TimeoutError, error.TCPTimedOutError):
            self.patch(self.host, "connect", lambda _, timeout=timeout: fail(timeout()))
            answer = self.post(b"{}")
            self.assertEqual(answer.status, 504)
            self.assertIn(NOT_SENT, read_message(answer))

    def test_get_unanswered_is_504(self) -> None:
        """After a minute without a response."""
        self.answer = never
        for method in ("GET", "HEAD"):
            client = self.request(ORDERS, method=method)
            self.wires.advance(STALL_TIMEOUT - 0.1)
            self.assertEqual(client.received, b"")
            self.wires.advance(0.2)
            self.assertEqual(client.status, 504)
            self.assertEqual(client.body == "", method == "HEAD")

    def test_order_unanswered_is_502(self) -> None:
        """Alpaca's Python SDKs retry after a 504, but the order may have been placed."""
        self.answer = never
        for method in ("POST", "PATCH", "DELETE", "PUT"):
            client = self.request(ORDERS, method=method)
            self.wires.advance(STALL_TIMEOUT)
            self.assertEqual(client.status, 502)
            self.assertIn(MAY_BE_DONE, read_message(client))

    def test_connection_hanging_is_504(self) -> None:
        """The stall timeout includes the time to connect, for example a DNS lookup."""
        self.host.hanging = True
        client = self.request(ORDERS)
        self.wires.advance(STALL_TIMEOUT)
        self.assertEqual(client.status, 504)

    def test_connection_lost_before_response_is_502(self) -> None:
        """A malformed response counts as a lost connection."""
        for data in (
            b"",
            b"HTTP/1.1 200 OK\r\n",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX Y: Z\r\n\r\n",
        ):
            self.serve(data)
            answer = self.post(b"{}")
            self.assertEqual(answer.status, 502)
            self.assertIn(MAY_BE_DONE, read_message(answer))

    def test_headers_without_end_are_502(self) -> None:
        """Twisted limits the length of a line, not their number: memory grew by 55 MB/s."""
        self.serve(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000, closes=False)
        client = self.request(ORDERS)
        self.assertEqual(client.status, 502)

    def test_request_after_error_on_same_connection_is_answered(self) -> None:
        """An error does not affect the client's connection."""
        self.host.refusing = True
        client = self.post(b"{}")
        self.host.refusing = False
        assert client.transport is not None
        client.transport.write(b"GET /paper/v2/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.wires.flush()
        self.assertTrue(client.received.endswith(b"\r\n\r\n{}"), client.received)

    def test_truncated_body_aborts_client_connection(self) -> None:
        """With a length or in chunks, the client can see that the body is incomplete."""
        for head in (b"Content-Length: 10", b"Transfer-Encoding: chunked"):
            self.serve(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n3\r\nabc\r\n")
            client = self.request(ORDERS)
            self.assertIn(b"abc", client.received)
            self.assertTrue(client.gone)
            self.assertFalse(client.received.endswith(b"0\r\n\r\n"))

    def test_stalled_body_aborts_client_connection(self) -> None:
        """After a minute without data; a body that continues may take any time."""
        requests: list[Request] = []

        def answer(request: Request) -> int:
            requests.append(request)
            return answer_partly(request)

        self.answer = answer
        client = self.request(ORDERS)
        for _ in range(3):
            self.wires.advance(STALL_TIMEOUT - 1)
            requests[0].write(b" ")
            self.wires.flush()
        self.assertFalse(client.gone)
        self.wires.advance(STALL_TIMEOUT)
        self.assertTrue(client.gone)
