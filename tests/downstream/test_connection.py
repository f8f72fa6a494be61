"""Tests for tradeproxy.downstream.connection: limits, statistics, failures and ends."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import ISSLTransport
from twisted.logger import LogEvent, capturedLogs
from zope.interface import alsoProvides

from tests.support.frames import AUTH, AUTHENTICATED, LISTEN, LISTENING
from tests.support.journals import event
from tests.support.memory import LingeringTransport
from tests.support.plain import PING, TEXT, TURN
from tests.support.proxy import Client, NarrowTransport, ProxyTestCase
from tests.support.send_groups import SendGroupTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.journal.base import Batch
from tradeproxy.wire.close_codes import CloseCode

PEER = "127.0.0.1:50000"


def read_rejections(logs: Sequence[LogEvent]) -> list[tuple[str, str]]:
    """Return the address and the reason of each line `rejected …`."""
    return [(each["peer"], each["reason"]) for each in logs if "peer" in each]


class ConnectionTestCase(ProxyTestCase):
    """What these tests share; it has no test."""

    def setUp(self) -> None:
        super().setUp()
        self.rejections = self.factory.clients.rejections.counts

    def authenticate(self, query: str = "") -> Client:
        """Connect a client that gets events."""
        client = self.connect(f"/trade-updates-paper{query}")
        self.assertEqual(self.say(client, AUTH), [AUTHENTICATED])
        return client

    def publish_events(self, count: int) -> None:
        """Publish new events of about 700 bytes each in one batch."""
        last = self.paper.journal.last
        self.publish(self.paper, *(event(last + n).payload for n in range(count)))

    def assert_gone_after(self, seconds: float) -> None:
        """Assert that the only client is gone then, and not before."""
        self.wires.advance(seconds - 0.3)
        self.assertEqual(len(self.factory.clients), 1)
        self.wires.advance(0.6)
        self.assertEqual(len(self.factory.clients), 0)


class ConnectionTimeLimitTests(ConnectionTestCase):
    """How long a client may take."""

    limits = Limits(stall_timeout=300)

    def test_silent_client_is_closed_4002_whatever_it_sent_before_auth(self) -> None:
        """Only an accepted auth message ends the limit of ten seconds."""
        client = self.connect()
        self.assertEqual(self.say(client, LISTEN), [LISTENING])
        self.wires.advance(9.9)
        self.assertIsNone(client.closed)
        with capturedLogs() as logs:
            self.wires.advance(0.2)
        reason = "no auth message came in time: reconnect and send one"
        self.assertEqual(client.closed, (4002, reason))
        self.assertEqual(read_rejections(logs), [(PEER, reason)])

    def test_client_that_left_before_auth_is_no_timeout(self) -> None:
        """The operator would look for clients that hang."""
        self.connect().sendClose(1000)
        self.wires.advance(20)
        self.assertEqual(self.rejections, {})

    def test_close_frame_is_to_be_answered_within_5_seconds(self) -> None:
        """The client's TCP connection stays open, as over TLS."""
        self.wires.transport = LingeringTransport
        client = self.connect()
        client.answers_close = False
        self.say(client, b"hello")
        self.assert_gone_after(5)

    def test_slow_client_has_30_seconds_to_read_its_close_frame(self) -> None:
        """It must first read the megabytes that the kernel buffered before the frame."""
        self.wires.transport = NarrowTransport
        self.authenticate()
        self.server_transport(0).blocked = True
        self.publish_events(200)
        [client] = self.factory.clients
        client.close(CloseCode.TOO_SLOW)
        self.assert_gone_after(30)

    def test_pong_timeout_exceeds_a_longer_stall_timeout_by_two_pings(self) -> None:
        """The proxy reads no pongs while a client stalls. The first ping is sent after 20 s."""
        client = self.authenticate()
        client.answers_pings = False
        with capturedLogs() as logs:
            self.assert_gone_after(20 + 300 + 2 * 20)
        self.assertEqual(self.rejections, {"no pong for 340 s": 1})
        self.assertEqual(read_rejections(logs), [(PEER, "no pong for 340 s")])


class ConnectionWorkTests(ConnectionTestCase):
    """What the proxy does for one client, and when it stops."""

    def test_closed_client_is_not_dropped_by_an_error_of_the_log(self) -> None:
        """It has to get its close frame, so the log is not read for it any more."""
        self.publish_events(3)
        client = self.connect("/trade-updates-paper?replay=3")
        client.answers_close = False

        def fail(after: int, limit: int) -> Batch:
            raise ZeroDivisionError

        self.patch(self.paper.journal, "read", fail)
        self.assertEqual(self.say(client, AUTH, b"hello"), [AUTHENTICATED])
        self.assertEqual(client.closed, (4000, "that message is not JSON"))
        self.assertEqual(len(self.factory.clients), 1)

    def test_lost_slow_client_does_not_stall(self) -> None:
        """Its timer would keep it in memory, and count it as too slow."""
        self.wires.transport = NarrowTransport
        self.authenticate()
        transport = self.server_transport(0)
        transport.blocked = True
        self.publish_events(200)
        transport.abortConnection()
        self.wires.advance(31)
        self.assertEqual((len(self.factory.clients), self.rejections), (0, {}))

    def test_session_failure_drops_the_client_and_is_logged(self) -> None:
        """Autobahn would leave it connected without a stream."""
        client = self.connect("/trade-updates-paper?since_id=1")

        def fail(event_id: str) -> int:
            raise ZeroDivisionError

        self.patch(self.paper.journal, "find", fail)
        self.say(client, AUTH)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertFalse(client.is_open_now)
        self.assertEqual(len(self.factory.clients), 0)


class ConnectionStatsTests(SendGroupTestCase):
    """What the operator sees of a client, over plain TCP."""

    def list_lags(self) -> list[int]:
        """Return how many events each client has still to get, in the order of connection."""
        return [stats.lag for stats in self.factory.clients.list_stats()]

    def test_lag_counts_events_of_the_log_that_are_not_written(self) -> None:
        """A client before its auth message is not listed; a group's member has its group's."""
        self.connect()
        peers = [self.peer() for _ in range(2)]
        self.publish(3)
        self.assertEqual(self.list_lags(), [0, 0])
        self.assertIsNotNone(self.find_group(peers[0]))
        peers[1].socket.room = 0
        self.publish(200)
        lag = self.list_lags()[1]
        self.publish(4)
        self.assertEqual(self.list_lags(), [0, lag + 4])
        self.publish_without_turn(2)
        self.account.journal.on_committed = lambda _: None
        self.kernel.turn()
        self.assertEqual(self.list_lags(), [2, lag + 6])

    def test_client_ahead_of_the_log_has_no_lag(self) -> None:
        """A log in Redis may be replaced by one that ends earlier, after a loss."""
        self.form_group(1)
        slow = self.peer()
        slow.socket.room = 0
        self.publish(3)
        self.account.journal.last -= 2
        self.assertEqual(self.list_lags(), [0, 0])


class ConnectionTurnTests(SendGroupTestCase):
    """In which turn of the reactor a client is served, over plain TCP."""

    def test_frame_in_pieces_is_followed_by_events(self) -> None:
        """Autobahn can send a frame in pieces, a turn apart: no event may come between them."""
        peer, other = self.form_group(2)
        peer.taken()
        self.served[peer].sendFrame(TEXT, b"0123456789", chopsize=5)
        self.publish_without_turn()
        self.assertEqual(peer.texts, [])
        self.kernel.settle()
        self.assertEqual(peer.texts, [b"0123456789", self.published[1]])
        self.publish()
        self.assertIs(self.find_group(peer), self.find_group(other))
        self.assert_all_received(other)

    def test_client_after_a_short_write_joins_with_the_next_event(self) -> None:
        """Its socket has to take a whole event, even if it takes the rest in the same turn."""
        (peer,) = self.form_group(1)

        def make_room() -> None:
            if peer.socket.room == 0:
                peer.socket.room = None

        for _ in range(2):  # the first event makes it leave its group
            peer.socket.room = 500
            self.publish_without_turn()
            while peer.texts != self.published:
                self.kernel.callLater(0, make_room)
                self.kernel.turn()
            self.kernel.settle()
            self.assertIsNone(self.find_group(peer))
        self.publish()
        self.assertIsNotNone(self.find_group(peer))
        self.assert_all_received(peer)

    def test_replay_ends_with_the_close_frame(self) -> None:
        """The rest of the log would be read for nothing, up to the close timeout."""
        self.publish(20, note="x" * 50_000)
        for opcode, payload, code in ((TEXT, b"hello", 4000), (3, b"", 1002)):
            peer = self.connect("/trade-updates-paper?replay=20")
            peer.say(AUTH)
            peer.say(payload, opcode)
            self.kernel.turn(3)
            self.assertEqual(peer.closed, code)
            due = self.kernel.seconds() + TURN
            self.assertTrue(all(call.getTime() > due for call in self.kernel.getDelayedCalls()))

    def test_reply_to_a_full_socket_arrives_later(self) -> None:
        """Nothing of it was sent at first, so all of it waits."""
        peer = self.connect()
        peer.socket.room = 0
        peer.say(AUTH)
        self.kernel.turn(2)
        self.assertEqual(peer.texts, [])
        peer.socket.room = None
        self.kernel.settle()
        self.assertEqual(peer.texts, [AUTHENTICATED])

    def test_member_stays_in_its_group_after_the_auth_deadline(self) -> None:
        """The deadline ends with the auth message: later nothing is done for it."""
        peers = self.form_group(2)
        self.kernel.advance(11)
        self.assertIs(self.find_group(peers[0]), self.find_group(peers[1]))
        self.assertIsNotNone(self.find_group(peers[0]))

    def test_auth_messages_beyond_the_limit_wait_for_the_next_turns(self) -> None:
        """Of those that wait, a client that is lost uses up no turn."""
        self.patch(self.factory.throttle, "per_turn", 2)
        peers = [self.connect() for _ in range(8)]
        self.kernel.turn()
        for peer in peers:
            peer.say(AUTH)
        answered = []
        for _ in range(3):
            self.kernel.turn()
            answered.append([peer.texts for peer in peers].count([AUTHENTICATED]))
            for peer in peers[4:6]:
                self.served[peer].abort()
        self.assertEqual(answered, [2, 4, 6])
        self.assertEqual(peers[4].texts + peers[5].texts, [])
        for peer in peers:  # an authenticated client does not wait
            peer.say(LISTEN)
        self.kernel.turn()
        self.assertEqual([LISTENING in peer.texts for peer in peers].count(True), 6)

    def test_pieces_of_a_read_over_tls_wait_for_the_next_turns(self) -> None:
        """A read of 2 KiB holds up to 70 records, and each may hold a frame."""
        self.patch(self.factory.frame_throttle, "per_turn", 2)
        peer = self.peer()
        peer.say(LISTEN)
        self.kernel.turn(2)
        alsoProvides(peer.transport, ISSLTransport)
        ping = bytes([0x80 | PING, 0x80, 0, 0, 0, 0])
        answered = []
        for _ in range(6):
            self.served[peer].dataReceived(ping)
        for _ in range(5):
            answered.append(len(peer.pongs))
            self.kernel.turn()
        self.assertEqual(answered, [2, 3, 4, 5, 6])
