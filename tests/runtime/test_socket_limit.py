"""Tests for tradeproxy.runtime.socket_limit."""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime import socket_limit
from tradeproxy.runtime.socket_limit import LOGIN_TIME, MAX_SPARE, SocketLimit, spare_sockets


class Transport:
    """A connection that can be closed at once."""

    def __init__(self, host: str) -> None:
        self.is_closed = False
        self._host = host

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", self._host, 50_000)

    def abortConnection(self) -> None:
        self.is_closed = True


class SocketLimitTests(SynchronousTestCase):
    """Strangers do not take the sockets of clients, nor the descriptors of the process."""

    def accept(self, limit: SocketLimit, count: int, host: str = "192.0.2.1") -> list[Transport]:
        """Let so many connections in."""
        transports = [Transport(host) for _ in range(count)]
        for transport in transports:
            limit.accept(transport)
        return transports

    def test_without_descriptor_limit_clients_decide(self) -> None:
        """Some sockets more are open, for handshakes and health checks."""
        limit = SocketLimit(100)
        self.assertEqual((limit.clients, limit.sockets), (100, 100 + MAX_SPARE))

    def test_few_descriptors_lower_both_limits(self) -> None:
        """At least one socket is left for requests that get a 503."""
        limit = SocketLimit(10_000, sockets=36)
        self.assertEqual((limit.clients, limit.sockets), (36 - spare_sockets(36), 36))
        self.assertEqual(SocketLimit(10_000, sockets=1).clients, 1)

    def test_new_socket_at_limit_closes_oldest_anonymous_one(self) -> None:
        """And none of those that have logged in, however old they are."""
        limit = SocketLimit(100, sockets=4)
        replaced: list[Transport] = []
        limit.on_replaced = replaced.append
        transports = self.accept(limit, 4)
        self.assertTrue(limit.log_in(transports[0]))
        newest = self.accept(limit, 2)
        self.assertEqual([each.is_closed for each in transports], [False, True, True, False])
        self.assertEqual([each.is_closed for each in newest], [False, False])
        self.assertEqual(replaced, transports[1:3])
        self.assertEqual(len(limit), 4)

    def test_address_with_most_anonymous_sockets_gives_one_up(self) -> None:
        """One that connected 3,000 times a second displaced all clients that had not logged in."""
        limit = SocketLimit(100, sockets=4)
        [client] = self.accept(limit, 1)
        flood = self.accept(limit, 10, "192.0.2.2")
        self.assertEqual([each.is_closed for each in flood], [True] * 7 + [False] * 3)
        [other] = self.accept(limit, 1)
        self.assertEqual([each.is_closed for each in flood[7:]], [True, False, False])
        self.assertTrue(limit.log_in(client))
        last = self.accept(limit, 2, "192.0.2.3")
        self.assertEqual([each.is_closed for each in flood[7:]], [True, True, False])
        self.assertEqual([each.is_closed for each in last], [True, False])
        self.assertEqual((client.is_closed, other.is_closed), (False, False))

    def test_log_in_beyond_client_limit_is_refused(self) -> None:
        """The others stay as they are."""
        limit = SocketLimit(2)
        one, two, three = self.accept(limit, 3)
        self.assertEqual(
            [limit.log_in(each) for each in (one, two, three, one)], [True, True, False, True]
        )
        self.assertTrue(limit.is_full)
        limit.discard(one)
        self.assertTrue(limit.log_in(three))

    def test_logged_out_socket_is_newest_anonymous_one(self) -> None:
        """A connection whose request is answered is replaced after older idle ones."""
        limit = SocketLimit(100, sockets=3)
        kept, other, last = self.accept(limit, 3)
        limit.log_in(kept)
        limit.log_out(kept)
        self.accept(limit, 2)
        self.assertEqual([each.is_closed for each in (kept, other, last)], [False, True, True])

    def test_sockets_to_alpaca_count_but_do_not_displace_clients(self) -> None:
        """A forwarded REST request needs two sockets; idle ones are closed for the second."""
        limit = SocketLimit(2, sockets=5, outgoing=True)
        client, idle, other, last = self.accept(limit, 4)
        self.assertTrue(limit.log_in(client))
        self.assertTrue(limit.open_outgoing("request 1"))
        self.assertTrue(limit.open_outgoing("request 2"))
        self.assertEqual([each.is_closed for each in (idle, other, last)], [True, False, False])
        self.assertTrue(limit.log_in(other))
        self.assertFalse(limit.open_outgoing("request 3"))
        limit.discard("request 1")
        self.assertTrue(limit.open_outgoing("request 3"))

    def test_large_unfinished_requests_share_a_limit(self) -> None:
        """Ten thousand heads or bodies of 16 KB and more took hundreds of megabytes."""
        self.patch(socket_limit, "MAX_UNFINISHED", 20_000)
        limit = SocketLimit(100)
        closed: list[Transport] = []
        limit.on_too_much = closed.append
        usual, logged_in, done, gone, one, two = transports = self.accept(limit, 6)
        for transport in transports:
            limit.receive(transport, 2000)
        limit.log_in(logged_in)
        for transport in (logged_in, done, gone, one, two):
            limit.receive(transport, 3000)
        limit.complete(done)
        limit.discard(gone)
        for transport in (logged_in, gone, usual, two):
            limit.receive(transport, 10)
        limit.receive(two, 9990)
        self.assertEqual(closed, [])
        limit.receive(done, 3000)
        self.assertEqual(closed, [one])
        limit.receive(two, 5000)
        self.assertEqual(closed, [one, two])
        self.assertEqual([each for each in transports if each.is_closed], closed)

    def test_sockets_with_tls_share_a_limit_until_login(self) -> None:
        """A socket that has logged in does not count, until it is idle again."""
        self.patch(socket_limit, "MAX_ENCRYPTED", 2)
        limit = SocketLimit(100)
        closed: list[Transport] = []
        limit.on_replaced = closed.append
        one, two, three, plain = self.accept(limit, 4)
        for transport in (one, two):
            self.assertTrue(limit.make_room_for_tls(transport, 0))
            limit.begin_tls(transport, 0)
        limit.log_in(plain)
        self.assertFalse(limit.make_room_for_tls(three, LOGIN_TIME / 2))
        limit.log_in(one)
        self.assertTrue(limit.make_room_for_tls(three, LOGIN_TIME / 2))
        limit.begin_tls(three, LOGIN_TIME / 2)
        limit.log_out(one)
        self.assertEqual(closed, [])
        self.assertTrue(limit.make_room_for_tls(plain, 2 * LOGIN_TIME))
        self.assertEqual(closed, [two])
        limit.discard(three)
        self.assertTrue(limit.make_room_for_tls(plain, 0))

    def test_address_with_fewer_sockets_need_not_wait_for_tls(self) -> None:
        """One address with 800 handshakes that never ended held all places, for 2 s each."""
        self.patch(socket_limit, "MAX_ENCRYPTED", 4)
        limit = SocketLimit(100)
        flood = self.accept(limit, 5, "192.0.2.2")
        for transport in flood[:4]:
            self.assertTrue(limit.make_room_for_tls(transport, 0))
            limit.begin_tls(transport, 0)
        clients = self.accept(limit, 3)
        begun = []
        for transport in clients:
            begun.append(limit.make_room_for_tls(transport, 1))
            if begun[-1]:
                limit.begin_tls(transport, 1)
        # With two each, neither closes the other's.
        self.assertEqual(begun, [True, True, False])
        self.assertFalse(limit.make_room_for_tls(flood[4], 1))
        self.assertEqual([each.is_closed for each in flood], [True, True, False, False, False])
        self.assertEqual([each.is_closed for each in clients], [False] * 3)

    def test_discard_twice_is_harmless(self) -> None:
        """Both ends of a connection may report its end."""
        limit = SocketLimit(100, sockets=3)
        [transport] = self.accept(limit, 1)
        limit.discard(transport)
        limit.discard(transport)
        self.assertEqual(len(limit), 0)
