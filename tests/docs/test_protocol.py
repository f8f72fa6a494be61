"""Tests for docs/protocol.md: a proxy replays its examples, and its tables match the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support.proxy import ProxyTestCase
from tradeproxy.recovery.backfill import OVERLAP
from tradeproxy.runtime.dates import SECOND
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.frame import Recovered
from tradeproxy.wire.proxy_status import GapOutcome, ReplayState

TEXT = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")


def read_blocks(text: str) -> list[list[str]]:
    """Return the lines of each example. An indented line continues the one before."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\n  +", "", block).splitlines() for block in blocks]


BLOCKS = read_blocks(TEXT)

SENT, RECEIVED = "→ ", "← "


def find_exchanges() -> list[list[str]]:
    """Return the examples in which a client sends messages."""
    return [block for block in BLOCKS if any(line.startswith(SENT) for line in block)]


def find_frames() -> list[str]:
    """Return the frames in the other examples."""
    lines = [line for block in BLOCKS if block not in find_exchanges() for line in block]
    return [line.removeprefix(RECEIVED) for line in lines]


class ProtocolExampleTests(ProxyTestCase):
    """The examples: the frames in both directions."""

    def test_exchanges_are_byte_for_byte(self) -> None:
        """The first example is at the original path, the others are at Alpaca's."""
        first, *others = find_exchanges()
        self.assertTrue(others)
        self.assert_exchange(first, "/trade-updates-paper")
        for example in others:
            self.assert_exchange(example, "/trade-updates-paper/stream")

    def assert_exchange(self, example: list[str], path: str) -> None:
        client = self.connect(path)
        for line in example:
            if line.startswith(SENT):
                answers = self.say(client, line.removeprefix(SENT).encode())
            else:
                self.assertEqual(answers.pop(0).decode(), line.removeprefix(RECEIVED))

    def test_event_is_byte_for_byte(self) -> None:
        """A client without options gets the bytes; with proxy_status=1 it also gets the cursor."""
        event, with_cursor, *_ = find_frames()
        plain, with_status = self.connect(), self.connect("/trade-updates-paper?proxy_status=1")
        for client in (plain, with_status):
            self.say(client, find_exchanges()[0][0].removeprefix(SENT).encode())
        self.publish(self.paper, event.encode())
        self.assertEqual([message.decode() for message in plain.taken()], [event])
        message = json.loads(with_status.taken()[-1])
        self.assertEqual(list(message), ["stream", "data", "cursor"])
        form = re.compile(r'"cursor":"(paper\.[0-9a-f]{16}\.[0-9]+\.[0-9a-f]{8})"')
        self.assertRegex(with_cursor, form)
        self.assertRegex(f'"cursor":"{message["cursor"]}"', form)

    def test_status_frames_have_documented_fields(self) -> None:
        """A client with proxy_status=1 gets these frames in an outage."""
        client = self.connect("/trade-updates-paper?proxy_status=1")
        self.say(client, find_exchanges()[0][0].removeprefix(SENT).encode())
        self.paper.mark_upstream_up()
        self.publish(self.paper, find_frames()[0].encode())
        self.paper.mark_upstream_down("connection lost")
        self.wires.flush()
        frames = {
            (frame := json.loads(message))["data"].get("event"): frame for message in client.taken()
        }
        for line in find_frames()[2:]:
            example = json.loads(line)
            kind = example["data"]["event"]
            self.assertEqual(list(frames[kind]["data"]), list(example["data"]), kind)


class ProtocolTableTests(ProxyTestCase):
    """The values in the tables and in the text are those of the code."""

    def test_close_codes_have_every_code(self) -> None:
        """Each code has whether to reconnect. Autobahn sends 1009, so CloseCode lacks it."""
        rows = dict(
            re.findall(r"^\| ([14]\d{3}) \|.*\| (yes|no|not)\b[^|]*\|$", TEXT, re.MULTILINE)
        )
        self.assertEqual(rows.pop("1009"), "no")
        codes = {str(code.code): code.may_reconnect for code in CloseCode}
        self.assertEqual({code: word == "yes" for code, word in rows.items()}, codes)

    def test_status_values_are_documented(self) -> None:
        """They are the outcomes, the states of a replay and the recovery marks."""
        for value in (*GapOutcome, *ReplayState):
            self.assertIn(f"`{value.value}`", TEXT)
        for mark in Recovered:
            self.assertIn(f'`"recovered":"{mark.value}"`', TEXT)

    def test_limits_are_the_defaults(self) -> None:
        """The limits in the text are the defaults of the code."""
        self.assertIn("over 16 KiB", TEXT)
        self.assertEqual(self.limits.max_message, 16 * 1024)
        self.assertIn("within 10 s", TEXT)
        self.assertEqual(self.limits.auth_timeout, 10)
        self.assertIn("not taken for 30 s", TEXT)
        self.assertEqual(self.limits.stall_timeout, 30)
        self.assertIn("five minutes before the last event", TEXT)
        self.assertEqual(OVERLAP, 5 * 60 * SECOND)
