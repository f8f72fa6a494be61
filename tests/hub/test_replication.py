"""Tests for tradeproxy.hub.replication."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.hub.replication import StreamState
from tradeproxy.wire.proxy_status import Gap, GapOutcome, UpstreamStatus


class StandingTests(SynchronousTestCase):
    """How an account's stream is, in words for another process."""

    def test_is_read_as_it_was_written(self) -> None:
        """Every field of the upstream's status and of the gaps, in their order."""
        up = UpstreamStatus(streaming=True, reason='caf\u00e9 "x"', since=1785000000.123456)
        gaps = (
            Gap(2**53, None, GapOutcome.OPEN, 3, "HTTP 500"),
            Gap(1, 2, GapOutcome.LOST, 0, "gone"),
            Gap(3),
        )
        for standing in (StreamState(up, gaps), StreamState(up, ())):
            self.assertEqual(StreamState.parse(standing.encode()), standing)

    def test_what_a_newer_version_tells_besides_is_passed_over(self) -> None:
        """The nodes are brought up to date one after the other; the older ones had followed no more."""
        standing = StreamState(
            UpstreamStatus(streaming=True, reason="", since=1.0), (Gap(1, 2, GapOutcome.LOST),)
        )
        document = json.loads(standing.encode())
        for part in (document, document["upstream"], *document["gaps"]):
            part["of a later version"] = 1
        self.assertEqual(StreamState.parse(json.dumps(document)), standing)

    def test_every_outcome_is_read_as_it_was_written(self) -> None:
        """They are the words of the protocol."""
        up = UpstreamStatus(streaming=False, reason="", since=0.0)
        for outcome in GapOutcome:
            [gap] = StreamState.parse(StreamState(up, (Gap(1, 2, outcome),)).encode()).gaps
            self.assertIs(gap.outcome, outcome)
