"""Tests for tradeproxy.downstream.send_group: who may join, the sizes of a group and a batch."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import Connections, event, memory_journal
from tests.support.memory import StrictClock
from tests.support.send_groups import FakeMember
from tradeproxy.downstream.encoder import FrameEncoder
from tradeproxy.downstream.send_group import SendGroups
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch, Row


class SendGroupLimitTests(SynchronousTestCase):
    """What one turn of the reactor sends is bounded, and its members have the same events."""

    def setUp(self) -> None:
        self.clock = StrictClock()
        self.disk = Connections()
        journal = memory_journal(self.clock, connect=self.disk)
        self.account = Account("paper", journal, self.clock)
        self.groups = SendGroups(FrameEncoder(lambda payload: payload), self.clock)

    def join(self, count: int) -> list[FakeMember]:
        """Return some members that have joined their groups."""
        members = [FakeMember(self.account) for _ in range(count)]
        for member in members:
            self.groups.offer(member)
        self.clock.advance(0)
        return members

    def test_group_has_500_members_at_most(self) -> None:
        """The next client forms another group; each gets every event."""
        members = self.join(501)
        groups = {member.send_group for member in members}
        self.assertEqual(sorted(group.size for group in groups if group is not None), [1, 500])
        self.account.broadcaster.publish(Batch((Row(1, b"event"),)))
        self.assertEqual({member.taken for member in members}, {b"event"})

    def test_write_for_all_needs_one_event_or_256_kib(self) -> None:
        """A larger batch goes to each member's own feed, which reads it in steps."""
        half = 128 * 1024
        for sizes, is_sent in (
            ((half, half), True),
            ((half, half + 1), False),
            ((3 * half,), True),
        ):
            self.setUp()
            batch = Batch(tuple(Row(seq, b"x" * size) for seq, size in enumerate(sizes, 1)))
            [member] = self.join(1)
            self.account.broadcaster.publish(batch)
            self.assertEqual(len(member.taken), sum(sizes) if is_sent else 0, sizes)
            self.assertEqual(member.batches, [] if is_sent else [batch])
            self.assertIs(member.send_group is not None, is_sent)

    def test_no_client_joins_while_events_are_not_stored(self) -> None:
        """Such events may share one number: a position does not say which of them were sent."""
        self.disk.refuse_writing()
        self.account.publish(event(1))
        self.account.flush()
        self.assertIsNone(self.join(1)[0].send_group)
        self.disk.refuse_writing(False)
        self.clock.advance(2)
        self.assertTrue(self.account.journal.status.durable)
        self.assertIsNotNone(self.join(1)[0].send_group)

    def test_no_client_joins_while_lost_events_are_delivered(self) -> None:
        """The delivery takes more than one turn, and would pass the client by."""
        crowd, member = FakeMember(self.account), FakeMember(self.account)
        crowd.size = 2000  # as many as one turn serves
        self.account.broadcaster.register(crowd)
        self.groups.offer(member)
        self.account.broadcaster.publish(Batch((Row(1, b"lost"),), overflow=True))
        self.clock.advance(0)
        self.assertIsNone(member.send_group)
        self.assertIsNotNone(self.join(1)[0].send_group)
