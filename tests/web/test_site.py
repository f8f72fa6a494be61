"""Tests for tradeproxy.web.site: responses to requests, before and instead of an upgrade."""

from __future__ import annotations

import json

from twisted.logger import capturedLogs, formatEvent

from tests.support.journals import event
from tests.support.proxy import ProxyTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.hub.replication import NodeRole

STREAM = "/trade-updates-paper"


class ResponseTests(ProxyTestCase):
    """Plain HTTP requests."""

    def test_healthz_alpaca_down_is_200(self) -> None:
        """A restart would not bring Alpaca back."""
        self.assertEqual(self.request("/healthz").status, 200)

    def test_readyz_account_down_is_503_with_reason(self) -> None:
        """It is 200 once every account streams."""
        self.paper.mark_upstream_up()
        self.live.mark_upstream_down("login refused")
        answer = self.request("/readyz")
        self.assertEqual(answer.status, 503)
        document = json.loads(answer.body)
        self.assertEqual(document["accounts"]["live"]["reason"], "login refused")
        self.assertIs(document["accounts"]["paper"]["ready"], True)
        self.live.mark_upstream_up()
        self.assertEqual(self.request("/readyz").status, 200)

    def test_stream_without_upgrade_is_426(self) -> None:
        """The body explains that the path is a WebSocket."""
        answer = self.request(STREAM)
        self.assertEqual(answer.status, 426)
        self.assertIn(b"Upgrade: websocket", answer.received)
        self.assertIn("WebSocket", answer.body)

    def test_unknown_account_is_404_naming_variables(self) -> None:
        """Plain requests and upgrades get the same message."""
        for answer in (
            self.request("/trade-updates-desk_2"),
            self.upgrade("/trade-updates-desk_2/stream"),
        ):
            self.assertEqual(answer.status, 404)
            self.assertIn("ALPACA_DESK_2_API_KEY and ALPACA_DESK_2_SECRET_KEY", answer.body)

    def test_absolute_target_names_the_host(self) -> None:
        """A client of an HTTP proxy sends the whole URL. Its host counts (RFC 9112, 3.2.2)."""
        for target in ("http://localhost:8099/healthz", "HTTPS://127.0.0.1/healthz?x"):
            self.assertEqual(self.request(target, Host="evil.example").status, 200, target)
        self.assertEqual(self.upgrade(f"http://localhost:8099{STREAM}?replay=1").status, 101)
        for target in ("http://localhost", "http://localhost?x"):
            self.assertIn(b"<title>", self.request(target).received, target)
        for target in ("http://evil.example/healthz", "http:///healthz", "http://a@localhost/"):
            self.assertEqual(self.request(target, Host="localhost").status, 403, target)

    def test_unknown_path_is_404(self) -> None:
        """Also if it resembles a known one."""
        for path in ("/x/y", "/trade-updates-", "/%70aper"):
            self.assertEqual(self.request(path).status, 404, path)

    def test_post_is_405(self) -> None:
        """No endpoint accepts a POST."""
        answer = self.request("/healthz", method="POST")
        self.assertEqual(answer.status, 405)
        self.assertIn(b"Allow: GET, HEAD", answer.received)

    def test_responses_hide_library_versions(self) -> None:
        """No response names Twisted or Autobahn."""
        for answer in (self.request("/healthz"), self.request("/nothing"), self.upgrade()):
            self.assertNotRegex(answer.received.lower(), b"twisted|autobahn")

    def test_head_has_no_body(self) -> None:
        """Some load balancers send HEAD."""
        answer = self.request("/healthz", method="HEAD")
        self.assertEqual((answer.status, answer.body), (200, ""))
        self.assertIn(b"Content-Length: 21\r\n", answer.received)

    def test_readyz_counts_clients_and_dropped_frames(self) -> None:
        """Frames from Alpaca that could not be used are dropped."""
        self.open_client()
        self.paper.drop_frame("not JSON")
        paper = json.loads(self.request("/readyz").body)["accounts"]["paper"]
        self.assertEqual((paper["clients"], paper["dropped_frames"]), (1, 1))

    def test_repeated_rejection_is_logged_at_powers_of_ten(self) -> None:
        """A page may retry all day; the 1st, 10th and 100th rejection are logged."""
        with capturedLogs() as logs:
            for _ in range(25):
                self.upgrade(Origin="https://evil.example")
        self.assertEqual([event["count"] for event in logs], [1, 10])
        line = formatEvent(logs[0])
        self.assertIn("rejected 127.0.0.1:50000: this Origin is not allowed", line)
        self.assertNotIn("evil.example", line)

    def test_requests_are_not_logged(self) -> None:
        """Health checks would fill the log, and headers may hold real keys."""
        with capturedLogs() as logs:
            self.request("/healthz")
            self.upgrade(Authorization="Bearer x", APCA_API_SECRET_KEY="y")
        self.assertEqual(logs, [])


class UpgradeTests(ProxyTestCase):
    """Upgrades to a WebSocket."""

    def test_every_stream_path_upgrades(self) -> None:
        """SDKs and users write the paths in several ways."""
        for path in (
            "/trade-updates-paper",
            "/trade-updates-paper/",
            "/paper",
            "/live",
            "/trade-updates-live/stream",
            "//trade-updates-paper//stream/",
            "/paper/stream?x=y",
        ):
            self.assertEqual(self.upgrade(path).status, 101, path)


class AdmissionTests(ProxyTestCase):
    """Only known hosts and origins are admitted."""

    hosts = ("trader.lan",)
    origins = ("https://desk.example",)

    def test_foreign_host_is_403(self) -> None:
        """With DNS rebinding, a page's requests still carry the page's host name."""
        for host in (
            "evil.example",
            "evil.example:8099",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
        ):
            self.assertEqual(self.upgrade(Host=host).status, 403, host)
            self.assertEqual(self.request("/healthz", Host=host).status, 403, host)

    def test_own_or_allowed_host_upgrades(self) -> None:
        """Any port is accepted, since ports may be forwarded."""
        for host in (
            "localhost",
            "localhost:8099",
            "127.0.0.1:80",
            "[::1]:8099",
            "Trader.LAN:8099",
        ):
            self.assertEqual(self.upgrade(Host=host).status, 101, host)

    def test_two_host_headers_are_rejected(self) -> None:
        """A repeated header matches no host."""
        answer = self.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n")
        self.assertIn(answer.status, (400, 403))

    def test_foreign_origin_is_403(self) -> None:
        """So are another port of this machine and an opaque origin."""
        for origin in (
            "https://evil.example",
            "http://localhost:3000",
            "null",
            "file://",
            "https://localhost:8099",
        ):
            self.assertEqual(self.upgrade(Origin=origin).status, 403, origin)

    def test_own_or_allowed_origin_upgrades(self) -> None:
        """websocket-client always sends its own origin, and so does the dashboard."""
        for origin in ("http://localhost:8099", "HTTP://LOCALHOST:8099", "https://desk.example"):
            self.assertEqual(self.upgrade(Origin=origin).status, 101, origin)


class SiteTokenTests(ProxyTestCase):
    """With PROXY_TOKENS set, everything but health needs a token."""

    tokens = ("open-sesame",)

    def test_health_needs_no_token(self) -> None:
        """Supervisors have no tokens."""
        for path in ("/healthz", "/readyz"):
            self.assertIn(self.request(path).status, (200, 503), path)

    def test_readyz_without_token_has_states_and_no_counts(self) -> None:
        """How many events there are, and when that grows, shows how much an account trades."""
        self.paper.mark_upstream_up()
        self.live.mark_upstream_up()
        self.live.mark_upstream_down("connection lost")
        self.live.role = NodeRole(0.0, is_leader=False, lease_renewed=1.0)
        self.publish(self.paper, *(event(n).payload for n in range(3)))
        public = json.loads(self.request("/readyz").body)
        whole = json.loads(self.request("/readyz", Authorization="Bearer open-sesame").body)
        self.assertEqual(
            public["accounts"]["paper"],
            {
                "ready": True,
                "reason": "streaming",
                "since": whole["accounts"]["paper"]["since"],
                "journal": {"durable": True, "reason": ""},
                "gap": None,
            },
        )
        live = public["accounts"]["live"]
        self.assertEqual(live["gap"].keys(), {"begin", "end", "outcome", "reason"})
        self.assertEqual(live["role"].keys(), {"part", "since", "lease_renewed"})
        self.assertEqual(public["reasons"], whole["reasons"])
        self.assertEqual(whole["accounts"]["paper"]["journal"]["last"], 3)
        self.assertEqual(whole["accounts"]["live"]["role"]["lag"], 0)

    def test_other_paths_without_token_are_401(self) -> None:
        """The response has WWW-Authenticate."""
        for path in (STREAM, "/status.json", "/nothing"):
            answer = self.request(path)
            self.assertEqual(answer.status, 401, path)
            self.assertIn(b"WWW-Authenticate: Bearer", answer.received)
        self.assertEqual(self.request("/nothing", Authorization="Bearer open-sesame").status, 404)

    def test_upgrade_without_token_is_accepted(self) -> None:
        """WebSocket clients send the token in their auth message."""
        self.assertEqual(self.upgrade().status, 101)


class TimeLimitTests(ProxyTestCase):
    """Time and memory limits of requests."""

    limits = Limits(handshake_timeout=5)

    def test_incomplete_request_closes_at_handshake_timeout(self) -> None:
        """A byte every second does not extend the limit."""
        client = self.write(b"GET /healthz HTTP/1.1\r\n")
        for _ in range(5):
            assert client.transport is not None
            client.transport.write(b"X")
            self.wires.advance(1)
        self.wires.advance(0.1)
        self.assertTrue(client.gone)

    def test_stream_outlives_request_time_limit(self) -> None:
        """The limit ends with the upgrade."""
        client = self.connect()
        self.wires.advance(9)
        self.assertTrue(client.is_open_now)

    def test_request_body_is_ignored(self) -> None:
        """A request with a body gets the same response as without."""
        answer = self.write(
            b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
        )
        self.assertEqual(answer.status, 405)
