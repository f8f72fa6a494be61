"""Tests for tradeproxy.cluster.redis_journal: one log for several nodes."""

from __future__ import annotations

from twisted.logger import capturedLogs

from tests.support.journals import DAY, event, event_id_of, events, order_id_of, time_of
from tests.support.nodes import STATE, STREAM, Member, NodesCase
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import TRIM_EVERY, UnreadableError
from tradeproxy.wire.position import AfterId


class SharingTests(NodesCase):
    """Every node has the same log."""

    def test_every_node_delivers_the_same_rows(self) -> None:
        """In one order, under the same numbers, with the same cursors."""
        nodes = [self.started() for _ in range(3)]
        leader = nodes[0]
        leader.publish(3, 1)
        leader.publish(2)
        for node in nodes:
            self.assertEqual(node.reader.payloads, [event(n).payload for n in (3, 1, 2)])
            self.assertEqual(node.rows, leader.rows)
            self.assertEqual(node.account.cursor_at(3), leader.account.cursor_at(3))
            self.assertEqual(
                (node.journal.epoch, node.journal.latest_time), (leader.journal.epoch, time_of(3))
            )

    def test_a_node_that_comes_later_reads_all(self) -> None:
        """Before that it is not whole, and then it goes on with what comes; nothing old is handed on."""
        leader = self.started()
        leader.publish(*range(1, 1200))
        late = self.member()
        late.follow()
        self.assertTrue(late.journal.is_loaded)
        self.assertEqual(late.rows, leader.rows)
        leader.publish(1200)
        self.assertEqual(late.reader.seqs, [1200])

    def test_a_node_is_not_whole_before_it_has_read_all(self) -> None:
        """Its bounds would be wrong, and a client's place could not be told."""
        leader = self.started()
        leader.publish(*range(1, 1200))
        late = self.member()
        late.outlet.open()
        late.journal.on_committed = lambda _: self.fail("nothing is handed on before that")
        late.inlet.open()
        late.inlet.lose_answer(3)  # where the log is, the first events, and then not the rest
        late.journal.open()
        self.assertFalse(late.journal.is_loaded)
        self.assertIn(late.journal.last, range(1, 1000))
        self.assertEqual(late.journal.status.reason, "Redis is away: the connection was lost")
        self.wait(1)
        self.assertTrue(late.journal.is_loaded)
        self.assertTrue(late.journal.status.durable)
        self.assertEqual(late.rows, leader.rows)

    def test_knows_orders_kinds_and_duplicates(self) -> None:
        """What waits in the outbox counts as well."""
        leader, follower = self.started(), self.started()
        one = order_id_of(1)
        leader.publish(1, 1, 2)
        self.assertEqual(leader.journal.duplicates, 1)
        self.assertEqual(
            (leader.journal.event_counts.total(), follower.journal.event_counts.total()), (2, 0)
        )
        leader.cut()
        leader.journal.append([event(3, order_id=one, status="filled"), event(4)])
        leader.journal.append(events(2, 4))
        self.assertEqual(leader.journal.duplicates, 3)
        state = leader.journal.order(one)
        assert state is not None
        self.assertEqual(state.status, "filled")
        self.assertEqual(
            [each.id for each in leader.journal.open_orders()], [order_id_of(2), order_id_of(4)]
        )
        self.assertEqual(
            [each.id for each in follower.journal.open_orders()], [one, order_id_of(2)]
        )
        self.assertEqual(leader.journal.order(order_id_of(2)), event(2).order)
        self.assertTrue(leader.journal.has(event(4)))
        self.assertFalse(leader.journal.has(event(5)))

    def test_what_is_remembered_reaches_the_next_leader(self) -> None:
        """And the horizon, and whose account it is; what was forgotten is gone."""
        leader, follower = self.started(), self.started()
        leader.journal.set_metadata("open gap since", "7")
        leader.journal.set_metadata("complete from", "8")
        leader.journal.set_metadata("complete from", None)
        leader.journal.advance_dedup_horizon(time_of(5))
        leader.journal.advance_dedup_horizon(time_of(4))
        leader.journal.identify("one")
        leader.stop()
        self.wait(1)
        self.assertTrue(follower.leads)
        journal = follower.journal
        self.assertEqual(
            (journal.get_metadata("open gap since"), journal.get_metadata("complete from")),
            ("7", None),
        )
        self.assertEqual((journal.dedup_horizon, journal.account_id), (time_of(5), "one"))
        self.assertFalse(journal.identify("one"))

    def test_what_a_follower_would_remember_stays_its_own(self) -> None:
        """It writes nothing."""
        self.started()
        follower = self.follower()
        before = self.redis.saved()
        follower.journal.set_metadata("open gap since", "7")
        follower.journal.publish_state("anything")
        self.assertEqual(self.redis.saved(), before)

    def test_numbers_beyond_a_double_word_are_exact(self) -> None:
        """Lua's own way to write a number rounds from 10^14 on."""
        for last in (2**31 - 1, 2**32, 10**14, 10**15 + 7):
            self.redis.forget()
            node = self.member()
            node.start()
            self.wait(1)
            self.redis.ask("HSET", STATE, "last", last)
            self.redis.ask("HSET", "tradeproxy:{paper}:facts", "trimmed", last)
            node.stop()
            node = self.started()
            node.publish(1, 2)
            self.assertEqual(node.reader.seqs, [last + 1, last + 2])
            other = self.follower()
            self.assertEqual(other.rows, node.rows)
            node.stop()


class TrimmedTests(NodesCase):
    """Old events go, by the leader's word."""

    def test_every_node_trims_and_the_leader_trims_redis(self) -> None:
        """Numbers, bounds and what is known of what is gone are the same."""
        leader, follower = self.started(max_events=10), self.started(max_events=10)
        leader.publish(*range(1, 31))
        self.wait(TRIM_EVERY)
        for member in (leader, follower, self.follower(max_events=10)):
            self.assertEqual((member.journal.first, member.journal.last), (21, 30))
            self.assertEqual(
                (member.journal.complete_from, member.journal.dedup_horizon),
                (time_of(20) + 1, time_of(20)),
            )
        self.assertEqual(self.redis.ask("XRANGE", STREAM, "-", "20-0"), [])
        self.assertEqual(self.redis.ask("ZCARD", "tradeproxy:{paper}:ids"), 10)

    def test_a_node_that_missed_what_is_trimmed_starts_anew(self) -> None:
        """Its clients are ended: what follows does not lead on from what they had."""
        for extra in ((), (31,)):
            self.redis.forget()
            leader, node = self.started(max_events=10), self.started()
            leader.publish(1, 2)
            node.cut()
            leader.publish(*range(3, 31))
            self.wait(TRIM_EVERY)
            leader.publish(*extra)
            node.mend()
            self.wait(1)
            self.assertTrue(node.reader.is_severed)
            self.assertEqual(node.rows, leader.rows)
            for member in (leader, node):
                member.stop()
                self.wait(1)

    def test_a_node_that_missed_all_of_a_log_that_is_empty_now_can_lead(self) -> None:
        """It had waited for events that nobody can tell it any more."""
        leader, node = self.started(max_age=60), self.started(max_age=60)
        node.cut()
        leader.publish(1, 2)
        self.wait(80)
        self.assertEqual((leader.journal.first, leader.journal.last), (3, 2))
        leader.stop()
        node.mend()
        self.wait(3)
        self.assertTrue(node.leads)
        self.assertEqual((node.journal.first, node.journal.last), (3, 2))

    def test_trimming_waits_for_redis(self) -> None:
        """The next time the leader trims, it is done."""
        leader = self.started(max_events=10)
        leader.publish(*range(1, 21))
        leader.outlet.cut()
        self.clock.advance(TRIM_EVERY)
        leader.outlet.mend()
        self.wait(3)
        leader.publish(21)
        self.wait(TRIM_EVERY)
        self.assertEqual(self.redis.ask("XRANGE", STREAM, "-", "11-0"), [])

    def test_the_log_outlives_all_nodes(self) -> None:
        """They stop, and others go on a week later."""
        leader = self.started()
        leader.publish(1, 2)
        leader.stop()
        self.clock.advance(6 * DAY)
        again = self.started()
        again.publish(2, 3)
        self.assertEqual(again.reader.seqs, [3])
        self.assertEqual([seq for seq, _ in again.rows], [1, 2, 3])


class AbsentTests(NodesCase):
    """A client comes from a quicker node: what it names is waited for, unless it certainly never was."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.started(), self.started()
        self.leader.publish(1)

    def place(self, text: str, node: Member | None = None) -> int:
        return locate((node or self.node).account, AfterId(text))

    def test_a_cursor_that_is_ahead_is_waited_for(self) -> None:
        """And found as soon as this node is there."""
        self.node.inlet.hold()
        self.leader.publish(2)
        cursor = self.leader.account.cursor_at(2)
        assert cursor is not None
        for _ in range(2):
            self.assertRaises(UnreadableError, self.place, cursor)
            self.assertRaises(UnreadableError, self.place, event_id_of(2))
            self.wait(0.6)
        self.node.inlet.go_on()
        self.assertEqual((self.place(cursor), self.place(event_id_of(2))), (2, 2))

    def test_what_never_was_is_told_after_a_look(self) -> None:
        """The look was sent after the question."""
        cursor = self.leader.account.cursor_at(1)
        assert cursor is not None
        ahead = cursor.replace(".1.", ".2.")
        for text in (ahead, "unknown"):
            self.assertRaises(UnreadableError, self.place, text)
            self.wait(0.6)
            self.assertRaises(UnrecoverablePositionError, self.place, text)

    def test_without_redis_nothing_is_certain(self) -> None:
        """The client is to try another node."""
        self.node.cut()
        for _ in range(3):
            self.assertRaises(UnreadableError, self.place, "unknown")
            self.wait(1)

    def test_the_leader_knows_as_little_before_it_has_looked(self) -> None:
        """Another node may have led until just now."""
        self.assertRaises(UnreadableError, self.place, "unknown", self.leader)
        self.wait(4)
        self.assertRaises(UnrecoverablePositionError, self.place, "unknown", self.leader)


class StumblingTests(NodesCase):
    """An error of our own, or what is no log, is told, and does not end the following for good."""

    def test_an_entry_that_makes_no_sense_is_no_end(self) -> None:
        """Somebody wrote into the stream by hand."""
        leader, node = self.started(), self.started()
        leader.publish(1)
        self.redis.ask("XADD", STREAM, "1-999999", "x", "y")
        with capturedLogs() as logs:
            self.wait(1)
            leader.publish(2)
            self.wait(3)
        self.assertTrue(
            [log for log in logs if "reading the log in Redis failed" in log.get("log_format", "")]
        )
        self.assertFalse(node.journal.status.durable)
        self.assertTrue(self.flushLoggedErrors(KeyError))
        self.redis.ask("XDEL", STREAM, "1-999999")
        self.wait(4)
        self.assertTrue(node.journal.status.durable)
        self.assertEqual(node.rows[:1], [(1, event(1).payload)])

    def test_is_as_it_was_when_it_is_closed_twice(self) -> None:
        """Nothing is left to do."""
        node = self.started()
        node.stop()
        node.account.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
