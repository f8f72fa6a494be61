"""Tests for how every node tells its clients of the stream that one of them holds."""

from __future__ import annotations

import json

from tests.support.journals import time_of
from tests.support.nodes import Member, NodesCase
from tradeproxy.wire.proxy_status import GapOutcome


class StandingTests(NodesCase):
    """What the leader says is told by all, once."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.started(), self.started()
        for member in self.members:
            member.reader.statuses.clear()

    def told(self, member: Member) -> list[tuple[str, str]]:
        """Return what a node's clients were told since the last time."""
        statuses, member.reader.statuses[:] = list(member.reader.statuses), []
        return [(status["event"], status.get("outcome") or status["reason"]) for status in statuses]

    def test_followers_tell_of_the_leaders_upstream(self) -> None:
        """With the leader's time."""
        for step in (
            self.leader.account.mark_upstream_up,
            lambda: self.leader.account.mark_upstream_down("lost"),
            lambda: self.leader.account.mark_upstream_down("HTTP 429"),
        ):
            step()
            self.wait(1)
            self.assertEqual(self.node.account.upstream, self.leader.account.upstream)
        self.assertEqual(
            self.told(self.node),
            [
                ("upstream", "streaming"),
                ("upstream", "lost"),
                ("gap", "pending"),
                ("upstream", "HTTP 429"),
            ],
        )

    def test_gaps_are_told_once_on_every_node(self) -> None:
        """Begin, end and outcome, on the leader as on the others."""
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        self.leader.account.mark_upstream_down("lost")
        self.leader.account.mark_upstream_up()
        self.leader.account.gaps.count_found(2)
        self.leader.account.gaps.settle(GapOutcome.RECOVERED)
        expected = [("gap", "pending"), ("gap", "pending"), ("gap", "recovered")]
        for member in self.members:
            self.assertEqual([each for each in self.told(member) if each[0] == "gap"], expected)
        self.assertEqual(list(self.node.account.gaps), list(self.leader.account.gaps))
        hello = json.loads(self.node.account.hello(1))["data"]
        self.assertEqual([gap["events"] for gap in hello["gaps"]], [2])
        self.assertEqual(hello["upstream"]["state"], "up")

    def test_a_node_that_comes_later_knows_as_much(self) -> None:
        """Whether events have come since or not."""
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        self.leader.account.mark_upstream_down("lost")
        self.leader.publish(2)
        late = self.follower()
        self.assertEqual(late.account.upstream, self.leader.account.upstream)
        self.assertEqual(list(late.account.gaps), list(self.leader.account.gaps))

    def test_what_is_said_while_a_node_reads_the_log_reaches_it(self) -> None:
        """It was said after that node had asked where the log is."""
        self.leader.publish(1)
        late = self.member()
        late.inlet.open()
        late.inlet.hold()
        late.journal.open()
        self.assertFalse(late.journal.is_loaded)
        self.leader.publish(2)
        self.leader.account.mark_upstream_up()
        late.inlet.go_on()
        self.assertTrue(late.journal.is_loaded)
        self.assertTrue(late.account.upstream.streaming)

    def test_what_is_said_while_redis_is_away_is_told_afterwards(self) -> None:
        """Only the last of it."""
        self.leader.cut()
        self.leader.account.mark_upstream_up()
        self.leader.account.mark_upstream_down("lost")
        self.leader.mend()
        self.wait(1)
        self.assertEqual(self.told(self.node), [("gap", "pending"), ("upstream", "lost")])

    def test_a_gap_is_handed_over(self) -> None:
        """The next leader goes on with it: where it began, and that it is still open."""
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        self.leader.account.mark_upstream_down("lost")
        self.leader.account.gaps.settle(GapOutcome.OPEN, "HTTP 500")
        self.leader.stop()
        self.wait(1)
        self.assertTrue(self.node.leads)
        self.node.account.mark_upstream_up()
        [gap] = self.node.account.gaps
        self.assertEqual((gap.begin, gap.outcome), (time_of(1), GapOutcome.OPEN))
        self.node.account.gaps.settle(GapOutcome.RECOVERED)
        self.node.account.mark_upstream_down("lost")
        self.assertEqual(
            [each.outcome for each in self.node.account.gaps],
            [GapOutcome.RECOVERED, GapOutcome.PENDING],
        )

    def test_a_handover_is_a_gap(self) -> None:
        """Nobody listened for a moment; it begins at the last event that is in the log."""
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        self.leader.stop()
        self.wait(1)
        self.node.account.mark_upstream_up()
        [gap] = self.node.account.gaps
        self.assertEqual((gap.begin, gap.outcome), (time_of(1), GapOutcome.PENDING))
        self.assertEqual(self.node.account.reconnects, 0)

    def test_a_leader_does_not_follow_itself(self) -> None:
        """What it reads back of its own words is older than what it knows."""
        self.leader.inlet.hold()
        self.leader.account.mark_upstream_up()
        self.leader.outlet.cut()
        self.leader.account.mark_upstream_down("lost")
        self.leader.inlet.go_on()
        words = [word for event, word in self.told(self.leader) if event != "journal"]
        self.assertEqual(words, ["streaming", "lost", "pending"])
