"""Tests for tradeproxy.upstream.rest, against a page in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.web.server import NOT_DONE_YET, Request

from tests.upstream.support import RestTestCase, event_stream, never, status
from tradeproxy.upstream.http import MAX_REQUESTS
from tradeproxy.upstream.rest import (
    INACTIVITY_TIMEOUT,
    MAX_BODY_SIZE,
    MAX_RESPONSE_SECONDS,
    RestRefusedError,
    RestResponse,
    RestUnavailableError,
    http_client,
)
from tradeproxy.wire.credentials import OAuthToken, Secret

NOON = "Sun, 06 Nov 1994 12:00:00 GMT"


class GetTests(RestTestCase):
    """JSON documents."""

    def get(self) -> Deferred[Any]:
        return self.start(self.rest.get("/v2/account", {"a b": "c&d"}))

    def unavailable(self, answer: Any) -> RestUnavailableError:
        """Return the error that an answer leads to at once."""
        self.answer = answer
        error: RestUnavailableError = self.failureResultOf(self.get(), RestUnavailableError).value
        return error

    def test_asks_with_the_account_s_keys(self) -> None:
        """In Alpaca's headers, and nowhere else."""
        self.answer = status(200, b'{"id":"x"}', date=NOON)
        self.assertEqual(self.successResultOf(self.get()), RestResponse({"id": "x"}, 784123200.0))
        (request,) = self.page.requests
        self.assertEqual(self.asked(), ["/v2/account?a+b=c%26d"])
        self.assertEqual(request.getHeader("APCA-API-KEY-ID"), "PKUPSTREAM")
        self.assertEqual(request.getHeader("APCA-API-SECRET-KEY"), "upstream-secret")
        self.assertEqual(request.getHeader("User-Agent"), "tradeproxy")

    def test_a_date_without_a_zone_is_of_utc(self) -> None:
        """As HTTP has it, whatever zone the proxy runs in."""
        self.answer = status(200, b"[]", date="Sun, 06 Nov 1994 12:00:00 -0000")
        self.assertEqual(self.successResultOf(self.get()).date, 784123200.0)

    def test_a_date_that_is_none_is_none(self) -> None:
        """Nothing raises."""
        self.answer = status(200, b"[]", date="today")
        self.assertIsNone(self.successResultOf(self.get()).date)

    def test_what_is_refused_for_good(self) -> None:
        """Asking again would not help."""
        for code in (401, 403, 404):
            self.answer = status(code, b"your key PKUPSTREAM", date=NOON)
            error = self.failureResultOf(self.get(), RestRefusedError).value
            self.assertEqual(
                (error.reason, error.status, error.date), (f"HTTP {code}", code, 784123200.0)
            )

    def test_what_may_pass(self) -> None:
        """With the time that Alpaca asks for, if it does; a redirect is not followed with the keys."""
        rows = {
            500: 0.0,
            503: 7.0,
            429: 7.0,
            408: 0.0,
            302: 0.0,
            400: 0.0,
            407: 0.0,
            422: 0.0,
            204: 0.0,
        }
        for code, seconds in rows.items():
            retry_after = "7" if seconds else ""
            error = self.unavailable(
                status(code, retry_after=retry_after, location="http://elsewhere/", date=NOON)
            )
            self.assertEqual(
                (error.reason, error.retry_after, error.date),
                (f"HTTP {code}", seconds, 784123200.0),
            )
            self.clock.advance(10)
        self.assertEqual(len(self.page.requests), len(rows))

    def test_a_limit_stops_all_requests_for_as_long_as_it_says(self) -> None:
        """Not only the one that met it."""
        self.unavailable(status(429, retry_after="30"))
        self.answer = {}
        waiting = self.get()
        self.wires.advance(29)
        self.assertEqual(len(self.page.requests), 1)
        self.wires.advance(1)
        self.assertEqual(self.successResultOf(waiting).document, {})

    def test_a_used_up_budget_is_waited_for(self) -> None:
        """The user's bots have the rest of the minute."""
        for _ in range(MAX_REQUESTS):
            self.successResultOf(self.get())
        waiting = self.get()
        self.wires.advance(59)
        self.assertNoResult(waiting)
        self.wires.advance(1)
        self.successResultOf(waiting)

    def test_an_answer_that_is_no_json_is_none(self) -> None:
        """Its text is not repeated."""
        for body in (b"<html>", b"\xff", b"[" * 100_000, b""):
            self.assertEqual(
                self.unavailable(status(200, body)).reason, "an answer that is not JSON"
            )

    def test_an_answer_of_any_size_takes_a_bounded_room(self) -> None:
        """It is left in the middle."""
        error = self.unavailable(status(200, b" " * (MAX_BODY_SIZE + 1)))
        self.assertEqual(error.reason, "an answer of more than 16 MiB")

    def test_an_answer_that_is_cut_short_is_none(self) -> None:
        """With or without a length, and before its first byte."""

        def cut(request: Request) -> int:
            request.setHeader("content-length", "10")
            request.write(b"{}")
            request.loseConnection()
            return NOT_DONE_YET

        self.assertEqual(self.unavailable(cut).reason, "an answer that was cut short")

        def nothing(request: Request) -> int:
            request.loseConnection()
            return NOT_DONE_YET

        reason = "the connection was lost before an answer"
        self.assertEqual(self.unavailable(nothing).reason, reason)

    def test_a_host_that_is_away_says_nothing_of_the_error(self) -> None:
        """The text of an exception may hold anything."""
        self.host.refusing = True
        self.assertEqual(self.unavailable({}).reason, "cannot connect")

    def test_no_answer_and_no_more_of_one_are_given_up(self) -> None:
        """Both after the same time, and nothing stays scheduled of ours."""

        def half(request: Request) -> int:
            request.write(b"{")
            return NOT_DONE_YET

        for answer, reason in (
            (never, "no answer in time"),
            (half, "no more of an answer in time"),
        ):
            self.answer = answer
            asked = self.get()
            self.wires.advance(INACTIVITY_TIMEOUT - 0.1)
            self.assertNoResult(asked)
            self.wires.advance(0.2)
            self.assertEqual(self.failureResultOf(asked, RestUnavailableError).value.reason, reason)

    def test_an_answer_that_trickles_is_given_up(self) -> None:
        """However often a little more of it comes."""

        def trickle(request: Request) -> int:
            self.clock.callLater(INACTIVITY_TIMEOUT / 2, trickle, request)
            request.write(b" ")
            return NOT_DONE_YET

        self.answer = trickle
        asked = self.get()
        self.wires.advance(MAX_RESPONSE_SECONDS - 0.1)
        self.assertNoResult(asked)
        self.wires.advance(0.2)
        reason = "an answer that takes too long"
        self.assertEqual(self.failureResultOf(asked, RestUnavailableError).value.reason, reason)

    def test_can_be_cancelled_anywhere(self) -> None:
        """While it connects, waits, reads, or saves its budget: the error is always the same."""

        def half(request: Request) -> int:
            request.write(b"{")
            return NOT_DONE_YET

        for answer in (never, half):
            self.answer = answer
            asked = self.get()
            asked.cancel()
            self.failureResultOf(asked, CancelledError)
        self.host.hanging = True
        asked = self.get()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.host.hanging = False
        self.unavailable(status(429, retry_after="30"))
        asked = self.get()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        asked_for = len(self.page.requests)
        self.wires.advance(100)
        self.assertEqual(len(self.page.requests), asked_for)


class TokenTests(RestTestCase):
    """An account with an OAuth token."""

    credentials = OAuthToken(Secret("T"))

    def test_asks_with_the_token(self) -> None:
        """In the usual header."""
        self.outcome(self.rest.get("/v2/account"))
        self.assertEqual(self.page.requests[0].getHeader("Authorization"), "Bearer T")
        self.assertIsNone(self.page.requests[0].getHeader("APCA-API-KEY-ID"))


class StreamTests(RestTestCase):
    """Event streams."""

    def setUp(self) -> None:
        super().setUp()
        self.taken: list[bytes] = []

    def stream(self) -> Deferred[Any]:
        return self.start(self.rest.stream("/v2/events/trades", {}, self.taken.append))

    def test_hands_on_chunks_until_the_proper_end(self) -> None:
        """As they come."""
        self.answer = event_stream(b"data: 1\n\n", b"data: 2\n\n")
        self.successResultOf(self.stream())
        self.assertEqual(b"".join(self.taken), b"data: 1\n\ndata: 2\n\n")

    def test_an_end_that_is_not_the_proper_one_is_an_error(self) -> None:
        """What came before it has been handed on."""
        self.answer = event_stream(b"data: 1\n\n", complete=False)
        self.failureResultOf(self.stream(), RestUnavailableError)
        self.assertEqual(self.taken, [b"data: 1\n\n"])

    def test_an_answer_of_another_kind_is_none(self) -> None:
        """A page for people, a portal's or a proxy's, is neither a history nor Alpaca's refusal of one."""
        self.answer = status(200, b"<html>", content_type="text/html")
        self.failureResultOf(self.stream(), RestUnavailableError)
        self.assertEqual(self.taken, [])

    def test_an_error_of_the_taker_ends_the_response(self) -> None:
        """And is raised as it is."""

        def take(_: bytes) -> None:
            raise ZeroDivisionError

        self.answer = event_stream(b"data: 1\n\n", b"data: 2\n\n")
        started = self.start(self.rest.stream("/v2/events/trades", {}, take))
        self.failureResultOf(started, ZeroDivisionError)


class TcpTransport(StringTransport):
    """A transport that Agent takes for one of TCP."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class HttpClientTests(RestTestCase):
    """The client of the real network."""

    def test_speaks_tls_before_anything_else(self) -> None:
        """To an https URL; no key goes out before the host has shown its certificate."""
        reactor: Any = MemoryReactorClock()
        requested = http_client(reactor).get("https://127.0.0.1/v2/account", reactor=reactor)
        self.addCleanup(requested.addErrback, lambda _: None)
        self.addCleanup(requested.cancel)
        host, port, factory = reactor.tcpClients[0][:3]
        self.assertEqual((host, port), ("127.0.0.1", 443))
        transport = TcpTransport()
        factory.buildProtocol(None).makeConnection(transport)
        self.assertEqual(transport.value()[:2], b"\x16\x03")  # a handshake record of TLS
