"""Tests for tradeproxy.hub.replication."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.hub.replication import NodeRole, StreamState
from tradeproxy.wire.event import MAX_TIME
from tradeproxy.wire.proxy_status import Gap, GapOutcome, UpstreamStatus


class StreamStateEncodingTests(SynchronousTestCase):
    """The stream state as JSON for another node."""

    def test_parse_encoded_state_returns_equal_state(self) -> None:
        """Every field of the upstream's status and of the gaps is kept, in order."""
        up = UpstreamStatus(streaming=True, reason='caf\u00e9 "x"', since=1785000000.123456)
        gaps = (
            Gap(2**53, None, GapOutcome.OPEN, 3, "HTTP 500"),
            Gap(1, 2, GapOutcome.LOST, 0, "gone"),
            Gap(3),
            Gap(None, 5),
        )
        for state in (StreamState(up, gaps), StreamState(up, ())):
            self.assertEqual(StreamState.parse(state.encode()), state)

    def test_parse_unknown_fields_ignores_them(self) -> None:
        """Nodes are upgraded one after the other: an older node reads what a newer one writes."""
        state = StreamState(
            UpstreamStatus(streaming=True, reason="", since=1.0), (Gap(1, 2, GapOutcome.LOST),)
        )
        document = json.loads(state.encode())
        for part in (document, document["upstream"], *document["gaps"]):
            part["of a later version"] = 1
        self.assertEqual(StreamState.parse(json.dumps(document)), state)

    def test_parse_encoded_outcome_returns_the_same_outcome(self) -> None:
        """Outcomes are encoded as the words of the protocol."""
        up = UpstreamStatus(streaming=False, reason="", since=0.0)
        for outcome in GapOutcome:
            [gap] = StreamState.parse(StreamState(up, (Gap(1, 2, outcome),)).encode()).gaps
            self.assertIs(gap.outcome, outcome)

    def test_parse_state_of_another_type_raises(self) -> None:
        """Any program with Redis's password can write one; it must not reach /status.json."""
        good = {"streaming": True, "reason": "", "since": 1.0}
        states: list[object] = [
            {**good, "since": float("inf")},
            {**good, "since": float("nan")},
            {**good, "since": 1e300},
            {**good, "since": 1e308},
            {**good, "since": "x"},
            {**good, "streaming": "yes"},
            {**good, "reason": None},
            {},
            [],
        ]
        for upstream in states:
            text = json.dumps({"upstream": upstream, "gaps": []})
            self.assertRaises(ValueError, StreamState.parse, text)

    def test_parse_upstream_since_last_second_of_calendar_accepts_it(self) -> None:
        """A second later it could not be shown as a date."""
        last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
        up = UpstreamStatus(streaming=True, reason="", since=last)
        self.assertEqual(StreamState.parse(StreamState(up, ()).encode()).upstream, up)
        later = StreamState(replace(up, since=last + 1), ())
        self.assertRaises(ValueError, StreamState.parse, later.encode())

    def test_parse_gap_outside_calendar_leaves_it_out(self) -> None:
        """An earlier version may have written one. It could not be shown as a date."""
        up = UpstreamStatus(streaming=False, reason="", since=0.0)
        good = Gap(1, 2)
        for bad in (Gap(MAX_TIME + 1), Gap(1, MAX_TIME + 1), Gap(MAX_TIME + 1, 2)):
            state = StreamState.parse(StreamState(up, (bad, good)).encode())
            self.assertEqual(state.gaps, (good,), bad)


class NodeRoleTests(SynchronousTestCase):
    """What /status.json and /metrics show of a node's role."""

    def test_role_after_each_change_has_lease_terms_and_lag(self) -> None:
        """Only a leader has a lease. The lag is measured again in each role."""
        role = NodeRole(since=1.0)
        self.assertEqual(role, NodeRole(1.0, is_leader=False, lease_renewed=None, terms=0, lag=0))
        role.update(lag=7, now=2.0)
        self.assertEqual(role, NodeRole(1.0, is_leader=False, lease_renewed=None, terms=0, lag=7))
        role.start_leading(3.0)
        self.assertEqual(role, NodeRole(3.0, is_leader=True, lease_renewed=3.0, terms=1, lag=0))
        role.update(lag=-1, now=4.0)
        self.assertEqual(role, NodeRole(3.0, is_leader=True, lease_renewed=4.0, terms=1, lag=0))
        role.update(lag=2, now=5.0)
        role.is_writing = True  # it has read the whole log
        role.start_following(6.0)
        self.assertEqual(role, NodeRole(6.0, is_leader=False, lease_renewed=None, terms=1, lag=0))
        role.start_leading(7.0)
        self.assertEqual(role.terms, 2)
