"""Tests for what the next leader knows of a log that Redis lost: from when on events may miss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.support.journals import DAY, event, time_of
from tests.support.nodes import LEASE_KEY, METADATA_KEY, Member, NodesCase
from tests.support.redislog import Command, ReplyDelay
from tradeproxy.cluster import scripts
from tradeproxy.cluster.leadership import CHECK_INTERVAL, LEASE, RENEW_AFTER
from tradeproxy.cluster.log_entries import EventEntry
from tradeproxy.cluster.roll_call import CALL_TIME
from tradeproxy.journal.metadata import OPEN_SINCE, REMEMBERED, UNKNOWN
from tradeproxy.runtime.dates import Dates
from tradeproxy.wire.event import format_time
from tradeproxy.wire.proxy_status import Gap, GapOutcome

TAKEOVER = CALL_TIME + LEASE + 1
"""Seconds in which another node leads after the loss of leader and log."""


class LostLogCase(NodesCase):
    """Has a leader whose stream is up, and no event yet."""

    def setUp(self) -> None:
        super().setUp()
        self.leader = self.start_node()
        self.log_began = self.leader.journal.complete_from

    def lose_leader_and_log(self) -> None:
        """Kill the leader; Redis loses all data."""
        self.leader.kill()
        self.redis.flush()

    def await_stream(self, node: Member) -> Gap | None:
        """Wait until a node leads, and return the gap that is open once its stream is up."""
        self.advance(TAKEOVER)
        self.assertTrue(node.is_streaming)
        node.account.mark_upstream_up()
        return node.account.open_gap

    def assert_gap(self, node: Member, begin: int | None) -> None:
        """Assert that a gap begins there once another node leads, and every client learns it."""
        gap = self.await_stream(node)
        assert gap is not None
        self.assertEqual((gap.begin, gap.outcome), (begin, GapOutcome.PENDING))
        for member in self.members[1:]:
            self.assertEqual(list(member.account.gaps), [gap])
            told = [each for each in member.subscriber.statuses if each["event"] == "gap"]
            self.assertEqual(told[-1]["begin"] is None, begin is None)
            self.assertFalse(member.subscriber.is_aborted)


class LogWithoutEventTests(LostLogCase):
    """The other nodes had read the log, which had no event."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.start_node()
        self.leader.account.mark_upstream_up()

    def test_gap_begins_with_lost_log(self) -> None:
        """Only the leader knew that it had a stream, so the next one looked for nothing."""
        self.advance(5)
        self.lose_leader_and_log()
        self.start_follower()
        self.assert_gap(self.node, self.log_began)
        self.node.account.publish_recovered(event(1))
        self.node.account.flush()
        for member in self.members[1:]:
            self.assertEqual(member.subscriber.payloads, [event(1).payload])

    def test_log_lost_during_change_of_leader(self) -> None:
        """The next leader has the lease, and has not read the state of the log."""
        self.leader.stop()
        self.redis.on_command = self.flush_before_state
        gap = self.await_stream(self.node)
        assert gap is not None
        self.assertEqual(gap.begin, self.log_began)

    def flush_before_state(self, command: Command) -> None:
        """Lose the log before the first command that reads its state."""
        if command[1] == scripts.READ_STATE.sha:
            self.redis.on_command = lambda _: None
            for key in self.redis.execute("KEYS", "*"):
                if not key.endswith(b"lease"):
                    self.redis.execute("DEL", key)

    def test_begin_is_known_after_loss_of_one_key(self) -> None:
        """The other keys are no log without it: they can neither be read nor continued."""
        self.redis.execute("DEL", METADATA_KEY)
        self.leader.kill()
        self.assert_gap(self.node, self.log_began)

    def test_unwritten_events_are_missing_if_leader_dies_as_new_log_begins(self) -> None:
        """The new log said that it was complete, and the events waited behind its beginning."""
        self.recover_without_redis()
        newcomer, gap = self.die_as_new_log_begins()
        self.assertEqual(gap.begin, time_of(2) - 1)
        self.assertFalse(newcomer.journal.has(event(2)))

    def test_gap_that_is_open_begins_with_older_unwritten_events(self) -> None:
        """It began behind them, and the next leader asked for nothing from before it."""
        self.recover_without_redis()
        self.leader.account.mark_upstream_down("lost again")
        newcomer, gap = self.die_as_new_log_begins()
        self.assertEqual(gap.begin, time_of(2) - 1)
        self.assertFalse(newcomer.journal.has(event(2)))

    def test_gap_that_is_older_than_unwritten_events_keeps_its_begin(self) -> None:
        """Its own events are still to be found."""
        self.reconnect_without_redis()
        self.leader.publish(601)
        _, gap = self.die_as_new_log_begins()
        self.assertEqual(gap.begin, time_of(1))

    def test_begin_of_gap_stays_unknown_if_events_are_unwritten(self) -> None:
        """A log from before them is lost."""
        self.leader.journal.set_metadata(OPEN_SINCE, UNKNOWN)
        self.leader.cut()
        self.leader.account.mark_upstream_up()
        self.leader.publish(601)
        _, gap = self.die_as_new_log_begins()
        self.assertIsNone(gap.begin)

    def test_orders_are_compared_from_begin_of_gap_with_unwritten_events_on(self) -> None:
        """The next leader compared what is after them: those made of orders were lost."""
        self.recover_without_redis()
        self.leader.account.completeness.check_orders_through(time_of(600))
        newcomer, gap = self.die_as_new_log_begins()
        self.assertEqual(gap.begin, time_of(2) - 1)
        self.assertIsNone(newcomer.account.completeness.orders_through)

    def test_event_that_is_read_of_lost_log_as_new_one_begins_is_not_lost(self) -> None:
        """It counted as written, so the new log said that it was complete, and did not have it."""
        self.leader.account.mark_upstream_up()
        delay = ReplyDelay(self.leader.read_client)
        self.leader.publish(601)  # found by the read that has begun
        self.leader.publish(2)
        self.redis.flush()

        def deliver_before_beginning(command: Command) -> None:
            if command[1] == scripts.BEGIN_EPOCH.source:
                delay.end()

        self.redis.on_command = deliver_before_beginning
        self.advance(RENEW_AFTER + 1)
        self.leader.kill()
        self.assertEqual(self.leader.subscriber.seqs[:2], [1, 2])
        newcomer = self.start_node()
        gap = self.await_stream(newcomer)
        assert gap is not None
        assert gap.begin is not None
        is_in_log = event(2).payload in [payload for _, payload in newcomer.rows]
        self.assertTrue(is_in_log or gap.begin < time_of(2))

    def test_gap_of_new_log_survives_second_loss(self) -> None:
        """The stream state of the first log knew no gap, and ended it on the other nodes."""
        self.leader.cut()
        self.leader.publish(2)
        self.leader.account.completeness.check_through(time_of(9))
        self.redis.flush()
        self.redis.on_command = self.lose_reply_to_beginning
        self.leader.restore()
        self.leader.kill()
        self.redis.on_command = lambda _: None
        self.advance(1)
        for member in (self.node, self.start_follower()):
            self.assertEqual(member.journal.get_metadata(OPEN_SINCE), str(time_of(2) - 1))
        self.node.cut()
        self.redis.flush()
        self.node.restore()
        gap = self.await_stream(self.node)
        assert gap is not None
        self.assertEqual(gap.begin, time_of(2) - 1)

    def recover_without_redis(self) -> None:
        """Have the leader recover a gap of ten minutes while it cannot reach Redis."""
        self.reconnect_without_redis()
        account = self.leader.account
        account.publish_recovered(event(2))
        account.completeness.check_through(time_of(600))
        account.settle_gap(GapOutcome.RECOVERED)
        self.leader.publish(601)

    def reconnect_without_redis(self) -> None:
        """Have the leader's stream return after ten minutes, and cut the leader off from Redis."""
        account = self.leader.account
        account.mark_upstream_up()
        self.leader.publish(1)
        account.mark_upstream_down("lost")
        self.advance(600)
        account.mark_upstream_up()
        self.leader.cut()

    def die_as_new_log_begins(self) -> tuple[Member, Gap]:
        """Lose the log, and the leader behind the beginning of its new one.

        Return a new node, which leads, and its gap.
        """
        self.redis.flush()
        self.redis.on_command = self.lose_reply_to_beginning
        self.leader.restore()
        self.leader.kill()
        self.redis.on_command = lambda _: None
        newcomer = self.start_node()
        gap = self.await_stream(newcomer)
        assert gap is not None
        return newcomer, gap

    def lose_reply_to_beginning(self, command: Command) -> None:
        """Lose the leader's connection once a log has begun."""
        if command[1] == scripts.BEGIN_EPOCH.source:
            self.leader.command_client.lose_reply()

    def test_new_log_with_events_that_waited_is_complete(self) -> None:
        """The next history must not bring what was made of orders: the horizon covers that."""
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        self.advance(9)
        self.leader.cut()
        self.leader.publish(2)
        self.leader.account.completeness.supersede_history(time_of(5))
        self.leader.account.completeness.check_orders_through(time_of(5))
        self.redis.flush()
        self.leader.restore()
        self.advance(1)
        self.assertEqual(self.leader.subscriber.seqs, [1, 2])
        self.assertIsNone(self.leader.journal.get_metadata(OPEN_SINCE))
        self.assertIsNone(self.redis.execute("HGET", METADATA_KEY, REMEMBERED + OPEN_SINCE))
        for member in (self.leader, self.start_follower()):
            self.assertEqual(member.journal.dedup_horizon, time_of(5))
            self.assertEqual(member.account.completeness.orders_through, time_of(5))

    def test_leader_that_goes_on_has_no_gap(self) -> None:
        """It has missed nothing."""
        self.redis.flush()
        self.advance(6)
        self.assertTrue(self.leader.is_leader)
        self.assertEqual(list(self.leader.account.gaps), [])
        self.assertEqual(list(self.node.account.gaps), [])


class WrongClockTests(LostLogCase):
    """The clocks of the nodes are 90 days ahead, and no answer of Alpaca's has had a Date yet."""

    def start_node(self, **options: Any) -> Member:
        return super().start_node(dates=Dates(self.clock.seconds, self.clock.seconds), **options)

    def test_begin_of_gap_is_unknown_once_alpacas_clock_is_known(self) -> None:
        """The first stream began in the future, which counted as no stream: there was no gap."""
        for learns_early in (True, False):
            self.setUp()
            node = self.start_node()
            self.leader.account.mark_upstream_up()
            self.lose_leader_and_log()
            dates = node.account.dates
            dates.observe(self.clock.seconds() - 90 * DAY)
            if not learns_early:
                self.await_stream(node)
            self.advance(40)
            self.assertTrue(dates.observe(self.clock.seconds() - 90 * DAY))
            node.account.correct_times()
            gap = self.await_stream(node)
            assert gap is not None, learns_early
            self.assertEqual((gap.begin, gap.outcome), (None, GapOutcome.PENDING), learns_early)


class LogLostTwiceTests(LostLogCase):
    """Neither log had an event."""

    def test_gap_begins_with_first_one(self) -> None:
        """The node that began the second log dies before its stream is up."""
        nodes = [self.start_node(), self.start_node()]
        self.leader.account.mark_upstream_up()
        self.lose_leader_and_log()
        self.advance(TAKEOVER)
        self.leader, last = sorted(nodes, key=lambda node: not node.is_leader)
        self.lose_leader_and_log()
        gap = self.await_stream(last)
        assert gap is not None
        self.assertEqual(gap.begin, self.log_began)


class UnreadLogTests(LostLogCase):
    """The other node had seen the log, and had read nothing of it."""

    def test_begin_of_gap_is_unknown(self) -> None:
        """The node was as at the first start of all, and reported that nothing was missing."""
        node = self.make_node()
        node.read_client.cut()
        node.start()
        self.advance(1)
        self.assertEqual(node.journal.epoch, "")
        self.leader.account.mark_upstream_up()
        self.lose_leader_and_log()
        node.read_client.restore()
        self.assert_gap(node, None)

    def test_first_start_has_no_gap(self) -> None:
        """There was no log: before the first stream nothing can be missed."""
        self.leader.account.mark_upstream_up()
        self.assertEqual(list(self.leader.account.gaps), [])


class PartlyReadLogTests(LostLogCase):
    """The metadata of the log spoke of events that the other node had not read yet."""

    def start_paused(self) -> Member:
        """Return a node that has read the metadata and the first events, about 500."""
        node = self.make_node()
        journal: Any = node.journal
        apply_events = journal.apply_events

        def apply_and_pause(entries: Sequence[EventEntry]) -> None:
            apply_events(entries)
            node.read_client.pause_reads()

        journal.apply_events = apply_and_pause
        node.start()
        self.advance(1)
        del journal.apply_events
        return node

    def publish(self, count: int) -> None:
        """Let the leader get events, a millisecond apart."""
        self.leader.account.mark_upstream_up()
        for n in range(1, count + 1):
            at = format_time(time_of(1) + n * 1000)
            self.leader.account.publish(event(n, at=at))
        self.leader.account.flush()
        self.leader.account.completeness.check_through(time_of(2))

    def test_gap_begins_at_last_event_read(self) -> None:
        """It began at the newest time that the metadata had, behind events that were lost."""
        self.publish(502)
        node = self.start_paused()
        read = node.journal.last
        self.assertEqual((0 < read < 502, node.journal.is_loaded), (True, False))
        self.lose_leader_and_log()
        node.read_client.resume_reads()
        self.assert_gap(node, time_of(1) + read * 1000)
        missed = event(502, at=format_time(time_of(1) + 502_000))
        self.assertFalse(node.journal.has(missed))
        node.account.publish_recovered(missed)
        node.account.flush()
        self.assertEqual(node.subscriber.payloads, [missed.payload])

    def test_orders_are_compared_from_last_event_read_on(self) -> None:
        """The metadata said that they had been compared: what was made of them was lost."""
        self.publish(502)
        self.leader.account.completeness.check_orders_through(time_of(2))
        node = self.start_paused()
        self.assertEqual(node.account.completeness.orders_through, time_of(2))
        self.lose_leader_and_log()
        node.read_client.resume_reads()
        self.assert_gap(node, time_of(1) + node.journal.last * 1000)
        self.assertIsNone(node.account.completeness.orders_through)

    def test_gap_is_unknown_if_no_event_was_read(self) -> None:
        """The node knew only the metadata."""
        self.publish(3)
        node = self.make_node()
        node.read_client.open()
        node.read_client.pause_reads()
        node.start()
        self.advance(1)
        self.assertEqual((node.journal.last, node.journal.is_loaded), (0, False))
        self.lose_leader_and_log()
        node.read_client.resume_reads()
        self.assert_gap(node, None)

    def test_end_of_gap_counts_once_events_before_it_are_read(self) -> None:
        """A node that reconnected took the gap for closed, and lacked what had been found."""
        node = self.start_node()
        account = self.leader.account
        account.mark_upstream_up()
        self.leader.publish(1)
        account.mark_upstream_down("lost")
        account.settle_gap(GapOutcome.OPEN, "HTTP 500")
        self.leader.publish(3)
        node.cut()
        account.publish_recovered(event(2))
        account.flush()
        account.settle_gap(GapOutcome.RECOVERED)
        node.restore()
        node.read_client.pause_reads()
        self.advance(1)
        self.assertEqual(node.journal.last, 2)
        self.assertEqual([each.outcome for each in node.account.gaps], [GapOutcome.OPEN])
        self.lose_leader_and_log()
        node.read_client.resume_reads()
        gap = self.await_stream(node)
        assert gap is not None
        self.assertEqual((gap.begin, gap.outcome), (time_of(1), GapOutcome.OPEN))
        self.assertFalse(node.journal.has(event(2)))

    def test_end_of_gap_is_learned_with_last_event(self) -> None:
        """The events before it come later than the state of the log."""
        node = self.start_node()
        self.leader.account.mark_upstream_up()
        node.cut()
        self.leader.account.mark_upstream_down("lost")
        self.leader.publish(1, 2)
        node.restore()
        node.read_client.pause_reads()
        self.advance(1)
        self.assertTrue(node.account.upstream.streaming)
        node.read_client.resume_reads()
        self.advance(3)
        self.assertEqual(node.subscriber.seqs, [1, 2])
        self.assertEqual(node.account.upstream.reason, "lost")


class LaggingNodeTests(LostLogCase):
    """The other node knew less of the log than Redis had."""

    def test_horizon_beyond_its_events_does_not_hide_them(self) -> None:
        """A recovery by orders moves the horizon to now, and the node lacks what came before."""
        node = self.start_node()
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        self.advance(20)
        node.read_client.pause_reads()
        self.leader.publish(5)
        self.leader.account.completeness.supersede_history(time_of(10))
        self.advance(2 * CHECK_INTERVAL)
        self.lose_leader_and_log()
        self.assert_gap(node, time_of(1))
        self.assertFalse(node.journal.has(event(5)))

    def test_events_that_it_dropped_are_missing(self) -> None:
        """It had found them in Alpaca's history. The log is lost before another node does."""
        self.leader.account.mark_upstream_up()
        self.leader.account.settle_gap(GapOutcome.RECOVERED)
        self.leader.publish(1)
        self.leader.cut()
        self.leader.publish(2)
        self.leader.account.completeness.check_through(time_of(9))
        self.redis.execute("HSET", LEASE_KEY, "owner", "other")
        self.leader.restore()
        self.assertFalse(self.leader.journal.unread)
        self.redis.flush()
        gap = self.await_stream(self.leader)
        assert gap is not None
        self.assertEqual(gap.begin, time_of(2) - 1)

    def test_events_that_it_dropped_are_not_recorded_as_known(self) -> None:
        """It led, and had made them of orders. The next leader is lost before it finds them."""
        node = self.start_node()
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        self.leader.cut()
        self.leader.publish(2)
        self.leader.account.completeness.check_orders_through(time_of(5))
        self.advance(LEASE + 2)
        self.assertTrue(node.is_leader)
        self.leader.restore()
        self.advance(CHECK_INTERVAL)
        self.assertEqual(self.leader.journal.latest_time, time_of(1))
        node.kill()
        self.redis.flush()
        gap = self.await_stream(self.leader)
        assert gap is not None
        self.assertEqual(gap.begin, time_of(1))
        self.assertIsNone(self.leader.account.completeness.orders_through)
        self.assertFalse(self.leader.journal.has(event(2)))

    def test_node_that_was_cut_off_begins_gap_at_its_last_event(self) -> None:
        """It is the only one that is left of those that knew the log."""
        node = self.start_node()
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)
        node.cut()
        self.leader.publish(2, 3)
        self.advance(LEASE)
        self.lose_leader_and_log()
        node.restore()
        self.assert_gap(node, time_of(1))
