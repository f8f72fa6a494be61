"""Tests for docs/asyncapi.yaml: it describes what is sent, and what docs/protocol.md shows."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator
from twisted.trial.unittest import SynchronousTestCase

from tests.docs.test_protocol import BLOCKS, GOT, SENT
from tests.support import frames
from tests.support.proxy import ProxyTestCase
from tradeproxy.downstream import filters
from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.query import parse_subscribe_options
from tradeproxy.downstream.session import STREAMS
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.frame import Recovered
from tradeproxy.wire.proxy_status import (
    GapOutcome,
    JournalStatus,
    ReplayState,
    encode_journal,
    encode_position,
)

DOCS = Path(__file__).parents[2] / "docs"
CONTRACT: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8"))

MESSAGES: dict[str, Any] = CONTRACT["components"]["messages"]
FROM_CLIENTS = ("auth", "authenticate", "listen", "unlisten")
TO_CLIENTS = tuple(name for name in MESSAGES if name not in FROM_CLIENTS)

CHECKS = {
    name: Draft7Validator({**CONTRACT, "$ref": f"#/components/messages/{name}/payload"})
    for name in MESSAGES
}


def kinds_of(payload: Any) -> list[str]:
    """Return the names of all messages that a JSON value may be."""
    return [name for name, check in CHECKS.items() if check.is_valid(payload)]


def examples(mark: str) -> list[str]:
    """Return the frames that docs/protocol.md shows on this side."""
    return [line.removeprefix(mark) for block in BLOCKS for line in block if line.startswith(mark)]


class DocumentTests(SynchronousTestCase):
    """The file by itself."""

    def test_its_schemas_are_schemas(self) -> None:
        """And every name that one refers to is there."""
        for group in (MESSAGES, CONTRACT["components"]["schemas"]):
            for part in group.values():
                Draft7Validator.check_schema(part.get("payload", part))
        for reference in re.findall(
            r"'#/([^']+)'", (DOCS / "asyncapi.yaml").read_text(encoding="utf-8")
        ):
            place: Any = CONTRACT
            for name in reference.split("/"):
                place = place[name]

    def test_its_own_examples_are_what_they_illustrate(self) -> None:
        """Each message has some, and each is that message and no other."""
        for name, message in MESSAGES.items():
            self.assertTrue(message["examples"])
            for example in message["examples"]:
                self.assertEqual(kinds_of(example["payload"]), [name])

    def test_it_is_of_this_version(self) -> None:
        """Of the proxy."""
        self.assertEqual(CONTRACT["info"]["version"], version("tradeproxy"))


class ExampleTests(SynchronousTestCase):
    """The examples of docs/protocol.md, and the frames that people's clients and Alpaca send."""

    def test_what_clients_say_is_described(self) -> None:
        """Each message is one of theirs, and only one."""
        said = [json.loads(example) for example in examples(SENT)]
        said += [json.loads(frame) for frame in (frames.AUTH, frames.AUTHENTICATE, frames.OAUTH)]
        said += [
            json.loads(frame)
            for frame in (frames.LISTEN, frames.LISTEN_TO_NOTHING, frames.UNLISTEN)
        ]
        found = [kinds_of(message) for message in said]
        self.assertEqual([kind for kind in found if len(kind) != 1], [])
        self.assertEqual({kind for [kind] in found}, set(FROM_CLIENTS))

    def test_what_clients_are_sent_is_described(self) -> None:
        """Each frame is one of the proxy's, and only one; where data is left out, some is put in."""
        got = [json.loads(example.replace("{…}", "{}")) for example in examples(GOT)]
        found = [kinds_of(message) for message in got]
        self.assertEqual([kind for kind in found if len(kind) != 1], [])
        self.assertEqual({kind for [kind] in found}, set(TO_CLIENTS))

    def test_alpacas_events_are_described(self) -> None:
        """Captured ones, and those of its documentation."""
        for event in frames.TRADE_UPDATES:
            self.assertEqual(kinds_of(json.loads(event)), ["tradeUpdate"])

    def test_what_is_none_of_them_is_not_taken_for_one(self) -> None:
        """So that the agreement above says something."""
        for message in (
            {"action": "subscribe"},
            {"action": "listen"},
            {"stream": "trade_updates"},
            {"stream": "authorization", "data": {"status": "perhaps", "action": "authenticate"}},
            {"stream": "listening", "data": {"streams": ["trade_updates", "trade_updates"]}},
            {"stream": "proxy_status", "data": {"event": "upstream", "state": "sideways"}},
            {"stream": "proxy_status", "data": {"event": "position", "cursor": None}},
            [{"T": "success", "msg": "connected"}],
        ):
            self.assertEqual(kinds_of(message), [], message)


class ConversationTests(ProxyTestCase):
    """What the proxy itself sends."""

    def test_every_frame_of_an_outage_is_described(self) -> None:
        """To a client that asks for all there is, in either manner; no field is missing and none unknown."""
        streams = json.dumps({"action": "listen", "data": {"streams": STREAMS}}).encode()
        for path in ("/trade-updates-paper", "/trade-updates-paper/stream"):
            client = self.connect(f"{path}?proxy_status=1&replay=5")
            answers = [
                answer
                for message in (frames.LISTEN, frames.AUTHENTICATE, streams)
                for answer in self.say(client, message)
            ]
            self.paper.mark_upstream_up()
            self.publish(self.paper, frames.FILL)
            self.paper.mark_upstream_down("connection lost")
            self.wires.flush()
            messages = [json.loads(message) for message in (*answers, *client.taken())]
            found = [kinds_of(message) for message in messages]
            self.assertEqual([kind for kind in found if len(kind) != 1], [], messages)
            told = {kind for [kind] in found}
            self.assertLessEqual({"authorization", "listening", "tradeUpdate", "proxyStatus"}, told)
            events = {
                message["data"]["event"] for message in messages if "event" in message["data"]
            }
            self.assertLessEqual({"hello", "replay", "upstream", "gap"}, events)

    def test_the_frames_of_a_failing_disk_and_of_a_filter_are_described(self) -> None:
        """They are sent where hardly anything else is."""
        for frame in (
            encode_journal(JournalStatus(durable=False, reason="the disk is full", since=1.5)),
            encode_position("paper.0123456789abcdef.42.1c291ca3"),
        ):
            self.assertEqual(kinds_of(json.loads(frame)), ["proxyStatus"])

    def test_a_refusal_is_described(self) -> None:
        """Of a client that says `listen` before it has said who it is."""
        client = self.connect("/trade-updates-paper/stream")
        [answer] = self.say(client, frames.LISTEN)
        self.assertEqual(kinds_of(json.loads(answer)), ["authorization"])


class WordTests(SynchronousTestCase):
    """The words and numbers in it are the code's."""

    def schema(self, name: str) -> Any:
        return CONTRACT["components"]["schemas"][name]

    def test_every_word_is_there(self) -> None:
        """Outcomes, states of a replay, marks, streams."""
        words = {
            GapOutcome: self.schema("outcome")["enum"],
            ReplayState: self.schema("replay")["properties"]["state"]["enum"],
            Recovered: MESSAGES["tradeUpdate"]["payload"]["properties"]["recovered"]["enum"],
        }
        for enumeration, shown in words.items():
            self.assertEqual({member.value for member in enumeration}, set(shown))
        listed = MESSAGES["listening"]["payload"]["properties"]["data"]["properties"]["streams"]
        self.assertEqual(listed["items"]["enum"], list(STREAMS))

    def test_every_close_code_is_there(self) -> None:
        """With whether to come back; 1009 is Autobahn's own."""
        shown = {code["code"]: code["reconnect"] for code in CONTRACT["x-close-codes"]}
        self.assertIs(shown.pop(1009), False)
        self.assertEqual(shown, {code.code: code.may_reconnect for code in CloseCode})

    def test_the_parameters_are_those_that_are_understood(self) -> None:
        """Each is read, and none is missing: one that is nearly the same is refused for it."""
        query = CONTRACT["components"]["channelBindings"]["stream"]["ws"]["query"]["properties"]
        self.assertLessEqual(set(filters.NAMES), set(query))
        for name in query:
            refusal = parse_subscribe_options(f"{name}=".encode(), 0)
            assert isinstance(refusal, Rejection)
            self.assertEqual(refusal.reason, f"{name}: is empty")
        maximum = query["replay"]["maximum"]
        self.assertNotIsInstance(
            parse_subscribe_options(f"replay={maximum}".encode(), 0), Rejection
        )
        self.assertIsInstance(
            parse_subscribe_options(f"replay={maximum + 1}".encode(), 0), Rejection
        )
        for name in ("since_id", "client_order_id_prefix"):
            longest = "x" * query[name]["maxLength"]
            self.assertNotIsInstance(
                parse_subscribe_options(f"{name}={longest}".encode(), 0), Rejection
            )
            self.assertIsInstance(
                parse_subscribe_options(f"{name}={longest}x".encode(), 0), Rejection
            )
