"""Assignments by hand with several nodes on one log in a real Redis."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent

from tests.cluster.books_case import BooksCase
from tests.support.nodes import METADATA_KEY, Member
from tradeproxy.cluster import shared_assignments
from tradeproxy.journal import metadata
from tradeproxy.journal.metadata import ASSIGNMENTS, REMEMBERED


class SharedAssignmentTests(BooksCase):
    """Each node has them, as long as one node or Redis does."""

    def assign(self, member: Member, order_id: str, name: str) -> None:
        """Assign an order on a node."""
        self.strategies(member).assign(order_id, name)
        self.advance(2)

    def test_assignments_survive_the_leader(self) -> None:
        """The next leader has them when its term begins, and assigns further ones."""
        self.assign(self.leader, "1", "beta")
        self.books[self.leader].stop()
        self.leader.kill()
        self.leader.stop()
        self.advance(15)
        self.assertTrue(self.node.is_leader)
        self.assertEqual(self.quantities(self.node), {"beta": "1"})
        self.publish(self.node, "2")
        self.assign(self.node, "2", "gamma")
        third = self.start_with_book()
        self.books[self.node].stop()
        self.node.stop()
        self.advance(15)
        self.assertTrue(third.is_leader)
        self.assertEqual(self.quantities(third), {"beta": "1", "gamma": "1"})
        self.assign(third, "1", "")
        self.assertEqual(self.quantities(third), {"alpha": "1", "gamma": "1"})

    def test_running_follower_has_an_assignment_within_a_second(self) -> None:
        """It had it only when it began to lead: the check of the lease did not show a change."""
        self.strategies(self.leader).assign("1", "beta")
        self.advance(1)
        self.assertEqual(self.quantities(self.node), {"beta": "1"})
        self.strategies(self.leader).assign("1", "")
        self.advance(1)
        self.assertEqual(self.quantities(self.node), {"alpha": "1"})
        self.assign(self.leader, "1", "gamma")
        self.assertEqual(self.quantities(self.start_with_book()), {"gamma": "1"})

    def test_leader_saves_again_what_redis_has_lost(self) -> None:
        """Without an event after the assignment the log still matches, so the term goes on."""
        dump = self.redis.dump()
        self.assign(self.leader, "1", "beta")
        self.restart_redis(dump)
        self.advance(5)
        self.assertEqual(self.quantities(self.leader), {"beta": "1"})
        self.assertEqual(self.quantities(self.node), {"beta": "1"})
        self.end(self.leader)
        self.assertEqual(self.quantities(self.node), {"beta": "1"})
        self.assertEqual(self.quantities(self.start_with_book()), {"beta": "1"})

    def test_next_term_saves_what_was_lost_with_an_event(self) -> None:
        """The log is read from its start then, with the assignments that it still has."""
        self.publish(self.leader, "2")
        self.assign(self.leader, "2", "old")
        dump = self.redis.dump()
        self.assign(self.leader, "1", "beta")
        self.publish(self.leader, "3")
        self.restart_redis(dump)
        self.advance(15)
        self.assertEqual(sum(member.is_leader for member in self.members), 1)
        for member in self.members:  # they had booked the third fill
            self.assertEqual(self.quantities(member), {"alpha": "1", "beta": "1", "old": "1"})
        self.assertEqual(self.quantities(self.start_with_book()), {"beta": "1", "old": "1"})

    def test_lost_assignments_that_do_not_fit_leave_those_of_the_log(self) -> None:
        """Two texts may be too long together. Then all assignments vanished, without a line."""
        self.publish(self.leader, "2")
        self.assign(self.leader, "2", "old")
        dump = self.redis.dump()
        self.assign(self.leader, "1", "beta")
        self.publish(self.leader, "3")
        self.patch(shared_assignments, "MAX_NOTE", len('{"1":"beta"}'))
        self.patch(metadata, "MAX_NOTE", len('{"1":"beta"}'))
        with capturedLogs() as logs:
            self.restart_redis(dump)
            self.advance(15)
        lines = [formatEvent(each) for each in logs]
        self.assertEqual(sum("assignments by hand" in line for line in lines), 1)
        for member in self.members:
            self.assertEqual(self.quantities(member), {"alpha": "2", "old": "1"})

    def test_lost_assignments_do_not_replace_those_of_another_leader(self) -> None:
        """That leader's are newer than the loss."""
        dump = self.redis.dump()
        self.assign(self.leader, "1", "beta")
        self.publish(self.leader, "2")
        self.restart_redis(dump, seconds=0.3)
        self.assertFalse(any(member.journal.outbox.is_leading for member in self.members))
        self.redis.execute("HSET", METADATA_KEY, REMEMBERED + ASSIGNMENTS, '{"1":"newer"}')
        self.advance(15)
        for member in self.members:
            self.assertEqual(self.quantities(member), {"alpha": "1", "newer": "1"})

    def test_another_account_has_no_assignments(self) -> None:
        """They name orders of the account before."""
        self.leader.account.identify("first")
        self.assign(self.leader, "1", "beta")
        self.leader.account.identify("second")
        self.advance(2)
        for member in self.members:
            self.assertIsNone(member.journal.get_metadata(ASSIGNMENTS))
            self.publish(self.leader, "1")
            self.assertEqual(self.quantities(member), {"alpha": "1"})

    def test_foreign_text_in_redis_is_ignored(self) -> None:
        """Anyone with the password can write one."""
        for text in ("[1]", "{", "\xe9"):
            self.redis.execute("HSET", METADATA_KEY, REMEMBERED + ASSIGNMENTS, text)
            self.advance(1)
            self.assertEqual(self.quantities(self.node), {"alpha": "1"})
