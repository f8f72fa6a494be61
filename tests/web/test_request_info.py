"""Tests for tradeproxy.web.request_info: requests through a reverse proxy."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.logger import capturedLogs, formatEvent
from twisted.test.iosim import FakeTransport
from twisted.web.server import Request

from tests.support.frames import AUTH
from tests.support.proxy import ProxyTestCase
from tradeproxy.downstream.admission import MAX_WRONG

OWN = "https://desk.example"
HEADERS = {"Host": "desk.example", "X_Forwarded_Proto": "https"}


class ForwardedTestCase(ProxyTestCase):
    """The peer of every connection is 127.0.0.1; this base has no test."""

    hosts = ("desk.example",)
    trusted_proxies: tuple[str, ...] = ("127.0.0.1/32",)

    def list_addresses(self) -> list[str]:
        """Return the address of each client, as the dashboard shows it."""
        listed: list[dict[str, Any]] = json.loads(self.request("/status.json").body)["clients"][
            "listed"
        ]
        return [client["address"] for client in listed]


class TrustedTests(ForwardedTestCase):
    """What a trusted reverse proxy says counts."""

    def test_own_https_origin_is_admitted(self) -> None:
        """The page came over TLS, and its server forwards plain HTTP: it was another origin."""
        for headers in (
            HEADERS,
            {"Host": "localhost:8099", "X_Forwarded_Host": "desk.example"}
            | {"X_Forwarded_Proto": "HTTPS"},
            {"Host": "desk.example:443", "X_Forwarded_Proto": "wss"},
        ):
            self.assertEqual(self.upgrade(Origin=OWN, **headers).status, 101, headers)
            self.assertEqual(self.request("/status.json", Origin=OWN, **headers).status, 200)
            foreign = self.upgrade(Origin="http://desk.example", **headers)
            self.assertEqual(foreign.status, 403, headers)

    def test_proto_http_over_tls_counts_too(self) -> None:
        """The reverse proxy may use TLS although its client does not."""
        self.patch(Request, "isSecure", lambda _: True)
        headers = {"Host": "desk.example", "X_Forwarded_Proto": "http"}
        self.assertEqual(self.upgrade(Origin="http://desk.example", **headers).status, 101)
        self.assertEqual(self.upgrade(Origin=OWN, **headers).status, 403)

    def test_forwarded_host_must_be_allowed(self) -> None:
        """It replaces Host, and the rule stays."""
        answer = self.request("/status.json", X_Forwarded_Host="evil.example")
        self.assertEqual(answer.status, 403)

    def test_host_must_be_allowed_too(self) -> None:
        """A rebound page is of the same origin as what it asks, so it may send any header.

        Its browser may run where the reverse proxy does: then it connects from a trusted address.
        """
        for path in ("/status.json", "/metrics", "/paper/v2/events/trades"):
            answer = self.request(path, Host="evil.example:8099", X_Forwarded_Host="localhost:8099")
            self.assertEqual(answer.status, 403, path)

    def test_client_address_is_shown(self) -> None:
        """For WebSockets and server-sent events; X-Forwarded-For names no port."""
        self.open_client(X_Forwarded_For="10.9.9.9, 203.0.113.9")
        self.request("/paper/v2/events/trades", X_Forwarded_For="2001:db8::9")
        self.request("/paper/v2/events/trades")
        self.assertEqual(
            sorted(self.list_addresses()), ["127.0.0.1:50000", "2001:db8::9", "203.0.113.9"]
        )

    def test_rejection_names_the_client(self) -> None:
        """The address of the reverse proxy would help nobody."""
        with capturedLogs() as logs:
            self.upgrade(Origin="https://evil.example", X_Forwarded_For="203.0.113.9")
        self.assertIn("rejected 203.0.113.9: ", formatEvent(logs[0]))

    def test_malformed_header_is_400(self) -> None:
        """The log names the header and the reverse proxy that sends it."""
        for name, value in (
            ("X_Forwarded_For", "unknown"),
            ("X_Forwarded_For", ""),
            ("X_Forwarded_Proto", "https, http"),
            ("X_Forwarded_Proto", "ftp"),
            ("X_Forwarded_Proto", ""),
            ("X_Forwarded_Host", "desk.example, desk.example"),
            ("X_Forwarded_Host", "desk.example/"),
            ("X_Forwarded_Host", ""),
        ):
            with capturedLogs() as logs:
                answer = self.request("/healthz", **{name: value})
            self.assertEqual(answer.status, 400, (name, value))
            self.assertIn(name.replace("_", "-"), answer.reason)
            self.assertTrue(all("127.0.0.1" in formatEvent(event) for event in logs))

    def test_header_sent_twice_is_one_list(self) -> None:
        """HAProxy adds a line of its own to those of the client."""
        self.write(
            b"GET /paper/v2/events/trades HTTP/1.1\r\nHost: localhost\r\n"
            b"X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n"
        )
        self.assertEqual(self.list_addresses(), ["203.0.113.9"])


class UntrustedTests(ForwardedTestCase):
    """What anyone else says does not count."""

    trusted_proxies = ("10.0.0.0/8", "unix")

    def test_headers_are_ignored(self) -> None:
        """Malformed ones too: they may come from a proxy on the client's side."""
        self.assertEqual(self.upgrade(Origin=OWN, **HEADERS).status, 403)
        bad = {"X_Forwarded_For": "unknown", "X_Forwarded_Proto": "x", "X_Forwarded_Host": "/"}
        self.assertEqual(self.request("/healthz", **bad).status, 200)
        self.open_client(X_Forwarded_For="203.0.113.9")
        self.assertEqual(self.list_addresses(), ["127.0.0.1:50000"])

    def test_peer_at_unix_socket_is_trusted_as_unix(self) -> None:
        """It has no address."""
        self.patch(FakeTransport, "getPeer", lambda _: UNIXAddress(None))
        self.assertEqual(self.upgrade(Origin=OWN, **HEADERS).status, 101)
        self.open_client(X_Forwarded_For="203.0.113.9")
        self.assertIn("203.0.113.9", self.list_addresses())


class ForwardedTokenTests(ForwardedTestCase):
    """Each client of a reverse proxy has a count of wrong tokens of its own."""

    tokens = ("a-token-of-some-length",)

    def test_wrong_tokens_count_for_the_client(self) -> None:
        """One that guesses must not slow the others, whichever way it sends the token."""
        for _ in range(MAX_WRONG):
            client = self.connect(X_Forwarded_For="203.0.113.9")
            client.sendMessage(AUTH)
            self.wires.flush()
        wrong = {"Authorization": "Bearer wrong"}
        delayed = self.request("/status.json", **wrong, X_Forwarded_For="203.0.113.9")
        self.assertEqual(delayed.received, b"")
        other = self.request("/status.json", **wrong, X_Forwarded_For="203.0.113.10")
        self.assertEqual(other.status, 401)
