"""The dashboard's files and what it asks for, as the site answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.test.iosim import FakeTransport

import tradeproxy.web
from tests.support.frames import AUTH, FILL, LISTEN, NEW
from tests.support.proxy import NarrowTransport, ProxyTestCase, RawClient
from tradeproxy.downstream.clients import MAX_USER_AGENT, user_agent
from tradeproxy.web.status import MAX_LISTED
from tradeproxy.wire.proxy_status import GapOutcome

DIRECTORY = Path(tradeproxy.web.__file__).parent / "dashboard"
FILES = {path.name: path.read_text(encoding="utf-8") for path in DIRECTORY.iterdir()}
INDEX = FILES["index.html"]
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def headers_of(answer: RawClient) -> dict[str, str]:
    """Return the headers of an answer, their names in lower case."""
    lines = answer.received.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


class FileTests(ProxyTestCase):
    """The page, its style and its scripts."""

    def test_the_page_is_at_the_root_and_its_files_beneath(self) -> None:
        """Each as it is, with the type that a browser insists on."""
        answers = {"index.html": self.request("/")}
        answers |= {name: self.request(f"/dashboard/{name}") for name in FILES}
        for name, answer in answers.items():
            self.assertEqual(answer.status, 200, name)
            self.assertEqual(answer.body, FILES[name], name)
            self.assertEqual(headers_of(answer)["content-type"], TYPES[Path(name).suffix], name)

    def test_all_that_the_page_refers_to_is_there(self) -> None:
        """From index.html, and from one script to another."""
        referred = set(re.findall(r'(?:href|src)="dashboard/([^"]+)"', INDEX))
        self.assertGreaterEqual(referred, {"main.js", "style.css"})
        for text in SCRIPTS.values():
            referred.update(re.findall(r'from "\./([^"]+)"', text))
        self.assertEqual(referred - set(FILES), set())
        self.assertEqual(set(FILES) - referred, {"index.html"})

    def test_the_browser_is_told_to_trust_nothing_else(self) -> None:
        """No inline script or style, no foreign host, no frame, no guessing of types, no referrer."""
        for path in ("/", "/dashboard/main.js", "/dashboard/style.css"):
            headers = headers_of(self.request(path))
            policy = dict(
                part.split(" ", 1) for part in headers["content-security-policy"].split("; ")
            )
            self.assertEqual(policy.pop("default-src"), "'none'")
            self.assertEqual(policy.pop("frame-ancestors"), "'none'")
            self.assertEqual(policy["script-src"], "'self'")
            self.assertEqual(policy["style-src"], "'self'")
            self.assertLessEqual(set(policy.values()), {"'self'", "'none'", "'script'"})
            self.assertEqual(headers["x-content-type-options"], "nosniff")
            self.assertEqual(headers["referrer-policy"], "no-referrer")

    def test_the_page_needs_no_exception_from_that(self) -> None:
        """There are no scripts, styles or event handlers in it, and no address but its own."""
        self.assertNotRegex(INDEX, r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]+src=)")
        for name, text in FILES.items():
            self.assertEqual(re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), [], name)

    def test_no_script_makes_markup_of_a_text(self) -> None:
        """What an order is called may look like any."""
        for name, text in SCRIPTS.items():
            self.assertNotRegex(
                text,
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(",
                name,
            )

    def test_nothing_else_is_to_be_had_there(self) -> None:
        """Neither other files nor other methods."""
        for path in (
            "/dashboard/nothing.js",
            "/dashboard/../pages.py",
            "/dashboard/%2e%2e/pages.py",
        ):
            self.assertEqual(self.request(path).status, 404, path)
        self.assertEqual(self.request("/", method="POST").status, 405)
        self.assertEqual(self.request("/status.json", method="POST").status, 405)
        head = self.request("/", method="HEAD")
        self.assertEqual((head.status, head.body), (200, ""))

    def test_other_hosts_and_origins_are_kept_out(self) -> None:
        """A page of another site can neither read nor embed any of it; a link may lead here from anywhere."""
        for path in ("/", "/dashboard/main.js", "/status.json"):
            self.assertEqual(self.request(path, Host="evil.example").status, 403, path)
            self.assertEqual(self.request(path, Origin="https://evil.example").status, 403, path)
            embedded = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
            self.assertEqual(self.request(path, **embedded).status, 403, path)
        followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        self.assertEqual(self.request("/", **followed).status, 200)
        self.assertEqual(self.request("/status.json", **followed).status, 403)


class TokenTests(ProxyTestCase):
    """With PROXY_TOKENS set."""

    tokens = ("open-sesame",)

    def test_the_files_need_no_token_and_the_state_does(self) -> None:
        """They ask for it, and hold nothing; it comes in a header, and never in the URL."""
        for path in ("/", "/dashboard/main.js", "/dashboard/style.css"):
            self.assertEqual(self.request(path).status, 200, path)
        for path in ("/status.json", "/status.json?token=open-sesame"):
            answer = self.request(path)
            self.assertEqual(answer.status, 401, path)
            self.assertNotIn("accounts", answer.body)
        self.assertEqual(
            self.request("/status.json", Authorization="Bearer open-sesame").status, 200
        )


class StatusTests(ProxyTestCase):
    """`/status.json`."""

    def status(self) -> dict[str, Any]:
        """Return the document, made anew."""
        self.wires.advance(2)
        answer = self.request("/status.json")
        self.assertEqual(answer.status, 200)
        self.assertEqual(headers_of(answer)["content-type"], "application/json")
        self.assertEqual(headers_of(answer)["cache-control"], "no-store")
        document: dict[str, Any] = json.loads(answer.body)
        return document

    def test_has_the_accounts_as_readyz_has_them_and_more(self) -> None:
        """Their streams, what came, what was lost, what was repeated."""
        self.live.mark_upstream_up()
        self.publish(self.live, NEW, FILL, FILL)
        self.live.mark_upstream_down("connection lost")
        self.live.mark_upstream_up()
        self.live.gaps.settle(GapOutcome.LOST, "refused")
        document = self.status()
        ready = json.loads(self.request("/readyz").body)["accounts"]
        for name, account in document["accounts"].items():
            self.assertEqual({key: account[key] for key in ready[name]}, ready[name], name)
        live = document["accounts"]["live"]
        self.assertEqual(live["path"], "trade-updates-live")
        self.assertEqual((live["upstream"]["state"], live["reconnects"]), ("up", 1))
        self.assertEqual((live["duplicates"], live["events_today"]), (1, 0))
        self.assertEqual(live["last_event"], "2026-07-24T14:42:50.132734Z")
        [gap] = live["gaps"]
        self.assertEqual((gap["outcome"], gap["reason"]), ("lost", "refused"))
        self.assertEqual(document["accounts"]["paper"]["upstream"]["state"], "down")
        self.assertEqual(document["accounts"]["paper"]["reason"], "not connected yet")

    def test_counts_events_and_their_delivery_over_time(self) -> None:
        """In steps of ten seconds, the last of which is under way; null is where nothing is known."""
        self.wires.advance(15)
        # The clock stands at 2027-01-15T08:00:15Z.
        self.publish(
            self.paper, event_at("2027-01-15T08:00:05Z", 1), event_at("2027-01-15T08:00:12Z", 2)
        )
        paper = self.status()["accounts"]["paper"]
        series = paper["series"]
        self.assertEqual((series["step"], series["end"]), (10, "2027-01-15T08:00:20.000000Z"))
        self.assertEqual(series["events"], [None] * 58 + [1, 1])
        self.assertEqual(series["latency"], [None] * 59 + [0.0])
        self.assertEqual(paper["events_today"], 2)
        self.wires.advance(10)
        series = self.status()["accounts"]["paper"]["series"]
        self.assertEqual(series["events"], [None] * 57 + [1, 1, 0])
        self.assertEqual(series["latency"], [None] * 58 + [0.0, None])

    def test_names_the_clients(self) -> None:
        """Where each comes from, what it calls itself, how it is served, and since when."""
        self.connect(User_Agent="desk/1.0")
        self.connect("/live/stream", User_Agent="<b>bot</b>")
        self.request("/paper/v2/events/trades", User_Agent="curl/8")
        document = self.status()
        clients = document["clients"]
        self.assertEqual((clients["count"], clients["slow"]), (3, 0))
        listed = {client.pop("user_agent"): client for client in clients["listed"]}
        since = "2027-01-15T08:00:00.000000Z"
        common = {"address": "127.0.0.1:50000", "since": since, "lag": 0, "slow": False}
        self.assertEqual(listed["desk/1.0"], {"account": "paper", "dialect": "WebSocket", **common})
        self.assertEqual(listed["<b>bot</b>"]["dialect"], "WebSocket, as Alpaca's")
        self.assertEqual(
            listed["curl/8"], {"account": "paper", "dialect": "server-sent events", **common}
        )

    def test_names_the_clients_address_as_a_url_would(self) -> None:
        """However it is served; one on a UNIX socket has none."""
        for address, named in (
            (IPv4Address("TCP", "192.0.2.1", 50000), "192.0.2.1:50000"),
            (IPv6Address("TCP", "2001:db8::1", 50000), "[2001:db8::1]:50000"),
            (UNIXAddress(None), "a UNIX socket"),
        ):
            self.patch(FakeTransport, "getPeer", lambda _, peer=address: peer)
            clients = self.connect(), self.request("/paper/v2/events/trades")
            listed = self.status()["clients"]["listed"]
            self.assertEqual([client["address"] for client in listed], [named] * 2)
            for client in clients:
                assert client.transport is not None
                client.transport.loseConnection()
            self.wires.advance(1)

    def test_a_client_that_does_not_read_comes_first(self) -> None:
        """With the number of events that it has not been sent; those that keep up have none to wait for."""
        self.wires.transport = NarrowTransport
        for name in ("quick", "slow", "idle"):
            self.connect(
                "/paper/stream" if name == "idle" else "/paper", User_Agent=name
            ).sendMessage(AUTH)
        self.wires.flush()
        self.transport_of(1).blocked = True
        for number in range(100):
            self.publish(self.paper, event_at("2027-01-15T08:00:05Z", number, "x" * 2000))
        clients = self.status()["clients"]
        self.assertEqual(clients["slow"], 1)
        slow, *others = clients["listed"]
        self.assertEqual((slow["user_agent"], slow["slow"]), ("slow", True))
        self.assertGreater(slow["lag"], 50)
        self.assertEqual([(client["lag"], client["slow"]) for client in others], [(0, False)] * 2)
        self.transport_of(1).blocked = False
        clients = self.status()["clients"]
        self.assertEqual(
            (clients["slow"], {client["lag"] for client in clients["listed"]}), (0, {0})
        )

    def test_lists_some_hundreds_at_most(self) -> None:
        """The number is of all."""
        for _ in range(MAX_LISTED + 3):
            self.say(self.connect("/paper/stream"), AUTH, LISTEN)
        clients = self.status()["clients"]
        self.assertEqual((clients["count"], len(clients["listed"])), (MAX_LISTED + 3, MAX_LISTED))

    def test_is_made_once_a_second_for_all(self) -> None:
        """However many look at it."""
        first = self.request("/status.json").body
        self.connect()
        self.assertEqual(self.request("/status.json").body, first)
        self.wires.advance(1)
        self.assertEqual(json.loads(self.request("/status.json").body)["clients"]["count"], 1)

    def test_counts_those_that_were_turned_away(self) -> None:
        """By reason."""
        self.upgrade(Origin="https://evil.example")
        [(reason, count)] = self.status()["refusals"].items()
        self.assertIn("Origin is not allowed", reason)
        self.assertEqual(count, 1)

    def test_what_a_client_calls_itself_is_bounded_and_printable(self) -> None:
        """Both ends of it are kept, where what tells browsers apart is."""
        self.assertEqual(user_agent(None), "")
        self.assertEqual(user_agent(b"a\x1b[31mb\xff"), "a\ufffd[31mb\ufffd")
        long = user_agent(b"Mozilla/5.0 (" + b"x" * 10_000 + b") Firefox/150.0")
        self.assertLessEqual(len(long), MAX_USER_AGENT)
        self.assertTrue(long.startswith("Mozilla/5.0 (") and long.endswith(") Firefox/150.0"), long)
        self.assertIs(user_agent(b"bot/" + b"1"), user_agent(b"bot/1"))


def event_at(time: str, number: int, text: str = "") -> bytes:
    """Return the frame of an event of its own."""
    data = {"event": "new", "event_id": f"id-{number}", "at": time, "text": text}
    return json.dumps({"stream": "trade_updates", "data": data}).encode()
