"""Tests for tradeproxy.web.request_info: the reverse proxies whose headers count."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.access import canonicalize_proxy
from tradeproxy.web.request_info import MAX_HOPS, TrustedProxies


class TrustTests(SynchronousTestCase):
    """Whose headers count."""

    def test_only_the_entries_are_trusted(self) -> None:
        """An entry is an address or a network; the forms of one address are equal."""
        proxies = TrustedProxies(
            map(canonicalize_proxy, ("10.0.0.7", "172.17.0.9/16", "2001:DB8::7"))
        )
        for peer in ("10.0.0.7", "::ffff:10.0.0.7", "172.17.255.1", "2001:db8:0::7"):
            self.assertTrue(proxies.trusts(IPv4Address("TCP", peer, 1)), peer)
        for peer in ("10.0.0.8", "172.18.0.1", "2001:db8::8", "127.0.0.1", "::1", "x", ""):
            self.assertFalse(proxies.trusts(IPv4Address("TCP", peer, 1)), peer)
        self.assertFalse(proxies.trusts(UNIXAddress(None)))

    def test_unix_stands_for_unix_sockets(self) -> None:
        """Their peers have no address."""
        self.assertTrue(TrustedProxies((canonicalize_proxy("UNIX"),)).trusts(UNIXAddress(None)))
        self.assertFalse(TrustedProxies(("unix",)).trusts(IPv4Address("TCP", "127.0.0.1", 1)))

    def test_without_entries_nobody_is_trusted(self) -> None:
        """That is the default."""
        for peer in (IPv4Address("TCP", "127.0.0.1", 1), UNIXAddress(None)):
            self.assertFalse(TrustedProxies().trusts(peer), peer)

    def test_other_entry_is_a_problem(self) -> None:
        """A host name could be resolved differently later."""
        for entry in ("nginx", "*", "10.0.0.0/33", "10.0.0.7:80", "10.0.0.1-10.0.0.9", "[::1]", ""):
            with self.assertRaisesRegex(ValueError, "neither an address, a network nor unix"):
                canonicalize_proxy(entry)


class ClientTests(SynchronousTestCase):
    """The client that X-Forwarded-For names."""

    proxies = TrustedProxies(("10.0.0.0/8", "2001:db8::7/128"))

    def test_client_is_rightmost_address_that_is_not_trusted(self) -> None:
        """A reverse proxy adds its peer at the right; a client may invent what is left of it."""
        for hops, client in (
            ("203.0.113.9", "203.0.113.9"),
            ("127.0.0.1, 203.0.113.9", "203.0.113.9"),
            ("unknown, <script>, 203.0.113.9 ,10.0.0.8, 2001:db8::7", "203.0.113.9"),
            ("10.0.0.8,10.0.0.9", "10.0.0.8"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("[2001:DB8::9]:4711", "2001:db8::9"),
            ("[2001:db8::9]", "2001:db8::9"),
            ("2001:db8:0:0::9", "2001:db8::9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("::ffff:10.0.0.8, 10.0.0.9", "10.0.0.8"),
        ):
            self.assertEqual(self.proxies.find_client(hops), client, hops)

    def test_malformed_list_names_no_client(self) -> None:
        """The reverse proxy is configured wrongly: its other headers are worth nothing either."""
        for hops in (
            "",
            ",",
            "203.0.113.9,",
            "unknown",
            "_hidden",
            "203.0.113.9, unix:",
            "203.0.113.256",
            "203.0.113.9:x",
            "[203.0.113.9",
            "[2001:db8::9]:123456",
            "fe80::1%eth0",
            "desk.lan",
            "unknown, 10.0.0.8",
            "203.0.113.9 10.0.0.8",
        ):
            self.assertIsNone(self.proxies.find_client(hops), hops)

    def test_number_of_hops_is_bounded(self) -> None:
        """A client can send thousands of trusted addresses, and each takes time."""
        trusted = ["10.0.0.8"] * MAX_HOPS
        self.assertEqual(
            self.proxies.find_client(",".join(["203.0.113.9", *trusted])), "203.0.113.9"
        )
        self.assertIsNone(self.proxies.find_client(",".join(["203.0.113.9", "10.0.0.8", *trusted])))
