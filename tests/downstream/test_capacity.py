"""Tests for PROXY_MAX_CLIENTS and for the limit of accepted sockets, in the whole site."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs

from tests.support.frames import AUTH, FILL, LISTEN, LISTENING
from tests.support.proxy import Client, ProxyTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.factory import TOO_MUCH
from tradeproxy.runtime import socket_limit
from tradeproxy.runtime.socket_limit import SocketLimit
from tradeproxy.wire.close_codes import CloseCode

HEAD = b"x" * 9000
"""A large part of a head, or of a message."""


class CapacityTests(ProxyTestCase):
    """Only clients that have logged in count against PROXY_MAX_CLIENTS."""

    limits = Limits(max_clients=2)

    def connect_authenticated(self, path: str = "/paper") -> Client:
        client = self.connect(path)
        self.say(client, AUTH)
        return client

    def test_client_beyond_limit_is_rejected_before_upgrade(self) -> None:
        """The status is 503 until a client disconnects."""
        first = self.connect_authenticated()
        self.connect_authenticated("/live/stream")
        rejected = self.upgrade()
        self.assertEqual(rejected.status, 503)
        self.assertIn(b"\r\nretry-after: 5\r\n", rejected.received.lower())
        first.sendClose(1000)
        self.wires.advance(1)
        self.assertEqual(self.upgrade().status, 101)

    def test_unreadable_log_is_rejected_for_a_second(self) -> None:
        """The status is 503 as at the limit, but the client may come back sooner."""
        self.publish(self.paper, FILL)
        self.disk.refuse_everything()
        rejected = self.request("/paper/v2/events/trades?since_id=1")
        self.assertEqual(rejected.status, 503)
        self.assertIn(b"\r\nretry-after: 1\r\n", rejected.received.lower())

    def test_health_is_answered_beyond_limit(self) -> None:
        """A supervisor must not restart a proxy that is merely full."""
        self.connect_authenticated()
        self.connect_authenticated()
        self.assertEqual(self.request("/healthz").status, 200)

    def test_strangers_do_not_keep_client_out(self) -> None:
        """Clients that never authenticate took all places once: a good token got 503."""
        for _ in range(10):
            self.connect()
        client = self.connect()
        self.assertEqual((len(self.say(client, AUTH)), client.closed), (1, None))

    def test_auth_beyond_limit_closes_1013(self) -> None:
        """Other clients have authenticated since the handshake of this one. They stay."""
        late = self.connect()
        clients = [self.connect_authenticated() for _ in range(2)]
        self.assertEqual(self.say(late, AUTH), [])
        for client in clients:
            self.assertEqual(self.say(client, LISTEN), [LISTENING])
        self.wires.advance(1)
        self.assertEqual(late.closed, (CloseCode.FULL.code, CloseCode.FULL.reason))


class SocketTests(ProxyTestCase):
    """Every accepted socket counts, from its accept to its end."""

    def setUp(self) -> None:
        super().setUp()
        self.sockets = self.factory.clients.sockets

    def test_websocket_counts_once_and_until_it_ends(self) -> None:
        """The HTTP connection becomes the WebSocket; both are one socket."""
        client = self.connect()
        self.assertEqual(len(self.sockets), 1)
        self.say(client, AUTH)
        self.assertEqual(len(self.sockets), 1)
        client.sendClose(1000)
        self.wires.advance(1)
        self.assertEqual(len(self.sockets), 0)

    def test_idle_http_connection_counts_until_it_ends(self) -> None:
        """It is closed after the handshake timeout."""
        self.request("/healthz")
        self.assertEqual(len(self.sockets), 1)
        self.wires.advance(self.limits.handshake_timeout + 0.1)
        self.assertEqual(len(self.sockets), 0)


class DescriptorTests(ProxyTestCase):
    """At the limit of descriptors a new connection replaces an idle one."""

    def setUp(self) -> None:
        super().setUp()
        limit = SocketLimit(self.limits.max_clients, sockets=4)
        limit.on_replaced = self.factory.clients.sockets.on_replaced
        self.factory.clients.sockets = self.site.sockets = limit

    def test_new_client_replaces_idle_connections_and_no_client(self) -> None:
        """10,400 idle connections took every descriptor once, Alpaca's too."""
        first = self.connect()
        self.say(first, AUTH)
        idle = [self.request("/healthz") for _ in range(6)]
        self.assertEqual([each.gone for each in idle], [True] * 3 + [False] * 3)
        self.assertEqual((first.closed, len(self.factory.clients.sockets)), (None, 4))
        second = self.connect()
        self.assertEqual((len(self.say(second, AUTH)), second.closed), (1, None))
        [reason] = self.factory.clients.rejections.counts
        self.assertEqual(reason, "closed for a newer connection: no place was free")


class UnfinishedRequestTests(ProxyTestCase):
    """Large requests that never end take no more than a fixed amount of memory."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(socket_limit, "MAX_UNFINISHED", 40_000)

    def test_oldest_large_head_is_dropped(self) -> None:
        """Clients with a usual handshake stay, however old, and so do those whose request ended."""
        waiting = self.connect()
        answered = self.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: %b\r\n\r\n" % HEAD)
        heads = [self.write(b"GET / HTTP/1.1\r\nX: %b" % HEAD) for _ in range(6)]
        self.assertEqual([each.gone for each in heads], [True] * 2 + [False] * 4)
        self.assertEqual((answered.status, answered.gone), (200, False))
        self.assertEqual((len(self.say(waiting, AUTH)), waiting.closed), (1, None))
        self.assertEqual(dict(self.factory.clients.rejections.counts), {TOO_MUCH: 2})

    def test_oldest_large_login_is_dropped(self) -> None:
        """A message of a WebSocket before its login counts too."""
        clients = [self.connect() for _ in range(6)]
        for client in clients:
            transport: Any = client.transport
            transport.write(b"\x81\xfe\x23\x29\0\0\0\0" + HEAD)  # one byte is missing
            self.wires.flush()
        self.assertEqual([each.is_open_now for each in clients], [False] * 2 + [True] * 4)

    def test_oldest_large_message_is_dropped(self) -> None:
        """After the login nothing counted: 10,000 clients of one program could hold 160 MB.

        A message that is complete does not count.
        """
        clients = [self.open_client() for _ in range(6)]
        self.say(clients[5], LISTEN + b" " * 9000)
        with capturedLogs() as logs:
            for client in clients:
                transport: Any = client.transport
                transport.write(b"\x81\xfe\x23\x29\0\0\0\0" + HEAD)  # one byte is missing
                self.wires.flush()
        self.assertEqual([each.is_open_now for each in clients], [False] * 2 + [True] * 4)
        ends = [each for each in logs if "events" in each]
        self.assertEqual([each["reason"] for each in ends], [TOO_MUCH] * 2)

    def test_pieces_of_a_message_count_more_than_their_bytes(self) -> None:
        """A byte in a read, or in a frame, of its own takes 48 more in memory."""
        self.patch(socket_limit, "MAX_UNFINISHED", 7_000)
        piece = b"\x81\0\0\0\0x"
        for begin, more in (
            (b"\x81\xfe\x01\xf4\0\0\0\0", b"x"),
            (b"\x01" + piece, b"\0" + piece),
        ):
            clients = [self.open_client() for _ in range(3)]
            for client in clients:
                transport: Any = client.transport
                for data in (begin, *[more] * 60):
                    transport.write(data)
                    self.wires.flush()
            self.assertEqual([each.is_open_now for each in clients], [False, True, True])
            for client in clients:
                transport = client.transport
                transport.abortConnection()
            self.wires.flush()
