"""Tests for tradeproxy.wire.origin_rules."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.wire.origin_rules import (
    BAD_HOST,
    BAD_ORIGIN,
    BAD_SITE,
    OriginRules,
    RequestInfo,
    parse_host,
)

RULES = OriginRules(("proxy.example",), ("https://app.example",))


def find_problem(
    host: str | None, origin: str | None = None, *, secure: bool = False, **headers: str
) -> str | None:
    """Return why a request with these headers is rejected."""
    return RULES.find_problem(RequestInfo(host, origin, secure, **headers))  # type: ignore[arg-type]


class OriginRulesTests(SynchronousTestCase):
    """Which requests come from this machine's programs and pages."""

    def test_host_is_an_address_or_a_known_name(self) -> None:
        """A page whose name leads to this machine by DNS still sends its own name."""
        for host in ("localhost", "127.0.0.1:8099", "[::1]:8099", "10.0.0.7", "Proxy.Example:1"):
            self.assertIsNone(find_problem(host), host)
        for other in (None, "", "evil.example", "[::1", "127.1", "proxy.example:x"):
            self.assertEqual(find_problem(other), BAD_HOST, other)

    def test_both_the_replaced_host_and_its_successor_are_checked(self) -> None:
        """Such a page may set X-Forwarded-Host, but not Host."""
        self.assertIsNone(find_problem("localhost", replaced_host="127.0.0.1"))
        for host, replaced in (
            ("localhost", "evil.example"),
            ("evil.example", "localhost"),
            ("localhost", ""),
            (None, "localhost"),
        ):
            self.assertEqual(find_problem(host, replaced_host=replaced or ""), BAD_HOST, host)

    def test_origin_is_the_servers_own_or_an_allowed_one(self) -> None:
        """Otherwise any page in a browser on this machine could read the stream."""
        for origin, is_secure in (
            ("http://localhost:8099", False),
            ("https://localhost:8099", True),
            ("https://App.example:443", False),
        ):
            self.assertIsNone(find_problem("localhost:8099", origin, secure=is_secure), origin)
        for origin, is_secure in (
            ("https://localhost:8099", False),
            ("http://localhost:8099", True),
            ("http://localhost", False),
            ("http://app.example", False),
            ("null", False),
        ):
            found = find_problem("localhost:8099", origin, secure=is_secure)
            self.assertEqual(found, BAD_ORIGIN, origin)

    def test_page_of_another_site_without_origin_is_rejected(self) -> None:
        """A page that embeds an image sends no Origin, and must keep no connection open."""
        for site in ("cross-site", "same-site"):
            self.assertEqual(find_problem("localhost", fetch_site=site), BAD_SITE)
        for site in ("same-origin", "none"):
            self.assertIsNone(find_problem("localhost", fetch_site=site))

    def test_host_header_has_one_form(self) -> None:
        """The port does not matter, nor the case."""
        for text, host in (("LocalHost:1", "localhost"), ("[0:0::1]", "::1"), ("a:b", None)):
            self.assertEqual(parse_host(text), host, text)
