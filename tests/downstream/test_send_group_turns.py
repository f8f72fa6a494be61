"""Tests for tradeproxy.downstream.send_group: several turns per fan-out, and failing members."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from msgspec.structs import replace
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.journals import event, memory_journal
from tests.support.plain import CLOSE, TURN, Peer
from tests.support.send_groups import LISTEN_TO_STATUS, FakeMember, SendGroupTestCase
from tradeproxy.downstream import send_group
from tradeproxy.downstream.encoder import FrameEncoder
from tradeproxy.downstream.send_group import SendGroups
from tradeproxy.hub import broadcaster
from tradeproxy.hub.account import Account
from tradeproxy.journal import sqlite
from tradeproxy.journal.backlog import Backlog
from tradeproxy.journal.base import Batch, Row
from tradeproxy.journal.disk import RETRY_EVERY

MAX_EVENTS = 500
"""Events that the backlog holds here."""


class InterruptedFanOutTests(SendGroupTestCase):
    """Clients act between the turns in which a batch is delivered to one group after another."""

    def setUp(self) -> None:
        self.patch(sqlite, "Backlog", lambda: Backlog(MAX_EVENTS))
        super().setUp()
        self.patch(broadcaster, "CHUNK", 1)
        self.patch(send_group, "MAX_GROUP_SIZE", 2)

    def interrupt(self, act: Callable[[Peer], object], number: int, after: int = 1) -> list[Peer]:
        """Let client `number` of six act `after` turns after an event, and return all six."""
        peers = self.form_group(6)
        self.publish_without_turn()
        self.kernel.turn(after)
        act(peers[number])
        self.kernel.settle()
        return peers

    def test_client_message_between_turns_misses_no_event(self) -> None:
        """The client's group was served or not, and more events arrive or not."""
        for number, after, more in product(range(6), range(5), range(2)):
            self.setUp()

            def act(peer: Peer, more: int = more) -> None:
                peer.say(AUTH)
                self.publish_without_turn(more)

            peers = self.interrupt(act, number, after)
            peers[number].texts.remove(AUTHENTICATED)
            self.assert_all_received(*peers)
            self.publish()
            self.assert_all_received(*peers)
            self.assertEqual(len(self.broadcaster), 6)
            self.assertNotIn(None, [self.find_group(peer) for peer in peers])

    def test_close_between_turns_affects_no_other_client(self) -> None:
        """A client closes, is reset, or sends an invalid message."""

        def reset(peer: Peer) -> None:
            peer.socket.is_reset = True

        acts = (lambda peer: peer.say(b"", CLOSE), lambda peer: peer.say(b"hello"), reset)
        for act in acts:
            for number in range(6):
                self.setUp()
                peers = self.interrupt(act, number)
                others = [peer for peer in peers if peer is not peers[number]]
                self.assert_all_received(*others)
                self.assertEqual(len(self.broadcaster), 5)
                texts = peers[number].texts
                self.assertEqual(texts, self.published[: len(texts)])

    def test_status_between_turns_follows_earlier_events(self) -> None:
        """The state follows the events that were published before."""
        for number in range(6):
            self.setUp()
            peers = self.interrupt(lambda peer: peer.say(LISTEN_TO_STATUS), number)
            is_status = [
                b'"proxy_status"' in text.partition(b'"data"')[0] for text in peers[number].texts
            ]
            self.assertEqual(is_status.count(True), 1)
            self.assert_all_received(*(peer for peer in peers if peer is not peers[number]))
            self.assertEqual(len(is_status), len(self.published) + 2)

    def test_overflow_events_reach_every_client(self) -> None:
        """While the disk and the backlog are full, only the broadcaster has these events."""
        for number in (0, 3, 5):
            self.setUp()
            peers = self.form_group(6)
            self.fill_backlog()
            self.publish()
            for peer in peers:
                peer.taken()
            since = len(self.published)
            self.publish_without_turn()
            peers[number].say(AUTH)
            self.kernel.turn()
            self.publish()
            peers[number].texts.remove(AUTHENTICATED)
            self.assert_all_received(*peers, since=since)

    def test_leaving_before_first_overflow_event_closes_4010_or_misses_nothing(self) -> None:
        """The client finds a hole in the log where its group would have sent the event."""
        for number in (0, 3, 5):
            self.setUp()
            peers = self.form_group(6)
            self.fill_backlog()
            for peer in peers:
                peer.taken()
            since = len(self.published)
            self.publish_without_turn()
            peers[number].say(AUTH)
            self.kernel.turn()
            self.publish()
            speaker = peers.pop(number)
            speaker.texts.remove(AUTHENTICATED)
            self.assert_all_received(*peers, since=since)
            if speaker.closed is None:
                self.assert_all_received(speaker, since=since)
            else:
                self.assertEqual((speaker.closed, speaker.texts), (4010, []))

    def test_consecutive_overflow_events_reach_every_client(self) -> None:
        """Events with the number of one hole arrive while another of them is delivered."""
        peers = self.form_group(6)
        self.fill_backlog()
        self.publish()
        for peer in peers:
            peer.taken()
        since = len(self.published)
        for _ in range(20):
            self.publish_without_turn()
            self.kernel.turn()
        self.kernel.settle()
        self.assert_all_received(*peers, since=since)

    def test_disk_works_again_during_overflow_event_reaches_every_client(self) -> None:
        """A client that joined a group then was skipped by the running delivery of the event.

        Clients at the number of one hole look caught up, whether they have the event or not.
        """
        for number, turns in product((1, 3, 5), range(1, 5)):
            self.setUp()
            peers = self.form_group(6)
            self.fill_backlog()
            self.publish()
            for peer in peers:
                peer.taken()
            since = len(self.published)
            failing_for = self.kernel.seconds() - self.account.journal.status.since
            self.kernel.advance(RETRY_EVERY - failing_for % RETRY_EVERY - turns * TURN)
            self.assertFalse(self.account.journal.status.durable)
            self.publish_overflow()
            self.kernel.turn(turns)
            self.assertTrue(self.account.journal.status.durable)
            peers[number].say(AUTH)
            self.kernel.settle()
            self.publish()
            peers[number].texts.remove(AUTHENTICATED)
            self.assert_all_received(*peers, since=since)

    def publish_overflow(self) -> None:
        """Publish an event while the disk fails for a last time."""
        self.disk.refuse_writing()
        self.publish_without_turn()
        self.account.flush()
        self.disk.refuse_writing(False)

    def fill_backlog(self) -> None:
        self.disk.refuse_writing()
        small = replace(event(0), payload=b'{"stream":"trade_updates","data":{}}')
        for begin in range(0, MAX_EVENTS, 100):
            for number in range(begin, begin + 100):
                self.account.publish(replace(small, identity=str(number)))
            self.kernel.settle()
        for client in self.served.values():
            self.assertIsNotNone(client.send_group)


class FailingMemberTests(SynchronousTestCase):
    """A member that fails while it leaves its group is dropped, and no other member is."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.account = Account("paper", memory_journal(self.clock), self.clock)
        self.groups = SendGroups(FrameEncoder(lambda payload: payload), self.clock)
        failures = (None, ZeroDivisionError(), None)
        self.members = [FakeMember(self.account, failure, takes=1) for failure in failures]
        for member in self.members:
            self.groups.offer(member)
        self.clock.advance(0)

    def assert_one_dropped(self, errors: int) -> None:
        self.assertEqual([member.aborted for member in self.members], [0, 1, 0])
        self.assertEqual([member.send_group for member in self.members], [None] * 3)
        self.assertEqual(len(self.account.broadcaster), 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), errors)

    def test_failure_after_short_write_drops_one_member(self) -> None:
        """The short writes of the others are completed."""
        self.account.broadcaster.publish(Batch((Row(1, b"event"),)))
        self.assertEqual([member.taken for member in self.members], [b"event", b"e", b"event"])
        self.assert_one_dropped(2)

    def test_failure_in_own_feed_drops_one_member(self) -> None:
        """The others get the batch."""
        hole = Batch((Row(1, None),))
        self.account.broadcaster.publish(hole)
        self.assertEqual([member.batches for member in self.members], [[hole], [], [hole]])
        self.assert_one_dropped(2)

    def test_abort_failure_of_one_aborts_all(self) -> None:
        """The failure of one member does not leave the others connected without events."""
        (group,) = {member.send_group for member in self.members}
        assert group is not None
        group.abort()
        self.assertEqual([member.aborted for member in self.members], [1, 1, 1])
        self.assertEqual(len(self.account.broadcaster), 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
