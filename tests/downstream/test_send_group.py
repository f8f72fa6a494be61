"""Tests for tradeproxy.downstream.send_group: how clients join, leave and close."""

from __future__ import annotations

import gc
import weakref

from tests.support.frames import AUTH, AUTHENTICATED, LISTEN, LISTEN_TO_NOTHING
from tests.support.plain import CLOSE, PING, PONG, TEXT, Peer
from tests.support.send_groups import LISTEN_TO_STATUS, SendGroupTestCase
from tradeproxy.downstream import send_group
from tradeproxy.downstream.clients import DownstreamService
from tradeproxy.downstream.factory import PING_INTERVAL, PONG_TIMEOUT
from tradeproxy.downstream.send_group import MAX_DIRECT_BYTES


class JoiningTests(SendGroupTestCase):
    """Caught-up, unfiltered clients join a send group."""

    def test_caught_up_clients_join_one_group(self) -> None:
        """They form one group, and each is counted as one client."""
        silent = self.connect()
        peers = [self.peer() for _ in range(5)]
        self.publish()
        self.assertIsNone(self.find_group(silent))
        groups = {self.find_group(peer) for peer in peers}
        self.assertEqual([group.size for group in groups if group is not None], [5])
        self.publish(3)
        self.assertEqual({self.find_group(peer) for peer in peers}, groups)
        self.assertEqual(len(self.broadcaster), 6)
        self.assert_all_received(*peers)
        self.assertEqual(silent.texts, [])

    def test_later_client_joins_existing_group(self) -> None:
        """A group grows, so an account with many clients does not have many small groups."""
        (first,) = self.form_group(1)
        second = self.peer()
        self.publish()
        self.assertIs(self.find_group(second), self.find_group(first))
        self.assert_all_received(first)
        self.assert_all_received(second, since=1)

    def test_full_group_is_followed_by_another(self) -> None:
        """The loop over a group does not yield, so its size is limited; free places fill first."""
        self.patch(send_group, "MAX_GROUP_SIZE", 3)
        peers = self.form_group(7)
        sizes = [
            group.size for group in {self.find_group(peer) for peer in peers} if group is not None
        ]
        self.assertEqual(sorted(sizes), [1, 3, 3])
        reset, *staying = peers
        reset.socket.is_reset = True
        self.kernel.settle()
        late = self.peer()
        self.publish()
        self.assertIn(self.find_group(late), {self.find_group(peer) for peer in staying})
        self.publish()
        self.assertEqual(len(self.broadcaster), 7)
        self.assert_all_received(*staying)

    def test_status_client_joins_no_group(self) -> None:
        """It gets other frames, and status frames between them."""
        other = self.peer()
        peer = self.connect("/trade-updates-paper?proxy_status=1")
        peer.say(AUTH)
        self.publish(2)
        self.assertIsNone(self.find_group(peer))
        self.account.mark_upstream_up()
        self.assertIn(b'"proxy_status"', peer.texts[-1])
        self.assertEqual(len(self.broadcaster), 2)
        self.assert_all_received(other)

    def test_client_behind_joins_no_group(self) -> None:
        """Events in the log and buffered bytes must be sent before new events."""
        (reader,) = self.form_group(1)
        self.publish(400)
        replaying = self.connect(f"/trade-updates-paper?since_id={self.account.cursor_at(1)}")
        stalled = self.peer()
        stalled.socket.room = 100
        replaying.say(AUTH)
        for _ in range(3):
            self.publish_without_turn()
            self.kernel.turn()
            self.assertIsNone(self.find_group(replaying))
        self.kernel.settle()
        self.assertIsNone(self.find_group(stalled))
        self.assertEqual(len(self.broadcaster), 3)
        stalled.socket.room = None
        self.publish()
        self.publish()
        self.assertEqual(
            {self.find_group(peer) for peer in (replaying, stalled)}, {self.find_group(reader)}
        )
        self.assertEqual(replaying.texts.pop(0), AUTHENTICATED)
        self.assert_all_received(reader)
        self.assert_all_received(replaying, since=1)
        self.assert_all_received(stalled, since=401)

    def test_empty_group_is_unregistered_and_freed(self) -> None:
        """After its last member leaves, a group gets no events and no reference keeps it."""
        (peer,) = self.form_group(1)
        group = self.find_group(peer)
        assert group is not None
        peer.socket.is_reset = True
        self.kernel.settle()
        self.assertEqual((group.size, len(self.broadcaster)), (0, 0))
        position = group.position
        self.publish()
        self.assertEqual(group.position, position)
        self.form_group(1)
        reference = weakref.ref(group)
        del group
        gc.collect()
        self.assertIsNone(reference())


class LeavingTests(SendGroupTestCase):
    """A client that leaves a group misses no event, and the others are not affected."""

    def test_short_write_leaves_group_and_completes(self) -> None:
        """The rest and later events arrive in order; then the client joins again."""
        slow, other = self.form_group(2)
        slow.socket.room = 500
        self.publish()
        self.assertIsNone(self.find_group(slow))
        self.publish(2)
        self.assert_all_received(other)
        self.assertEqual(slow.texts, self.published[:1])
        slow.socket.room = None
        self.kernel.settle()
        self.publish()
        self.assertIs(self.find_group(slow), self.find_group(other))
        self.assert_all_received(slow, other)

    def test_full_socket_gets_whole_batch_later(self) -> None:
        """The socket took nothing of the batch."""
        slow, other = self.form_group(2)
        slow.socket.room = 0
        self.publish()
        self.assert_all_received(other)
        slow.socket.room = None
        self.publish()
        self.assert_all_received(slow, other)

    def count_buffered(self, peer: Peer) -> int:
        """Return how many bytes wait for a client's socket."""
        transport = peer.transport
        size: int = len(transport.dataBuffer) + transport._tempDataLen  # noqa: SLF001
        return size

    def test_cut_batch_leaves_one_event_in_memory(self) -> None:
        """A copy of the rest for each of 9,000 clients that read nothing took 550 MB."""
        slow, other = self.form_group(2)
        for room in (0, 500, 1_700):
            slow.socket.room = room
            self.publish_without_turn(100)
            self.kernel.turn()
            self.assertLessEqual(self.count_buffered(slow), 2 * len(self.published[0]), room)
            slow.socket.room = None
            self.kernel.settle()
            self.publish()
            self.assert_all_received(slow, other)
            self.assertIs(self.find_group(slow), self.find_group(other))

    def test_slow_member_is_paused_and_buffers_no_more(self) -> None:
        """A client that left its group is paused after a step, like any slow client."""
        slow, other = self.form_group(2)
        slow.socket.room = 500
        self.publish(100)
        buffered = self.count_buffered(slow)
        for _ in range(3):
            self.publish(100)
        self.assertEqual(self.count_buffered(slow), buffered)
        slow.socket.room = None
        self.publish()
        self.assert_all_received(slow, other)

    def test_reset_member_is_removed(self) -> None:
        """The error of its socket does not affect the others."""
        gone, other = self.form_group(2)
        gone.socket.is_reset = True
        self.publish_without_turn()
        self.kernel.settle()
        self.assertTrue(gone.is_gone)
        self.assertEqual((len(self.broadcaster), len(self.factory.clients)), (1, 1))
        self.assert_all_received(other)

    def test_large_batch_is_read_in_steps(self) -> None:
        """Each member reads it at its own pace. A single event of that size is sent directly."""
        peers = self.form_group(3)
        self.publish_without_turn(100, note="x" * (MAX_DIRECT_BYTES // 50))
        self.kernel.turn(2)
        for peer in peers:
            self.assertLess(len(peer.texts), 50)
        self.kernel.settle()
        self.assert_all_received(*peers)
        self.publish()
        self.assertEqual(len({self.find_group(peer) for peer in peers}), 1)
        self.publish(1, note="x" * MAX_DIRECT_BYTES)
        self.assertIsNotNone(self.find_group(peers[0]))
        self.assert_all_received(*peers)

    def test_batch_after_missing_one_is_read_from_log(self) -> None:
        """The broadcaster may drop queued batches."""
        peers = self.form_group(3)
        publish = self.account.journal.on_committed
        self.account.journal.on_committed = lambda _: None
        self.publish()
        self.account.journal.on_committed = publish
        self.publish()
        self.assert_all_received(*peers)

    def test_client_message_is_answered_in_order(self) -> None:
        """The reply is sent in the same turn; the client joins again with the next event."""
        for opcode, payload in ((PING, b"?"), (TEXT, AUTH), (TEXT, LISTEN)):
            self.setUp()
            speaker, other = self.form_group(2)
            speaker.taken()
            speaker.say(payload, opcode)
            self.publish_without_turn()
            self.kernel.turn()
            event, *replies = speaker.taken() + speaker.pongs
            self.assertEqual((event, len(replies)), (self.published[1], 1))
            self.publish()
            self.assertIs(self.find_group(speaker), self.find_group(other))
            self.publish()
            self.assert_all_received(speaker, since=2)
            self.assert_all_received(other)

    def test_buffered_reply_precedes_next_event(self) -> None:
        """Buffered bytes are sent before any later event."""
        speaker, other = self.form_group(2)
        speaker.taken()
        speaker.socket.room = 1
        speaker.say(b"?", PING)
        self.kernel.turn()
        self.assertIsNone(self.find_group(speaker))
        speaker.socket.room = 5000
        self.publish()
        self.publish()
        self.assertEqual(speaker.pongs, [b"?"])
        self.assert_all_received(speaker, since=1)
        self.assert_all_received(other)

    def test_pong_keeps_client_in_group(self) -> None:
        """A pong needs no reply."""
        (peer,) = self.form_group(1)
        peer.say(b"", PONG)
        self.kernel.turn()
        self.assertIsNotNone(self.find_group(peer))

    def test_listen_to_status_leaves_group(self) -> None:
        """The client gets the state, then changes and events with cursors, in order."""
        asking, other = self.form_group(2)
        asking.taken()
        asking.say(LISTEN_TO_STATUS)
        self.kernel.turn()
        self.assertEqual(len(asking.taken()), 2)
        self.publish()
        self.account.mark_upstream_up()
        first, *rest = asking.texts
        self.assertIn(b'"cursor"', first)
        self.assertTrue(rest)
        self.assert_all_received(other)

    def test_client_without_listen_gets_no_events(self) -> None:
        """It gets events again after the next `listen`."""
        peer = self.peer()
        strict = self.connect("/trade-updates-paper/stream")
        for message in (AUTH, LISTEN):
            strict.say(message)
        self.publish()
        self.assertIs(self.find_group(strict), self.find_group(peer))
        strict.say(LISTEN_TO_NOTHING)
        self.kernel.turn()
        strict.taken()
        self.publish()
        self.assertEqual(strict.texts, [])
        strict.say(LISTEN)
        self.kernel.turn()
        strict.taken()
        self.publish()
        self.assert_all_received(strict, since=2)
        self.assert_all_received(peer)


class ClosingTests(SendGroupTestCase):
    """A closed member leaves nothing behind. Peer asserts that no frame follows a close frame."""

    def assert_closed(self, closed: Peer, *others: Peer) -> None:
        self.publish()
        self.kernel.advance(10)
        self.kernel.settle()
        self.assertTrue(closed.is_gone)
        self.assertEqual(
            (len(self.broadcaster), len(self.factory.clients)), (len(others), len(others))
        )
        self.publish()
        self.assert_all_received(*others)
        self.assertEqual(len({self.find_group(peer) for peer in others}), len(others))

    def test_close_frame_is_answered(self) -> None:
        """The proxy replies with the same code."""
        closed, other = self.form_group(2)
        closed.say(b"\x03\xe8", CLOSE)
        self.publish_without_turn()
        self.kernel.turn()
        self.assertEqual(closed.closed, 1000)
        self.assert_closed(closed, other)

    def test_protocol_error_closes_with_its_code(self) -> None:
        """The session or Autobahn closes the client, with an event in the same turn."""
        for opcode, payload, code in (
            (TEXT, b"hello", 4000),
            (3, b"", 1002),
            (TEXT, b"\xff", 1007),
        ):
            self.setUp()
            closed, other = self.form_group(2)
            closed.say(payload, opcode)
            self.publish_without_turn()
            self.kernel.turn()
            self.assertEqual(closed.closed, code)
            self.assert_closed(closed, other)

    def test_no_pong_drops_member(self) -> None:
        """A member is dropped without a pong in time."""
        (closed,) = self.form_group(1)
        for _ in range(0, PONG_TIMEOUT, 5):
            self.assertIsNotNone(self.find_group(closed))
            self.kernel.advance(5)
            self.publish()
        self.kernel.advance(2 * PING_INTERVAL)
        self.assertEqual(closed.pings, 1)
        self.assert_closed(closed)

    def test_close_frame_follows_rest_of_short_write(self) -> None:
        """The rest of a short write arrives before the close frame."""
        closed, other = self.form_group(2)
        closed.socket.room = 500
        self.publish_without_turn()
        self.kernel.turn()
        closed.say(b"hello")
        self.publish()
        closed.socket.room = None
        self.kernel.settle()
        self.assertEqual(closed.closed, 4000)
        self.assertEqual(closed.texts, self.published[: len(closed.texts)])
        self.assertGreaterEqual(len(closed.texts), 2)
        self.assert_closed(closed, other)

    def test_stop_closes_all_members_1012(self) -> None:
        """No frame follows the close frame."""
        peers = self.form_group(3)
        service = DownstreamService(self.factory.clients, self.kernel)
        service.startService()
        self.publish_without_turn()
        stopped = service.stopService()
        self.kernel.settle()
        self.assertEqual([peer.closed for peer in peers], [1012] * 3)
        self.publish()
        self.kernel.advance(3)
        self.kernel.settle()
        self.successResultOf(stopped)
        self.assertEqual([peer.is_gone for peer in peers], [True] * 3)
        self.assertEqual((len(self.broadcaster), len(self.factory.clients)), (0, 0))
