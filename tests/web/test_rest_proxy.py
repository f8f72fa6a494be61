"""Tests for tradeproxy.web.rest_proxy: forwarded requests and forwarded responses."""

from __future__ import annotations

import gzip
import json

from twisted.logger import capturedLogs
from twisted.web.server import NOT_DONE_YET, Request

from tests.support.proxy import ProxyTestCase
from tests.web.rest_case import ORDERS, RestTestCase, answer_with, read_head, read_message
from tradeproxy.web.rest_proxy import MAX_BODY_SIZE

KEYS = ("APCA-API-KEY-ID: K", "APCA-API-SECRET-KEY: S")
NOSNIFF = "X-Content-Type-Options: nosniff"
SANDBOX = "Content-Security-Policy: sandbox"
"""The headers that the proxy adds to a response of Alpaca."""


class OffTests(ProxyTestCase):
    """Without PROXY_REST."""

    def test_rest_off_is_404_naming_variable(self) -> None:
        """The error has the format of Alpaca's errors, so an SDK shows it."""
        for path in (ORDERS, "/paper/v2/account?x=y"):
            answer = self.request(path)
            self.assertEqual(answer.status, 404)
            self.assertIn("PROXY_REST=1", read_message(answer))
            self.assertEqual(answer.body.count("\n"), 1)

    def test_rest_off_discards_bodies(self) -> None:
        """Nothing uses them."""
        kept = []
        self.patch(
            self.site.requestFactory,
            "requestReceived",
            lambda request, *_: kept.append(request.content),
        )
        self.write(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
        self.assertEqual([content.tell() for content in kept], [0])


class RequestTests(RestTestCase):
    """Requests to Alpaca."""

    def test_request_is_forwarded_unchanged(self) -> None:
        """Method, query, body and the client's headers are kept; Host is Alpaca's."""
        client = self.post(
            b'{"symbol":"SPY"}', f"{ORDERS}?a=%20b&c", *KEYS, "Content-Type: application/json"
        )
        self.assertEqual(client.status, 200)
        [request] = self.page.requests
        forwarded = {
            name.lower(): values for name, values in request.requestHeaders.getAllRawHeaders()
        }
        expected = {
            b"host": [b"127.0.0.1:8100"],
            b"content-length": [b"16"],
            b"content-type": [b"application/json"],
            b"apca-api-key-id": [b"K"],
            b"apca-api-secret-key": [b"S"],
            b"via": [b"1.1 tradeproxy"],
            b"connection": [b"close"],
        }
        self.assertEqual(forwarded, expected)
        self.assertEqual(self.take_requests(), ["POST /v2/orders?a=%20b&c"])
        self.assertEqual(self.bodies, [b'{"symbol":"SPY"}'])

    def test_oauth_token_is_forwarded(self) -> None:
        """Authorization is forwarded like any other header."""
        self.request(ORDERS, Authorization="Bearer T")
        self.assertEqual(self.page.requests[0].getHeader("authorization"), "Bearer T")
        self.request(ORDERS)
        self.assertIsNone(self.page.requests[1].getHeader("authorization"))

    def test_hop_by_hop_headers_are_removed(self) -> None:
        """So are headers that Connection names, headers for a proxy, and cookies."""
        self.request(
            ORDERS,
            Connection="Upgrade, X-One, keep-alive",
            Upgrade="websocket",
            X_One="1",
            X_Two="2",
            Keep_Alive="timeout=5",
            TE="trailers",
            Trailer="X-Sum",
            Proxy_Authorization="Basic xyz",
            Proxy_Connection="keep-alive",
            Expect="100-continue",
            Cookie="session=of-another-server-here",
            Via="1.0 fred",
        )
        headers = self.page.requests[0].requestHeaders
        names = {name.lower() for name, _ in headers.getAllRawHeaders()}
        self.assertEqual(names, {b"host", b"connection", b"x-two", b"via"})
        self.assertEqual(headers.getRawHeaders("via"), ["1.0 fred", "1.1 tradeproxy"])
        self.assertEqual(headers.getRawHeaders("connection"), ["close"])

    def test_every_method_of_alpaca_is_forwarded(self) -> None:
        """With a body or without."""
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT"):
            self.assertEqual(self.request(ORDERS, method=method).status, 200)
        self.assertEqual(
            self.take_requests(),
            [f"{m} /v2/orders" for m in ("DELETE", "GET", "PATCH", "POST", "PUT")],
        )
        self.write(b"DELETE /paper/v2/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
        self.assertEqual(self.bodies, [b"", b"", b"", b"", b"", b"{}"])

    def test_other_methods_are_405(self) -> None:
        """TRACE would return the keys; CONNECT would open a tunnel."""
        for method in ("TRACE", "CONNECT", "OPTIONS", "get"):
            answer = self.request(ORDERS, method=method)
            self.assertEqual(answer.status, 405)
            self.assertIn(b"Allow: DELETE, GET, HEAD, PATCH, POST, PUT\r\n", answer.received)
        self.assertEqual(self.take_requests(), [])

    def test_chunked_body_gets_content_length(self) -> None:
        """Chunked encoding applies to one connection."""
        self.write(
            b"POST /paper/v2/orders HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        headers = self.page.requests[0].requestHeaders
        self.assertEqual(headers.getRawHeaders("content-length"), ["5"])
        self.assertFalse(headers.hasHeader("transfer-encoding"))
        self.assertEqual(self.bodies, [b"abcde"])

    def test_body_over_limit_is_413(self) -> None:
        """The error has the limit, and Alpaca gets nothing; a body at the limit is forwarded."""
        self.assertEqual(self.post(b"x" * MAX_BODY_SIZE).status, 200)
        answer = self.post(b"x" * (MAX_BODY_SIZE + 1))
        self.assertEqual(answer.status, 413)
        self.assertIn("65536 bytes", read_message(answer))
        self.assertEqual(self.bodies, [b"x" * MAX_BODY_SIZE])

    def test_each_account_has_its_base_url(self) -> None:
        """Both paths of an account work; for an unknown account the error names its variables."""
        self.request("/live/v2/account")
        self.assertEqual(self.page.requests[0].getHeader("host"), "alpaca.example")
        self.request("/trade-updates-live//v2/account?x")
        self.assertEqual(
            self.take_requests(), ["GET /prefix/v2/account", "GET /prefix/v2/account?x"]
        )
        answer = self.request("/desk/v2/account")
        self.assertEqual((answer.status, self.take_requests()), (404, []))
        self.assertIn("ALPACA_DESK_API_KEY", read_message(answer))

    def test_path_outside_a_version_is_404(self) -> None:
        """Nothing is forwarded for a path that another server could resolve elsewhere."""
        for path in (
            "/paper/v2/../v1/x",
            "/paper/v2/x%2f..%2f..",
            "/paper/v2//x",
            "/paper/x/orders",
            "/v2/x",
        ):
            self.assertEqual(self.request(path).status, 404, path)
            self.assertIn("not found", self.request(path).reason)
        self.assertEqual(self.request("http://evil.example/paper/v2/orders").status, 403)
        self.assertEqual(self.take_requests(), [])

    def test_stream_paths_precede_rest_proxy(self) -> None:
        """The WebSocket and the server-sent events are the proxy's own."""
        for path in ("/trade-updates-paper/v2/events/trades", "/paper//v2//events/trades/"):
            self.assertIn(b"text/event-stream", self.request(path).received)
        self.assertEqual(self.upgrade("/trade-updates-paper/stream").status, 101)
        self.assertEqual(self.upgrade("/paper/v2/stream").status, 200)
        self.assertEqual(self.take_requests(), ["GET /v2/stream"])


class PageTests(RestTestCase):
    """Requests from pages in a browser."""

    origins = ("https://desk.example",)

    def test_page_of_other_origin_is_403(self) -> None:
        """Allowed origins may read the stream only; a page may also hide its origin."""
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "http://localhost:3000"},
            {"Origin": "null"},
            {"Origin": "https://desk.example"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
            {"Host": "evil.example"},
        ):
            for method in ("GET", "POST", "OPTIONS"):
                self.assertEqual(
                    self.request(ORDERS, method=method, **headers).status, 403, headers
                )
        self.assertEqual(self.take_requests(), [])

    def test_responses_have_no_cors_headers(self) -> None:
        """A preflight allows nothing, and CORS headers of Alpaca are removed."""
        self.answer = answer_with(
            200, access_control_allow_origin="*", Access_Control_Allow_Headers="*"
        )
        preflight = {
            "Access_Control_Request_Method": "POST",
            "Access_Control_Request_Headers": "apca-api-key-id",
        }
        for origin in ("https://desk.example", "https://evil.example", "http://localhost:8099"):
            answer = self.request(ORDERS, method="OPTIONS", Origin=origin, **preflight)
            self.assertIn(answer.status, (403, 405))
            self.assertNotIn(b"access-control", answer.received.lower())
        answer = self.request(ORDERS, Origin="http://localhost:8099")
        self.assertEqual(answer.status, 200)
        self.assertNotIn(b"access-control", answer.received.lower())

    def test_page_of_own_origin_is_forwarded(self) -> None:
        """A page that the proxy itself serves belongs to the user."""
        answer = self.request(ORDERS, Origin="http://localhost:8099", Sec_Fetch_Site="same-origin")
        self.assertEqual((answer.status, self.take_requests()), (200, ["GET /v2/orders"]))


class RestResponseTests(RestTestCase):
    """Responses to the client."""

    def test_response_is_forwarded_unchanged(self) -> None:
        """Status, headers and body are kept, the content coding too."""
        body = gzip.compress(b'{"code":42210000,"message":"insufficient qty"}', mtime=0)

        def answer(request: Request) -> bytes:
            request.setResponseCode(422, b"Unprocessable Entity")
            request.setHeader("content-encoding", "gzip")
            request.setHeader("content-type", "application/json; charset=UTF-8")
            request.setHeader("server", "alpaca")
            request.setHeader("date", "Sun, 06 Nov 1994 12:00:00 GMT")
            request.responseHeaders.setRawHeaders("x-request-id", ["a", "b"])
            request.setHeader("x-ratelimit-remaining", "199")
            return body

        self.answer = answer
        client = self.post(b"{}")
        head, _, received = client.received.partition(b"\r\n\r\n")
        expected = {
            "HTTP/1.1 422 Unprocessable Entity",
            "Content-Encoding: gzip",
            "Content-Type: application/json; charset=UTF-8",
            "Server: alpaca",
            "Date: Sun, 06 Nov 1994 12:00:00 GMT",
            "X-Request-Id: a",
            "X-Request-Id: b",
            "X-Ratelimit-Remaining: 199",
            NOSNIFF,
            SANDBOX,
            f"Content-Length: {len(body)}",
        }
        self.assertEqual(set(head.decode().split("\r\n")), expected)
        self.assertEqual(received, body)

    def test_hop_by_hop_headers_of_response_are_removed(self) -> None:
        """So are cookies: a browser would send them to other servers on this machine."""
        self.serve(
            b"HTTP/1.1 200 F\rine\r\nConnection: close, X-One\r\nX-One: 1\r\nX-Two: 2\r\n"
            b"Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nTrailer: X\r\n"
            b"Set-Cookie: a=b\r\nDate: D\r\nServer: S\r\nContent-Length: 2\r\n\r\n{}"
        )
        client = self.request(ORDERS)
        expected = {
            "HTTP/1.1 200 Fine",
            "X-Two: 2",
            "Date: D",
            "Server: S",
            "Content-Length: 2",
            NOSNIFF,
            SANDBOX,
        }
        self.assertEqual(set(read_head(client)), expected)
        self.assertFalse(client.gone)

    def test_header_for_the_whole_origin_is_removed(self) -> None:
        """It would apply to the dashboard, and to other servers on this machine.

        Nor does Alpaca loosen the two headers that keep a browser from running its answer.
        """
        headers = (
            "Clear-Site-Data: *",
            "Set-Cookie2: a=b",
            "Strict-Transport-Security: max-age=1",
            "Public-Key-Pins-Report-Only: x",
            "Alt-Svc: h2=evil.example",
            "NEL: {}",
            "Report-To: {}",
            "Reporting-Endpoints: x",
            "Service-Worker-Allowed: /",
            "Content-Security-Policy: sandbox allow-scripts",
            "Content-Security-Policy-Report-Only: x",
            "X-Content-Type-Options: sniff",
            "X-Two: 2",
        )
        lines = ("HTTP/1.1 200 OK", *headers, "Date: D", "Server: S", "Content-Length: 2", "", "{}")
        self.serve("\r\n".join(lines).encode())
        expected = {"X-Two: 2", "Date: D", "Server: S", "Content-Length: 2", NOSNIFF, SANDBOX}
        self.assertEqual(set(read_head(self.request(ORDERS))[1:]), expected)

    def test_path_in_another_reading_is_400(self) -> None:
        """Nothing is sent to Alpaca."""
        for path in ("/paper/v2/%c0%ae%c0%ae/v1", "/paper/v2/%ef%bc%8e%ef%bc%8e/v1"):
            self.assertEqual(self.request(path).status, 400)
        self.assertEqual(self.take_requests(), [])

    def test_error_of_the_proxy_is_sandboxed_too(self) -> None:
        """It has the same address as an answer of Alpaca's."""
        self.host.refusing = True
        self.assertIn(SANDBOX, read_head(self.request(ORDERS)))

    def test_status_outside_200_to_599_is_502(self) -> None:
        """Caches and clients handle such a status in different ways; its body is not read."""
        for status in (0, 99, 600, 999, 1000):
            self.serve(b"HTTP/1.1 %d X\r\nContent-Length: 9\r\n\r\n{" % status, closes=False)
            client = self.post(b"{}")
            self.assertEqual(client.status, 502, status)
            self.assertIn("may have carried this out", read_message(client))
            self.assertFalse(client.gone)
            self.assertEqual(len(self.factory.clients), 0)
        self.serve(b"HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.post(b"{}").status, 599)
        self.serve(b"HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.post(b"{}").status, 502)

    def test_redirect_is_forwarded(self) -> None:
        """The proxy does not follow it: the keys are only for the account's host."""
        self.answer = answer_with(307, location="https://elsewhere.example/v2/orders")
        client = self.post(b"{}")
        self.assertEqual(client.status, 307)
        self.assertIn("Location: https://elsewhere.example/v2/orders", read_head(client))
        self.assertEqual(len(self.page.requests), 1)

    def test_response_without_body_keeps_connection(self) -> None:
        """The next request on the connection is answered."""
        for status in (204, 304):
            self.answer = answer_with(status, etag='"x"')
            client = self.request(ORDERS, method="DELETE")
            self.assertEqual(client.status, status)
            self.assertEqual(client.body, "")
            expected = {
                "ETag",
                "Date",
                "Server",
                NOSNIFF.partition(":")[0],
                SANDBOX.partition(":")[0],
            }
            self.assertEqual({name.split(":")[0] for name in read_head(client)[1:]}, expected)
            self.answer = [1]
            assert client.transport is not None
            client.transport.write(b"GET /paper/v2/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.wires.flush()
            self.assertTrue(client.received.endswith(b"\r\n\r\n[1]"), client.received)

    def test_head_has_length_and_no_body(self) -> None:
        """Content-Length is Alpaca's."""
        self.serve(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", closes=False)
        client = self.request(ORDERS, method="HEAD")
        self.assertIn("Content-Length: 12345", read_head(client))
        self.assertEqual((client.body, client.gone), ("", False))

    def test_body_of_unknown_length_is_streamed(self) -> None:
        """The head is sent at once, and each part when it arrives, as a chunk."""
        parts: list[Request] = []

        def answer(request: Request) -> int:
            parts.append(request)
            request.write(b"")
            return NOT_DONE_YET

        self.answer = answer
        client = self.request(ORDERS)
        self.assertTrue(client.received.endswith(b"\r\n\r\n"), client.received)
        parts[0].write(b"one")
        self.wires.flush()
        self.assertTrue(client.received.endswith(b"3\r\none\r\n"), client.received)
        parts[0].write(b"two")
        self.wires.flush()
        self.assertTrue(client.received.endswith(b"3\r\ntwo\r\n"), client.received)
        parts[0].finish()
        self.wires.flush()
        self.assertTrue(client.received.endswith(b"0\r\n\r\n"), client.received)

    def test_body_ended_by_close_is_complete(self) -> None:
        """HTTP/1.0 servers do so; a client of HTTP/1.0 gets the body the same way."""
        self.serve(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        self.assertTrue(self.request(ORDERS).received.endswith(b"9\r\nall of it\r\n0\r\n\r\n"))
        client = self.write(b"GET /paper/v2/orders HTTP/1.0\r\nHost: localhost\r\n\r\n")
        self.assertEqual((client.body, client.gone), ("all of it", True))

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        """The client does not wait for responses."""
        self.answer = lambda request: request.uri
        lines = "GET /paper/v2/{} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        client = self.write("".join(lines.format(name) for name in "abc").encode())
        self.assertEqual(self.take_requests(), ["GET /v2/a", "GET /v2/b", "GET /v2/c"])
        bodies = [part.partition(b"HTTP/1.1")[0] for part in client.received.split(b"\r\n\r\n")[1:]]
        self.assertEqual(bodies, [b"/v2/a", b"/v2/b", b"/v2/c"])

    def test_nothing_is_logged(self) -> None:
        """Neither for a successful request nor for a failed one."""
        with capturedLogs() as events:
            self.post(b'{"hush":1}', f"{ORDERS}?hush", *KEYS)
            self.serve(b"nonsense")
            self.assertEqual(self.post(b'{"hush":1}', f"{ORDERS}?hush", *KEYS).status, 502)
            self.host.refusing = True
            self.assertEqual(self.post(b'{"hush":1}', f"{ORDERS}?hush", *KEYS).status, 502)
        self.assertEqual([json.dumps(event, default=repr) for event in events], [])
