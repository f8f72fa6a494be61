"""Tests for docs/asyncapi.yaml: the proxy's frames and docs/protocol.md's examples match it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator
from twisted.trial.unittest import SynchronousTestCase

from tests.docs.test_protocol import BLOCKS, RECEIVED, SENT, read_blocks
from tests.support import frames
from tests.support.proxy import ProxyTestCase
from tests.support.state import StateTestCase
from tradeproxy import __version__
from tradeproxy.downstream.session import STREAMS
from tradeproxy.query import filters
from tradeproxy.query.parameters import QueryError
from tradeproxy.query.stream import parse_subscribe_options
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
CLIENT_MESSAGES = ("auth", "authenticate", "listen", "unlisten")
PROXY_MESSAGES = tuple(name for name in MESSAGES if name not in CLIENT_MESSAGES)

VALIDATORS = {
    name: Draft7Validator({**CONTRACT, "$ref": f"#/components/messages/{name}/payload"})
    for name in MESSAGES
}


def match_messages(payload: Any) -> list[str]:
    """Return the names of all messages whose schema accepts a JSON value."""
    return [name for name, validator in VALIDATORS.items() if validator.is_valid(payload)]


def find_examples(mark: str) -> list[str]:
    """Return the frames in docs/protocol.md and docs/state.md with this mark, SENT or RECEIVED."""
    blocks = [*BLOCKS, *read_blocks((DOCS / "state.md").read_text(encoding="utf-8"))]
    return [line.removeprefix(mark) for block in blocks for line in block if line.startswith(mark)]


class AsyncapiDocumentTests(SynchronousTestCase):
    """The file alone."""

    def test_schemas_are_valid(self) -> None:
        """Each schema is valid, and each reference exists."""
        for group in (MESSAGES, CONTRACT["components"]["schemas"]):
            for part in group.values():
                Draft7Validator.check_schema(part.get("payload", part))
        for reference in re.findall(
            r"'#/([^']+)'", (DOCS / "asyncapi.yaml").read_text(encoding="utf-8")
        ):
            node: Any = CONTRACT
            for name in reference.split("/"):
                node = node[name]

    def test_examples_match_only_their_message(self) -> None:
        """Each message has examples, and no other message's schema accepts them."""
        for name, message in MESSAGES.items():
            self.assertTrue(message["examples"])
            for example in message["examples"]:
                self.assertEqual(match_messages(example["payload"]), [name])

    def test_version_is_the_packages(self) -> None:
        """The version of the document is that of the proxy."""
        self.assertEqual(CONTRACT["info"]["version"], __version__)


class AsyncapiExampleTests(SynchronousTestCase):
    """The examples in the documents, and captured frames from clients and Alpaca."""

    def test_client_frames_match_one_client_message(self) -> None:
        """Each client message has an example, and each example matches one message."""
        sent = [json.loads(example) for example in find_examples(SENT)]
        sent += [json.loads(frame) for frame in (frames.AUTH, frames.AUTHENTICATE, frames.OAUTH)]
        sent += [
            json.loads(frame)
            for frame in (frames.LISTEN, frames.LISTEN_TO_NOTHING, frames.UNLISTEN)
        ]
        found = [match_messages(message) for message in sent]
        self.assertEqual([kind for kind in found if len(kind) != 1], [])
        self.assertEqual({kind for [kind] in found}, set(CLIENT_MESSAGES))

    def test_proxy_frames_match_one_proxy_message(self) -> None:
        """Each example matches one message. A `{…}` in the text becomes an empty object."""
        received = [json.loads(example.replace("{…}", "{}")) for example in find_examples(RECEIVED)]
        found = [match_messages(message) for message in received]
        self.assertEqual([kind for kind in found if len(kind) != 1], [])
        self.assertEqual({kind for [kind] in found}, set(PROXY_MESSAGES))

    def test_alpaca_events_match_trade_update(self) -> None:
        """The events are captured, or from Alpaca's documentation."""
        for event in frames.TRADE_UPDATES:
            self.assertEqual(match_messages(json.loads(event)), ["tradeUpdate"])

    def test_invalid_messages_match_nothing(self) -> None:
        """Without this, schemas that accept everything would pass the tests above."""
        for message in (
            {"action": "subscribe"},
            {"action": "listen"},
            {"stream": "trade_updates"},
            {"stream": "authorization", "data": {"status": "perhaps", "action": "authenticate"}},
            {"stream": "listening", "data": {"streams": ["trade_updates", "trade_updates"]}},
            {"stream": "proxy_status", "data": {"event": "upstream", "state": "sideways"}},
            {"stream": "proxy_status", "data": {"event": "position", "cursor": None}},
            {"stream": "snapshot", "data": {"part": 1, "last": True}},
            [{"T": "success", "msg": "connected"}],
        ):
            self.assertEqual(match_messages(message), [], message)


class AsyncapiSessionTests(ProxyTestCase):
    """The frames that a proxy sends."""

    def test_outage_frames_match_one_message(self) -> None:
        """The client has all options, in each protocol mode; each frame matches one message."""
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
            found = [match_messages(message) for message in messages]
            self.assertEqual([kind for kind in found if len(kind) != 1], [], messages)
            kinds = {kind for [kind] in found}
            self.assertLessEqual(
                {"authorization", "listening", "tradeUpdate", "proxyStatus"}, kinds
            )
            events = {
                message["data"]["event"] for message in messages if "event" in message["data"]
            }
            self.assertLessEqual({"hello", "replay", "upstream", "gap"}, events)

    def test_journal_and_position_frames_match_proxy_status(self) -> None:
        """These are the frames of a failing disk and of a filtered stream."""
        for frame in (
            encode_journal(JournalStatus(durable=False, reason="the disk is full", since=1.5)),
            encode_position("paper.0123456789abcdef.42.1c291ca3"),
        ):
            self.assertEqual(match_messages(json.loads(frame)), ["proxyStatus"])

    def test_rejection_matches_authorization(self) -> None:
        """The client sends `listen` before it is authenticated."""
        client = self.connect("/trade-updates-paper/stream")
        [answer] = self.say(client, frames.LISTEN)
        self.assertEqual(match_messages(json.loads(answer)), ["authorization"])


class AsyncapiSnapshotTests(StateTestCase):
    """The frames of a snapshot."""

    def test_snapshot_frames_match_one_message(self) -> None:
        """In each protocol mode, in one part or in many."""
        for note in ("", "x" * 2000):
            self.trade_often(100, note=note)
            self.trade("1", "fill")
            client = self.join("snapshot=1&proxy_status=1")
            found = [match_messages(json.loads(message)) for message in client.taken()[1:]]
            self.assertEqual({kind for [kind] in found}, {"proxyStatus", "snapshot"})
        self.assertGreater(found.count(["snapshot"]), 2)


class AsyncapiValueTests(SynchronousTestCase):
    """The values and numbers in the document are those of the code."""

    def schema(self, name: str) -> Any:
        return CONTRACT["components"]["schemas"][name]

    def test_enumerations_have_every_value(self) -> None:
        """They are the outcomes, the states of a replay, the recovery marks and the streams."""
        documented = {
            GapOutcome: self.schema("outcome")["enum"],
            ReplayState: self.schema("replay")["properties"]["state"]["enum"],
            Recovered: MESSAGES["tradeUpdate"]["payload"]["properties"]["recovered"]["enum"],
        }
        for enumeration, values in documented.items():
            self.assertEqual({member.value for member in enumeration}, set(values))
        listed = MESSAGES["listening"]["payload"]["properties"]["data"]["properties"]["streams"]
        self.assertEqual(listed["items"]["enum"], list(STREAMS))

    def test_close_codes_have_every_code(self) -> None:
        """Each code has its `reconnect`. Autobahn sends 1009, so CloseCode lacks it."""
        codes = {code["code"]: code["reconnect"] for code in CONTRACT["x-close-codes"]}
        self.assertIs(codes.pop(1009), False)
        self.assertEqual(codes, {code.code: code.may_reconnect for code in CloseCode})

    def test_query_parameters_are_the_parsers(self) -> None:
        """Every filter is documented. The parser has the documented parameters and limits."""
        query = CONTRACT["components"]["channelBindings"]["stream"]["ws"]["query"]["properties"]
        self.assertLessEqual(set(filters.NAMES), set(query))
        for name in query:
            with self.assertRaises(QueryError) as raised:
                parse_subscribe_options(f"{name}=".encode(), 0)
            self.assertEqual(str(raised.exception), f"{name}: is empty")
        maximum = query["replay"]["maximum"]
        parse_subscribe_options(f"replay={maximum}".encode(), 0)
        with self.assertRaises(QueryError):
            parse_subscribe_options(f"replay={maximum + 1}".encode(), 0)
        for name in ("since_id", "client_order_id_prefix", "client_name"):
            longest = "x" * query[name]["maxLength"]
            parse_subscribe_options(f"{name}={longest}".encode(), 0)
            with self.assertRaises(QueryError):
                parse_subscribe_options(f"{name}={longest}x".encode(), 0)
