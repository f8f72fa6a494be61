"""The site: what each request is answered, before and instead of an upgrade."""

from __future__ import annotations

import json

from twisted.logger import capturedLogs, formatEvent

from tests.support.proxy import ProxyTestCase
from tradeproxy.config.settings import Limits

STREAM = "/trade-updates-paper"


class AnswerTests(ProxyTestCase):
    """Plain HTTP requests."""

    def test_health_is_alive_while_alpaca_is_down(self) -> None:
        """A restart would not bring Alpaca back."""
        self.assertEqual(self.request("/healthz").status, 200)

    def test_ready_when_every_account_streams(self) -> None:
        """503 with each account's reason until then."""
        self.paper.mark_upstream_up()
        self.live.mark_upstream_down("login refused")
        answer = self.request("/readyz")
        self.assertEqual(answer.status, 503)
        document = json.loads(answer.body)
        self.assertEqual(document["accounts"]["live"]["reason"], "login refused")
        self.assertIs(document["accounts"]["paper"]["ready"], True)
        self.live.mark_upstream_up()
        self.assertEqual(self.request("/readyz").status, 200)

    def test_a_stream_is_no_page(self) -> None:
        """426 tells somebody with a browser or curl what it is instead."""
        answer = self.request(STREAM)
        self.assertEqual(answer.status, 426)
        self.assertIn(b"Upgrade: websocket", answer.received)
        self.assertIn("WebSocket", answer.body)

    def test_an_account_that_is_not_set_up_names_its_variables(self) -> None:
        """The 404 says how to set it up, also to an upgrade."""
        for answer in (
            self.request("/trade-updates-desk_2"),
            self.upgrade("/trade-updates-desk_2/stream"),
        ):
            self.assertEqual(answer.status, 404)
            self.assertIn("ALPACA_DESK_2_API_KEY and ALPACA_DESK_2_SECRET_KEY", answer.body)

    def test_unknown_paths_are_not_found(self) -> None:
        """Whatever they resemble."""
        for path in ("/x/y", "/trade-updates-", "/%70aper"):
            self.assertEqual(self.request(path).status, 404, path)

    def test_other_methods_are_not_allowed(self) -> None:
        """Nothing here takes a POST."""
        answer = self.request("/healthz", method="POST")
        self.assertEqual(answer.status, 405)
        self.assertIn(b"Allow: GET, HEAD", answer.received)

    def test_answers_do_not_name_the_software_beneath(self) -> None:
        """Neither Twisted's version nor Autobahn's is told."""
        for answer in (self.request("/healthz"), self.request("/nothing"), self.upgrade()):
            self.assertNotRegex(answer.received.lower(), b"twisted|autobahn")

    def test_a_head_request_gets_the_head_alone(self) -> None:
        """Load balancers ask so."""
        answer = self.request("/healthz", method="HEAD")
        self.assertEqual((answer.status, answer.body), (200, ""))
        self.assertIn(b"Content-Length: 21\r\n", answer.received)

    def test_readiness_tells_how_many_clients_there_are(self) -> None:
        """And how many frames of Alpaca's were of no use."""
        self.connect()
        self.paper.drop_frame("not JSON")
        paper = json.loads(self.request("/readyz").body)["accounts"]["paper"]
        self.assertEqual((paper["clients"], paper["dropped_frames"]), (1, 1))

    def test_who_is_turned_away_is_logged_seldom(self) -> None:
        """A page may try all day: the 1st, the 10th and the 100th time are told, with the reason."""
        with capturedLogs() as logs:
            for _ in range(25):
                self.upgrade(Origin="https://evil.example")
        self.assertEqual([event["count"] for event in logs], [1, 10])
        line = formatEvent(logs[0])
        self.assertIn("let 127.0.0.1 go: this Origin is not allowed", line)
        self.assertNotIn("evil.example", line)

    def test_requests_are_not_logged(self) -> None:
        """Health checks would fill the log, and headers may hold real keys."""
        with capturedLogs() as logs:
            self.request("/healthz")
            self.upgrade(Authorization="Bearer x", APCA_API_SECRET_KEY="y")
        self.assertEqual(logs, [])


class UpgradeTests(ProxyTestCase):
    """The paths of the streams."""

    def test_every_form_of_the_path_is_a_stream(self) -> None:
        """SDKs and people write them in several ways."""
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

    def test_a_broken_handshake_is_refused(self) -> None:
        """With an HTTP status rather than a hung connection (RFC 6455, 4.2.1)."""
        good = {
            "Upgrade": "websocket",
            "Connection": "keep-alive, Upgrade",
            "Sec_WebSocket_Version": "13",
            "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        self.assertEqual(self.request(STREAM, **good).status, 101)
        for name, value in (
            ("Connection", "keep-alive"),
            ("Sec_WebSocket_Key", "dGhlIHNhbXBsZQ=="),
            ("Sec_WebSocket_Key", "dGhlIHNhbXBsZSBub25jZQ!="),
            ("Sec_WebSocket_Key", ""),
        ):
            self.assertEqual(
                self.request(STREAM, **good | {name: value}).status, 400, (name, value)
            )
        self.assertEqual(self.request(STREAM, method="POST", **good).status, 400)

    def test_an_unknown_version_is_told_which_ones_there_are(self) -> None:
        """As RFC 6455 asks (4.4)."""
        answer = self.request(
            STREAM,
            Upgrade="websocket",
            Connection="Upgrade",
            Sec_WebSocket_Version="99",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        )
        self.assertEqual(answer.status, 426)
        self.assertIn(b"sec-websocket-version: 13", answer.received.lower())


class DoorTests(ProxyTestCase):
    """No page of another site, and no other host's name, gets in."""

    hosts = ("trader.lan",)
    origins = ("https://desk.example",)

    def test_a_foreign_host_is_refused_before_the_upgrade(self) -> None:
        """A page whose name was rebound to this address still says its name."""
        for host in (
            "evil.example",
            "evil.example:8099",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
        ):
            self.assertEqual(self.upgrade(Host=host).status, 403, host)
            self.assertEqual(self.request("/healthz", Host=host).status, 403, host)

    def test_own_and_allowed_hosts_are_let_in(self) -> None:
        """Under any port, since ports are forwarded."""
        for host in (
            "localhost",
            "localhost:8099",
            "127.0.0.1:80",
            "[::1]:8099",
            "Trader.LAN:8099",
        ):
            self.assertEqual(self.upgrade(Host=host).status, 101, host)

    def test_two_hosts_are_none(self) -> None:
        """What a request says twice is not believed once."""
        answer = self.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n")
        self.assertIn(answer.status, (400, 403))

    def test_a_page_of_another_origin_is_refused_before_the_upgrade(self) -> None:
        """Also one of this machine, on another port, and one that will not say."""
        for origin in (
            "https://evil.example",
            "http://localhost:3000",
            "null",
            "file://",
            "https://localhost:8099",
        ):
            self.assertEqual(self.upgrade(Origin=origin).status, 403, origin)

    def test_own_and_allowed_origins_are_let_in(self) -> None:
        """websocket-client always sends its own; a page of ours has it too."""
        for origin in ("http://localhost:8099", "HTTP://LOCALHOST:8099", "https://desk.example"):
            self.assertEqual(self.upgrade(Origin=origin).status, 101, origin)


class TokenTests(ProxyTestCase):
    """With tokens, everything but health needs one."""

    tokens = ("open-sesame",)

    def test_health_needs_none(self) -> None:
        """Supervisors have no tokens."""
        for path in ("/healthz", "/readyz"):
            self.assertIn(self.request(path).status, (200, 503), path)

    def test_everything_else_does(self) -> None:
        """401 says how to give one."""
        for path in (STREAM, "/status.json", "/nothing"):
            answer = self.request(path)
            self.assertEqual(answer.status, 401, path)
            self.assertIn(b"WWW-Authenticate: Bearer", answer.received)
        self.assertEqual(self.request("/nothing", Authorization="Bearer open-sesame").status, 404)

    def test_an_upgrade_may_bring_it_later(self) -> None:
        """WebSocket clients put it into their auth message."""
        self.assertEqual(self.upgrade().status, 101)


class PatienceTests(ProxyTestCase):
    """Clients that do not come to the point."""

    limits = Limits(handshake_timeout=5)

    def test_a_request_must_be_whole_in_time(self) -> None:
        """A byte every second does not buy more time."""
        client = self.write(b"GET /healthz HTTP/1.1\r\n")
        for _ in range(5):
            assert client.transport is not None
            client.transport.write(b"X")
            self.wires.advance(1)
        self.wires.advance(0.1)
        self.assertTrue(client.gone)

    def test_a_stream_is_not_cut_by_the_time_limit_of_requests(self) -> None:
        """It has become something else."""
        client = self.connect()
        self.wires.advance(9)
        self.assertTrue(client.is_open_now)

    def test_bodies_are_not_kept(self) -> None:
        """A request with a body is answered like one without."""
        answer = self.write(
            b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
        )
        self.assertEqual(answer.status, 405)
