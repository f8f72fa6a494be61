"""Tests for what happens while an answer of Redis is on its way, as it is over a network."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.support.journals import event, time_of
from tests.support.nodes import LEASE_KEY, Member, NodesCase
from tests.support.redislog import Command
from tradeproxy.cluster import scripts
from tradeproxy.cluster.leadership import CHECK_INTERVAL, LEASE
from tradeproxy.journal.metadata import OPEN_SINCE
from tradeproxy.wire.proxy_status import GapOutcome

FACTS_KEY = "tradeproxy:{paper}:facts"


class Delay:
    """Keeps back what Redis answers to one node's commands; they are done at once."""

    def __init__(self, member: Member) -> None:
        self._connection: Any = member.outlet._protocol
        self._execute = self._connection.execute_command
        self._kept: list[tuple[Deferred[Any], Any]] = []
        self._connection.execute_command = self._keep

    def _keep(self, *command: str | bytes | int) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        self._execute(*command).addBoth(lambda result: self._kept.append((answer, result)))
        return answer

    def arrive(self) -> None:
        """Let the node have all that was answered until now."""
        kept, self._kept = self._kept, []
        for answer, result in kept:
            if not answer.called:
                answer.callback(result)

    def end(self) -> None:
        """Let it have the rest, and what follows at once."""
        self._connection.execute_command = self._execute
        self.arrive()


class LateTests(NodesCase):
    """What has changed meanwhile counts."""

    def test_a_node_that_stops_while_it_asks_for_the_lease_leaves_it_free(self) -> None:
        """Redis had given it already, and the next node waited until it had run out."""
        node = self.member()
        node.follow()
        delay = Delay(node)
        node.leadership.startService()
        while not self.redis.ask("EXISTS", LEASE_KEY):
            delay.arrive()
        stopped = node.leadership.stopService()
        assert stopped is not None
        self.assertNoResult(stopped)
        delay.end()
        self.successResultOf(stopped)
        self.assertFalse(self.redis.ask("EXISTS", LEASE_KEY))
        self.assertFalse(node.streams)
        other = self.started()
        self.assertTrue(other.leads)

    def test_a_look_that_is_older_than_what_has_been_read_casts_no_doubt(self) -> None:
        """The log was shorter when it was sent; nobody need find out whether it is another one."""
        leader, node = self.started(), self.started()
        delay = Delay(node)
        self.wait(CHECK_INTERVAL)
        leader.publish(1)
        places: list[Command] = []
        self.redis.on_command = lambda command: (
            places.append(command) if _is(command, "READ_STATE") else None
        )
        delay.end()
        leader.publish(2)
        self.wait(3)
        self.assertEqual((node.reader.seqs, places), ([1, 2], []))

    def test_what_is_known_of_the_log_waits_for_the_last_of_many_events(self) -> None:
        """The leader died in between: the next one took the gap for settled, and the rest was lost."""
        leader, node = self.started(), self.started()
        leader.account.mark_upstream_up()
        leader.publish(1)
        leader.account.mark_upstream_down("lost")
        leader.account.mark_upstream_up()
        leader.publish(900)
        delay = Delay(leader)
        leader.account.publish_recovered(event(2))
        leader.account.flush()
        for n in range(3, 803):
            leader.account.publish_recovered(event(n))
        leader.account.flush()
        leader.account.gaps.check_through(time_of(5000))
        leader.account.gaps.settle(GapOutcome.RECOVERED)
        delay.arrive()
        leader.vanish()
        self.assertEqual(node.journal.last, 503)
        self.assertEqual([gap.outcome for gap in node.account.gaps], [GapOutcome.PENDING])
        self.wait(LEASE + 2)
        self.assertTrue(node.leads)
        self.assertEqual(
            self.redis.ask("HGET", FACTS_KEY, f"remembered {OPEN_SINCE}"), b"%d" % time_of(1)
        )
        node.account.mark_upstream_up()
        gap = node.account.gaps.current
        assert gap is not None
        self.assertEqual((gap.begin, node.account.gaps.backfill_from), (time_of(1), time_of(1)))


def _is(command: Command, name: str) -> bool:
    return bool(command[1] == getattr(scripts, name).sha)
