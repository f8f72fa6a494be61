"""Tests for the times of tradeproxy.cluster.leadership, as docs/scaling.md promises them."""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.task import Clock

from tests.support.journals import event
from tests.support.nodes import LEASE_KEY, Member, NodesCase
from tests.support.redislog import Command, ReplyDelay, SyncRedis
from tradeproxy.cluster import scripts
from tradeproxy.cluster.outbox import FENCED
from tradeproxy.hub.account import INTERNAL_ERROR


def parse_check(command: Command) -> tuple[int, bool] | None:
    """Return the duration in milliseconds, and whether the lease is to be acquired or renewed.

    None for a command that is not a check of the lease.
    """
    if command[1] != scripts.LEASE.sha:
        return None
    milliseconds, acquire = command[5 + len(scripts.KEYS) : 7 + len(scripts.KEYS)]
    return int(milliseconds), bool(int(acquire))


class LeaseTimesCase(NodesCase):
    """Records each check of the lease."""

    def setUp(self) -> None:
        super().setUp()
        self.checks: list[tuple[float, bool]] = []
        """The time of each check, and whether the lease was to be acquired or renewed."""
        self.durations: set[int] = set()
        """The milliseconds for which it was to be acquired."""
        self.redis.on_command = self.record

    def record(self, command: Command) -> None:
        """Record a check of the lease."""
        check = parse_check(command)
        if check is not None:
            self.durations.add(check[0])
            self.checks.append((self.clock.seconds(), check[1]))

    def await_check(self) -> None:
        """Wait for the next check of the lease."""
        self.checks.clear()
        for _ in range(50):
            if not self.checks:
                self.clock.advance(0.1)

    def start_alone(self) -> Member:
        """Return a node that has just renewed its lease."""
        node = self.start_node()
        self.await_check()
        self.checks.clear()
        return node

    def count_renewals(self) -> int:
        """Return how often the lease was acquired or renewed since the last call."""
        checks, self.checks[:] = list(self.checks), []
        return sum(acquire for _, acquire in checks)

    def delete_lease(self) -> None:
        """Delete the lease, as a restart of Redis does."""
        self.redis.execute("DEL", LEASE_KEY)

    def delay_check(self, node: Member, seconds: float) -> None:
        """Let the reply to a node's next check of the lease take some seconds."""

        def delay(command: Command) -> None:
            self.record(command)
            if parse_check(command) is not None:
                node.lateness = seconds

        self.redis.on_command = delay


class RenewalTimesTests(LeaseTimesCase):
    """When a leader renews its lease, and how long its term lasts without that."""

    def test_lease_is_renewed_after_a_third_of_ten_seconds(self) -> None:
        """At the next check: there is one each half second."""
        self.start_alone()
        began = self.clock.seconds()
        self.advance(11)
        times = [began, *(time for time, _ in self.checks)]
        for before, after in pairwise(times):
            self.assertTrue(3.3 < after - before < 3.9, times)
        self.assertEqual(self.durations, {10_000})

    def test_term_without_redis_ends_seven_seconds_after_renewal(self) -> None:
        """The renewal at a reconnect counts too, at whatever time it comes."""
        node = self.start_alone()
        self.advance(1.3)
        node.command_client.cut()
        node.command_client.restore()
        self.assertEqual(self.count_renewals(), 1)
        node.cut()
        self.advance(6.9)
        self.assertTrue(node.is_streaming)
        self.advance(0.2)
        self.assertFalse(node.is_streaming)

    def test_term_ends_if_timer_fires_exactly_at_its_end(self) -> None:
        """Without a wait for a moment later, which may never come."""
        node = self.start_alone()
        node.cut()
        for _ in range(14):
            self.assertTrue(node.is_streaming)
            self.clock.advance(0.5)
        self.assertFalse(node.is_streaming)

    def test_reconnect_renews_lease_until_end_of_term(self) -> None:
        """After that the lease may be another node's before the reply comes."""
        for lateness, renewals in ((6.5, 1), (7.0, 0), (7.5, 0)):
            node = self.start_alone()
            node.lateness = lateness
            node.command_client.cut()
            node.command_client.restore()
            self.assertEqual(self.count_renewals(), renewals, lateness)
            self.assertTrue(node.is_streaming)
            node.stop()
            self.advance(1)

    def test_rejected_write_renews_lease_until_end_of_term(self) -> None:
        """Redis lost the lease: only a renewal in time shows that no other node had it."""
        node = self.start_alone()
        node.lateness = 6.5
        self.delete_lease()
        node.publish(1)
        self.assertEqual((node.is_streaming, node.subscriber.seqs), (True, [1]))
        node.lateness += 7.0
        self.delete_lease()
        node.publish(2)
        self.assertEqual((node.is_streaming, node.account.upstream.reason), (False, FENCED))

    def test_slow_renewal_after_loss_of_lease_does_not_extend_term(self) -> None:
        """Half a second is left for the rest, or nothing."""
        for lateness, more in ((6.5, 0.5), (8.0, 0.0)):
            node = self.start_alone()
            node.read_client.pause_reads()
            node.publish(1)  # the node lags behind, so it cannot write with the new token
            self.delete_lease()
            self.delay_check(node, lateness)
            self.await_check()
            self.advance(more + 0.1)
            self.assertFalse(node.is_streaming, lateness)
            node.stop()
            self.redis.flush()
            self.redis.on_command = self.record

    def test_renewal_with_reply_after_end_of_term_does_not_extend_it(self) -> None:
        """The lease may have been renewed at the moment of the request, and expire soon."""
        node = self.start_alone()
        self.delay_check(node, 8.0)
        self.await_check()
        self.clock.advance(0.1)
        self.assertFalse(node.is_streaming)
        self.assertRegex(node.account.upstream.reason, "^Redis could not be reached in time")

    def test_renewal_without_reply_does_not_extend_term(self) -> None:
        """A reply may take 1.5 s, of which 0.3 s are left."""
        node = self.start_alone()
        node.command_client.stop_replying()
        node.lateness = 6.2
        self.advance(1)
        self.assertFalse(node.is_streaming)

    def test_one_renewal_at_a_time(self) -> None:
        """The write before it is rejected, which asks for another one."""
        node = self.start_alone()
        delay = ReplyDelay(node.command_client)
        self.delete_lease()
        self.advance(3.6)
        node.publish(1)
        delay.deliver()
        self.assertEqual(self.count_renewals(), 1)
        for _ in range(5):
            delay.deliver()
        delay.end()
        self.assertEqual((len(node.upstreams), node.subscriber.seqs), (1, [1]))
        self.assertEqual(self.count_renewals(), 0)


class TermTimesTests(LeaseTimesCase):
    """When the next term begins."""

    def test_lease_of_killed_leader_is_acquired_within_ten_and_a_half_seconds(self) -> None:
        """Redis expires it ten seconds after its last renewal."""
        leader = self.start_alone()
        follower = self.start_node()
        self.advance(4)
        self.checks = [check for check in self.checks if check[1]]
        [(renewed, _)] = self.checks
        leader.kill()
        self.advance(renewed + 9.9 - self.clock.seconds())
        self.assertFalse(follower.is_leader)
        self.advance(0.7)
        self.assertTrue(follower.is_leader)

    def test_released_lease_is_acquired_within_half_a_second(self) -> None:
        """Each node checks it twice a second."""
        leader, follower = self.start_node(), self.start_node()
        leader.stop()
        self.advance(0.5)
        self.assertTrue(follower.is_streaming)

    def test_free_lease_is_acquired_in_first_second_of_machine(self) -> None:
        """Its clock counts from the start of the machine. The lease was released, or has ended."""
        for is_released in (True, False):
            node = self.start_node()
            if is_released:
                node.stop()
            else:
                node.kill()
                self.delete_lease()
            clock = Clock()
            again = Member(SyncRedis(clock, is_empty=False))
            self.members.append(again)
            again.start()
            clock.advance(0.1)
            self.assertTrue(again.is_streaming, is_released)
            again.stop()

    def test_node_does_not_lead_for_one_second_after_term(self) -> None:
        """Another node can acquire the lease, and a lasting fault causes no busy loop."""
        self.start_node().stop()
        node = self.make_node()
        node.error = ZeroDivisionError()
        node.start()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        node.error = None
        self.advance(0.9)
        self.assertFalse(node.is_leader)
        self.advance(0.2)
        self.assertTrue(node.is_streaming)

    def test_end_of_term_waits_one_second_for_unwritten_events(self) -> None:
        """Redis may be back by then."""
        node = self.start_node()
        node.cut()
        node.account.publish(event(1))
        stopped = node.leadership.stopService()
        assert stopped is not None
        self.advance(0.9)
        self.assertNoResult(stopped)
        self.advance(0.2)
        self.successResultOf(stopped)


class AcquisitionTests(LeaseTimesCase):
    """What a node does while it competes for the lease."""

    def test_lease_acquired_with_lost_reply_is_checked_first(self) -> None:
        """The log may have grown meanwhile; then the node leads in one term."""
        self.start_node().stop()
        self.checks.clear()
        node = self.make_node()
        node.follow()
        node.command_client.lose_reply(2)
        node.leadership.startService()
        self.advance(2)
        self.assertEqual([acquire for _, acquire in self.checks[:4]], [False, True, False, True])
        self.assertTrue(node.is_streaming)
        assert node.account.role is not None
        self.assertEqual(node.account.role.terms, 1)

    def test_lease_that_another_node_acquires_first_is_not_used(self) -> None:
        """It was free at the check before."""
        self.start_node().stop()
        node = self.make_node()

        def acquire_first(command: Command) -> None:
            if (parse_check(command) or (0, False))[1]:
                self.redis.execute("HSET", LEASE_KEY, "owner", "other", "token", "1000")

        self.redis.on_command = acquire_first
        node.start()
        self.advance(1)
        self.assertEqual((node.is_leader, node.upstreams), (False, []))

    def test_no_roll_call_while_there_is_a_log(self) -> None:
        """Only the loss of the log is a reason for one."""
        self.start_node()
        self.start_node()
        self.advance(2)
        self.assertFalse(self.redis.execute("EXISTS", "tradeproxy:{paper}:roll"))

    def test_reports_are_kept_for_ten_seconds(self) -> None:
        """After the last one; Redis deletes them then."""
        kept: list[object] = []
        self.redis.on_command = lambda command: (
            kept.append(command[-1]) if command[1] == scripts.CALL_ROLL.sha else None
        )
        self.start_node()
        self.assertEqual(set(kept), {10_000})

    def test_unexpected_error_ends_election_and_is_reported(self) -> None:
        """The account has failed: /healthz shows it, so that the process is restarted."""
        self.start_node()
        node = self.start_node()

        def fail(_: Command) -> None:
            raise ZeroDivisionError

        self.redis.on_command = fail
        self.advance(1)
        self.assertTrue(node.account.has_failed)
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        self.assertEqual(node.account.upstream.reason, INTERNAL_ERROR)
