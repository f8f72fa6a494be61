"""Tests for the leader's stream state, which every node announces to its clients."""

from __future__ import annotations

import json

from twisted.logger import capturedLogs, formatEvent

from tests.support.journals import time_of
from tests.support.nodes import Member, NodesCase
from tradeproxy.wire.proxy_status import GapOutcome


class StreamStateTests(NodesCase):
    """Every node's clients get the leader's stream state, once."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.start_node(), self.start_node()
        for member in self.members:
            member.subscriber.statuses.clear()

    def take_statuses(self, member: Member) -> list[tuple[str, str]]:
        """Return the status messages since the last call: event, and outcome or reason."""
        statuses, member.subscriber.statuses[:] = list(member.subscriber.statuses), []
        return [(status["event"], status.get("outcome") or status["reason"]) for status in statuses]

    def test_upstream_status_on_follower_equals_leaders(self) -> None:
        """It has the leader's times."""
        for step in (
            self.leader.account.mark_upstream_up,
            lambda: self.leader.account.mark_upstream_down("lost"),
            lambda: self.leader.account.mark_upstream_down("HTTP 429"),
        ):
            step()
            self.advance(1)
            self.assertEqual(self.node.account.upstream, self.leader.account.upstream)
        self.assertEqual(
            self.take_statuses(self.node),
            [
                ("upstream", "streaming"),
                ("upstream", "lost"),
                ("gap", "pending"),
                ("upstream", "HTTP 429"),
            ],
        )

    def test_changes_of_the_leaders_upstream_have_a_line_on_the_follower(self) -> None:
        """Its log had no word of an outage of two minutes. Repeated failures are one line."""
        with capturedLogs() as logs:
            for reason in ("", "lost", "HTTP 503", "HTTP 503", ""):
                if reason:
                    self.leader.account.mark_upstream_down(reason)
                else:
                    self.leader.account.mark_upstream_up()
                self.advance(1)
        states = [
            line.partition("upstream of the leader is ")[2]
            for log in logs
            if "of the leader" in (line := formatEvent(log) or "")
        ]
        self.assertEqual(states, ["streaming", "down: lost", "down: HTTP 503", "streaming"])

    def test_gap_changes_are_announced_once_on_every_node(self) -> None:
        """Begin, end and outcome, on the leader and on the others."""
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        self.leader.account.mark_upstream_down("lost")
        self.leader.account.mark_upstream_up()
        self.leader.account.gaps.count_found(2)
        self.leader.account.gaps.settle(GapOutcome.RECOVERED)
        expected = [("gap", "pending"), ("gap", "pending"), ("gap", "recovered")]
        for member in self.members:
            self.assertEqual(
                [each for each in self.take_statuses(member) if each[0] == "gap"], expected
            )
        self.assertEqual(list(self.node.account.gaps), list(self.leader.account.gaps))
        hello = json.loads(self.node.account.hello(1))["data"]
        self.assertEqual([gap["events"] for gap in hello["gaps"]], [2])
        self.assertEqual(hello["upstream"]["state"], "up")

    def test_unreadable_state_is_ignored_and_events_follow(self) -> None:
        """Any program with Redis's password can write one; a follower must not stop at it."""
        before = self.node.account.upstream
        upstream = '{"upstream":{"streaming":true,"reason":"","since":%s}}'
        for text in ("not JSON", "[]", "[" * 100_000, upstream % "1e999", upstream % ("9" * 400)):
            self.leader.journal.publish_state(text)
        self.leader.publish(1)
        self.advance(1)
        self.assertEqual(self.node.account.upstream, before)
        self.assertEqual(self.node.journal.last, 1)

    def test_late_node_reads_current_stream_state(self) -> None:
        """Whether or not events followed the state in the log."""
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        self.leader.account.mark_upstream_down("lost")
        self.leader.publish(2)
        late = self.start_follower()
        self.assertEqual(late.account.upstream, self.leader.account.upstream)
        self.assertEqual(list(late.account.gaps), list(self.leader.account.gaps))

    def test_state_published_during_initial_read_is_applied(self) -> None:
        """It was published after the node had read the log's state."""
        self.leader.publish(1)
        late = self.make_node()
        late.read_client.open()
        late.read_client.pause_reads()
        late.journal.open()
        self.assertFalse(late.journal.is_loaded)
        self.leader.publish(2)
        self.leader.account.mark_upstream_up()
        late.read_client.resume_reads()
        self.assertTrue(late.journal.is_loaded)
        self.assertTrue(late.account.upstream.streaming)

    def test_state_changed_during_outage_is_published_afterwards(self) -> None:
        """Only the last state is published."""
        self.leader.cut()
        self.leader.account.mark_upstream_up()
        self.leader.account.mark_upstream_down("lost")
        self.leader.restore()
        self.advance(1)
        self.assertEqual(self.take_statuses(self.node), [("gap", "pending"), ("upstream", "lost")])

    def test_open_gap_continues_with_next_leader(self) -> None:
        """It keeps its begin, and is still open."""
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        self.leader.account.mark_upstream_down("lost")
        self.leader.account.gaps.settle(GapOutcome.OPEN, "HTTP 500")
        self.leader.stop()
        self.advance(1)
        self.assertTrue(self.node.is_leader)
        self.node.account.mark_upstream_up()
        [gap] = self.node.account.gaps
        self.assertEqual((gap.begin, gap.outcome), (time_of(1), GapOutcome.OPEN))
        self.node.account.gaps.settle(GapOutcome.RECOVERED)
        self.node.account.mark_upstream_down("lost")
        self.assertEqual(
            [each.outcome for each in self.node.account.gaps],
            [GapOutcome.RECOVERED, GapOutcome.PENDING],
        )

    def test_handover_opens_gap_from_last_event(self) -> None:
        """For a moment no node was connected to Alpaca."""
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        self.leader.stop()
        self.advance(1)
        self.node.account.mark_upstream_up()
        [gap] = self.node.account.gaps
        self.assertEqual((gap.begin, gap.outcome), (time_of(1), GapOutcome.PENDING))
        self.assertEqual(self.node.account.reconnects, 0)

    def test_leader_ignores_own_state_in_log(self) -> None:
        """What it reads back is older than its own state."""
        self.leader.read_client.pause_reads()
        self.leader.account.mark_upstream_up()
        self.leader.command_client.cut()
        self.leader.account.mark_upstream_down("lost")
        self.leader.read_client.resume_reads()
        texts = [text for event, text in self.take_statuses(self.leader) if event != "journal"]
        self.assertEqual(texts, ["streaming", "lost", "pending"])
