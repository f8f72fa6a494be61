"""Tests for tradeproxy.downstream.factory and connection: through the site, in memory."""

from __future__ import annotations

import time
from functools import partial

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
from tradeproxy.downstream.connection import CLOSE_TIMEOUT

EVENTS = [b'{"stream":"trade_updates","data":{"event":"new","n":%d}}' % n for n in range(3)]


class OriginalPathTests(ProxyTestCase):
    """`/trade-updates-paper` behaves as the original proxy."""

    def test_original_path_auth_starts_events(self) -> None:
        """A client without `listen` gets the array reply, and then all events, byte for byte."""
        client = self.connect()
        self.assertEqual(self.say(client, AUTH), [AUTHENTICATED])
        self.publish(self.paper, *EVENTS)
        self.assertEqual(client.taken(), EVENTS)

    def test_authenticate_gets_object_reply_and_listen_ack(self) -> None:
        """A client that authenticates as Alpaca's SDKs do gets both replies in order."""
        client = self.connect()
        self.assertEqual(self.say(client, AUTHENTICATE, LISTEN), [AUTHORIZED, LISTENING])

    def test_binary_messages_are_accepted(self) -> None:
        """The C# SDK sends its JSON in binary frames."""
        client = self.connect()
        self.assertEqual(
            self.say(client, AUTHENTICATE, LISTEN, binary=True), [AUTHORIZED, LISTENING]
        )

    def test_event_before_auth_is_not_sent(self) -> None:
        """An unauthenticated client does not get events, not even after it authenticates."""
        client = self.connect()
        self.publish(self.paper, EVENTS[0])
        self.assertEqual(client.taken(), [])
        self.assertEqual(self.say(client, AUTH), [AUTHENTICATED])

    def test_client_gets_only_its_accounts_events(self) -> None:
        """A client of one account gets none of the other's events."""
        paper, live = self.connect("/paper"), self.connect("/live")
        self.say(paper, AUTH)
        self.say(live, AUTH)
        self.publish(self.live, EVENTS[0])
        self.publish(self.paper, EVENTS[1])
        self.assertEqual((paper.taken(), live.taken()), ([EVENTS[1]], [EVENTS[0]]))

    def test_upstream_outage_keeps_clients_connected(self) -> None:
        """After an outage of any length the client gets the next event."""
        client = self.connect()
        self.say(client, AUTH)
        self.paper.mark_upstream_down("gone")
        self.wires.advance(3600)
        self.publish(self.paper, EVENTS[0])
        self.assertEqual((client.closed, client.taken()), (None, [EVENTS[0]]))


class HandshakeOptionTests(ProxyTestCase):
    """Options and extensions of the handshake."""

    def test_offered_compression_is_declined(self) -> None:
        """Most libraries offer it. Compression would take 200 KB of memory per client."""
        answer = self.upgrade(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
        self.assertEqual(answer.status, 101)
        self.assertNotIn(b"extensions", answer.received.lower())

    def test_subprotocol_tradeproxy_is_chosen_if_offered(self) -> None:
        """Browsers end a connection whose server chooses none of the offered ones."""
        for offer in ("tradeproxy", "chat,tradeproxy", "chat , tradeproxy , x"):
            answer = self.upgrade(Sec_WebSocket_Protocol=offer)
            self.assertIn(b"\r\nSec-WebSocket-Protocol: tradeproxy\r\n", answer.received, offer)
        for offer in ("chat", "TradeProxy", "tradeproxy2, x", ""):
            answer = self.upgrade(Sec_WebSocket_Protocol=offer)
            self.assertEqual(answer.status, 101)
            self.assertNotIn(b"protocol:", answer.received.lower(), offer)

    def test_message_pack_is_refused(self) -> None:
        """Alpaca's market data offers it. A client that decodes it could not read these events."""
        for kind in ("application/msgpack", "application/x-msgpack", "Application/MsgPack; v=1"):
            answer = self.upgrade(Content_Type=kind)
            self.assertEqual(answer.status, 415)
            self.assertIn("JSON", answer.reason)
        self.assertEqual(self.upgrade(Content_Type="application/json").status, 101)

    def test_client_options_equal_factory_options(self) -> None:
        """The class or the instance has each option with its value."""
        self.connect()
        (client,) = self.factory.clients
        for name in self.factory.protocol.CONFIG_ATTRS:
            self.assertEqual(getattr(client, name), getattr(self.factory, name), name)


class AlpacaPathTests(ProxyTestCase):
    """`/trade-updates-paper/stream` behaves as Alpaca's stream."""

    def test_alpaca_path_events_follow_listen_only(self) -> None:
        """Events start after the ack of `listen`, and stop with an empty `listen`."""
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


class ConnectionCloseTests(ProxyTestCase):
    """Every close has its code and its reason."""

    def test_no_json_closes_4000(self) -> None:
        """4000 means that a reconnect does not help."""
        client = self.connect()
        self.say(client, b"hello")
        self.assertEqual(client.closed, (4000, "that message is not JSON"))

    def test_too_large_message_closes_1009(self) -> None:
        """Autobahn sends 1009; nothing follows it, and other clients stay connected."""
        client, other = self.connect(), self.connect()
        self.say(client, AUTH)
        self.say(other, AUTH)
        self.say(client, b'"' + b"x" * 16 * 1024 + b'"')
        self.publish(self.paper, EVENTS[0])
        assert client.closed is not None
        self.assertEqual(client.closed[0], 1009)
        self.assertEqual((client.taken(), other.taken()), ([], [EVENTS[0]]))

    def test_message_of_too_many_fragments_closes_1009(self) -> None:
        """Empty fragments have no bytes to count: one client took 25 MB with them."""
        for count, is_closed in ((64, False), (65, True)):
            client = self.connect()
            client.beginMessage()
            for _ in range(count - 1):
                client.sendMessageFrame(b"")
            client.sendMessageFrame(AUTH)
            self.wires.flush()
            self.assertEqual(client.closed is not None, is_closed)
        assert client.closed is not None
        self.assertEqual(client.closed[0], 1009)
        counts = self.factory.clients.rejections.counts
        self.assertEqual(counts["a message over the limit of its bytes or fragments"], 1)

    def test_no_event_follows_autobahns_close_frame(self) -> None:
        """Autobahn closes on a protocol error by itself; the next event must not follow."""
        client = self.connect()
        self.say(client, AUTH)
        client.answers_close = False
        transport = self.server_transport(0)
        self.say(client, b'"' + b"x" * 16 * 1024 + b'"')
        assert client.closed is not None
        written: list[bytes] = []
        transport.write = written.append
        self.publish(self.paper, EVENTS[0])
        self.assertEqual(written, [])

    def test_no_auth_in_time_closes_4002(self) -> None:
        """A silent client has ten seconds; an authenticated one stays open."""
        silent, authenticated = self.connect(), self.connect()
        self.say(authenticated, AUTH)
        self.wires.advance(9.9)
        self.assertIsNone(silent.closed)
        self.wires.advance(0.2)
        assert silent.closed is not None
        self.assertEqual(silent.closed[0], 4002)
        self.assertTrue(authenticated.is_open_now)

    def test_closed_client_is_unregistered(self) -> None:
        """After its close frame it gets no event, and does not count against the limit."""
        client = self.connect()
        self.say(client, AUTH)
        client.sendClose(1000)
        self.wires.advance(1)
        self.assertEqual(len(self.paper.broadcaster), 0)
        self.assertEqual(len(self.factory.clients), 0)

    def test_client_that_keeps_tcp_open_is_aborted_after_close_timeout(self) -> None:
        """A client that closes and keeps TCP open, as over TLS, does not count for ever."""
        self.wires.transport = LingeringTransport
        client = self.connect()
        client.sendClose(1000)
        self.wires.advance(CLOSE_TIMEOUT - 0.1)
        self.assertEqual(len(self.factory.clients), 1)
        self.wires.advance(0.2)
        self.assertEqual(len(self.factory.clients), 0)

    def test_stop_closes_all_clients_1012(self) -> None:
        """A stop closes authenticated and unauthenticated clients with 1012: reconnect."""
        clients = [self.connect() for _ in range(3)]
        self.say(clients[0], AUTH)
        stopped = self.service.stopService()
        self.wires.advance(1)
        self.successResultOf(stopped)
        assert clients[0].closed is not None
        reason = clients[0].closed[1]
        self.assertEqual({client.closed for client in clients}, {(1012, reason)})
        self.assertEqual(self.upgrade().status, 503)

    def test_stop_aborts_clients_after_timeout(self) -> None:
        """A client that does not answer its close frame delays the stop by two seconds at most."""
        client = self.connect()
        client.answers_close = False
        stopped = self.service.stopService()
        self.wires.advance(1.9)
        self.assertNoResult(stopped)
        self.wires.advance(0.2)
        self.successResultOf(stopped)
        self.assertEqual(len(self.factory.clients), 0)

    def test_stop_without_clients_completes_at_once(self) -> None:
        """No connection delays the stop."""
        self.successResultOf(self.service.stopService())


class ClientTokenTests(ProxyTestCase):
    """With PROXY_TOKENS a client must send one, in its headers or in its auth message."""

    tokens = ("first-token", "second-token")

    def test_token_in_auth_message_is_accepted_in_every_dialect(self) -> None:
        """Key, secret and OAuth token are checked: bots set it in place of their keys."""
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

    def test_wrong_token_closes_4001_in_both_dialects(self) -> None:
        """The reply is unauthorized; 4001 means that a reconnect does not help."""
        for message in (AUTH, AUTHENTICATE):
            client = self.connect()
            self.assertEqual(self.say(client, message), [UNAUTHORIZED])
            assert client.closed is not None
            self.assertEqual(client.closed[0], 4001)

    def test_token_in_headers_accepts_any_auth_message(self) -> None:
        """The auth message may then contain any credentials, as without tokens."""
        for headers in (
            {"Authorization": "Bearer first-token"},
            {"APCA_API_KEY_ID": "x", "APCA_API_SECRET_KEY": "second-token"},
        ):
            self.assertEqual(self.say(self.connect(**headers), AUTH), [AUTHENTICATED], headers)

    def test_wrong_token_in_header_is_401(self) -> None:
        """The request is rejected before the upgrade."""
        self.assertEqual(self.upgrade(Authorization="Bearer guess").status, 401)


class KeepAliveTests(ProxyTestCase):
    """Pings in both directions."""

    def test_client_ping_is_answered_at_once(self) -> None:
        """Some SDKs expect a pong within five seconds."""
        client = self.connect()
        client.sendPing(b"are you there")
        self.wires.flush()
        self.assertEqual(client.pongs, [b"are you there"])

    def test_pings_of_paused_client_get_one_pong_for_the_last(self) -> None:
        """A client that does not read must not fill memory with pongs (RFC 6455, 5.5.3)."""
        slow = self.connect()
        self.server_transport(
            0
        ).producer.pauseProducing()  # as Twisted does when its own 64 KiB are full
        for ping in (b"1", b"2", b"3"):
            slow.sendPing(ping)
        self.wires.flush()
        self.assertEqual(slow.pongs, [])
        self.server_transport(0).producer.resumeProducing()
        self.wires.flush()
        self.assertEqual(slow.pongs, [b"3"])
        slow.sendPing(b"4")  # it reads again, so each ping gets its pong
        self.wires.flush()
        self.assertEqual(slow.pongs, [b"3", b"4"])

    def test_clients_are_pinged_every_20_seconds(self) -> None:
        """Pings keep an idle connection alive in NATs and proxies."""
        client = self.connect()
        self.say(client, AUTH)
        self.wires.advance(59.7)
        self.assertEqual(client.pings, 2)
        self.wires.advance(0.6)
        self.assertEqual(client.pings, 3)
        self.assertTrue(client.is_open_now)

    def test_pings_are_sent_at_any_date_of_the_machine(self) -> None:
        """Autobahn packs the date as a number without a sign: before 1970 no ping was sent."""
        for seconds in (-1, 0, 2**32, 2**33):
            self.patch(time, "time_ns", partial(int, seconds * 10**9))
            client = self.connect()
            self.say(client, AUTH)
            self.wires.advance(41)
            self.assertEqual(client.pings, 2, seconds)
            client.dropConnection(abort=True)
            self.wires.flush()

    def test_no_pong_for_180_seconds_drops_client(self) -> None:
        """A client without a pong for three minutes is dropped."""
        client = self.connect()
        self.say(client, AUTH)
        client.answers_pings = False
        self.wires.advance(199.7)  # the first ping is sent after 20 s
        self.assertEqual(len(self.factory.clients), 1)
        self.wires.advance(0.6)
        self.assertEqual(len(self.factory.clients), 0)
