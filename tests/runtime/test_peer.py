"""Tests for tradeproxy.runtime.peer: the address of a client as text and as a key."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.peer import format_peer, get_peer_key


class FormatPeerTests(SynchronousTestCase):
    """An operator compares the addresses of the log with those of `ss` and of the dashboard."""

    def test_address_is_host_and_port(self) -> None:
        """IPv6 is in brackets, as in a URL: without them the port reads as a part of it."""
        for address, text in (
            (IPv4Address("TCP", "192.0.2.1", 50_000), "192.0.2.1:50000"),
            (IPv6Address("TCP", "2001:db8::1", 50_000), "[2001:db8::1]:50000"),
            (IPv6Address("TCP", "fe80::1%eth0", 50_000), "[fe80::1%eth0]:50000"),
            (UNIXAddress("/run/client"), "a UNIX socket"),
            (UNIXAddress(None), "a UNIX socket"),
        ):
            self.assertEqual(format_peer(address), text)

    def test_ipv4_over_a_socket_of_ipv6_is_ipv4(self) -> None:
        """Otherwise one client has two addresses, depending on the socket that it reached."""
        address = IPv6Address("TCP", "::ffff:192.0.2.1", 50_000)
        self.assertEqual(format_peer(address), "192.0.2.1:50000")

    def test_text_of_the_proxy_protocol_that_is_no_address_is_not_shown(self) -> None:
        """Anyone who reaches such a listener may send any text, and it raised ValueError.

        The socket limit asks for the text before it closes a socket: the socket stayed open and
        was counted no longer, and the error hit the client that had just connected.
        """
        for host in ("a:b:c", "<script>", "\x1b[2J", "::1%\x1b[2J", "", "1.2.3"):
            for kind in (IPv4Address, IPv6Address):
                self.assertEqual(format_peer(kind("TCP", host, 1)), "an invalid address")


class PeerKeyTests(SynchronousTestCase):
    """Connections of one host have one key, whatever their ports."""

    def get_key(self, address: Any) -> str:
        class Transport:
            def getPeer(self) -> Any:
                return address

        return get_peer_key(Transport())

    def test_hosts_of_ipv4_differ(self) -> None:
        """An address of IPv4 over a socket of IPv6 is the same."""
        self.assertEqual(self.get_key(IPv4Address("TCP", "192.0.2.1", 50_000)), "192.0.2.1")
        mapped = IPv6Address("TCP", "::ffff:192.0.2.1", 50_001)
        self.assertEqual(self.get_key(mapped), "192.0.2.1")

    def test_addresses_of_one_network_of_ipv6_are_one(self) -> None:
        """A host may use all 2**64 of them: each would count as another client."""
        one, same, other = (
            self.get_key(IPv6Address("TCP", host, 50_000))
            for host in ("2001:db8::1", "2001:db8::ffff:0:0:2%eth0", "2001:db8:0:1::1")
        )
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)

    def test_peer_without_valid_host_has_a_key(self) -> None:
        """All clients of a UNIX socket share one; the PROXY protocol may name any text."""
        self.assertEqual(self.get_key(UNIXAddress("/run/client")), "")
        self.assertEqual(self.get_key(IPv6Address("TCP", "1:x", 50_000)), "1:x")
