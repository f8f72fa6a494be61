"""Tests for tradeproxy.wire.hosts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.wire.hosts import (
    MAX_HOST_LENGTH,
    canonicalize,
    canonicalize_origin,
    format_in_url,
    is_address,
    is_loopback,
)

LONGEST = f"{'a' * 62}." * 4
"""252 characters, with the dot of the root."""


class HostTests(SynchronousTestCase):
    """Hosts of settings and of headers, which are compared as text."""

    def test_equal_hosts_have_one_form(self) -> None:
        """An operator and a browser may write the same host in different ways."""
        for text, canonical in (
            ("LocalHost", "localhost"),
            ("proxy.Example.", "proxy.example"),
            ("_a-b.example", "_a-b.example"),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("2001:DB8::5", "2001:db8::5"),
            (f"{LONGEST}b", f"{LONGEST}b"),
            (f"{LONGEST}b.", f"{LONGEST}b"),
        ):
            self.assertEqual(canonicalize(text), canonical, text)
        self.assertEqual(len(canonicalize(f"{LONGEST}b")), MAX_HOST_LENGTH)

    def test_other_texts_are_no_hosts(self) -> None:
        """A resolver reads 127.1 as an address. A port and brackets belong to a URL."""
        for text in ("", ".", "a..b", "-a", "a-", "127.1", "localhost:80", "[::1]", "é", "a b"):
            self.assertRaises(ValueError, canonicalize, text)
        self.assertRaises(ValueError, canonicalize, f"{LONGEST}bb")

    def test_loopback_is_certainly_this_machine(self) -> None:
        """Another name may lead anywhere, so what it is sent must be encrypted."""
        for host in ("localhost", "LocalHost", "127.0.0.1", "127.8.9.10", "::1"):
            self.assertTrue(is_loopback(host), host)
        for host in ("localhost.example", "notlocalhost", "10.0.0.1", "::2", "0.0.0.0", ""):
            self.assertFalse(is_loopback(host), host)

    def test_address_is_no_name(self) -> None:
        """DNS cannot give an address another meaning. In a URL, one of IPv6 has brackets."""
        self.assertTrue(is_address("10.0.0.1") and is_address("::1"))
        self.assertFalse(is_address("localhost") or is_address("[::1]"))
        hosts = ("::1", "10.0.0.1", "localhost")
        self.assertEqual(list(map(format_in_url, hosts)), ["[::1]", "10.0.0.1", "localhost"])


class OriginTests(SynchronousTestCase):
    """Origins of settings and of browsers."""

    def test_equal_origins_have_one_form(self) -> None:
        """A browser leaves out the default port of the scheme, and an operator may not."""
        for text, canonical in (
            ("HTTPS://App.Example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("http://app.example:08099", "http://app.example:8099"),
            ("http://[0:0::1]:1", "http://[::1]:1"),
            ("x-app://host:65535", "x-app://host:65535"),
        ):
            self.assertEqual(canonicalize_origin(text), canonical, text)

    def test_other_texts_are_no_origins(self) -> None:
        """One that is not understood would admit no page, and nobody would know why."""
        for text in ("null", "*", "app.example", "http://", "http://a/", "http://a:", "http://*"):
            self.assertRaises(ValueError, canonicalize_origin, text)
        for text in ("http://a:0", "http://a:65536", "http://127.1", "http://[::g]"):
            self.assertRaises(ValueError, canonicalize_origin, text)
