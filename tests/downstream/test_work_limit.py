"""Tests for the work that one client can cause in one turn of the reactor, over plain TCP."""

from __future__ import annotations

from tests.support.frames import AUTHENTICATED, LISTEN, LISTENING
from tests.support.plain import CLOSE, PING, TEXT, Peer
from tests.support.send_groups import SendGroupTestCase
from tradeproxy.downstream.handshake_limits import FRAMES_PER_TURN, PER_TURN

FLOOD = 300
"""Frames that fit into one read of a socket, if they are empty pings."""


class WorkLimitTests(SendGroupTestCase):
    """Clients that send as many frames as they can."""

    def flood(self, peer: Peer, count: int = FLOOD, text: bytes = b"", opcode: int = PING) -> None:
        """Send many frames at once."""
        for _ in range(count):
            peer.say(text, opcode)

    def test_frames_of_one_read_are_spread_over_turns(self) -> None:
        """A read of 2 KiB holds 340 empty frames, and each takes tens of microseconds."""
        for attacker in (self.peer(), self.connect()):
            self.flood(attacker)
            handled = 0
            while handled < FLOOD:
                self.kernel.turn()
                self.assertLessEqual(len(attacker.pongs) - handled, FRAMES_PER_TURN)
                handled = len(attacker.pongs)
            self.assertEqual(handled, FLOOD)

    def test_others_are_served_in_the_meantime(self) -> None:
        """Events, replies and handshakes do not wait for ten clients that flood the proxy."""
        attackers = [self.peer() for _ in range(10)]
        victim = self.peer()
        for attacker in attackers:
            self.flood(attacker)
        self.kernel.turn()
        victim.say(LISTEN)
        self.publish_without_turn()
        self.kernel.turn(2)
        self.assertEqual(victim.texts, [self.published[-1], LISTENING])
        self.assertEqual(self.peer().texts, [])
        for attacker in attackers:
            self.assertLess(len(attacker.pongs), FLOOD / 2)
        self.kernel.settle()
        self.assertEqual({len(attacker.pongs) for attacker in attackers}, {FLOOD})

    def test_many_clients_share_the_limit_of_a_turn(self) -> None:
        """However many clients flood the proxy, their excess frames do not add up in a turn."""
        attackers = [self.peer() for _ in range(2 * PER_TURN)]
        for attacker in attackers:
            self.flood(attacker, 50)
        self.kernel.turn()  # the first frames of each
        before = sum(len(attacker.pongs) for attacker in attackers)
        self.kernel.turn()
        handled = sum(len(attacker.pongs) for attacker in attackers) - before
        self.assertLessEqual(handled, PER_TURN * FRAMES_PER_TURN)
        self.kernel.settle()
        self.assertEqual({len(attacker.pongs) for attacker in attackers}, {50})

    def test_reads_of_many_clients_share_the_limit_of_a_turn(self) -> None:
        """Eight frames in one read waited for nothing: thousands of clients add up."""
        attackers = [self.peer() for _ in range(3 * PER_TURN)]
        for attacker in attackers:
            self.flood(attacker, FRAMES_PER_TURN, bytes(100))
        handled = [0]
        while handled[-1] < len(attackers) * FRAMES_PER_TURN:
            self.kernel.turn()
            handled.append(sum(len(attacker.pongs) for attacker in attackers))
            self.assertLessEqual(handled[-1] - handled[-2], PER_TURN * FRAMES_PER_TURN)

    def test_messages_stay_in_order_and_end_with_the_close(self) -> None:
        """Nothing is lost, and nothing is handled after a close frame."""
        peer = self.peer()
        self.flood(peer, 20, LISTEN, TEXT)
        peer.say(b"\x03\xe8", CLOSE)
        self.flood(peer, 20, LISTEN, TEXT)
        self.kernel.settle()
        self.assertEqual(peer.texts, [LISTENING] * 20)
        self.assertEqual(peer.closed, 1000)

    def test_client_that_does_not_read_is_not_read_either(self) -> None:
        """The throttle continues a flood, but it does not make the proxy read a slow client."""
        peer = self.peer()
        self.flood(peer, 100, LISTEN, TEXT)
        self.kernel.turn()
        peer.socket.room = 0
        self.publish(200)
        self.kernel.settle()
        self.flood(peer, 5000)
        unread = len(peer.socket.unread)
        self.kernel.settle()
        self.assertEqual(len(peer.socket.unread), unread)
        peer.socket.room = None
        self.kernel.turn(2000)
        self.assertEqual(peer.socket.unread, b"")
        self.assertIn(peer.texts.count(LISTENING), (99, 100))

    def test_client_that_is_lost_meanwhile_is_forgotten(self) -> None:
        """Its frames are not handled any more."""
        peer = self.peer()
        self.flood(peer)
        self.kernel.turn()
        self.served[peer].abort()
        self.kernel.turn(3)
        handled = len(peer.pongs)
        self.kernel.settle()
        self.assertEqual((len(peer.pongs), peer.texts.count(AUTHENTICATED)), (handled, 0))
        self.assertEqual(len(self.factory.clients), 0)
