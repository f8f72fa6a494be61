"""Tests for the dashboard's files and /status.json, as the site serves them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.test.iosim import FakeTransport
from twisted.trial.unittest import SkipTest, SynchronousTestCase

import tradeproxy.web
from tests.support.frames import AUTH, FILL, LISTEN, NEW
from tests.support.proxy import NarrowTransport, ProxyTestCase, RawClient
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


def read_headers(answer: RawClient) -> dict[str, str]:
    """Return the headers of a response, with names in lower case."""
    lines = answer.received.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


class JsonScriptTests(SynchronousTestCase):
    """dashboard/json.js in Node.js; skipped without it."""

    def test_nan_and_infinity_become_strings(self) -> None:
        """JSON.parse rejects them, so such an event was missing in the feed; text stays as is."""
        if (node := shutil.which("node")) is None:
            raise SkipTest("there is no node")
        texts = [
            '{"qty":NaN,"price":-Infinity,"a":[Infinity,1]}',
            '{"text":"NaN \\" NaN","x":NaN}',
            '{"text":"NaN","x":1.5}',
        ]
        script = SCRIPTS["json.js"] + f"console.log(JSON.stringify({json.dumps(texts)}.map(parse)))"
        done = subprocess.run(
            [node, "--input-type=module", "--eval", script], capture_output=True, check=True
        )
        self.assertEqual(
            json.loads(done.stdout),
            [
                {"qty": "NaN", "price": "-Infinity", "a": ["Infinity", 1]},
                {"text": 'NaN " NaN', "x": "NaN"},
                {"text": "NaN", "x": 1.5},
            ],
        )


class FileTests(ProxyTestCase):
    """The page, its style sheet and its scripts."""

    def test_files_are_served_with_their_types(self) -> None:
        """Browsers reject a script or a style sheet with another type."""
        answers = {"index.html": self.request("/")}
        answers |= {name: self.request(f"/dashboard/{name}") for name in FILES}
        for name, answer in answers.items():
            self.assertEqual(answer.status, 200, name)
            self.assertEqual(answer.body, FILES[name], name)
            self.assertEqual(read_headers(answer)["content-type"], TYPES[Path(name).suffix], name)

    def test_every_reference_is_a_file(self) -> None:
        """From index.html, and from one script to another."""
        referenced = set(re.findall(r'(?:href|src)="dashboard/([^"]+)"', INDEX))
        self.assertGreaterEqual(referenced, {"main.js", "style.css", "help.html"})
        referenced.update(re.findall(r'(?:href|src)="([a-z]+\.[a-z]+)"', FILES["help.html"]))
        for text in SCRIPTS.values():
            referenced.update(re.findall(r'from "\./([^"]+)"', text))
        self.assertEqual(referenced - set(FILES), set())
        self.assertEqual(set(FILES) - referenced, {"index.html"})

    def test_headers_forbid_foreign_content(self) -> None:
        """No inline script or style, no other host, no frame, no type sniffing, no referrer."""
        for path in ("/", "/dashboard/main.js", "/dashboard/style.css"):
            headers = read_headers(self.request(path))
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

    def test_files_comply_with_their_policy(self) -> None:
        """There is no inline script, style or event handler, and no foreign URL."""
        for name, text in FILES.items():
            if name.endswith(".html"):
                self.assertNotRegex(text, r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]+src=)")
            self.assertEqual(re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), [], name)

    def test_scripts_do_not_parse_html(self) -> None:
        """The text of an event may look like HTML."""
        for name, text in SCRIPTS.items():
            self.assertNotRegex(
                text,
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|Function\(",
                name,
            )

    def test_other_files_and_methods_are_rejected(self) -> None:
        """Only the dashboard's files can be read, with GET or HEAD."""
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

    def test_dashboard_path_leads_to_root(self) -> None:
        """It was a 426: "this is a WebSocket". The filters in the query stay."""
        for path, location in (
            ("/dashboard", "./"),
            ("/dashboard/", "../"),
            ("/dashboard?symbol=A%0D%0A&x", "./?symbol=A%0D%0A&x"),
        ):
            for method in ("GET", "HEAD"):
                answer = self.request(path, method=method)
                self.assertEqual((answer.status, answer.body), (307, ""), path)
                self.assertEqual(read_headers(answer)["location"], location)
        self.assertEqual(self.request("/dashboard", method="POST").status, 405)
        followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        self.assertEqual(self.request("/dashboard", **followed).status, 307)
        self.assertEqual(self.request("/dashboard", Host="evil.example").status, 403)

    def test_foreign_host_or_origin_is_403(self) -> None:
        """A page of another site can neither read nor embed a file; a link may lead here."""
        for path in ("/", "/dashboard/main.js", "/status.json"):
            self.assertEqual(self.request(path, Host="evil.example").status, 403, path)
            self.assertEqual(self.request(path, Origin="https://evil.example").status, 403, path)
            embedded = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
            self.assertEqual(self.request(path, **embedded).status, 403, path)
        followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        self.assertEqual(self.request("/", **followed).status, 200)
        self.assertEqual(self.request("/status.json", **followed).status, 403)


class StatusTokenTests(ProxyTestCase):
    """With PROXY_TOKENS set."""

    tokens = ("open-sesame",)

    def test_files_need_no_token_and_status_does(self) -> None:
        """The page asks for the token and sends it in a header, never in the URL."""
        for path in ("/", "/dashboard/main.js", "/dashboard/style.css"):
            self.assertEqual(self.request(path).status, 200, path)
        self.assertEqual(self.request("/dashboard").status, 307)
        for path in ("/status.json", "/status.json?token=open-sesame"):
            answer = self.request(path)
            self.assertEqual(answer.status, 401, path)
            self.assertNotIn("accounts", answer.body)
        self.assertEqual(
            self.request("/status.json", Authorization="Bearer open-sesame").status, 200
        )


class StatusPageTests(ProxyTestCase):
    """/status.json."""

    def status(self) -> dict[str, Any]:
        """Return a new document: the cached one has expired."""
        self.wires.advance(2)
        answer = self.request("/status.json")
        self.assertEqual(answer.status, 200)
        self.assertEqual(read_headers(answer)["content-type"], "application/json")
        self.assertEqual(read_headers(answer)["cache-control"], "no-store")
        document: dict[str, Any] = json.loads(answer.body)
        return document

    def test_accounts_include_readyz_state(self) -> None:
        """The state also has the upstream, the reconnects, the events and the gaps."""
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

    def test_next_attempt_is_a_time_or_null(self) -> None:
        """The dashboard counts down to it."""
        self.live.next_attempt = 1_800_000_090.5
        accounts = self.status()["accounts"]
        self.assertEqual(
            [accounts[name]["upstream"]["next_attempt"] for name in ("live", "paper")],
            ["2027-01-15T08:01:30.500000Z", None],
        )

    def test_series_count_events_and_latency(self) -> None:
        """A step is ten seconds, the last is not over; null means unknown."""
        self.wires.advance(15)
        # It is 2027-01-15T08:00:15Z.
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

    def test_clients_are_listed(self) -> None:
        """Each has its address, user agent, dialect and start."""
        self.open_client(User_Agent="desk/1.0")
        self.open_client("/live/stream", User_Agent="<b>bot</b>")
        self.request("/paper/v2/events/trades", User_Agent="curl/8")
        document = self.status()
        clients = document["clients"]
        self.assertEqual((clients["count"], clients["slow"]), (3, 0))
        listed = {client.pop("user_agent"): client for client in clients["listed"]}
        since = "2027-01-15T08:00:00.000000Z"
        common = {
            "name": "",
            "address": "127.0.0.1:50000",
            "since": since,
            "lag": 0,
            "slow": False,
            "closing": False,
        }
        self.assertEqual(listed["desk/1.0"], {"account": "paper", "dialect": "WebSocket", **common})
        self.assertEqual(listed["<b>bot</b>"]["dialect"], "WebSocket, as Alpaca's")
        self.assertEqual(
            listed["curl/8"], {"account": "paper", "dialect": "server-sent events", **common}
        )

    def test_client_address_has_url_notation(self) -> None:
        """For WebSockets and server-sent events; a UNIX socket has no address."""
        for address, expected in (
            (IPv4Address("TCP", "192.0.2.1", 50000), "192.0.2.1:50000"),
            (IPv6Address("TCP", "2001:db8::1", 50000), "[2001:db8::1]:50000"),
            (UNIXAddress(None), "a UNIX socket"),
        ):
            self.patch(FakeTransport, "getPeer", lambda _, peer=address: peer)
            clients = self.open_client(), self.request("/paper/v2/events/trades")
            listed = self.status()["clients"]["listed"]
            self.assertEqual([client["address"] for client in listed], [expected] * 2)
            for client in clients:
                assert client.transport is not None
                client.transport.loseConnection()
            self.wires.advance(1)

    def test_slow_client_is_listed_first(self) -> None:
        """Its lag is the number of unsent events; clients that keep up have a lag of 0."""
        self.wires.transport = NarrowTransport
        for name in ("quick", "slow", "idle"):
            self.open_client(
                "/paper/stream" if name == "idle" else "/paper", User_Agent=name
            ).sendMessage(AUTH)
        self.wires.flush()
        self.server_transport(1).blocked = True
        for number in range(100):
            self.publish(self.paper, event_at("2027-01-15T08:00:05Z", number, "x" * 2000))
        clients = self.status()["clients"]
        self.assertEqual(clients["slow"], 1)
        slow, *others = clients["listed"]
        self.assertEqual((slow["user_agent"], slow["slow"]), ("slow", True))
        self.assertGreater(slow["lag"], 50)
        self.assertEqual([(client["lag"], client["slow"]) for client in others], [(0, False)] * 2)
        self.server_transport(1).blocked = False
        clients = self.status()["clients"]
        self.assertEqual(
            (clients["slow"], {client["lag"] for client in clients["listed"]}), (0, {0})
        )

    def test_list_of_clients_is_bounded(self) -> None:
        """The count includes all clients."""
        for _ in range(MAX_LISTED + 3):
            self.say(self.connect("/paper/stream"), AUTH, LISTEN)
        clients = self.status()["clients"]
        self.assertEqual((clients["count"], len(clients["listed"])), (MAX_LISTED + 3, MAX_LISTED))

    def test_document_is_cached_for_a_second(self) -> None:
        """All requests in that time get the same document."""
        first = self.request("/status.json").body
        self.open_client()
        self.assertEqual(self.request("/status.json").body, first)
        self.wires.advance(1)
        self.assertEqual(json.loads(self.request("/status.json").body)["clients"]["count"], 1)

    def test_rejections_are_counted_by_reason(self) -> None:
        """The key is still `refusals`."""
        self.upgrade(Origin="https://evil.example")
        [(reason, count)] = self.status()["refusals"].items()
        self.assertIn("Origin is not allowed", reason)
        self.assertEqual(count, 1)


def event_at(time: str, number: int, text: str = "") -> bytes:
    """Return the frame of an event with its own id."""
    data = {"event": "new", "event_id": f"id-{number}", "at": time, "text": text}
    return json.dumps({"stream": "trade_updates", "data": data}).encode()
