"""Tests for tradeproxy.downstream.send_group: who joins one, who leaves it, and how one ends."""

from __future__ import annotations

import gc
import weakref

from tests.support.frames import AUTH, AUTHENTICATED, LISTEN, LISTEN_TO_NOTHING
from tests.support.plain import CLOSE, PING, PONG, TEXT, Peer
from tests.support.send_groups import LISTEN_TO_STATUS, CrowdTestCase
from tradeproxy.downstream import send_group
from tradeproxy.downstream.clients import DownstreamService
from tradeproxy.downstream.factory import PING_INTERVAL, PONG_TIMEOUT
from tradeproxy.downstream.feed import MAX_DIRECT_BYTES


class JoiningTests(CrowdTestCase):
    """Who is in a crowd, and who is not."""

    def test_who_takes_all_that_it_is_sent_joins(self) -> None:
        """All are one crowd then, and are counted as what they are."""
        silent = self.connect()
        peers = [self.peer() for _ in range(5)]
        self.publish()
        self.assertIsNone(self.crowd_of(silent))
        found = {self.crowd_of(peer) for peer in peers}
        self.assertEqual([member.size for member in found if member is not None], [5])
        self.publish(3)
        self.assertEqual({self.crowd_of(peer) for peer in peers}, found)
        self.assertEqual(len(self.broadcaster), 6)
        self.assert_all_came(*peers)
        self.assertEqual(silent.texts, [])

    def test_who_comes_later_joins_the_same(self) -> None:
        """A crowd grows; accounts of many clients are not served by many crowds."""
        (first,) = self.crowded(1)
        second = self.peer()
        self.publish()
        self.assertIs(self.crowd_of(second), self.crowd_of(first))
        self.assert_all_came(first)
        self.assert_all_came(second, since=1)

    def test_a_crowd_has_its_limit(self) -> None:
        """It is served without a break; more clients are more crowds, and the free places are taken first."""
        self.patch(send_group, "MAX_GROUP_SIZE", 3)
        peers = self.crowded(7)
        sizes = [
            member.size for member in {self.crowd_of(peer) for peer in peers} if member is not None
        ]
        self.assertEqual(sorted(sizes), [1, 3, 3])
        left, *staying = peers
        left.socket.is_reset = True
        self.kernel.settle()
        late = self.peer()
        self.publish()
        self.assertIn(self.crowd_of(late), {self.crowd_of(peer) for peer in staying})
        self.publish()
        self.assertEqual(len(self.broadcaster), 7)
        self.assert_all_came(*staying)

    def test_who_wants_the_status_is_in_none(self) -> None:
        """It gets other frames, and has to be told in between."""
        other = self.peer()
        peer = self.connect("/trade-updates-paper?proxy_status=1")
        peer.say(AUTH)
        self.publish(2)
        self.assertIsNone(self.crowd_of(peer))
        self.account.mark_upstream_up()
        self.assertIn(b'"proxy_status"', peer.texts[-1])
        self.assertEqual(len(self.broadcaster), 2)
        self.assert_all_came(other)

    def test_who_is_not_level_is_in_none(self) -> None:
        """What a client has yet to read, of the log or of its socket, comes before what is new."""
        (reader,) = self.crowded(1)
        self.publish(400)
        replaying = self.connect(f"/trade-updates-paper?since_id={self.account.cursor_at(1)}")
        stalled = self.peer()
        stalled.socket.room = 100
        replaying.say(AUTH)
        for _ in range(3):
            self.hand_in()
            self.kernel.turn()
            self.assertIsNone(self.crowd_of(replaying))
        self.kernel.settle()
        self.assertIsNone(self.crowd_of(stalled))
        self.assertEqual(len(self.broadcaster), 3)
        stalled.socket.room = None
        self.publish()
        self.publish()
        self.assertEqual(
            {self.crowd_of(peer) for peer in (replaying, stalled)}, {self.crowd_of(reader)}
        )
        self.assertEqual(replaying.texts.pop(0), AUTHENTICATED)
        self.assert_all_came(reader)
        self.assert_all_came(replaying, since=1)
        self.assert_all_came(stalled, since=401)

    def test_an_empty_crowd_is_nobodys(self) -> None:
        """Once the last one has left it, nothing is delivered to it, and nothing keeps it."""
        (peer,) = self.crowded(1)
        found = self.crowd_of(peer)
        assert found is not None
        peer.socket.is_reset = True
        self.kernel.settle()
        self.assertEqual((found.size, len(self.broadcaster)), (0, 0))
        position = found.position
        self.publish()
        self.assertEqual(found.position, position)
        self.crowded(1)
        forgotten = weakref.ref(found)
        del found
        gc.collect()
        self.assertIsNone(forgotten())


class LeavingTests(CrowdTestCase):
    """Who leaves a crowd gets whatever follows all the same, and the others notice nothing."""

    def test_a_short_write_is_completed(self) -> None:
        """The rest waits for the socket; what follows is behind it, and then the client joins again."""
        slow, other = self.crowded(2)
        slow.socket.room = 500
        self.publish()
        self.assertIsNone(self.crowd_of(slow))
        self.publish(2)
        self.assert_all_came(other)
        self.assertEqual(slow.texts, self.published[:1])
        slow.socket.room = None
        self.kernel.settle()
        self.publish()
        self.assertIs(self.crowd_of(slow), self.crowd_of(other))
        self.assert_all_came(slow, other)

    def test_a_full_socket_takes_it_later(self) -> None:
        """It has taken nothing of the burst, which waits whole."""
        slow, other = self.crowded(2)
        slow.socket.room = 0
        self.publish()
        self.assert_all_came(other)
        slow.socket.room = None
        self.publish()
        self.assert_all_came(slow, other)

    def test_more_than_a_transport_holds_stays_in_the_log(self) -> None:
        """A client that left its crowd by a large burst is paused like every other, and does not pile up."""
        slow, other = self.crowded(2)
        slow.socket.room = 500
        self.publish(100)
        held = len(slow.transport.dataBuffer) + slow.transport._tempDataLen
        for _ in range(3):
            self.publish(100)
        self.assertEqual(len(slow.transport.dataBuffer) + slow.transport._tempDataLen, held)
        slow.socket.room = None
        self.publish()
        self.assert_all_came(slow, other)

    def test_a_reset_connection_ends(self) -> None:
        """What its socket says is no error of the others'."""
        gone, other = self.crowded(2)
        gone.socket.is_reset = True
        self.hand_in()
        self.kernel.settle()
        self.assertTrue(gone.is_gone)
        self.assertEqual((len(self.broadcaster), len(self.factory.clients)), (1, 1))
        self.assert_all_came(other)

    def test_a_burst_that_is_too_large_is_read_in_steps(self) -> None:
        """By each of them at its own pace, but an event that is that large alone by all at once."""
        peers = self.crowded(3)
        self.hand_in(100, note="x" * (MAX_DIRECT_BYTES // 50))
        self.kernel.turn(2)
        for peer in peers:
            self.assertLess(len(peer.texts), 50)
        self.kernel.settle()
        self.assert_all_came(*peers)
        self.publish()
        self.assertEqual(len({self.crowd_of(peer) for peer in peers}), 1)
        self.publish(1, note="x" * MAX_DIRECT_BYTES)
        self.assertIsNotNone(self.crowd_of(peers[0]))
        self.assert_all_came(*peers)

    def test_a_burst_that_is_not_the_next_is_met_in_the_log(self) -> None:
        """The broadcaster may drop what waits too long."""
        peers = self.crowded(3)
        publish = self.account.journal.on_committed
        self.account.journal.on_committed = lambda _: None
        self.publish()
        self.account.journal.on_committed = publish
        self.publish()
        self.assert_all_came(*peers)

    def test_whatever_a_client_says_is_answered_in_its_place(self) -> None:
        """In the turn in which it comes; and it is in the crowd again with the next."""
        for opcode, words in ((PING, b"?"), (TEXT, AUTH), (TEXT, LISTEN)):
            self.setUp()
            speaking, other = self.crowded(2)
            speaking.taken()
            speaking.say(words, opcode)
            self.hand_in()
            self.kernel.turn()
            event_, *answers = speaking.taken() + speaking.pongs
            self.assertEqual((event_, len(answers)), (self.published[1], 1))
            self.publish()
            self.assertIs(self.crowd_of(speaking), self.crowd_of(other))
            self.publish()
            self.assert_all_came(speaking, since=2)
            self.assert_all_came(other)

    def test_an_answer_that_the_socket_does_not_take_comes_before_the_next_event(self) -> None:
        """Nothing is offered to a socket before what waits for it."""
        speaking, other = self.crowded(2)
        speaking.taken()
        speaking.socket.room = 1
        speaking.say(b"?", PING)
        self.kernel.turn()
        self.assertIsNone(self.crowd_of(speaking))
        speaking.socket.room = 5000
        self.publish()
        self.publish()
        self.assertEqual(speaking.pongs, [b"?"])
        self.assert_all_came(speaking, since=1)
        self.assert_all_came(other)

    def test_a_pong_disturbs_nothing(self) -> None:
        """It is not answered."""
        (peer,) = self.crowded(1)
        peer.say(b"", PONG)
        self.kernel.turn()
        self.assertIsNotNone(self.crowd_of(peer))

    def test_who_asks_for_the_status_gets_it_from_then_on(self) -> None:
        """All there is to know, what changes, and the events with their cursors, in their order."""
        asking, other = self.crowded(2)
        asking.taken()
        asking.say(LISTEN_TO_STATUS)
        self.kernel.turn()
        self.assertEqual(len(asking.taken()), 2)
        self.publish()
        self.account.mark_upstream_up()
        first, *rest = asking.texts
        self.assertIn(b'"cursor"', first)
        self.assertTrue(rest)
        self.assert_all_came(other)

    def test_who_stops_listening_gets_nothing(self) -> None:
        """Until it listens again."""
        peer = self.peer()
        strict = self.connect("/trade-updates-paper/stream")
        for words in (AUTH, LISTEN):
            strict.say(words)
        self.publish()
        self.assertIs(self.crowd_of(strict), self.crowd_of(peer))
        strict.say(LISTEN_TO_NOTHING)
        self.kernel.turn()
        strict.taken()
        self.publish()
        self.assertEqual(strict.texts, [])
        strict.say(LISTEN)
        self.kernel.turn()
        strict.taken()
        self.publish()
        self.assert_all_came(strict, since=2)
        self.assert_all_came(peer)


class EndingTests(CrowdTestCase):
    """Who ends out of a crowd leaves nothing behind; that nothing follows a close frame a Peer sees to."""

    def assert_ended(self, ended: Peer, *others: Peer) -> None:
        self.publish()
        self.kernel.advance(10)
        self.kernel.settle()
        self.assertTrue(ended.is_gone)
        self.assertEqual(
            (len(self.broadcaster), len(self.factory.clients)), (len(others), len(others))
        )
        self.publish()
        self.assert_all_came(*others)
        self.assertEqual(len({self.crowd_of(peer) for peer in others}), len(others))

    def test_a_client_that_says_goodbye(self) -> None:
        """It is answered."""
        ended, other = self.crowded(2)
        ended.say(b"\x03\xe8", CLOSE)
        self.hand_in()
        self.kernel.turn()
        self.assertEqual(ended.closed, 1000)
        self.assert_ended(ended, other)

    def test_a_client_that_breaks_the_rules(self) -> None:
        """Ours, or Autobahn's; with an event in the same turn."""
        for opcode, words, code in ((TEXT, b"hello", 4000), (3, b"", 1002), (TEXT, b"\xff", 1007)):
            self.setUp()
            ended, other = self.crowded(2)
            ended.say(words, opcode)
            self.hand_in()
            self.kernel.turn()
            self.assertEqual(ended.closed, code)
            self.assert_ended(ended, other)

    def test_a_client_that_answers_no_ping(self) -> None:
        """It is dropped out of its crowd."""
        (ended,) = self.crowded(1)
        for _ in range(0, PONG_TIMEOUT, 5):
            self.assertIsNotNone(self.crowd_of(ended))
            self.kernel.advance(5)
            self.publish()
        self.kernel.advance(2 * PING_INTERVAL)
        self.assertEqual(ended.pings, 1)
        self.assert_ended(ended)

    def test_a_client_that_does_not_read_its_close_frame(self) -> None:
        """A short write is completed before it, as far as the client lets it."""
        ended, other = self.crowded(2)
        ended.socket.room = 500
        self.hand_in()
        self.kernel.turn()
        ended.say(b"hello")
        self.publish()
        ended.socket.room = None
        self.kernel.settle()
        self.assertEqual(ended.closed, 4000)
        self.assertEqual(ended.texts, self.published[: len(ended.texts)])
        self.assertGreaterEqual(len(ended.texts), 2)
        self.assert_ended(ended, other)

    def test_all_when_the_proxy_stops(self) -> None:
        """1012, and nothing after it."""
        peers = self.crowded(3)
        service = DownstreamService(self.factory.clients, self.kernel)
        service.startService()
        self.hand_in()
        stopped = service.stopService()
        self.kernel.settle()
        self.assertEqual([peer.closed for peer in peers], [1012] * 3)
        self.publish()
        self.kernel.advance(3)
        self.kernel.settle()
        self.successResultOf(stopped)
        self.assertEqual([peer.is_gone for peer in peers], [True] * 3)
        self.assertEqual((len(self.broadcaster), len(self.factory.clients)), (0, 0))
