"""Tests for tradeproxy.runtime.peer: one format for the address of a client."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.peer import format_peer


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
