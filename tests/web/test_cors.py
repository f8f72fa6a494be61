"""Tests for tradeproxy.web.cors: what a page of another origin may read."""

from __future__ import annotations

from tests.support.proxy import ProxyTestCase, RawClient

ALLOWED = "https://app.example"
EVENTS = "/trade-updates-paper/v2/events/trades"
SHARED = (EVENTS, "/trade-updates-paper", "/paper/stream", "/healthz", "/readyz", "/status.json")
OTHERS = ("/", "/dashboard/main.js", "/metrics", "/x/y", "/paper/v2/orders")


class CorsTestCase(ProxyTestCase):
    """One origin is allowed; this base has no test."""

    origins = (ALLOWED,)

    def ask(self, path: str, **headers: str) -> RawClient:
        """Send the preflight of a request with a token and a position."""
        asked = {
            "Origin": ALLOWED,
            "Access_Control_Request_Method": "GET",
            "Access_Control_Request_Headers": "authorization,cache-control,last-event-id",
            "Sec_Fetch_Site": "cross-site",
        }
        return self.request(path, method="OPTIONS", **(asked | headers))


class CorsTests(CorsTestCase):
    """Without tokens."""

    def test_preflight_of_allowed_origin_is_200(self) -> None:
        """An EventSource with a token sends headers for which a browser asks first. It got 405."""
        for path in SHARED:
            answer = self.ask(path)
            self.assertEqual((answer.status, answer.body), (200, ""), path)
            for line in (
                b"Access-Control-Allow-Origin: https://app.example",
                b"Access-Control-Allow-Methods: GET, HEAD",
                b"Access-Control-Allow-Headers: Authorization, Cache-Control, Last-Event-ID",
                b"Access-Control-Max-Age: 600",
                b"Vary: origin",
            ):
                self.assertIn(line + b"\r\n", answer.received, path)
            self.assertNotIn(b"\r\nContent-Type", answer.received)

    def test_preflight_of_other_origin_is_403(self) -> None:
        """The browser then sends no request."""
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
            for path in SHARED:
                answer = self.ask(path, **headers)
                self.assertEqual(answer.status, 403, path)
                self.assertNotIn(b"access-control", answer.received.lower())

    def test_other_paths_are_not_shared(self) -> None:
        """Metrics and files of the dashboard are for no other page, and REST even less so."""
        for path in OTHERS:
            for answer in (self.ask(path), self.request(path, Origin=ALLOWED)):
                self.assertNotIn(b"access-control", answer.received.lower(), path)
            self.assertIn(self.ask(path).status, (404, 405), path)

    def test_options_that_is_no_preflight_is_405(self) -> None:
        """There is no other use of it."""
        self.assertEqual(self.request("/healthz", method="OPTIONS").status, 405)
        self.assertEqual(self.request(EVENTS, method="OPTIONS", Origin=ALLOWED).status, 405)

    def test_page_may_read_every_answer(self) -> None:
        """An error too: without the header, the page only learns that something failed."""
        for path, status in (
            ("/healthz", 200),
            ("/readyz", 503),
            ("/status.json", 200),
            (EVENTS, 200),
            (f"{EVENTS}?since=x", 400),
            ("/trade-updates-other/v2/events/trades", 404),
            ("/trade-updates-paper", 426),
        ):
            answer = self.request(path, Origin=ALLOWED)
            self.assertEqual(answer.status, status, path)
            self.assertIn(b"Access-Control-Allow-Origin: https://app.example\r\n", answer.received)
            self.assertIn(b"Vary: origin\r\n", answer.received)
            self.assertNotIn(b"access-control", self.request(path).received.lower())
            self.assertNotIn(
                b"access-control",
                self.request(path, Origin="https://evil.example").received.lower(),
            )


class CorsTokenTests(CorsTestCase):
    """With tokens."""

    tokens = ("a-token-of-some-length",)

    def test_preflight_needs_no_token(self) -> None:
        """A browser never sends one with it. The request itself needs one."""
        for path in SHARED:
            self.assertEqual(self.ask(path).status, 200, path)
        answer = self.request("/status.json", Origin=ALLOWED)
        self.assertEqual(answer.status, 401)
        self.assertIn(b"Access-Control-Allow-Origin", answer.received)
        right = self.request(
            "/status.json", Origin=ALLOWED, Authorization="Bearer a-token-of-some-length"
        )
        self.assertEqual(right.status, 200)
