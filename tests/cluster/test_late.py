"""Tests for replies of Redis that arrive late, as they do over a network."""

from __future__ import annotations

from tests.support.journals import event, time_of
from tests.support.nodes import LEASE_KEY, METADATA_KEY, NodesCase
from tests.support.redislog import Command, ReplyDelay
from tradeproxy.cluster import scripts
from tradeproxy.cluster.leadership import CHECK_INTERVAL, LEASE
from tradeproxy.journal.metadata import OPEN_SINCE
from tradeproxy.wire.proxy_status import GapOutcome


class DelayedReplyTests(NodesCase):
    """A reply that arrives late does not override what changed meanwhile."""

    def test_stop_during_lease_request_releases_lease(self) -> None:
        """Redis had granted the lease already; the next node had to wait until it expired."""
        self.start_node().stop()
        node = self.make_node()
        node.follow()
        delay = ReplyDelay(node.command_client)
        node.leadership.startService()
        while not self.redis.execute("EXISTS", LEASE_KEY):
            delay.deliver()
        stopped = node.leadership.stopService()
        assert stopped is not None
        self.assertNoResult(stopped)
        delay.end()
        self.successResultOf(stopped)
        self.assertFalse(self.redis.execute("EXISTS", LEASE_KEY))
        self.assertFalse(node.is_streaming)
        other = self.start_node()
        self.assertTrue(other.is_leader)

    def test_lease_reply_older_than_last_read_causes_no_recheck(self) -> None:
        """The log was shorter when the request was sent; that does not mean it was replaced."""
        leader, node = self.start_node(), self.start_node()
        delay = ReplyDelay(node.command_client)
        self.advance(CHECK_INTERVAL)
        leader.publish(1)
        state_reads: list[Command] = []
        self.redis.on_command = lambda command: (
            state_reads.append(command) if _runs_script(command, "READ_STATE") else None
        )
        delay.end()
        leader.publish(2)
        self.advance(3)
        self.assertEqual((node.subscriber.seqs, state_reads), ([1, 2], []))

    def test_metadata_of_large_batch_is_written_with_its_last_part(self) -> None:
        """The leader died in between: the next one took the gap for settled and lost the rest."""
        leader, node = self.start_node(), self.start_node()
        leader.account.mark_upstream_up()
        leader.publish(1)
        leader.account.mark_upstream_down("lost")
        leader.account.mark_upstream_up()
        leader.publish(900)
        delay = ReplyDelay(leader.command_client)
        leader.account.publish_recovered(event(2))
        leader.account.flush()
        for n in range(3, 803):
            leader.account.publish_recovered(event(n))
        leader.account.flush()
        leader.account.completeness.check_through(time_of(5000))
        leader.account.gaps.settle(GapOutcome.RECOVERED)
        delay.deliver()
        leader.kill()
        self.assertEqual(node.journal.last, 503)
        self.assertEqual([gap.outcome for gap in node.account.gaps], [GapOutcome.PENDING])
        self.advance(LEASE + 2)
        self.assertTrue(node.is_leader)
        self.assertEqual(
            self.redis.execute("HGET", METADATA_KEY, f"remembered {OPEN_SINCE}"), b"%d" % time_of(1)
        )
        node.account.mark_upstream_up()
        gap = node.account.gaps.current
        assert gap is not None
        self.assertEqual(
            (gap.begin, node.account.completeness.backfill_from), (time_of(1), time_of(1))
        )


def _runs_script(command: Command, name: str) -> bool:
    return bool(command[1] == getattr(scripts, name).sha)
