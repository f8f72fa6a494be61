"""Assignments by hand with several nodes on one log in a real Redis."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from tests.cluster.books_case import BooksCase
from tests.support.nodes import LEASE_KEY, METADATA_KEY, Member
from tests.support.redislog import ReplyDelay
from tests.support.socket_limits import limit_sockets
from tradeproxy.cluster import shared_assignments
from tradeproxy.cluster.leadership import CHECK_INTERVAL
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.journal import metadata
from tradeproxy.journal.metadata import ASSIGNMENTS, REMEMBERED
from tradeproxy.web import state_pages
from tradeproxy.web.site import build_site
from tradeproxy.web.strategy_changes import SAVE_TIMEOUT


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

    def hold_readings(self, member: Member) -> list[tuple[Deferred[Any], Any]]:
        """Hold back the replies to a node's questions for the assignments; return them."""
        held: list[tuple[Deferred[Any], Any]] = []
        connection = member.command_client.connection
        execute = connection.execute_command

        def execute_command(*command: str | bytes | int) -> Deferred[Any]:
            answered: Deferred[Any] = execute(*command)
            if command[0] != "HGET":
                return answered
            reply: Deferred[Any] = Deferred()
            answered.addCallback(lambda result: held.append((reply, result)))
            return reply

        self.patch(connection, "execute_command", execute_command)
        return held

    def test_follower_asks_once_while_redis_is_slow(self) -> None:
        """Each check of the lease finds the difference. A slow Redis must not get more to do."""
        held = self.hold_readings(self.node)
        for count, name in ((1, "beta"), (2, "gamma")):
            self.strategies(self.leader).assign("1", name)
            self.advance(CHECK_INTERVAL)
            self.advance(CHECK_INTERVAL)
            self.assertEqual(len(held), count)
            reply, result = held[-1]
            reply.callback(result)
            self.assertEqual(self.quantities(self.node), {name: "1"})

    def test_slow_answer_does_not_replace_what_a_leader_assigned_since(self) -> None:
        """The node asked while it followed. It would have saved the older ones as its own."""
        held = self.hold_readings(self.node)
        self.strategies(self.leader).assign("1", "beta")
        self.advance(CHECK_INTERVAL)
        self.books[self.leader].stop()
        self.leader.stop()
        self.advance(CHECK_INTERVAL)
        self.assertTrue(self.node.is_leader)
        self.strategies(self.node).assign("1", "gamma")
        [(reply, result)] = held
        self.assertFalse(reply.called)
        reply.callback(result)
        self.advance(2)
        self.assertEqual(self.quantities(self.node), {"gamma": "1"})
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


class AssignmentAnswerTests(BooksCase):
    """An assignment over HTTP is answered with 200 once it is in Redis.

    It was answered before: one that a leader made that another node had replaced meanwhile, as
    after SIGSTOP, was nowhere.
    """

    def setUp(self) -> None:
        super().setUp()
        books = {"paper": self.books[self.leader]}
        self.factory = DownstreamFactory(Limits(), self.clock, limit_sockets(), books)
        admission = Admission((), (), Tokens(()))
        accounts = {"paper": self.leader.account}
        self.site = build_site(accounts, self.factory, admission, self.clock, self.clock.seconds)

    def post(self, query: str, host: str = "127.0.0.1") -> StringTransport:
        """Ask the leader to assign the order; return what gets its answer."""
        self.server = server = self.site.buildProtocol(IPv4Address("TCP", host, 1))
        transport = StringTransport(peerAddress=IPv4Address("TCP", host, 1))
        server.makeConnection(transport)
        path = f"/paper/strategies/orders/1?{query}"
        server.dataReceived(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.advance(0.3)
        return transport

    def check(self, answer: StringTransport, status: int, text: str) -> None:
        """Check an answer."""
        self.assertTrue(answer.value().startswith(b"HTTP/1.1 %d " % status), answer.value())
        self.assertIn(text.encode(), answer.value())

    def stored(self) -> bytes | None:
        """Return the assignments in Redis."""
        found: bytes | None = self.redis.execute("HGET", METADATA_KEY, REMEMBERED + ASSIGNMENTS)
        return found

    def test_answer_follows_the_reply_of_redis(self) -> None:
        """An assignment and its end alike."""
        for query, name in (("strategy=beta", "beta"), ("undo=1", "alpha")):
            delay = ReplyDelay(self.leader.command_client)
            answer = self.post(query)
            self.assertEqual(answer.value(), b"")
            delay.end()
            self.advance(0.1)
            self.check(answer, 200, f'"strategy":"{name}"')
        self.assertEqual(self.stored(), b"{}")

    def test_leader_whose_lease_is_another_nodes_stores_nothing(self) -> None:
        """It does not know yet that its term is over. Later it has what the log has."""
        self.redis.execute("HSET", LEASE_KEY, "owner", "another", "token", "another's")
        answer = self.post("strategy=beta")
        self.advance(SAVE_TIMEOUT)
        self.check(answer, 503, "not known")
        self.assertIsNone(self.stored())
        self.advance(15)
        for member in self.members:
            self.assertEqual(self.quantities(member), {"alpha": "1"})

    def test_end_of_the_term_ends_the_wait(self) -> None:
        """No write follows."""
        self.leader.command_client.stop_replying()
        answer = self.post("strategy=beta")
        self.assertEqual(answer.value(), b"")
        self.leader.journal.stop_leading()
        self.advance(0.1)
        self.check(answer, 503, "not known")

    def test_wait_for_redis_is_bounded(self) -> None:
        """The same request may be sent again, and is then answered as usual."""
        self.end(self.node)
        self.leader.command_client.stop_replying()
        answer = self.post("strategy=beta")
        self.advance(SAVE_TIMEOUT - 0.5)
        self.assertEqual(answer.value(), b"")
        self.advance(0.5)
        self.check(answer, 503, "not known")
        self.leader.restore()
        self.advance(15)  # its term may have ended
        self.check(self.post("strategy=beta"), 200, '"strategy":"beta"')
        self.assertEqual(self.stored(), b'{"1":"beta"}')

    def test_lost_reply_delays_the_answer(self) -> None:
        """The write is repeated after the reconnect."""
        self.leader.command_client.lose_reply()
        answer = self.post("strategy=beta")
        self.assertEqual(answer.value(), b"")
        self.advance(1)
        self.check(answer, 200, '"strategy":"beta"')

    def test_nothing_is_assigned_before_the_leader_writes(self) -> None:
        """Its metadata is then replaced by that of the log."""
        role = self.leader.account.role
        assert role is not None
        role.is_writing = False
        self.check(self.post("strategy=beta"), 503, "cannot be used")
        role.is_writing = True
        self.leader.cut()
        self.check(self.post("strategy=beta"), 503, "cannot be used")
        self.assertEqual(self.quantities(self.leader), {"alpha": "1"})

    def test_answer_that_gives_way_says_that_nothing_is_known(self) -> None:
        """Another address gets its place. The assignment goes on."""
        self.patch(state_pages, "MAX_ANSWERS", 2)
        delay = ReplyDelay(self.leader.command_client)
        first, second = self.post("strategy=beta"), self.post("strategy=gamma")
        third = self.post("strategy=delta", "127.0.0.2")
        self.check(second, 503, "not known")
        delay.end()
        self.advance(0.1)
        self.check(first, 200, "beta")
        self.check(third, 200, "delta")
        self.assertEqual(self.stored(), b'{"1":"delta"}')

    def test_client_that_leaves_ends_no_assignment(self) -> None:
        """It may ask what became of it."""
        delay = ReplyDelay(self.leader.command_client)
        answer = self.post("strategy=beta")
        self.server.connectionLost(Failure(ConnectionDone()))
        delay.end()
        self.advance(0.1)
        self.assertEqual(answer.value(), b"")
        self.assertEqual(self.stored(), b'{"1":"beta"}')
