"""Tests for tradeproxy.cluster.replica: a node has the rows of the log, however it read them."""

from __future__ import annotations

import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import (
    BASE_URL,
    NOW,
    event,
    event_id_of,
    order_id_of,
    row,
    time_of,
)
from tests.support.logcase import METADATA
from tests.support.nodes import METADATA_KEY, Member, NodesCase
from tradeproxy.cluster.leadership import CHECK_INTERVAL, LEASE, RENEW_AFTER
from tradeproxy.cluster.log_entries import EventEntry, encode_key
from tradeproxy.cluster.missing_positions import CHECKS_KEPT
from tradeproxy.cluster.replica import Replica
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import TrimmedError, UnreadableError
from tradeproxy.journal.metadata import Metadata
from tradeproxy.journal.retention import TRIM_EVERY, Due
from tradeproxy.wire.position import AfterId, Cursor, FromTime, compute_check


class ReplicaCase(NodesCase):
    """Has events that are one second apart."""

    def empty_redis(self, *members: Member) -> None:
        """Restart Redis without data while members are disconnected; wait until they notice."""
        for member in members:
            member.cut()
        self.redis.flush()
        for member in members:
            member.restore()
        self.advance(RENEW_AFTER + 2 * CHECK_INTERVAL)


class DeliveredKeysTests(ReplicaCase):
    """What a new log takes over of the events that clients have."""

    def test_newest_ten_thousand_are_taken_over(self) -> None:
        """Redis keeps each one, and every node reads all of them."""
        leader = self.start_node()
        for first in (1, 5_001):
            leader.publish(*range(first, first + 5_001))
            self.advance(5)
        keys = leader.journal.replica.list_delivered(time_of(0))
        newest = [b" " + event_id_of(n).encode() for n in (10_001, 2)]
        self.assertEqual((len(keys), [keys[0], keys[-1]]), (10_000, newest))


class InitialReadTests(ReplicaCase):
    """A node that reads the log from its start dates each row by the rows before it."""

    def setUp(self) -> None:
        super().setUp()
        self.leader = self.start_node(max_events=10)
        self.leader.publish(*range(1, 21))
        self.leader.account.completeness.check_through(
            time_of(20)
        )  # saves metadata, with the latest time

    def test_first_since_after_initial_read_finds_row(self) -> None:
        """Each row once had the log's latest time: a client got all of them."""
        late = self.start_follower()
        for n in (1, 15, 20):
            self.assertEqual(late.journal.first_since(time_of(n)), n)
            self.assertEqual(locate(late.account, FromTime(time_of(n))), n - 1)
        self.assertIsNone(late.journal.first_since(time_of(21)))
        self.assertEqual(late.journal.latest_time, time_of(20))

    def test_trim_moves_bounds_to_times_of_trimmed_rows(self) -> None:
        """Otherwise stored rows are not found, and later history counts as known."""
        late = self.start_node(max_events=10)
        self.leader.kill()
        self.advance(LEASE + TRIM_EVERY + 2)
        self.assertTrue(late.is_leader)
        late.publish(21)
        self.advance(TRIM_EVERY)
        journal = late.journal
        self.assertEqual((journal.first, journal.last), (12, 21))
        self.assertEqual(
            (journal.complete_from, journal.dedup_horizon), (time_of(11) + 1, time_of(11))
        )
        for name, value in (("begins", journal.complete_from), ("horizon", journal.dedup_horizon)):
            self.assertEqual(int(self.redis.execute("HGET", METADATA_KEY, name)), value)


class NewEpochTests(ReplicaCase):
    """An epoch begins after this node's last row: older rows can no longer be read."""

    def setUp(self) -> None:
        super().setUp()
        self.leader = self.start_node()
        self.leader.publish(1, 2, 3)

    def test_rows_of_older_epoch_are_not_found(self) -> None:
        """They stay in the store against duplicates; requests for them once ended in an error."""
        self.empty_redis(self.leader)
        journal = self.leader.journal
        self.assertEqual((journal.first, journal.last), (4, 3))
        self.assertIsNone(journal.first_since(time_of(1)))
        self.assertEqual(journal.find(event_id_of(3)), 3)
        self.assertRaises(UnreadableError, journal.find, event_id_of(2))
        self.advance(RENEW_AFTER + CHECK_INTERVAL)
        self.assertIsNone(journal.find(event_id_of(2)))
        self.leader.publish(4)
        self.assertEqual(journal.first_since(time_of(1)), 4)
        self.assertEqual(journal.find(event_id_of(4)), 4)

    def test_dedup_horizon_excludes_events_in_outbox(self) -> None:
        """Events missed before a waiting event must still be found."""
        self.advance(5)
        self.leader.cut()
        self.leader.publish(5)
        self.redis.flush()
        self.leader.restore()
        self.advance(RENEW_AFTER + 2 * CHECK_INTERVAL)
        self.assertEqual(self.leader.subscriber.payloads, [event(n).payload for n in (1, 2, 3, 5)])
        for member in (self.leader, self.start_follower()):
            self.assertEqual(member.journal.dedup_horizon, time_of(3))
            self.assertFalse(member.journal.has(event(4)))

    def test_flushed_event_not_read_back_is_written_again_once(self) -> None:
        """FLUSHALL kept the connections open, so the event was not written again."""
        self.leader.read_client.pause_reads()
        self.leader.publish(4)
        self.redis.flush()
        self.leader.publish(5)
        self.advance(1)
        self.leader.read_client.resume_reads()
        self.advance(RENEW_AFTER + CHECK_INTERVAL)
        self.leader.publish(6)
        self.assertEqual(self.leader.subscriber.payloads, [event(n).payload for n in range(1, 7)])
        self.assertEqual(self.leader.subscriber.seqs, list(range(1, 7)))
        self.assertEqual(len(self.leader.upstreams), 1)


class UnknownPositionTests(ReplicaCase):
    """A number beyond the log's end may belong to an event later."""

    def test_missing_position_is_checked_again_after_some_checks(self) -> None:
        """On this node alone a client with that event's cursor was rejected forever."""
        leader, node = self.start_node(), self.start_node()
        leader.publish(1)
        cursor = AfterId(
            str(Cursor("paper", node.journal.epoch, 2, compute_check(event(2).payload)))
        )
        self.assertRaises(UnreadableError, locate, node.account, cursor)
        self.advance(2 * CHECK_INTERVAL)
        self.assertRaises(UnrecoverablePositionError, locate, node.account, cursor)
        node.read_client.pause_reads()
        leader.publish(2)
        self.advance(2 * CHECKS_KEPT * CHECK_INTERVAL)
        self.assertRaises(UnreadableError, locate, node.account, cursor)
        node.read_client.resume_reads()
        self.assertEqual(locate(node.account, cursor), 2)


class ReplicaTests(SynchronousTestCase):
    """A replica has rows 3 to 5 of epoch "e1"; rows 1 and 2 were trimmed before it read them."""

    def setUp(self) -> None:
        self.metadata = Metadata(BASE_URL)
        self.replica = Replica(self.metadata)
        self.addCleanup(self.replica.close)
        self.replica.restart({**METADATA, "trimmed": "2"})
        self.extend(3, 4, 5)

    def extend(self, *numbers: int) -> None:
        """Append events under their own numbers."""
        received = NOW * 1_000_000
        self.replica.extend(
            [EventEntry(b"", n, event(n), self.metadata.epoch, round(received)) for n in numbers]
        )

    def test_row_is_found_within_bounds(self) -> None:
        """A cursor may name any number."""
        for seq in (-1, 0, 2, 6, 2**62):
            self.assertIsNone(self.replica.row(seq), seq)
        for seq in (3, 4, 5):
            self.assertEqual(self.replica.row(seq), row(seq, event(seq)))

    def test_read_begins_after_last_trimmed_row(self) -> None:
        """Before that, rows are missing; after the last one there is nothing yet."""
        self.assertRaises(TrimmedError, self.replica.read, 1, 9)
        for after, first in ((2, 3), (4, 5)):
            batch = self.replica.read(after, 9)
            assert batch is not None
            self.assertEqual((batch.first, batch.last), (first, 5))
        self.assertIsNone(self.replica.read(5, 9))
        self.assertIsNone(self.replica.next_hole(0))

    def test_keys_for_a_new_log_are_those_behind_a_known_horizon(self) -> None:
        """Without a horizon a new log takes over none, and none of another account."""
        key = encode_key(event(9).key)
        self.replica.start_epoch({**METADATA, "epoch": "e2", "trimmed": "5"}, [key])
        self.extend(6)
        keys = [encode_key(event(6).key), key]
        self.assertEqual(self.replica.list_delivered(time_of(6) - 1), keys)
        self.assertEqual(self.replica.list_delivered(None), [])
        self.replica.reset_account(BASE_URL)
        self.assertEqual(self.replica.list_delivered(time_of(6) - 1), [])

    def test_time_is_found_among_rows_of_this_epoch(self) -> None:
        """Rows of the epoch before are kept, but no longer read."""
        self.replica.start_epoch({**METADATA, "epoch": "e2", "trimmed": "5"})
        for n in (3, 5):
            self.assertIsNone(self.replica.first_at(time_of(n)))
            self.assertIsNone(self.replica.first_since(time_of(n)))
        self.extend(6)
        for find in (self.replica.first_at, self.replica.first_since):
            self.assertEqual(find(time_of(6)), 6)
            self.assertIsNone(find(time_of(7)))
        self.assertEqual(self.replica.first_since(time_of(3)), 6)
        self.assertIsNone(self.replica.first_at(time_of(3)))

    def test_lost_time_is_adopted_if_it_is_later(self) -> None:
        """Redis may hold anything under that key: a number has 19 digits at most."""
        nines = "9" * 19
        for saved, lost in (
            (None, None),
            ("", None),
            ("x", None),
            ("-7", None),
            ("\u00b2", None),
            ("7", 7),
            ("9", 9),
            ("8", 9),
            (nines + "9", 9),
            (nines, int(nines)),
            (None, int(nines)),
        ):
            self.replica.adopt_lost_through(saved)
            self.assertEqual(self.replica.lost_through, lost, saved)

    def test_last_row_is_kept_whatever_its_age(self) -> None:
        """Its number stays a valid position, even if no event has a time."""
        self.replica.restart({**METADATA, "epoch": "e2", "trimmed": "2"})
        events = [EventEntry(b"", n, event(n, at=None), "e2", 0) for n in (3, 4)]
        self.replica.extend(events)
        due = Due(9, before=1)
        self.assertEqual([self.replica.trim(due) for _ in range(2)], [1, 0])
        self.assertEqual((self.metadata.first, self.metadata.last), (4, 4))

    def test_trim_is_followed_but_for_last_row(self) -> None:
        """The leader may have trimmed rows that this node has not read yet."""
        for bounds, count, first in (
            ({}, 0, 3),
            ({"trimmed": "x"}, 0, 3),
            ({"trimmed": "1"}, 0, 3),
            ({"trimmed": "2"}, 0, 3),
            ({"trimmed": "3"}, 1, 4),
            ({"trimmed": "3"}, 0, 4),
            ({"trimmed": "9"}, 1, 5),
            ({"trimmed": "9"}, 0, 5),
        ):
            self.assertEqual(self.replica.follow_trim(bounds), count, bounds)
            self.assertEqual(self.metadata.first, first, bounds)
        self.assertFalse(self.replica.contains(event(4)))
        self.assertTrue(self.replica.contains(event(5)))

    def test_trim_is_followed_in_steps_of_1000_rows(self) -> None:
        """A step blocks the reactor only shortly."""
        self.extend(*range(6, 2005))
        bounds = {"trimmed": "2003", "begins": "7", "horizon": "8"}
        counts = [self.replica.follow_trim(bounds) for _ in range(4)]
        self.assertEqual(counts, [1000, 1000, 1, 0])
        self.assertEqual((self.metadata.first, self.metadata.last), (2004, 2004))
        self.assertEqual((self.metadata.complete_from, self.metadata.dedup_horizon), (7, 8))

    def test_damaged_bounds_change_nothing(self) -> None:
        """Something else has written to Redis."""
        before = self.metadata.encode()
        self.replica.follow_trim({"trimmed": "x", "begins": "7", "horizon": "8"})
        self.assertEqual(self.metadata.encode(), before)

    def test_close_frees_memory(self) -> None:
        """The rows are in a database in memory."""
        self.replica.close()
        self.assertRaises(sqlite3.ProgrammingError, self.replica.contains, event(3))

    def test_rows_of_other_account_are_ignored(self) -> None:
        """Their events and times say nothing about what follows."""
        self.replica.reset_account(BASE_URL)
        self.assertFalse(self.replica.contains(event(3)))
        self.assertIsNone(self.replica.order(order_id_of(3)))
        self.assertEqual(self.replica.open_orders(), [])
        self.assertIsNone(self.replica.read_through)
        self.replica.restart({**METADATA, "epoch": "e2", "trimmed": "5"})
        self.extend(6)
        self.assertTrue(self.replica.contains(event(6)))
        self.assertFalse(self.replica.contains(event(3)))
        self.assertEqual([order.id for order in self.replica.open_orders()], [order_id_of(6)])
        self.assertEqual(self.replica.read_through, time_of(6))

    def test_latest_time_covers_earlier_epochs(self) -> None:
        """Events of older epochs were delivered too. A loss belongs to its epoch."""
        self.replica.adopt_lost_through("7")
        self.replica.missing.is_certain(9)
        self.replica.start_epoch(
            {**METADATA, "epoch": "e2", "trimmed": "5", "latest": str(time_of(8))}
        )
        self.assertIsNone(self.replica.lost_through)
        self.assertEqual(self.replica.missing.asked, frozenset())
        self.extend(6)
        self.assertEqual((self.replica.read_through, self.metadata.latest_time), (time_of(8),) * 2)
        self.assertEqual(self.replica.first_since(time_of(8)), 6)
        self.extend(9)
        self.assertEqual((self.replica.read_through, self.metadata.latest_time), (time_of(9),) * 2)
        self.replica.restart({**METADATA, "epoch": "e3", "trimmed": "0"})
        self.assertIsNone(self.replica.read_through)
