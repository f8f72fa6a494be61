"""Tests for tradeproxy.wire.proxy_status: the frames in docs/protocol.md."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.wire.proxy_status import (
    Gap,
    GapOutcome,
    JournalStatus,
    ReplayState,
    UpstreamStatus,
    encode_gap,
    encode_hello,
    encode_journal,
    encode_position,
    encode_replay,
    encode_upstream,
)

NOON = 1_800_000_000_000_000
TEXT = "2027-01-15T08:00:00.000000Z"


def read(frame: bytes) -> dict[str, Any]:
    """Return a frame's data after a check of its stream."""
    document = json.loads(frame)
    assert document.keys() == {"stream", "data"}
    assert document["stream"] == "proxy_status"
    data: dict[str, Any] = document["data"]
    return data


class StatusFrameTests(SynchronousTestCase):
    """The frames of the `proxy_status` stream."""

    def test_upstream_and_journal(self) -> None:
        """State, reason and time of the upstream and the journal."""
        up = UpstreamStatus(True, "streaming", NOON / 1e6)
        self.assertEqual(
            read(encode_upstream(up)),
            {"event": "upstream", "state": "up", "since": TEXT, "reason": "streaming"},
        )
        full = JournalStatus(False, "disk full", NOON / 1e6)
        self.assertEqual(
            read(encode_journal(full)),
            {"event": "journal", "state": "not durable", "since": TEXT, "reason": "disk full"},
        )

    def test_gap_while_stream_is_down_has_null_end(self) -> None:
        """Its end is null while the stream is down."""
        self.assertEqual(
            read(encode_gap(Gap(NOON))),
            {
                "event": "gap",
                "begin": TEXT,
                "end": None,
                "outcome": "pending",
                "events": 0,
                "reason": "",
            },
        )
        closed = Gap(NOON, NOON, GapOutcome.RECOVERED, 3)
        self.assertEqual(read(encode_gap(closed))["end"], TEXT)
        self.assertEqual(
            {outcome.value: Gap(0, 0, outcome).is_closed for outcome in GapOutcome},
            {"pending": False, "open": False, "recovered": True, "orders": True, "lost": True},
        )

    def test_position_has_cursor(self) -> None:
        """It moves a client past events that its filter drops."""
        self.assertEqual(read(encode_position("c")), {"event": "position", "cursor": "c"})

    def test_replay_states(self) -> None:
        """Begun, complete, or impossible with a reason."""
        self.assertEqual(
            read(encode_replay(ReplayState.IMPOSSIBLE, "c", "trimmed")),
            {"event": "replay", "state": "impossible", "cursor": "c", "reason": "trimmed"},
        )

    def test_hello_contains_the_complete_state(self) -> None:
        """After it a client has the complete state and its position."""
        hello = encode_hello(
            "paper",
            "c",
            UpstreamStatus(True, "streaming", 0),
            JournalStatus(True, "", 0),
            [Gap(NOON)],
        )
        data = read(hello)
        self.assertEqual((data["event"], data["account"], data["cursor"]), ("hello", "paper", "c"))
        self.assertEqual((data["upstream"]["state"], data["journal"]["state"]), ("up", "durable"))
        self.assertEqual([gap["begin"] for gap in data["gaps"]], [TEXT])
