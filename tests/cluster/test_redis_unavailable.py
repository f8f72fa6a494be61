"""Tests for tradeproxy.cluster.redis_journal while Redis is away, or another node leads."""

from __future__ import annotations

from tests.support.journals import event, events, time_of
from tests.support.nodes import LEASE_KEY, NodesCase
from tests.support.redislog import done
from tradeproxy.cluster.leadership import LEASE, STOP_AFTER
from tradeproxy.cluster.outbox import FULL
from tradeproxy.cluster.redis_log import EpochStart
from tradeproxy.journal.backlog import MAX_EVENTS


class AwayTests(NodesCase):
    """Redis goes away, and comes back as it was."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.started(), self.started()
        self.leader.publish(1)

    def assert_log(self, *numbers: int) -> None:
        """Assert that both nodes have delivered these, and have them."""
        for member in (self.leader, self.node):
            self.assertEqual(member.reader.payloads, [event(n).payload for n in numbers])
            self.assertEqual(member.reader.seqs, list(range(1, len(numbers) + 1)))
            self.assertFalse(member.reader.is_severed)
        self.assertEqual(self.leader.rows, self.node.rows)

    def test_what_comes_meanwhile_is_written_afterwards(self) -> None:
        """Nobody is handed what might not be in the log; the latest time is known all the same."""
        self.leader.cut()
        self.leader.publish(2, 3)
        self.assertEqual(
            (self.leader.journal.last, self.leader.journal.latest_time), (1, time_of(3))
        )
        self.wait(3)
        self.leader.publish(4)
        self.leader.mend()
        self.wait(1)
        self.assert_log(1, 2, 3, 4)

    def test_says_that_it_is_away(self) -> None:
        """To its clients, and to readyz; and since when."""
        self.leader.outlet.cut("it says LOADING")
        status = self.leader.journal.status
        self.assertEqual((status.durable, status.reason), (False, "Redis is away: it says LOADING"))
        self.assertEqual(
            self.leader.reader.statuses[-1]["reason"], "Redis is away: it says LOADING"
        )
        since = self.clock.seconds()
        self.wait(1)
        self.leader.mend()
        self.assertEqual(self.leader.journal.status.since, since)
        self.wait(3)
        self.assertTrue(self.leader.journal.status.durable)

    def test_a_lost_answer_is_no_duplicate(self) -> None:
        """The events are in the log, and the leader cannot know that: it tells them again."""
        for numbers in ((2, 3), (4,)):
            self.leader.outlet.lose_answer()
            self.leader.publish(*numbers)
            self.assertIn(numbers[-1], self.leader.reader.seqs)
            self.leader.publish(*numbers)
            self.wait(1)
        self.assert_log(1, 2, 3, 4)
        self.leader.publish(5)
        self.assert_log(1, 2, 3, 4, 5)

    def test_an_answer_is_lost_and_the_event_is_read_back_later(self) -> None:
        """The leader's own reading is behind: in between it has told the event twice."""
        self.leader.inlet.hold()
        self.leader.outlet.lose_answer()
        self.leader.publish(2)
        self.wait(1)
        self.leader.publish(3)
        self.leader.inlet.go_on()
        self.wait(1)
        self.leader.publish(4)
        self.assert_log(1, 2, 3, 4)

    def test_what_is_read_late_is_not_told_again(self) -> None:
        """The answers to the writes come first."""
        self.leader.inlet.hold()
        self.leader.publish(2)
        self.leader.publish(3, 4)
        self.assertEqual((self.leader.journal.last, self.node.journal.last), (1, 4))
        self.assertTrue(self.leader.journal.has(event(4)))
        self.leader.inlet.go_on()
        self.assert_log(1, 2, 3, 4)
        self.assertEqual(self.leader.journal.duplicates, 0)

    def test_what_redis_has_forgotten_is_told_again(self) -> None:
        """It had answered, and nobody had read it."""
        for member in self.members:
            member.inlet.hold()
        saved = self.redis.saved()
        self.leader.publish(2, 3)
        self.redis.roll_back(saved)
        for member in self.members:
            member.cut()
            member.mend()
        self.wait(1)
        self.leader.publish(4)
        self.assert_log(1, 2, 3, 4)

    def test_what_was_kept_is_written_in_the_next_turn_of_the_same_node(self) -> None:
        """Nobody else has led: it comes first, in its order."""
        self.node.cut()
        self.leader.cut()
        self.leader.publish(2, 3)
        self.wait(STOP_AFTER + 4)
        self.assertFalse(self.leader.leads)
        self.leader.mend()
        self.wait(3)
        self.assertTrue(self.leader.leads)
        self.leader.publish(4)
        self.node.mend()
        self.wait(1)
        self.assert_log(1, 2, 3, 4)

    def test_what_was_kept_is_dropped_when_another_node_has_led(self) -> None:
        """That one has found it in the history, in its place."""
        self.leader.cut()
        self.leader.publish(9)
        self.wait(LEASE + 2)
        self.assertTrue(self.node.leads)
        self.assertEqual(self.leader.journal.latest_time, time_of(9))
        self.node.publish(2)
        self.node.cut()
        self.wait(LEASE + 2)
        self.leader.mend()
        self.wait(3)
        self.assertTrue(self.leader.leads)
        self.assertEqual(self.leader.journal.latest_time, time_of(2))
        self.leader.publish(3)
        self.node.mend()
        self.wait(1)
        self.assert_log(1, 2, 3)

    def test_what_was_kept_is_dropped_when_another_node_is_seen_to_lead(self) -> None:
        """Although Redis then forgets who did."""
        self.leader.cut()
        self.leader.publish(9)
        self.wait(LEASE + 2)
        self.node.publish(2)
        self.leader.mend()
        self.wait(1)
        self.redis.forget()
        self.node.cut()
        self.wait(1)
        self.leader.cut()
        self.leader.mend()
        self.wait(LEASE)
        self.assertTrue(self.leader.leads)
        self.leader.publish(3)
        self.assertEqual(self.leader.reader.payloads, [event(n).payload for n in (1, 2, 3)])

    def test_more_than_is_kept_ends_the_turn(self) -> None:
        """The rest is recovered; nothing is taken behind the first that had no room: order is kept."""
        for member in self.members:
            member.cut()
        self.leader.publish(*range(2, MAX_EVENTS + 2))
        self.assertTrue(self.leader.streams)
        last = self.leader.journal.latest_time
        self.leader.publish(MAX_EVENTS + 2)
        self.assertFalse(self.leader.streams)
        self.leader.publish(MAX_EVENTS + 3)
        self.assertEqual(self.leader.journal.latest_time, last)
        self.leader.mend()
        self.wait(4)
        self.assertTrue(self.leader.leads)
        self.assertEqual(self.leader.journal.last, MAX_EVENTS + 1)

    def test_a_turn_of_too_much_says_why_it_ended(self) -> None:
        """For the log, and for who looks at the dashboard."""
        self.leader.cut()
        self.leader.publish(*range(2, MAX_EVENTS + 3))
        self.wait(2)
        self.assertEqual(self.leader.account.upstream.reason, FULL)

    def test_the_scripts_are_given_again_to_a_redis_that_has_lost_them(self) -> None:
        """SCRIPT FLUSH, or a failover."""
        self.redis.ask("SCRIPT", "FLUSH")
        self.leader.publish(2)
        self.assert_log(1, 2)

    def test_refusals_of_redis_are_as_good_as_its_absence(self) -> None:
        """It has no memory left, or is a replica now: what comes is kept."""
        self.redis.ask("CONFIG", "SET", "maxmemory", "1")
        self.addCleanup(self.redis.ask, "CONFIG", "SET", "maxmemory", "0")
        self.leader.publish(2)
        self.assertRegex(self.leader.journal.status.reason, "^Redis is away: it says OOM")
        self.redis.ask("CONFIG", "SET", "maxmemory", "0")
        self.wait(2)
        self.assert_log(1, 2)


class FencingTests(NodesCase):
    """Who has the lease no more changes nothing."""

    def test_a_stale_token_writes_nothing(self) -> None:
        """Neither events, facts, a standing, another epoch, nor trims; nor does it release the lease."""
        leader = self.started()
        leader.publish(1, 2)
        log = leader.journal.redis_log
        token = self.redis.ask("HGET", LEASE_KEY, "token").decode()
        self.redis.ask("HSET", LEASE_KEY, "token", "another")
        self.redis.ask("PERSIST", LEASE_KEY)
        before = self.redis.saved()
        for write in (
            log.write(token, 1, events(3), {"horizon": "1"}, "{}"),
            log.trim(token, 1, {"trimmed": "1"}),
            log.release(token),
        ):
            self.assertIsNone(done(write))
        begun = EpochStart("", 0, done(log.read_state(0)).metadata)
        self.assertFalse(done(log.begin_epoch(token, 1, 9, begun)))
        self.assertEqual(self.redis.saved(), before)

    def test_a_leader_that_was_stopped_past_its_lease_writes_nothing(self) -> None:
        """It wakes up with an event in its hands, and another node leads."""
        leader, follower = self.started(), self.started()
        self.redis.ask("HSET", LEASE_KEY, "owner", "other")
        leader.publish(1)
        self.assertFalse(leader.streams)
        self.wait(2)
        self.assertEqual(
            (leader.account.upstream.reason, follower.journal.last), ("the lease was lost", 0)
        )
