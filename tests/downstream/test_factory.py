"""The clients' connections, through the site, in memory and in fake time."""

from __future__ import annotations

from tests.support.frames import (
    AUTH,
    AUTHENTICATE,
    AUTHENTICATED,
    AUTHORIZED,
    LISTEN,
    LISTENING,
    UNAUTHORIZED,
)
from tests.support.memory import LingeringTransport
from tests.support.proxy import ProxyTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.connection import CLOSE_TIMEOUT

EVENTS = [b'{"stream":"trade_updates","data":{"event":"new","n":%d}}' % n for n in range(3)]


class OriginalPathTests(ProxyTestCase):
    """`/trade-updates-paper`, in the manner of the original proxy."""

    def test_every_event_follows_the_auth_message(self) -> None:
        """A client that never listens gets the array reply and, from then on, all events, untouched."""
        client = self.connect()
        self.assertEqual(self.say(client, AUTH), [AUTHENTICATED])
        self.publish(self.paper, *EVENTS)
        self.assertEqual(client.taken(), EVENTS)

    def test_sdks_get_the_object_reply_and_the_ack(self) -> None:
        """A client that authenticates as Alpaca's SDKs do gets what they need, in that order."""
        client = self.connect()
        self.assertEqual(self.say(client, AUTHENTICATE, LISTEN), [AUTHORIZED, LISTENING])

    def test_binary_frames_are_understood(self) -> None:
        """The C# SDK sends its JSON in binary frames."""
        client = self.connect()
        self.assertEqual(
            self.say(client, AUTHENTICATE, LISTEN, binary=True), [AUTHORIZED, LISTENING]
        )

    def test_nothing_comes_before_the_auth_reply(self) -> None:
        """An event that arrives while a client has yet to authenticate is not for it."""
        client = self.connect()
        self.publish(self.paper, EVENTS[0])
        self.assertEqual(client.taken(), [])
        self.assertEqual(self.say(client, AUTH), [AUTHENTICATED])

    def test_accounts_are_apart(self) -> None:
        """A client of one account gets none of the other's events."""
        paper, live = self.connect("/paper"), self.connect("/live")
        self.say(paper, AUTH)
        self.say(live, AUTH)
        self.publish(self.live, EVENTS[0])
        self.publish(self.paper, EVENTS[1])
        self.assertEqual((paper.taken(), live.taken()), ([EVENTS[1]], [EVENTS[0]]))

    def test_upstream_trouble_leaves_clients_alone(self) -> None:
        """The stream goes on where it was, however long Alpaca was away."""
        client = self.connect()
        self.say(client, AUTH)
        self.paper.mark_upstream_down("gone")
        self.wires.advance(3600)
        self.publish(self.paper, EVENTS[0])
        self.assertEqual((client.closed, client.taken()), (None, [EVENTS[0]]))


class HandshakeTests(ProxyTestCase):
    """What clients offer at the handshake."""

    def test_an_offer_of_compression_is_passed_over(self) -> None:
        """Most libraries make one; the stream is not compressed, which would cost every client 200 KB."""
        answer = self.upgrade(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
        self.assertEqual(answer.status, 101)
        self.assertNotIn(b"extensions", answer.received.lower())

    def test_every_client_has_the_options_of_the_factory(self) -> None:
        """Shared or copied, they are those that were set."""
        self.connect()
        (client,) = self.factory.clients
        for name in self.factory.protocol.CONFIG_ATTRS:
            self.assertEqual(getattr(client, name), getattr(self.factory, name), name)


class AlpacaPathTests(ProxyTestCase):
    """`/trade-updates-paper/stream`, strictly as Alpaca's own."""

    def test_nothing_comes_before_listen(self) -> None:
        """Events follow the ack of `listen`, and end with an empty one."""
        client = self.connect("/trade-updates-paper/stream")
        self.assertEqual(self.say(client, AUTH), [AUTHORIZED])
        self.publish(self.paper, EVENTS[0])
        self.assertEqual(client.taken(), [])
        self.assertEqual(self.say(client, LISTEN), [LISTENING])
        self.publish(self.paper, EVENTS[1])
        self.assertEqual(client.taken(), [EVENTS[1]])
        self.say(client, b'{"action":"listen","data":{"streams":[]}}')
        self.publish(self.paper, EVENTS[2])
        self.assertEqual(client.taken(), [])


class CloseTests(ProxyTestCase):
    """Every end of a connection has its code and its reason."""

    def test_a_message_that_is_not_json(self) -> None:
        """4000 says that to reconnect would not help."""
        client = self.connect()
        self.say(client, b"hello")
        self.assertEqual(client.closed, (4000, "that message is not JSON"))

    def test_a_message_that_is_too_large(self) -> None:
        """1009 is Autobahn's own; nothing follows its close frame, and the others stay."""
        client, other = self.connect(), self.connect()
        self.say(client, AUTH)
        self.say(other, AUTH)
        self.say(client, b'"' + b"x" * 16 * 1024 + b'"')
        self.publish(self.paper, EVENTS[0])
        assert client.closed is not None
        self.assertEqual(client.closed[0], 1009)
        self.assertEqual((client.taken(), other.taken()), ([], [EVENTS[0]]))

    def test_nothing_follows_a_close_frame_of_autobahns_own(self) -> None:
        """It knows of protocol errors before we do; the next event must not be written behind it."""
        client = self.connect()
        self.say(client, AUTH)
        client.answers_close = False
        transport = self.transport_of(0)
        self.say(client, b'"' + b"x" * 16 * 1024 + b'"')
        assert client.closed is not None
        written: list[bytes] = []
        transport.write = written.append
        self.publish(self.paper, EVENTS[0])
        self.assertEqual(written, [])

    def test_no_auth_in_time(self) -> None:
        """A client that says nothing has ten seconds, one that authenticated all the time."""
        mute, known = self.connect(), self.connect()
        self.say(known, AUTH)
        self.wires.advance(9.9)
        self.assertIsNone(mute.closed)
        self.wires.advance(0.2)
        assert mute.closed is not None
        self.assertEqual(mute.closed[0], 4002)
        self.assertTrue(known.is_open_now)

    def test_a_client_that_leaves_is_forgotten(self) -> None:
        """After its close frame nothing is delivered to it, and its place is free."""
        client = self.connect()
        self.say(client, AUTH)
        client.sendClose(1000)
        self.wires.advance(1)
        self.assertEqual(len(self.paper.broadcaster), 0)
        self.assertEqual(len(self.factory.clients), 0)

    def test_a_client_that_leaves_without_letting_go_is_forgotten(self) -> None:
        """A close frame and then nothing, as over TLS, does not keep one of the places for ever."""
        self.wires.transport = LingeringTransport
        client = self.connect()
        client.sendClose(1000)
        self.wires.advance(CLOSE_TIMEOUT - 0.1)
        self.assertEqual(len(self.factory.clients), 1)
        self.wires.advance(0.2)
        self.assertEqual(len(self.factory.clients), 0)

    def test_the_service_says_goodbye(self) -> None:
        """When the proxy stops, every client is told to reconnect, whether it has authenticated or not."""
        clients = [self.connect() for _ in range(3)]
        self.say(clients[0], AUTH)
        stopped = self.service.stopService()
        self.wires.advance(1)
        self.successResultOf(stopped)
        self.assertEqual({client.closed for client in clients}, {(1012, clients[0].closed[1])})  # type: ignore[index]
        self.assertEqual(self.upgrade().status, 503)

    def test_goodbyes_are_bounded(self) -> None:
        """A client that does not answer its close frame delays the stop by no more than two seconds."""
        client = self.connect()
        client.answers_close = False
        stopped = self.service.stopService()
        self.wires.advance(1.9)
        self.assertNoResult(stopped)
        self.wires.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(len(self.factory.clients), 0)

    def test_without_clients_the_service_stops_at_once(self) -> None:
        """There is nobody to wait for."""
        self.successResultOf(self.service.stopService())


class TokenTests(ProxyTestCase):
    """With PROXY_TOKENS a client must hold one, in any of the places where it can put it."""

    tokens = ("first-token", "second-token")

    def test_the_auth_message_may_hold_it_in_every_dialect(self) -> None:
        """As key, as secret, as OAuth token: bots set it where they used to set their keys."""
        for message, reply in (
            (b'{"action":"auth","key":"first-token","secret":"x"}', AUTHENTICATED),
            (b'{"action":"auth","key":"x","secret":"second-token"}', AUTHENTICATED),
            (
                b'{"action":"authenticate","data":{"key_id":"x","secret_key":"first-token"}}',
                AUTHORIZED,
            ),
            (b'{"action":"authenticate","data":{"oauth_token":"first-token"}}', AUTHORIZED),
        ):
            self.assertEqual(self.say(self.connect(), message), [reply], message)

    def test_a_wrong_one_is_refused_in_either_dialect(self) -> None:
        """The authorization object says unauthorized, then 4001 says that to reconnect would not help."""
        for message in (AUTH, AUTHENTICATE):
            client = self.connect()
            self.assertEqual(self.say(client, message), [UNAUTHORIZED])
            assert client.closed is not None
            self.assertEqual(client.closed[0], 4001)

    def test_headers_may_hold_it(self) -> None:
        """Then the auth message may say anything, as it may without tokens."""
        for headers in (
            {"Authorization": "Bearer first-token"},
            {"APCA_API_KEY_ID": "x", "APCA_API_SECRET_KEY": "second-token"},
        ):
            self.assertEqual(self.say(self.connect(**headers), AUTH), [AUTHENTICATED], headers)

    def test_a_wrong_header_is_refused_before_the_upgrade(self) -> None:
        """There is nothing to upgrade for."""
        self.assertEqual(self.upgrade(Authorization="Bearer guess").status, 401)


class KeepAliveTests(ProxyTestCase):
    """Pings, both ways."""

    def test_a_clients_ping_is_answered_at_once(self) -> None:
        """Some SDKs want their pong within five seconds."""
        client = self.connect()
        client.sendPing(b"are you there")
        self.wires.flush()
        self.assertEqual(client.pongs, [b"are you there"])

    def test_of_several_pings_the_last_is_answered_once_the_client_reads(self) -> None:
        """A client that does not read must not fill memory by asking (RFC 6455, 5.5.3 lets us choose)."""
        slow = self.connect()
        self.transport_of(
            0
        ).producer.pauseProducing()  # as Twisted does when its own 64 KiB are full
        for ping in (b"1", b"2", b"3"):
            slow.sendPing(ping)
        self.wires.flush()
        self.assertEqual(slow.pongs, [])
        self.transport_of(0).producer.resumeProducing()
        self.wires.flush()
        self.assertEqual(slow.pongs, [b"3"])

    def test_clients_are_pinged_every_twenty_seconds(self) -> None:
        """An idle connection stays known to whatever is in between."""
        client = self.connect()
        self.say(client, AUTH)
        self.wires.advance(61)
        self.assertEqual(client.pings, 3)
        self.assertTrue(client.is_open_now)

    def test_a_client_that_is_gone_is_found(self) -> None:
        """Without a pong for three minutes it is dropped."""
        client = self.connect()
        self.say(client, AUTH)
        client.answers_pings = False
        self.wires.advance(199)
        self.assertEqual(len(self.factory.clients), 1)
        self.wires.advance(2)
        self.assertEqual(len(self.factory.clients), 0)


class CapacityTests(ProxyTestCase):
    """PROXY_MAX_CLIENTS."""

    limits = Limits(max_clients=2)

    def test_one_more_than_the_limit_is_refused_before_the_upgrade(self) -> None:
        """503, until somebody leaves."""
        first, _ = self.connect(), self.connect("/live/stream")
        self.assertEqual(self.upgrade().status, 503)
        first.sendClose(1000)
        self.wires.advance(1)
        self.assertEqual(self.upgrade().status, 101)
