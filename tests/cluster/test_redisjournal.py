"""Tests for tradeproxy.cluster.redisjournal: one log for several nodes, whatever becomes of Redis."""

from __future__ import annotations

from twisted.logger import capturedLogs

from tests.support.journals import DAY, event, event_id_of, events, order_id_of, time_of
from tests.support.nodes import Member, NodesCase
from tests.support.redislog import done
from tradeproxy.cluster.follower import NO_LOG
from tradeproxy.cluster.leadership import GIVE_UP, LEASE
from tradeproxy.cluster.outbox import FULL, SHORTER
from tradeproxy.cluster.sharedlog import Beginning
from tradeproxy.hub.backlog import MAX_EVENTS
from tradeproxy.hub.facts import OPEN_SINCE
from tradeproxy.hub.journal import TrimmedError, UnreadableError
from tradeproxy.hub.locate import LostPositionError, locate
from tradeproxy.hub.trimming import TRIM_EVERY
from tradeproxy.wire.event import format_time
from tradeproxy.wire.position import AfterId
from tradeproxy.wire.status import Outcome

STREAM = "tradeproxy:{paper}:stream"
STATE = "tradeproxy:{paper}:state"
LEASE_KEY = "tradeproxy:{paper}:lease"


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
            self.assertEqual((node.journal.epoch, node.journal.latest), (leader.journal.epoch, time_of(3)))

    def test_a_node_that_comes_later_reads_all(self) -> None:
        """Before that it is not whole, and then it goes on with what comes; nothing old is handed on."""
        leader = self.started()
        leader.publish(*range(1, 1200))
        late = self.member()
        late.follow()
        self.assertTrue(late.journal.is_whole)
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
        self.assertFalse(late.journal.is_whole)
        self.assertIn(late.journal.last, range(1, 1000))
        self.assertEqual(late.journal.status.reason, "Redis is away: the connection was lost")
        self.wait(1)
        self.assertTrue(late.journal.is_whole)
        self.assertTrue(late.journal.status.durable)
        self.assertEqual(late.rows, leader.rows)

    def test_knows_orders_kinds_and_duplicates(self) -> None:
        """What waits in the outbox counts as well."""
        leader, follower = self.started(), self.started()
        one = order_id_of(1)
        leader.publish(1, 1, 2)
        self.assertEqual(leader.journal.duplicates, 1)
        self.assertEqual((leader.journal.kinds.total(), follower.journal.kinds.total()), (2, 0))
        leader.cut()
        leader.journal.append([event(3, order_id=one, status="filled"), event(4)])
        leader.journal.append(events(2, 4))
        self.assertEqual(leader.journal.duplicates, 3)
        state = leader.journal.order(one)
        assert state is not None
        self.assertEqual(state.status, "filled")
        self.assertEqual([each.id for each in leader.journal.open_orders()], [order_id_of(2), order_id_of(4)])
        self.assertEqual([each.id for each in follower.journal.open_orders()], [one, order_id_of(2)])
        self.assertEqual(leader.journal.order(order_id_of(2)), event(2).order)
        self.assertTrue(leader.journal.has(event(4)))
        self.assertFalse(leader.journal.has(event(5)))

    def test_what_is_remembered_reaches_the_next_leader(self) -> None:
        """And the horizon, and whose account it is; what was forgotten is gone."""
        leader, follower = self.started(), self.started()
        leader.journal.remember("open gap since", "7")
        leader.journal.remember("complete from", "8")
        leader.journal.remember("complete from", None)
        leader.journal.know_through(time_of(5))
        leader.journal.know_through(time_of(4))
        leader.journal.identify("one")
        leader.stop()
        self.wait(1)
        self.assertTrue(follower.leads)
        journal = follower.journal
        self.assertEqual((journal.recall("open gap since"), journal.recall("complete from")), ("7", None))
        self.assertEqual((journal.horizon, journal.account_id), (time_of(5), "one"))
        self.assertFalse(journal.identify("one"))

    def test_what_a_follower_would_remember_stays_its_own(self) -> None:
        """It writes nothing."""
        self.started()
        follower = self.follower()
        before = self.redis.saved()
        follower.journal.remember("open gap since", "7")
        follower.journal.say("anything")
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
        self.assertEqual((self.leader.journal.last, self.leader.journal.latest), (1, time_of(3)))
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
        self.assertEqual(self.leader.reader.statuses[-1]["reason"], "Redis is away: it says LOADING")
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
        self.wait(GIVE_UP + 4)
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
        self.assertEqual(self.leader.journal.latest, time_of(9))
        self.node.publish(2)
        self.node.cut()
        self.wait(LEASE + 2)
        self.leader.mend()
        self.wait(3)
        self.assertTrue(self.leader.leads)
        self.assertEqual(self.leader.journal.latest, time_of(2))
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
        last = self.leader.journal.latest
        self.leader.publish(MAX_EVENTS + 2)
        self.assertFalse(self.leader.streams)
        self.leader.publish(MAX_EVENTS + 3)
        self.assertEqual(self.leader.journal.latest, last)
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
        log = leader.journal.shared
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
        begun = Beginning("", 0, done(log.place(0)).facts)
        self.assertFalse(done(log.begin(token, 1, 9, begun)))
        self.assertEqual(self.redis.saved(), before)

    def test_a_leader_that_was_stopped_past_its_lease_writes_nothing(self) -> None:
        """It wakes up with an event in its hands, and another node leads."""
        leader, follower = self.started(), self.started()
        self.redis.ask("HSET", LEASE_KEY, "owner", "other")
        leader.publish(1)
        self.assertFalse(leader.streams)
        self.wait(2)
        self.assertEqual((leader.account.upstream.reason, follower.journal.last), ("the lease was lost", 0))


class ReplacedTests(NodesCase):
    """Redis comes back with another log than the one that was there."""

    def setUp(self) -> None:
        super().setUp()
        self.leader, self.node = self.started(), self.started()
        self.leader.publish(1, 2)
        self.epoch = self.leader.journal.epoch

    def cut_all(self) -> None:
        for member in self.members:
            member.cut()

    def now_leading(self) -> Member:
        [leader] = [member for member in self.members if member.leads]
        return leader

    def mend_all(self) -> None:
        for member in self.members:
            member.mend()
        self.wait(4)

    def test_an_empty_redis_makes_no_seam_for_who_had_read_all(self) -> None:
        """Another epoch begins where they are: the numbers go on, and nobody is severed."""
        self.cut_all()
        self.redis.forget()
        self.mend_all()
        self.now_leading().publish(3)
        for member in self.members:
            self.assertNotEqual(member.journal.epoch, self.epoch)
            self.assertEqual((member.reader.seqs, member.reader.is_severed), ([1, 2, 3], False))
            self.assertEqual((member.journal.first, member.journal.last), (3, 3))
            self.assertRaises(TrimmedError, member.journal.read, 0, 1)

    def test_an_empty_redis_keeps_what_was_known_of_the_log(self) -> None:
        """The latest time, as horizon, so that history is not appended once more; and whose it is."""
        self.leader.journal.identify("one")
        self.cut_all()
        self.redis.forget()
        self.leader.mend()
        self.wait(4)
        self.assertEqual(self.leader.journal.horizon, time_of(2))
        self.assertTrue(self.leader.journal.has(event(2)))
        fresh = self.follower()
        self.assertEqual((fresh.journal.first, fresh.journal.last), (3, 2))
        self.assertEqual((fresh.journal.horizon, fresh.journal.account_id), (time_of(2), "one"))

    def test_an_empty_redis_makes_nothing_come_twice(self) -> None:
        """A gap was open: what has come since is known to whoever takes over, though it is no longer kept."""
        self.leader.account.upstream_is_up()
        self.leader.account.upstream_is_down("lost")
        self.leader.account.gaps.settle(Outcome.OPEN, "HTTP 500")
        self.leader.publish(3, 4)
        for _ in range(2):
            self.cut_all()
            self.redis.forget()
            self.mend_all()
            leader = self.now_leading()
            self.assertEqual(leader.journal.recall(OPEN_SINCE), str(time_of(2)))
            for n in (3, 4):
                self.assertTrue(leader.journal.has(event(n)))
                leader.account.recover(event(n))
            leader.account.flush()
        known = [order.id for order in leader.journal.open_orders()]
        self.assertEqual(known, [order_id_of(n) for n in range(1, 5)])
        leader.publish(5)
        for member in self.members:
            self.assertEqual(member.reader.seqs, [1, 2, 3, 4, 5])
            self.assertEqual(member.rows, [(5, event(5).payload)])
        self.assertEqual(locate(leader.account, AfterId(event_id_of(4))), 4)

    def test_a_follower_that_begins_anew_knows_what_may_be_missing(self) -> None:
        """The leader died with its Redis, in an open gap: what came since is known, the rest sought."""
        self.leader.account.upstream_is_up()
        self.leader.account.upstream_is_down("lost")
        self.leader.account.gaps.settle(Outcome.OPEN, "HTTP 500")
        self.leader.publish(3)
        self.leader.vanish()
        self.redis.forget()
        self.wait(LEASE + 2)
        self.assertTrue(self.node.leads)
        missed = event(30, at=format_time(time_of(2) + 500_000))
        self.assertTrue(self.node.journal.has(event(3)))
        self.assertFalse(self.node.journal.has(missed))
        self.node.account.upstream_is_up()
        gap = self.node.account.gaps.current
        assert gap is not None
        self.assertEqual((gap.begin, gap.outcome), (time_of(2), Outcome.OPEN))
        self.assertEqual(self.follower().journal.recall(OPEN_SINCE), str(time_of(2)))

    def test_what_was_read_back_is_not_told_to_an_empty_redis(self) -> None:
        """Redis went before it answered: that it had taken the event, only the reading shows."""
        self.leader.outlet.lose_answer()
        self.leader.publish(3)
        self.assertEqual(self.leader.reader.seqs, [1, 2, 3])
        self.cut_all()
        self.redis.forget()
        self.mend_all()
        self.now_leading().publish(4)
        for member in self.members:
            self.assertEqual(member.reader.payloads, [event(n).payload for n in (1, 2, 3, 4)])

    def test_who_was_elsewhere_is_told(self) -> None:
        """A node that had not read all starts anew, and its clients are ended: their place is no more."""
        cursor = self.node.account.cursor_at(2)
        self.node.cut()
        self.leader.publish(3)
        self.leader.cut()
        self.redis.forget()
        self.leader.mend()
        self.wait(4)
        self.node.mend()
        self.wait(1)
        self.assertTrue(self.node.reader.is_severed)
        self.assertFalse(self.leader.reader.is_severed)
        self.leader.publish(4)
        self.assertEqual(self.node.rows, self.leader.rows)
        self.assertEqual(self.node.rows, [(4, event(4).payload)])
        assert cursor is not None
        self.assertRaises(LostPositionError, locate, self.node.account, AfterId(cursor))

    def test_who_is_further_on_than_the_one_that_begins_anew_is_told(self) -> None:
        """The new log has other events under the same numbers."""
        self.leader.cut()
        self.wait(LEASE + 1)
        self.node.publish(3, 4)
        self.node.cut()
        self.redis.forget()
        self.leader.mend()
        self.wait(3)
        self.leader.publish(5)
        self.node.mend()
        self.wait(3)
        self.assertTrue(self.node.reader.is_severed)
        self.assertEqual(self.node.rows, self.leader.rows)

    def test_a_redis_that_is_emptied_by_hand_is_noticed(self) -> None:
        """No connection is lost by FLUSHALL."""
        self.redis.forget()
        self.wait(6)
        self.now_leading().publish(3)
        self.wait(3)
        for member in self.members:
            self.assertNotEqual(member.journal.epoch, self.epoch)
            self.assertEqual((member.reader.seqs, member.reader.is_severed), ([1, 2, 3], False))

    def test_who_is_further_on_notices_too(self) -> None:
        """What is new in Redis comes before the place at which it waits."""
        self.leader.inlet.hold()
        self.leader.publish(3)
        self.node.outlet.cut()
        self.redis.forget()
        self.wait(6)
        self.assertTrue(self.leader.leads)
        self.leader.inlet.go_on()
        self.node.outlet.mend()
        self.wait(4)
        self.assertTrue(self.node.reader.is_severed)
        self.assertEqual(self.node.journal.epoch, self.leader.journal.epoch)
        self.assertEqual(self.node.rows, self.leader.rows)

    def test_a_log_that_loses_its_end_behind_the_nodes_backs_is_noticed(self) -> None:
        """No connection was lost, and nothing is to be written."""
        saved = self.redis.saved()
        self.leader.publish(3)
        self.redis.roll_back(saved)
        self.wait(6)
        for member in self.members:
            self.assertTrue(member.reader.is_severed)
            self.assertEqual(member.journal.last, 2)

    def test_who_is_further_on_than_the_log_does_not_lead(self) -> None:
        """It has to read it anew first; then it does."""
        saved = self.redis.saved()
        self.leader.publish(3)
        self.leader.vanish()
        self.redis.roll_back(saved)
        self.redis.ask("DEL", LEASE_KEY)
        self.node.inlet.hold()
        self.wait(1)
        self.assertEqual(self.node.upstreams, [])
        self.node.inlet.go_on()
        self.wait(LEASE)
        self.assertEqual((len(self.node.upstreams), self.node.journal.last), (1, 2))
        self.assertTrue(self.node.streams)

    def test_a_log_that_has_lost_its_end_is_read_anew(self) -> None:
        """Who had read further has told clients of events that are no more: they come back."""
        saved = self.redis.saved()
        self.leader.publish(3)
        self.cut_all()
        self.redis.roll_back(saved)
        self.mend_all()
        for member in self.members:
            self.assertTrue(member.reader.is_severed)
            self.assertEqual((member.journal.last, member.journal.epoch), (2, self.epoch))

    def test_the_turn_ends_when_the_log_has_lost_its_end(self) -> None:
        """What was lost is a gap that the next turn recovers, before anything else is written."""
        self.leader.account.upstream_is_up()
        saved = self.redis.saved()
        self.leader.publish(3)
        self.cut_all()
        self.leader.publish(4)
        self.redis.roll_back(saved)
        for member in self.members:
            member.outlet.mend()
        self.assertEqual(self.redis.ask("HGET", STATE, "last"), b"2")
        self.assertFalse(self.leader.streams)
        self.wait(0.5)
        self.assertEqual(self.leader.account.upstream.reason, SHORTER)
        for member in self.members:
            member.inlet.mend()
        self.wait(4)
        leader = self.now_leading()
        self.assertEqual((leader.journal.last, leader.journal.latest), (2, time_of(2)))
        leader.account.upstream_is_up()
        gap = leader.account.gaps.current
        assert gap is not None
        self.assertEqual((gap.begin, gap.outcome), (time_of(2), Outcome.PENDING))
        leader.publish(3, 4)
        self.assertEqual([payload for _, payload in leader.rows], [event(n).payload for n in (1, 2, 3, 4)])

    def test_a_turn_ends_also_if_the_reading_finds_it_first(self) -> None:
        """Nothing was to be written at that moment."""
        saved = self.redis.saved()
        self.leader.publish(3)
        self.leader.inlet.cut()
        self.redis.roll_back(saved)
        self.leader.inlet.mend()
        self.wait(0.1)
        self.assertFalse(self.leader.streams)

    def test_other_events_under_the_same_numbers_are_read_anew(self) -> None:
        """Another node has written on behind a rollback."""
        saved = self.redis.saved()
        self.node.cut()
        self.leader.publish(3)
        self.leader.cut()
        self.redis.roll_back(saved)
        self.node.mend()
        self.redis.ask("DEL", LEASE_KEY)
        self.wait(LEASE)
        self.assertTrue(self.node.leads)
        self.node.publish(4)
        self.leader.mend()
        self.wait(1)
        self.assertTrue(self.leader.reader.is_severed)
        self.assertEqual(self.leader.rows, self.node.rows)

    def test_a_cursor_behind_what_was_lost_is_refused(self) -> None:
        """Its check does not fit what has its number now."""
        saved = self.redis.saved()
        self.leader.publish(3)
        cursor = self.leader.account.cursor_at(3)
        assert cursor is not None
        self.cut_all()
        self.redis.roll_back(saved)
        self.mend_all()
        self.wait(3)
        self.now_leading().publish(4)
        self.assertRaises(LostPositionError, locate, self.now_leading().account, AfterId(cursor))

    def test_another_account_begins_another_epoch(self) -> None:
        """The numbers go on, and the other nodes follow without a seam."""
        self.leader.journal.identify("one")
        self.leader.account.upstream_is_up()
        self.assertTrue(self.leader.journal.identify("two"))
        self.leader.publish(2)
        for member in self.members:
            self.assertEqual((member.journal.first, member.journal.last), (3, 3))
            self.assertEqual((member.reader.seqs, member.reader.is_severed), ([1, 2, 3], False))
        self.assertEqual(self.leader.journal.account_id, "two")
        fresh = self.follower()
        self.assertEqual(fresh.rows, [(3, event(2).payload)])
        self.assertTrue(fresh.account.upstream.streaming)

    def test_another_account_is_told_to_a_redis_that_is_away(self) -> None:
        """What waits is the other account's, and goes; what comes then is the new one's, repeats included."""
        self.leader.journal.identify("one")
        self.leader.cut()
        self.leader.publish(7)
        self.assertTrue(self.leader.journal.identify("two"))
        self.assertEqual(self.leader.journal.open_orders(), [])
        self.assertIsNone(self.leader.journal.order(order_id_of(1)))
        self.leader.publish(2, 8)
        self.leader.journal.remember("complete from", "7")
        self.wait(2)
        self.leader.mend()
        self.wait(1)
        self.assertEqual(self.leader.journal.recall("complete from"), "7")
        for member in self.members:
            self.assertEqual(member.rows, [(3, event(2).payload), (4, event(8).payload)])
            self.assertFalse(member.reader.is_severed)

    def test_another_address_begins_another_epoch(self) -> None:
        """The nodes were started with paper's address, and are now started with live's."""
        self.leader.journal.identify("one")
        for member in self.members:
            member.stop()
        self.wait(1)
        other = self.started(base_url="wss://api.alpaca.markets/stream")
        self.assertTrue(other.leads)
        self.assertNotEqual(other.journal.epoch, self.epoch)
        self.assertEqual((other.journal.first, other.journal.last), (3, 2))
        self.assertEqual((other.journal.account_id, other.journal.latest), (None, None))
        other.publish(1)
        self.assertEqual(other.rows, [(3, event(1).payload)])

    def test_the_status_tells_that_there_is_no_log(self) -> None:
        """Redis is there, and no node has begun."""
        for member in self.members:
            member.stop()
        self.redis.forget()
        self.assertEqual(self.follower().journal.status.reason, NO_LOG)


class TrimmedTests(NodesCase):
    """Old events go, by the leader's word."""

    def test_every_node_trims_and_the_leader_trims_redis(self) -> None:
        """Numbers, bounds and what is known of what is gone are the same."""
        leader, follower = self.started(max_events=10), self.started(max_events=10)
        leader.publish(*range(1, 31))
        self.wait(TRIM_EVERY)
        for member in (leader, follower, self.follower(max_events=10)):
            self.assertEqual((member.journal.first, member.journal.last), (21, 30))
            self.assertEqual((member.journal.begins, member.journal.horizon), (time_of(20) + 1, time_of(20)))
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
            self.assertRaises(LostPositionError, self.place, text)

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
        self.assertRaises(LostPositionError, self.place, "unknown", self.leader)


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
        self.assertTrue([log for log in logs if "could not be followed" in log.get("log_format", "")])
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
