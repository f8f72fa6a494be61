"""Tests for tradeproxy.cluster.redis_journal after Redis lost one of the log's keys."""

from __future__ import annotations

from typing import Any
from unittest import mock

from tests.support.journals import event
from tests.support.nodes import (
    IDS_KEY,
    LEASE_KEY,
    METADATA_KEY,
    STATE_KEY,
    STREAM_KEY,
    Member,
    NodesCase,
)
from tradeproxy.cluster.leadership import LEASE, RENEW_AFTER

LOG_KEYS = (STATE_KEY, METADATA_KEY, STREAM_KEY, IDS_KEY)


class DamagedLogTests(NodesCase):
    """An operator, or a restore of single keys, leaves a part of the log."""

    def begin(self) -> tuple[Member, Member]:
        """Return a leader and a follower of a log with two events."""
        for member in self.members:
            member.kill()
        self.members.clear()
        self.redis.flush()
        leader, node = self.start_node(), self.start_node()
        leader.publish(1, 2)
        return leader, node

    def test_write_without_key_loses_no_event(self) -> None:
        """Without the metadata the script failed after it had recorded the event's identity.

        Each retry then dropped one more event as a duplicate.
        """
        for key in (*LOG_KEYS, LEASE_KEY):
            leader, node = self.begin()
            self.redis.execute("DEL", key)
            leader.publish(3)
            leader.publish(4, 5)
            self.advance(RENEW_AFTER + 1)
            leader.publish(6)
            self.advance(1)
            payloads = [event(n).payload for n in range(1, 7)]
            for member in (leader, node):
                self.assertEqual(member.subscriber.payloads, payloads, key)
                self.assertFalse(member.subscriber.is_aborted, key)
            self.assertEqual(len(leader.upstreams), 1)

    def test_missing_key_is_replaced_without_write(self) -> None:
        """A node that starts later could read no log, or read it again and again."""
        for key in LOG_KEYS:
            leader, node = self.begin()
            self.redis.execute("DEL", key)
            self.advance(RENEW_AFTER + 1)
            leader.publish(3)
            self.assertEqual(node.subscriber.seqs, [1, 2, 3], key)
            self.assertEqual(self.start_follower().rows, [(3, event(3).payload)], key)

    def test_number_that_is_none_is_replaced(self) -> None:
        """Nodes that could not read it no longer competed for the lease, until their restart."""
        for text in ("", "x", "-1", "1.5", "9" * 5000):
            leader, node = self.begin()
            self.redis.execute("HSET", STATE_KEY, "last", text)
            self.advance(RENEW_AFTER + 1)
            leader.publish(3)
            self.assertEqual(node.subscriber.seqs, [1, 2, 3], text)
            leader.kill()
            self.redis.execute("HSET", STATE_KEY, "last", text)
            self.advance(LEASE + 2)
            self.assertTrue(node.is_streaming, text)

    def test_replies_of_another_shape_stop_no_node(self) -> None:
        """A node that got one neither led nor read any more, until its restart."""
        replies: tuple[Any, ...] = (
            1,
            b"x",
            {b"a": b"b"},
            [1],
            [b"x"] * 5,
            [[b"s", [[b"x"]]]],
            [[], [], []],
            [[1]],
        )
        for reply in replies:
            leader, node = self.begin()
            with mock.patch.object(self.redis, "serve", lambda _, reply=reply: reply):
                self.advance(RENEW_AFTER + 1)
            self.advance(2 * LEASE)
            for member in (leader, node):
                member.publish(3)
            self.advance(1)
            self.assertTrue(leader.is_streaming or node.is_streaming, reply)
            self.assertIn(event(3).payload, [payload for _, payload in node.rows], reply)

    def test_missing_key_after_death_of_leader_is_replaced_by_follower(self) -> None:
        """Numbers continue, and the gap begins at the last event."""
        for key in LOG_KEYS:
            leader, node = self.begin()
            leader.kill()
            self.redis.execute("DEL", key)
            self.advance(LEASE + 2)
            self.assertTrue(node.is_streaming, key)
            node.account.mark_upstream_up()
            self.assertIsNotNone(node.account.gaps.current, key)
            node.publish(3)
            self.assertEqual(node.subscriber.seqs, [1, 2, 3], key)

    def test_events_of_an_open_gap_come_once_if_every_node_is_replaced(self) -> None:
        """The new log drops what the log before delivered since the gap began.

        The backfill of a node that starts later finds these events, and that node has read none.
        Clients that resume in the new log got them twice.
        """
        execution = event(3, event="fill", execution_id="x", qty="1", price="2.5")
        for key in LOG_KEYS:
            leader, node = self.begin()
            leader.account.mark_upstream_down("lost")
            leader.account.mark_upstream_up()
            self.assertIsNotNone(leader.account.gaps.current, key)
            leader.account.publish(execution)
            leader.publish(4)
            self.redis.execute("DEL", key)
            leader.publish(5)
            self.advance(RENEW_AFTER + 1)
            self.assertEqual(node.subscriber.seqs, [1, 2, 3, 4, 5], key)
            leader.kill()
            node.kill()
            newcomer = self.start_node()
            self.advance(LEASE + 1)
            self.assertTrue(newcomer.is_streaming, key)
            # Or the outcome of a gap would count them as missed.
            found = [newcomer.journal.has(each) for each in (execution, event(4), event(6))]
            self.assertEqual(found, [True, True, False], key)
            newcomer.account.publish(execution)
            newcomer.publish(4, 5, 6)
            self.assertEqual(newcomer.subscriber.seqs, [6], key)
            self.assertEqual([seq for seq, _ in newcomer.rows], [5, 6], key)

    def test_events_of_an_open_gap_come_once_if_the_new_log_is_lost_too(self) -> None:
        """The third log has the keys that the second one had, and not only those of its rows.

        The node that begins it has read no row of the first log. Clients got its events twice.
        """
        for key in LOG_KEYS:
            leader, node = self.begin()
            leader.account.mark_upstream_down("lost")
            leader.account.mark_upstream_up()
            leader.publish(3, 4)
            for member in (leader, node):
                self.assertEqual(member.subscriber.seqs, [1, 2, 3, 4], key)
            self.redis.execute("DEL", key)
            self.advance(RENEW_AFTER + 1)
            leader.kill()
            node.kill()
            second = self.start_node()
            self.advance(LEASE + 1)
            second.account.mark_upstream_up()
            second.publish(5)
            self.redis.execute("DEL", key)
            second.publish(6)
            self.advance(RENEW_AFTER + 1)
            second.kill()
            third = self.start_node()
            self.advance(LEASE + 1)
            self.assertTrue(third.is_streaming, key)
            third.publish(3, 4, 5, 6, 7)
            self.assertEqual([seq for seq, _ in third.rows], [6, 7], key)
            self.assertEqual(third.subscriber.seqs, [7], key)

    def test_events_of_an_open_gap_come_once_if_the_new_log_is_rolled_back_and_lost(self) -> None:
        """The rollback drops the rows of both logs, and with them the keys for the third one.

        This holds for the node that began the second log, and for one that continued in it.
        """
        for is_leader in (True, False):
            leader, node = self.begin()
            leader.account.mark_upstream_down("lost")
            leader.account.mark_upstream_up()
            leader.publish(3, 4)
            self.redis.execute("DEL", STREAM_KEY)
            self.advance(RENEW_AFTER + 1)
            dump = self.redis.dump()
            leader.publish(5)
            self.redis.roll_back(dump)
            last, other = (leader, node) if is_leader else (node, leader)
            other.kill()
            self.advance(LEASE + 2)
            self.assertTrue(last.is_streaming, is_leader)
            found = [last.journal.has(event(n)) for n in (3, 4, 5)]
            self.assertEqual(found, [True, True, False], is_leader)
            self.redis.flush()
            self.advance(2 * LEASE)
            self.assertTrue(last.is_streaming, is_leader)
            last.publish(3, 4, 5)
            self.assertEqual(last.rows, [(5, event(5).payload)], is_leader)
