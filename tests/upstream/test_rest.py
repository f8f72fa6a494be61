"""Tests for tradeproxy.upstream.rest, against a server in memory."""

from __future__ import annotations

import gzip
import json
from email.utils import formatdate
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.web.server import NOT_DONE_YET, Request

from tests.support.memory import LingeringTransport
from tests.upstream.support import (
    BASE_URL,
    RestClientTestCase,
    event_stream,
    keys_of,
    memory_agent,
    never,
    status,
)
from tradeproxy.upstream.http import build_agent
from tradeproxy.upstream.rate_limiter import MAX_REQUESTS, RateLimiter
from tradeproxy.upstream.rest import (
    PART_SIZE,
    RestClient,
    RestOversizedError,
    RestRefusedError,
    RestResponse,
    RestUnavailableError,
)
from tradeproxy.upstream.tunnel import ProxyError
from tradeproxy.wire.credentials import OAuthToken, Secret

NOON = "Sun, 06 Nov 1994 12:00:00 GMT"


class RestGetTests(RestClientTestCase):
    """GET requests for JSON documents."""

    def get(self) -> Deferred[Any]:
        return self.start(self.rest.get("/v2/account", {"a b": "c&d"}))

    def unavailable(self, answer: Any) -> RestUnavailableError:
        """Return the RestUnavailableError that an answer causes at once."""
        self.answer = answer
        error: RestUnavailableError = self.failureResultOf(self.get(), RestUnavailableError).value
        return error

    def test_get_sends_keys_in_headers(self) -> None:
        """The keys are in Alpaca's headers and nowhere else."""
        self.answer = status(200, b'{"id":"x"}', date=NOON)
        self.assertEqual(self.successResultOf(self.get()), RestResponse({"id": "x"}, 784123200.0))
        (request,) = self.page.requests
        self.assertEqual(self.requested_uris(), ["/v2/account?a+b=c%26d"])
        self.assertEqual(request.getHeader("APCA-API-KEY-ID"), "PKUPSTREAM")
        self.assertEqual(request.getHeader("APCA-API-SECRET-KEY"), "upstream-secret")
        self.assertEqual(request.getHeader("User-Agent"), "tradeproxy")

    def test_text_of_alpaca_is_quoted_without_credentials(self) -> None:
        """It goes to the log. A hostile server may send them back, with words around them."""
        echo = "order PKUPSTREAM of upstream-secret is unknown"
        self.assertEqual(self.rest.quote(echo), "order ... of ... is unknown")
        self.assertEqual(self.rest.quote(f"id {'x' * 40}", 40), f"id {'x' * 40}")
        self.assertEqual(self.rest.quote(f"id {'x' * 41}", 40), "id ...")

    def test_get_compressed_answer_raises_unavailable(self) -> None:
        """19 KB of gzip in one answer stopped every account for 11 s."""
        body = gzip.compress(b"[]")
        error = self.unavailable(status(200, body, content_encoding="gzip"))
        self.assertEqual(error.reason, "an answer that is compressed")
        (request,) = self.page.requests
        self.assertEqual(request.requestHeaders.getRawHeaders("Accept-Encoding"), ["identity"])
        self.answer = status(200, b"[]", content_encoding="Identity")
        self.assertEqual(self.successResultOf(self.get()).document, [])

    def test_rejected_answer_is_aborted(self) -> None:
        """Over TLS, a close would first read all of its body, which may have no end."""
        self.wires.transport = LingeringTransport
        for headers in ({"code": 503}, {"code": 200, "encoding": "gzip"}):
            closed: list[Any] = []
            self.unavailable(partial(self.answer_without_end, closed, **headers))
            self.wires.flush()
            self.assertEqual(len(closed), 1)

    @staticmethod
    def answer_without_end(
        closed: list[Any], request: Request, code: int, encoding: str = "identity"
    ) -> int:
        """Begin an answer, and record the loss of its connection."""
        request.setResponseCode(code)
        request.setHeader("content-encoding", encoding)
        request.notifyFinish().addErrback(closed.append)
        request.write(b"[")
        return NOT_DONE_YET

    def test_document_of_too_many_items_raises_unavailable(self) -> None:
        """Items are counted too: 16 MiB of empty lists took 400 MB and half a second."""
        reason = "a document of more than 1 MiB, 25,000 items or 100 levels"
        for count, is_read in ((12_499, True), (12_500, False)):
            self.answer = status(200, b"[" + b"[]," * count + b"0]")
            if is_read:
                self.assertEqual(len(self.successResultOf(self.get()).document), count + 1)
            else:
                self.assertEqual(self.unavailable(self.answer).reason, reason)

    def test_get_endless_headers_raises_unavailable(self) -> None:
        """The reason in the log names the fault, not the connection that the proxy closed."""
        answer = status(200, b"[]", **{f"x-{number}": "" for number in range(500)})
        self.assertEqual(self.unavailable(answer).reason, "an answer whose headers do not end")

    def test_get_date_without_zone_is_utc(self) -> None:
        """HTTP dates are in UTC, whatever the local time zone."""
        self.answer = status(200, b"[]", date="Sun, 06 Nov 1994 12:00:00 -0000")
        self.assertEqual(self.successResultOf(self.get()).date, 784123200.0)

    def test_get_invalid_date_returns_none(self) -> None:
        """An invalid Date header raises no error."""
        self.answer = status(200, b"[]", date="today")
        self.assertIsNone(self.successResultOf(self.get()).date)

    def test_get_last_of_several_dates_counts(self) -> None:
        """A proxy before Alpaca's server may add its own."""

        def dated(request: Request) -> bytes:
            request.responseHeaders.setRawHeaders("date", ["", "today", NOON])
            return b"[]"

        self.answer = dated
        self.assertEqual(self.successResultOf(self.get()).date, 784123200.0)

    def test_get_401_403_404_raises_refused(self) -> None:
        """A retry would not help."""
        for code in (401, 403, 404):
            self.answer = status(code, b"your key PKUPSTREAM", date=NOON)
            error = self.failureResultOf(self.get(), RestRefusedError).value
            self.assertEqual(
                (error.reason, error.status, error.date), (f"HTTP {code}", code, 784123200.0)
            )

    def test_get_other_status_raises_unavailable(self) -> None:
        """The error carries Alpaca's Retry-After. A redirect is not followed with the keys."""
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

    def test_get_after_429_waits_for_retry_after(self) -> None:
        """HTTP 429 blocks every request of the account, not only the one that got it."""
        self.unavailable(status(429, retry_after="30"))
        self.answer = {}
        waiting = self.get()
        self.wires.advance(29)
        self.assertEqual(len(self.page.requests), 1)
        self.wires.advance(1)
        self.assertEqual(self.successResultOf(waiting).document, {})

    def test_get_waits_for_less_than_a_second(self) -> None:
        """Otherwise the request would be the one too many."""
        self.unavailable(status(429, retry_after="30"))
        self.answer = {}
        self.clock.advance(29.5)
        waiting = self.get()
        self.wires.advance(0.4)
        self.assertEqual(len(self.page.requests), 1)
        self.wires.advance(0.1)
        self.successResultOf(waiting)

    def test_get_retry_after_date_is_relative_to_answer(self) -> None:
        """This machine's clock may differ from Alpaca's by more than the wait."""
        error = self.unavailable(
            status(503, date=NOON, retry_after="Sun, 06 Nov 1994 12:00:07 GMT")
        )
        self.assertEqual(error.retry_after, 7.0)
        later = formatdate(self.clock.seconds() + 9, usegmt=True)
        self.assertEqual(self.unavailable(status(503, date="", retry_after=later)).retry_after, 9.0)

    def test_get_any_answer_sets_alpacas_clock(self) -> None:
        """The Date of a rejection counts as much as that of a success."""
        for code in (200, 401):
            date = self.clock.seconds() + code % 7
            self.answer = status(code, b"{}", date=formatdate(date, usegmt=True))
            self.get().addErrback(lambda failure: failure.trap(RestRefusedError))
            self.assertEqual(self.dates.alpaca(), date)

    def test_get_shared_limiter_blocks_other_clients(self) -> None:
        """The limit is one of the account. Without a given limiter a client has its own."""
        shared = RateLimiter()
        clients = [
            RestClient(
                memory_agent(self.host, self.clock),
                BASE_URL,
                keys_of(self.credentials),
                self.clock,
                self.dates,
                limiter,
            )
            for limiter in (shared, shared, None)
        ]
        self.answer = status(429, retry_after="30")
        for client, number in zip(clients, (1, 1, 2), strict=True):
            self.start(client.get("/v2/account")).addErrback(lambda _: None)
            self.assertEqual(len(self.page.requests), number)
        self.wires.advance(30)

    def test_error_text_is_its_reason(self) -> None:
        """The log shows it."""
        self.assertEqual(str(self.unavailable(status(500))), "HTTP 500")
        self.answer = status(403)
        self.assertEqual(str(self.failureResultOf(self.get(), RestRefusedError).value), "HTTP 403")

    def test_get_ended_leaves_no_connection_and_no_timer(self) -> None:
        """An answer that goes on after a rejection or a cancellation would be read forever."""

        def endless(request: Request) -> int:
            request.notifyFinish().addErrback(closed.append)
            request.write(b"{")
            return NOT_DONE_YET

        def rejected(request: Request) -> int:
            request.setResponseCode(500)
            return endless(request)

        def silent(request: Request) -> int:
            request.notifyFinish().addErrback(closed.append)
            return NOT_DONE_YET

        for answer in (rejected, endless, silent):
            closed: list[object] = []
            self.answer = answer
            asked = self.get()
            asked.cancel()
            self.wires.flush()
            self.failureResultOf(asked, RestUnavailableError, CancelledError)
            self.assertEqual(len(closed), 1, answer)
        self.answer = {}
        self.successResultOf(self.get())
        self.wires.advance(5)
        late = [call for call in self.clock.getDelayedCalls() if call.getTime() < 2_000_000_000]
        self.assertEqual(late, [])

    def test_get_over_rate_limit_waits(self) -> None:
        """The rest of the minute's requests is for the user's bots."""
        for _ in range(MAX_REQUESTS):
            self.successResultOf(self.get())
        waiting = self.get()
        self.wires.advance(59)
        self.assertNoResult(waiting)
        self.wires.advance(1)
        self.successResultOf(waiting)

    def test_get_number_beyond_the_bounds_is_text(self) -> None:
        """Python raises an error for 4301 digits: one order would make all others unreadable."""
        body = b'[{"qty": 1.5, "filled_qty": %b, "price": 1e999}]' % (b"9" * 5000)
        self.answer = status(200, body)
        response = self.successResultOf(self.get())
        self.assertEqual(
            response.document, [{"qty": 1.5, "filled_qty": "9" * 5000, "price": "1e999"}]
        )

    def test_get_not_json_raises_unavailable(self) -> None:
        """The error does not quote the body."""
        for body in (b"<html>", b"\xff", b""):
            self.assertEqual(
                self.unavailable(status(200, body)).reason, "an answer that is not JSON"
            )

    def test_get_oversized_body_raises_unavailable(self) -> None:
        """The response is closed when the limit of 1 MiB is passed."""
        body = b"[]".rjust(1024 * 1024)
        self.answer = status(200, body)
        self.assertEqual(self.successResultOf(self.get()).document, [])
        error = self.unavailable(status(200, b" " + body))
        self.assertEqual(error.reason, "an answer of more than 1 MiB")

    def test_get_truncated_body_raises_unavailable(self) -> None:
        """This covers a body that breaks off, and a close before the first byte."""

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

    def test_get_unreachable_host_hides_error_text(self) -> None:
        """The text of an exception may hold anything."""
        self.host.refusing = True
        error = self.unavailable({})
        self.assertEqual((error.reason, error.retry_after), ("cannot connect", 0.0))

    def test_get_without_tunnel_names_the_http_proxy(self) -> None:
        """`cannot connect` would point at Alpaca."""
        self.patch(self.host, "connect", lambda _: fail(ProxyError("hush")))
        self.assertEqual(self.unavailable({}).reason, "the HTTP proxy opens no connection")

    def test_get_without_data_times_out(self) -> None:
        """The timeout of 20 s applies to the first byte and to each further one."""

        def half(request: Request) -> int:
            request.write(b"{")
            return NOT_DONE_YET

        for answer, reason in (
            (never, "no answer in time"),
            (half, "no more of an answer in time"),
        ):
            self.answer = answer
            asked = self.get()
            self.wires.advance(19.9)
            self.assertNoResult(asked)
            self.wires.advance(0.1)
            self.assertEqual(self.failureResultOf(asked, RestUnavailableError).value.reason, reason)

    def test_get_slow_body_times_out(self) -> None:
        """The whole body has 60 s, even if data keeps arriving."""

        def trickle(request: Request) -> int:
            self.clock.callLater(10, trickle, request)
            request.write(b" ")
            return NOT_DONE_YET

        self.answer = trickle
        asked = self.get()
        self.wires.advance(59.9)
        self.assertNoResult(asked)
        self.wires.advance(0.1)
        reason = "an answer that takes too long"
        self.assertEqual(self.failureResultOf(asked, RestUnavailableError).value.reason, reason)

    def test_get_cancelled_in_any_phase_raises_cancelled(self) -> None:
        """It can be cancelled while it connects, waits, reads or is rate limited."""

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
        requests = len(self.page.requests)
        self.wires.advance(100)
        self.assertEqual(len(self.page.requests), requests)


class RestListTests(RestClientTestCase):
    """GET requests for JSON lists."""

    def read(self, body: bytes) -> list[Any]:
        """Return the entries of an answer."""

        async def read() -> list[Any]:
            return [each async for each in await self.rest.get_list("/v2/orders")]

        self.answer = status(200, body)
        entries: list[Any] = self.outcome(read())
        return entries

    def fail_with(self, body: bytes) -> RestUnavailableError:
        """Return the error that an answer causes."""
        self.answer = status(200, body)
        started = self.start(self.rest.get_list("/v2/orders"))
        error: RestUnavailableError = self.failureResultOf(started, RestUnavailableError).value
        return error

    def test_list_of_too_many_bytes_or_items_raises_oversized(self) -> None:
        """Another page may be smaller, so its error differs from that of other answers."""
        limit = 8 * 1024 * 1024
        self.assertEqual(self.read(b"[1]".rjust(limit)), [1])
        self.assertEqual(len(self.read(b"[" + b"[]," * 99_999 + b"0]")), 100_000)
        for body, reason in (
            (b"[1]".rjust(limit + 1), "an answer of more than 8 MiB"),
            (b"[" + b"[]," * 100_000 + b"0]", "an answer of more than 200000 items"),
            (b"[" * 5000, "a document of more than 1 MiB, 25,000 items or 100 levels"),
        ):
            error = self.fail_with(body)
            self.assertIsInstance(error, RestOversizedError)
            self.assertEqual(error.reason, reason)

    async def read_list(self, found: list[int], seen: list[int]) -> None:
        """Add the length of each entry, and in the next turn how many were found by then."""
        async for each in await self.rest.get_list("/v2/orders"):
            self.clock.callLater(0, lambda: seen.append(len(found)))
            found.append(len(each))

    def test_other_work_has_its_turn_between_parts(self) -> None:
        """4 MB of orders stopped all clients for a tenth of a second."""
        found: list[int] = []
        seen: list[int] = []
        part = PART_SIZE // 2
        self.answer = status(200, json.dumps(["x" * part] * 5).encode())
        self.outcome(self.read_list(found, seen))
        self.assertEqual(found, [part] * 5)
        self.assertEqual(seen, [2, 2, 4, 4, 5])

    def test_part_ends_at_its_size_and_not_before(self) -> None:
        """A turn costs time too. Two entries that lack a byte of a part are followed by another."""
        found: list[int] = []
        seen: list[int] = []
        half = PART_SIZE // 2 - len('""')
        for missing, parts in ((0, [2, 2, 4, 4, 6, 6, 7]), (1, [3, 3, 3, 6, 6, 6, 7])):
            found.clear()
            seen.clear()
            texts = ["x" * half, "x" * (half - missing), "x" * half] * 2
            self.answer = status(200, json.dumps([*texts, ""]).encode())
            self.outcome(self.read_list(found, seen))
            self.assertEqual(seen, parts)

    def test_entry_that_is_too_large_or_unreadable_is_none(self) -> None:
        """One of 8 MiB with 200,000 names took 65 MB. The other entries are read."""
        deep = b'{"":' * 50 + b"[" * 51 + b"]" * 51 + b"}" * 50
        for entry in (b'"%s"' % (b"x" * 2**20), b"[" + b"0," * 25_000 + b"0]", b'"\xff"', deep):
            self.assertEqual(self.read(b"[1,%s,2]" % entry), [1, None, 2])

    def test_entry_of_100_levels_and_wide_ones_are_read(self) -> None:
        """Each parser and encoder has a bound of its own. A deeper one made the recovery fail."""
        for entry in ("[" * 100 + "]" * 100, "[" + ",".join(["{}"] * 1000) + "]"):
            self.assertEqual(self.read(f"[{entry}]".encode()), [json.loads(entry)])

    def test_list_with_odd_text_is_read_if_it_is_small(self) -> None:
        """Python's parser accepts it; the faster one, which splits a list, does not."""
        odd = rb'"\ud800"'
        self.assertEqual(self.read(b"[1,%s]" % odd), [1, "\ud800"])
        self.assertEqual(self.read(b"[NaN]"), ["NaN"])
        self.assertIsInstance(self.fail_with(b"[%s]" % odd.rjust(2**20)), RestOversizedError)

    def test_other_answer_raises_unavailable(self) -> None:
        """It does not mean that there is nothing, and a smaller page does not help."""
        for body, reason in (
            (b"{}", "an answer of another shape"),
            (b"<html>", "an answer that is not JSON"),
        ):
            error = self.fail_with(body)
            self.assertNotIsInstance(error, RestOversizedError)
            self.assertEqual(error.reason, reason)


class RestTokenTests(RestClientTestCase):
    """An account with an OAuth token."""

    credentials = OAuthToken(Secret("T"))

    def test_get_sends_bearer_token(self) -> None:
        """The token is in the Authorization header."""
        self.outcome(self.rest.get("/v2/account"))
        self.assertEqual(self.page.requests[0].getHeader("Authorization"), "Bearer T")
        self.assertIsNone(self.page.requests[0].getHeader("APCA-API-KEY-ID"))


class RestStreamTests(RestClientTestCase):
    """Streams of server-sent events."""

    def setUp(self) -> None:
        super().setUp()
        self.taken: list[bytes] = []

    def stream(self) -> Deferred[Any]:
        return self.start(self.rest.stream("/v2/events/trades", {}, self.taken.append))

    def test_stream_passes_chunks_until_complete(self) -> None:
        """Each chunk is passed on as it arrives."""
        self.answer = event_stream(b"data: 1\n\n", b"data: 2\n\n")
        self.successResultOf(self.stream())
        self.assertEqual(b"".join(self.taken), b"data: 1\n\ndata: 2\n\n")

    def test_stream_broken_off_raises_unavailable(self) -> None:
        """The chunks before the break have been passed on."""
        self.answer = event_stream(b"data: 1\n\n", complete=False)
        self.failureResultOf(self.stream(), RestUnavailableError)
        self.assertEqual(self.taken, [b"data: 1\n\n"])

    def test_stream_html_raises_unavailable(self) -> None:
        """A page of a portal or proxy is neither a history nor Alpaca's rejection."""
        self.answer = status(200, b"<html>", content_type="text/html")
        self.failureResultOf(self.stream(), RestUnavailableError)
        self.assertEqual(self.taken, [])

    def test_stream_callback_error_closes_response(self) -> None:
        """The callback's exception is raised unchanged, and no other chunk is passed to it."""

        def take(chunk: bytes) -> None:
            self.taken.append(chunk)
            raise ZeroDivisionError

        self.answer = event_stream(b"data: 1\n\n", b"data: 2\n\n")
        started = self.start(self.rest.stream("/v2/events/trades", {}, take))
        self.failureResultOf(started, ZeroDivisionError)
        self.assertEqual(self.taken, [b"data: 1\n\n"])

    def test_stream_html_closes_response(self) -> None:
        """A page without an end would be read forever."""
        closed: list[object] = []

        def endless(request: Request) -> int:
            request.notifyFinish().addErrback(closed.append)
            request.setHeader("content-type", "text/html")
            request.write(b"<html>")
            return NOT_DONE_YET

        self.answer = endless
        self.failureResultOf(self.stream(), RestUnavailableError)
        self.wires.flush()
        self.assertEqual(len(closed), 1)


class TcpTransport(StringTransport):
    """A transport that Agent accepts as TCP."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass


class HttpClientTests(RestClientTestCase):
    """The client for real networks."""

    def test_https_request_starts_with_tls(self) -> None:
        """No key is sent before the host has shown its certificate."""
        reactor: Any = MemoryReactorClock()
        requested = build_agent(reactor).request(b"GET", b"https://127.0.0.1/v2/account")
        self.addCleanup(requested.addErrback, lambda _: None)
        self.addCleanup(requested.cancel)
        host, port, factory = reactor.tcpClients[0][:3]
        self.assertEqual((host, port), ("127.0.0.1", 443))
        transport = TcpTransport()
        factory.buildProtocol(None).makeConnection(transport)
        self.assertEqual(transport.value()[:2], b"\x16\x03")  # a handshake record of TLS
