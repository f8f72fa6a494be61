"""Tests for how turns end, and that they end wholly: one node leads, and the next one can."""

from __future__ import annotations

from twisted.internet.defer import fail

from tests.support.journals import event, events, time_of
from tests.support.nodes import LEASE_KEY, Member, NodesCase
from tests.support.redislog import Command, done
from tradeproxy.cluster import scripts
from tradeproxy.cluster.leadership import (
    CHECK_INTERVAL,
    LEADER_UNKNOWN,
    LEASE,
    NO_LEADER,
    RENEW_AFTER,
    STOP_AFTER,
)
from tradeproxy.cluster.redis_log import RedisLog
from tradeproxy.hub.account import INTERNAL_ERROR
from tradeproxy.journal.base import TRIM_EVERY
from tradeproxy.wire.proxy_status import GapOutcome

FACTS_KEY = "tradeproxy:{paper}:facts"


class TurnsCase(NodesCase):
    """Has a leader and a follower, which have had event 1; Alpaca streams."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.started(), self.started()
        self.leader.account.mark_upstream_up()
        self.leader.publish(1)

    def now_leading(self) -> Member:
        """Return the one node that leads; it, and no other, can write."""
        [leader] = [member for member in self.members if member.leads]
        self.assertEqual(
            [member for member in self.members if member.journal.outbox.is_leading], [leader]
        )
        return leader

    def forget_lease(self) -> None:
        """Let Redis hold none, as after a restart."""
        self.redis.ask("DEL", LEASE_KEY)


class LaggingTests(TurnsCase):
    """A leader whose own reading is behind, and whose lease Redis has forgotten."""

    def setUp(self) -> None:
        super().setUp()
        self.leader.inlet.hold()
        self.leader.publish(2)
        self.forget_lease()

    def test_it_gives_up_in_time(self) -> None:
        """It had waited for its own reading, and its upstream was open when the next node's was."""
        since = self.clock.seconds()
        while self.leader.streams and self.clock.seconds() < since + LEASE:
            self.wait(0.1)
            self.assertLessEqual(sum(member.streams for member in self.members), 1)
        self.assertLessEqual(
            self.clock.seconds() - since, RENEW_AFTER + CHECK_INTERVAL + STOP_AFTER + 0.1
        )
        self.wait(LEASE + 2)
        self.assertIs(self.now_leading(), self.node)
        self.assertTrue(self.node.streams)


class BrokenOffTests(TurnsCase):
    """Redis had forgotten the lease, and goes away while the turn goes on with another one."""

    def test_the_turn_goes_on_by_the_new_token(self) -> None:
        """The lease was this node's, so that nothing seemed to be left to do: all was refused, for ever."""
        self.forget_lease()
        self.leader.outlet.lose_answer(2)  # it has the lease again, and is not told what the log is
        self.wait(RENEW_AFTER + 2 * CHECK_INTERVAL)
        self.assertEqual(self.leader.outlet.last_error, "the connection was lost")
        self.leader.publish(2)
        self.wait(1)
        self.assertIs(self.now_leading(), self.leader)
        self.assertEqual(self.node.reader.payloads, [event(1).payload, event(2).payload])
        self.assertEqual(len(self.leader.upstreams), 1)


class RolledBackTests(TurnsCase):
    """Redis has lost its last second, and the lease with it."""

    def setUp(self) -> None:
        super().setUp()
        self.forget_lease()
        self.leader.publish(2)
        saved = self.redis.saved()
        del saved[LEASE_KEY.encode()]
        self.leader.publish(3)
        for member in self.members:
            member.cut()
        self.redis.forget()
        self.redis.roll_back(saved)

    def test_a_turn_that_is_over_does_not_begin_to_write(self) -> None:
        """It waited for its reading, and that the log was read anew was what it had waited for."""
        self.leader.outlet.mend()
        self.leader.inlet.mend()
        self.node.mend()
        self.wait(LEASE + 2)
        leading = self.now_leading()
        for member in self.members:
            self.assertEqual(member.rows, [(1, event(1).payload), (2, event(2).payload)])
        leading.account.mark_upstream_up()
        self.assertEqual(
            [member.account.upstream.streaming for member in self.members], [True, True]
        )
        leading.account.mark_upstream_down("lost")
        self.assertEqual(
            [member.account.upstream.streaming for member in self.members], [False, False]
        )

    def test_nothing_is_written_behind_the_hole(self) -> None:
        """Alpaca goes on until the upstream is closed: the next turn finds that, behind what was lost."""
        self.leader.upstreams[-1].is_slow = True
        self.leader.outlet.mend()
        self.leader.inlet.mend()
        self.wait(0.3)
        self.leader.publish(4)
        self.wait(0.3)
        self.assertNotIn(event(4).payload, [payload for _, payload in self.leader.rows])
        closing = self.leader.upstreams[-1].closing
        assert closing is not None
        closing.callback(None)
        self.node.mend()
        self.wait(LEASE + 2)
        leading = self.now_leading()
        leading.account.mark_upstream_up()
        gap = leading.account.gaps.current
        assert gap is not None
        self.assertEqual((gap.begin, gap.outcome), (time_of(2), GapOutcome.PENDING))
        for n in (3, 4):
            self.assertFalse(leading.journal.has(event(n)))


class FailingTests(TurnsCase):
    """An error of our own ends a turn, and no other node's."""

    def test_an_upstream_that_fails_as_it_stops_frees_the_lease(self) -> None:
        """The error is logged, and the next node leads at once."""
        self.leader.upstreams[-1].stopService = lambda: fail(ZeroDivisionError())  # type: ignore[method-assign]
        self.leader.leadership.stopService()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(self.redis.ask("EXISTS", LEASE_KEY))
        self.wait(CHECK_INTERVAL)
        self.assertIs(self.now_leading(), self.node)

    def test_a_turn_goes_on_after_one_that_did_not_end_cleanly(self) -> None:
        """The node goes on to follow, and leads again."""
        self.leader.upstreams[-1].stopService = lambda: fail(ZeroDivisionError())  # type: ignore[method-assign]
        self.leader.lateness = STOP_AFTER
        self.clock.advance(CHECK_INTERVAL)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.wait(CHECK_INTERVAL + 0.1)
        self.assertIs(self.now_leading(), self.node)
        self.node.stop()
        self.wait(2)
        self.assertTrue(self.leader.streams)

    def test_a_node_that_has_failed_lets_another_one_lead(self) -> None:
        """Its upstream service tries no more; it told that, and kept the lease for ever."""
        self.fail_upstream()
        self.wait(3)
        self.assertIs(self.now_leading(), self.node)
        self.assertFalse(self.leader.streams)

    def fail_upstream(self) -> None:
        self.leader.account.has_failed = True
        self.leader.account.mark_upstream_down(INTERNAL_ERROR)

    def test_a_node_that_has_failed_does_not_lead_again(self) -> None:
        """Nobody leads then, which is told."""
        self.fail_upstream()
        self.wait(3)
        self.node.account.mark_upstream_up()
        self.node.stop()
        self.wait(LEASE + 2)
        self.assertFalse(self.leader.leads)
        self.assertFalse(self.redis.ask("EXISTS", LEASE_KEY))
        self.assertEqual(self.leader.account.upstream.reason, NO_LEADER)

    def test_a_redis_without_memory_takes_the_lease_back(self) -> None:
        """It refuses a script's first step if that needs some; to free the lease needs none."""
        self.redis.ask("CONFIG", "SET", "maxmemory", "1")
        self.addCleanup(self.redis.ask, "CONFIG", "SET", "maxmemory", "0")
        self.leader.leadership.stopService()
        self.assertFalse(self.redis.ask("EXISTS", LEASE_KEY))


class UnknownTests(TurnsCase):
    """Who cannot ask Redis does not know how the stream is."""

    def test_a_follower_says_so_when_the_lease_must_have_run_out(self) -> None:
        """Until then, what was said last still holds; its clients were told for ever that Alpaca streams."""
        for member in self.members:
            member.cut()
        self.wait(LEASE - RENEW_AFTER - 2 * CHECK_INTERVAL)
        self.assertTrue(self.node.account.upstream.streaming)
        self.wait(RENEW_AFTER + 2 * CHECK_INTERVAL)
        self.assertEqual(
            (self.node.account.upstream.streaming, self.node.account.upstream.reason),
            (False, LEADER_UNKNOWN),
        )

    def test_it_hears_the_same_leader_again(self) -> None:
        """That one has said nothing new meanwhile."""
        self.node.cut()
        self.wait(LEASE + 2)
        self.assertFalse(self.node.account.upstream.streaming)
        self.node.mend()
        self.wait(1)
        self.assertIs(self.now_leading(), self.leader)
        self.assertEqual(self.node.account.upstream, self.leader.account.upstream)

    def test_it_does_so_where_it_read_on_meanwhile(self) -> None:
        """Only the connection that asks was lost: what the leader had said came by the other, long before."""
        self.node.outlet.cut()
        self.wait(LEASE + 2)
        self.assertFalse(self.node.account.upstream.streaming)
        self.node.outlet.mend()
        self.wait(1)
        self.assertEqual(self.node.account.upstream, self.leader.account.upstream)
        self.assertEqual(tuple(self.node.account.gaps), tuple(self.leader.account.gaps))


class LearningTests(NodesCase):
    """A node that takes the lease learns first what the last leader knew."""

    def test_it_trims_nothing_before_that(self) -> None:
        """With that it saves facts: those that it had read at its start went over the newer ones."""
        leader, node = self.started(max_events=5), self.started(max_events=5)
        leader.publish(*range(1, 9))
        self.wait(CHECK_INTERVAL)
        node.inlet.hold()
        leader.stop()
        link = self.redis.link()
        link.open()
        other = RedisLog("paper", "other", link)

        def take_a_turn(command: Command) -> None:
            if (
                command[1] == scripts.LEASE.sha and command[-1] == 1
            ):  # it looked, and the lease was free
                self.redis.on_command = lambda _: None
                token = done(other.query_lease(10_000, acquire=True)).token
                assert token is not None
                done(other.write(token, 1, events(9), {"account_id": "one"}, ""))
                done(other.release(token))

        self.redis.on_command = take_a_turn
        self.wait(TRIM_EVERY)
        self.assertTrue(node.leads)
        self.assertEqual((node.streams, node.journal.last), (False, 8))
        self.assertEqual(node.journal.first, 4)
        self.assertEqual(self.redis.ask("HGET", FACTS_KEY, "account_id"), b"one")
        node.inlet.go_on()
        self.wait(1)
        self.assertEqual((node.streams, node.journal.account_id), (True, "one"))
        self.wait(TRIM_EVERY)
        self.assertEqual(int(self.redis.ask("HGET", FACTS_KEY, "trimmed")), 4)

    def test_another_account_is_told_to_all_clients(self) -> None:
        """With the new epoch's cursor, once that has begun: not before, and on every node."""
        leader, _ = self.started(), self.started()
        leader.publish(1)
        leader.account.identify("one")
        for member in self.members:
            member.reader.statuses.clear()
        leader.inlet.hold()
        leader.account.identify("two")
        self.assertEqual([status for status in leader.reader.statuses if "cursor" in status], [])
        leader.inlet.go_on()
        for member in self.members:
            [hello] = [status for status in member.reader.statuses if "cursor" in status]
            self.assertEqual(hello["cursor"], member.account.cursor_at(1))
            self.assertEqual(hello["cursor"].split(".")[1], leader.journal.epoch)


class BeginningTests(NodesCase):
    """The first leader begins the log."""

    def test_what_it_remembers_before_it_has_read_that_back_stays(self) -> None:
        """Redis had answered with the facts of before; without them the next outage made no gap."""
        node = self.member()
        node.start()
        self.assertEqual((node.leads, node.journal.epoch), (True, ""))
        node.outlet.fall_silent()
        node.account.mark_upstream_up()
        self.wait(0.2)
        self.assertNotEqual(node.journal.epoch, "")
        node.account.mark_upstream_down("lost")
        self.assertIsNotNone(node.account.gaps.current)
