"""Tests for docs/protocol.md: its examples are played, its tables held against the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support.proxy import ProxyTestCase
from tradeproxy.recovery.backfill import OVERLAP, SECOND
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.frame import Recovered
from tradeproxy.wire.proxy_status import GapOutcome, ReplayState

TEXT = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")
BLOCKS = [
    re.sub(r"\n  +", "", block).splitlines()  # an indented line continues the one before
    for block in re.findall(r"^```\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
]

SENT, GOT = "→ ", "← "


def conversations() -> list[list[str]]:
    """Return the examples in which a client says something."""
    return [block for block in BLOCKS if any(line.startswith(SENT) for line in block)]


def shown() -> list[str]:
    """Return the frames that are shown by themselves."""
    lines = [line for block in BLOCKS if block not in conversations() for line in block]
    return [line.removeprefix(GOT) for line in lines]


class ConversationTests(ProxyTestCase):
    """What a client says, and what it is answered."""

    def test_every_example_goes_as_shown(self) -> None:
        """The first one at the original path, the others at Alpaca's; byte for byte."""
        first, *others = conversations()
        self.assertTrue(others)
        self.assert_goes(first, "/trade-updates-paper")
        for example in others:
            self.assert_goes(example, "/trade-updates-paper/stream")

    def assert_goes(self, example: list[str], path: str) -> None:
        client = self.connect(path)
        for line in example:
            if line.startswith(SENT):
                answers = self.say(client, line.removeprefix(SENT).encode())
            else:
                self.assertEqual(answers.pop(0).decode(), line.removeprefix(GOT))

    def test_the_event_passes_as_shown(self) -> None:
        """Byte for byte to a plain client; with its cursor to one that asks for the status."""
        event, with_cursor, *_ = shown()
        plain, knowing = self.connect(), self.connect("/trade-updates-paper?proxy_status=1")
        for client in (plain, knowing):
            self.say(client, conversations()[0][0].removeprefix(SENT).encode())
        self.publish(self.paper, event.encode())
        self.assertEqual([message.decode() for message in plain.taken()], [event])
        message = json.loads(knowing.taken()[-1])
        self.assertEqual(list(message), ["stream", "data", "cursor"])
        form = re.compile(r'"cursor":"(paper\.[0-9a-f]{16}\.[0-9]+\.[0-9a-f]{8})"')
        self.assertRegex(with_cursor, form)
        self.assertRegex(f'"cursor":"{message["cursor"]}"', form)

    def test_the_status_frames_have_the_fields_shown(self) -> None:
        """An outage, as a client that asks is told of it."""
        client = self.connect("/trade-updates-paper?proxy_status=1")
        self.say(client, conversations()[0][0].removeprefix(SENT).encode())
        self.paper.mark_upstream_up()
        self.publish(self.paper, shown()[0].encode())
        self.paper.mark_upstream_down("connection lost")
        self.wires.flush()
        told = {
            (frame := json.loads(message))["data"].get("event"): frame for message in client.taken()
        }
        for line in shown()[2:]:
            example = json.loads(line)
            kind = example["data"]["event"]
            self.assertEqual(list(told[kind]["data"]), list(example["data"]), kind)


class TableTests(ProxyTestCase):
    """What the tables and the text say is what the code has."""

    def test_every_close_code_is_there(self) -> None:
        """With whether to come back; 1009 is Autobahn's own."""
        rows = dict(
            re.findall(r"^\| ([14]\d{3}) \|.*\| (yes|no|not)\b[^|]*\|$", TEXT, re.MULTILINE)
        )
        self.assertEqual(rows.pop("1009"), "no")
        codes = {str(code.code): code.may_reconnect for code in CloseCode}
        self.assertEqual({code: word == "yes" for code, word in rows.items()}, codes)

    def test_every_word_of_the_status_is_there(self) -> None:
        """Outcomes, states of a replay, marks."""
        for word in (*GapOutcome, *ReplayState):
            self.assertIn(f"`{word.value}`", TEXT)
        for mark in Recovered:
            self.assertIn(f'`"recovered":"{mark.value}"`', TEXT)

    def test_the_numbers_are_the_codes(self) -> None:
        """The limits that the text names."""
        self.assertIn("over 16 KiB", TEXT)
        self.assertEqual(self.limits.max_message, 16 * 1024)
        self.assertIn("within 10 s", TEXT)
        self.assertEqual(self.limits.auth_timeout, 10)
        self.assertIn("not taken for 30 s", TEXT)
        self.assertEqual(self.limits.stall_timeout, 30)
        self.assertIn("five minutes before the last event", TEXT)
        self.assertEqual(OVERLAP, 5 * 60 * SECOND)
