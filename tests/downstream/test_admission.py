"""Tests for tradeproxy.downstream.admission."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.downstream.admission import Admission, RequestInfo, Tokens
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret

OPEN = Tokens(())
ANYTHING = KeyPair(Secret("any"), Secret("any"))
GUARDED = Tokens((Secret("first-token"), Secret("second-token")))


def visitor(
    host: str | None = "localhost:8099",
    origin: str | None = None,
    *,
    secure: bool = False,
    local_address: str | None = "127.0.0.1",
    offers: tuple[str, ...] = (),
    upgrade: bool = True,
    site: str | None = None,
) -> RequestInfo:
    """Return who asks for a WebSocket; without arguments a program on this machine."""
    secrets = tuple(Secret(offer) for offer in offers)
    return RequestInfo(host, origin, secure, local_address, secrets, upgrade, site)


class AdmissionTestCase(SynchronousTestCase):
    """What the tests of the door share; it holds no test."""

    admission = Admission((), (), OPEN)

    def check(self, guests: dict[str, RequestInfo], status: int | None, words: str = "") -> None:
        """Hold against `status`, None for welcome, what each guest is told, and find `words` in it."""
        for name, guest in guests.items():
            refusal = self.admission.check(guest)
            self.assertEqual(None if refusal is None else refusal.status, status, name)
            if refusal is not None:
                self.assertIn(words, refusal.reason, name)


class HostTests(AdmissionTestCase):
    """Host must be a name of this machine, which defeats DNS rebinding."""

    def test_lets_in_who_asks_for_this_machine(self) -> None:
        """The loopback's names and addresses, with or without a port, in any case."""
        hosts = (
            "localhost:8099",
            "localhost",
            "LocalHost:8099",
            "127.0.0.1",
            "127.0.0.1:8099",
            "127.8.9.10:8099",
            "[::1]:8099",
            "[::1]",
            "[0:0:0:0:0:0:0:1]:8099",
        )
        self.check({host: visitor(host) for host in hosts}, None)

    def test_keeps_out_who_asks_for_another_host(self) -> None:
        """Names that merely look like ours, that hold more than a host, or that are missing."""
        hosts = (
            "evil.example",
            "evil.example:8099",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "evil.localhost.example",
            "notlocalhost",
            "localhost:8099, evil",
            "localhost, localhost",
            "user@localhost",
            "localhost@evil.example",
            "evil.example#localhost",
            "localhost/evil",
            "localhost:",
            "localhost:http",
            "localhost:8099:8099",
            "localhost\n",
            "localhost\r\nx: y",
            " localhost",
            "localhost ",
            "\u2113ocalhost",
            "::1",
            "[::1",
            "::1]",
            "[::g]",
            "[::1%lo]",
            "[evil.example]",
            "0.0.0.0:8099",
            "[::]:8099",
            "192.168.1.5:8099",
            "127.1",
            "2130706433",
            "0x7f000001",
            ".",
            "*",
            "",
        )
        self.check({repr(host): visitor(host) for host in hosts}, 403, "PROXY_ALLOWED_HOSTS")
        self.check({"no Host at all": visitor(None)}, 403, "PROXY_ALLOWED_HOSTS")

    def test_lets_in_who_asks_for_the_address_where_the_request_arrived(self) -> None:
        """An address can't be rebound; a dual-stack socket's name for an IPv4 address is the same one."""
        guests = {
            "IPv4": visitor("192.168.1.5:8099", local_address="192.168.1.5"),
            "IPv4 at a socket of IPv6": visitor(
                "192.168.1.5:8099", local_address="::ffff:192.168.1.5"
            ),
            "IPv6": visitor("[2001:db8::5]:8099", local_address="2001:db8::5"),
            "IPv6 in capitals": visitor("[2001:DB8::5]:8099", local_address="2001:db8::5"),
            "localhost at another address": visitor("localhost", local_address="192.168.1.5"),
            "localhost at a UNIX socket": visitor("localhost", local_address=None),
        }
        self.check(guests, None)

    def test_keeps_out_who_asks_for_another_address_than_that(self) -> None:
        """Another machine's address is as foreign as another machine's name."""
        guests = {
            "IPv4": visitor("192.168.1.6", local_address="192.168.1.5"),
            "a prefix": visitor("192.168.1.5", local_address="192.168.1.50"),
            "IPv6": visitor("[2001:db8::6]", local_address="2001:db8::5"),
            "nothing at a UNIX socket": visitor("", local_address=None),
            "any address at a UNIX socket": visitor("192.168.1.5", local_address=None),
        }
        self.check(guests, 403, "PROXY_ALLOWED_HOSTS")

    def test_lets_in_the_hosts_that_the_settings_allow_and_no_others(self) -> None:
        """The allowed names and addresses, at any port, and not what is under or above them."""
        self.admission = Admission(("desk.lan", "10.0.0.7", "2001:db8::7"), (), OPEN)
        welcome = (
            "desk.lan",
            "desk.lan:8099",
            "DESK.lan:443",
            "10.0.0.7:1",
            "[2001:db8::7]:8099",
            "localhost",
        )
        self.check({host: visitor(host) for host in welcome}, None)
        others = ("lan", "x.desk.lan", "desk.lan.evil.example", "desk", "10.0.0.8", "[2001:db8::8]")
        self.check({host: visitor(host) for host in others}, 403, "PROXY_ALLOWED_HOSTS")


class OriginTests(AdmissionTestCase):
    """Origin must be absent, this server's own, or an allowed one."""

    admission = Admission(("desk.lan",), ("https://app.example", "http://localhost:3000"), OPEN)

    def test_lets_in_who_sends_none(self) -> None:
        """Programs need not send an Origin."""
        self.check({"a program": visitor(origin=None)}, None)

    def test_lets_in_this_servers_own(self) -> None:
        """Scheme, host and port are those of the request itself, in any case, a default port or none."""
        guests = {
            "websocket-client's own": visitor("localhost:8099", "http://localhost:8099"),
            "127.0.0.1": visitor("127.0.0.1:8099", "http://127.0.0.1:8099"),
            "IPv6": visitor("[::1]:8099", "http://[::1]:8099"),
            "an allowed host's": visitor("desk.lan:8099", "http://desk.lan:8099"),
            "other case": visitor("LOCALHOST:8099", "HTTP://LocalHost:8099"),
            "TLS": visitor("localhost:8099", "https://localhost:8099", secure=True),
            "default port on neither side": visitor("localhost", "http://localhost"),
            "default port in Host": visitor("localhost:80", "http://localhost"),
            "default port in Origin": visitor("localhost", "http://localhost:80"),
            "default port of TLS in Host": visitor(
                "localhost:443", "https://localhost", secure=True
            ),
            "default port of TLS in Origin": visitor(
                "localhost", "https://localhost:443", secure=True
            ),
        }
        self.check(guests, None)

    def test_lets_in_the_origins_that_the_settings_allow(self) -> None:
        """Whatever the host by which they ask, spelled with the default port or in capitals."""
        origins = (
            "https://app.example",
            "https://app.example:443",
            "HTTPS://APP.example",
            "http://localhost:3000",
        )
        for host in ("localhost:8099", "desk.lan:8099"):
            self.check({origin: visitor(host, origin) for origin in origins}, None)

    def test_keeps_out_every_other_page(self) -> None:
        """Another port, scheme or host of this machine too, and whatever is no origin."""
        origins = (
            "null",
            "",
            "https://evil.example",
            "http://localhost",
            "http://localhost:8098",
            "http://localhost:80990",
            "https://localhost:8099",
            "ws://localhost:8099",
            "file://localhost:8099",
            "http://127.0.0.1:8099",
            "http://[::1]:8099",
            "http://localhost.evil.example:8099",
            "http://user@localhost:8099",
            "http://localhost:8099@evil.example",
            "http://localhost:8099/",
            "http://localhost:8099/page",
            "http://localhost:8099 ",
            " http://localhost:8099",
            "http://localhost:8099\n",
            "http://localhost:8099, http://evil.example",
            "http://localhost:8099 http://evil.example",
            "http://localhost:",
            "localhost:8099",
            "http://",
            "*",
            "http://app.example",
            "https://app.example:444",
            "https://x.app.example",
            "https://app.example.evil.example",
            "http://localhost:3001",
        )
        self.check(
            {repr(origin): visitor(origin=origin) for origin in origins},
            403,
            "PROXY_ALLOWED_ORIGINS",
        )

    def test_keeps_out_a_page_that_asks_for_its_own_rebound_host(self) -> None:
        """Origin and Host agree in a rebinding attack: it is Host that gives it away."""
        guest = visitor("evil.example:8099", "http://evil.example:8099")
        self.check({"rebound": guest}, 403, "PROXY_ALLOWED_HOSTS")

    def test_nothing_that_is_no_origin_gets_in_by_way_of_an_allowed_one_that_is_none(self) -> None:
        """An entry of the list that cannot be read admits nobody, `null` least of all."""
        self.admission = Admission((), ("null", "*"), OPEN)
        self.check(
            {origin: visitor(origin=origin) for origin in ("null", "*", "https://x.example")}, 403
        )


class SiteTests(AdmissionTestCase):
    """A page that embeds something of ours sends no Origin; the browser says whether it is foreign."""

    admission = Admission((), ("https://app.example",), OPEN)

    def test_keeps_out_what_a_foreign_page_embeds(self) -> None:
        """Another site's, or another port's of this machine, even with a token or for a public page."""
        guests = {site: visitor(site=site, upgrade=False) for site in ("cross-site", "same-site")}
        self.check(guests, 403, "another site")
        for guest in guests.values():
            self.assertIsNotNone(self.admission.check(guest, public=True))

    def test_lets_in_our_own_pages_and_who_types_the_address(self) -> None:
        """And programs, which say nothing of the kind."""
        self.check(
            {str(s): visitor(site=s, upgrade=False) for s in ("same-origin", "none", None)}, None
        )

    def test_an_origin_says_more(self) -> None:
        """An allowed one is let in wherever it is, another is not."""
        self.check({"allowed": visitor(origin="https://app.example", site="cross-site")}, None)
        self.check({"other": visitor(origin="https://evil.example", site="same-origin")}, 403)


class TokenTests(AdmissionTestCase):
    """With tokens, what the headers offer must hold one."""

    admission = Admission((), (), GUARDED)

    def test_lets_in_who_shows_a_token(self) -> None:
        """Any token, in any of the headers that can hold one."""
        guests = {
            "the first": visitor(offers=("first-token",)),
            "the second": visitor(offers=("second-token",)),
            "a key that is none, and a secret that is one": visitor(
                offers=("PK123", "second-token")
            ),
            "a bearer that is one, and a key that is none": visitor(
                offers=("first-token", "PK123")
            ),
        }
        self.check(guests, None)
        for name, guest in guests.items():
            self.assertTrue(self.admission.get_authenticator(guest)(ANYTHING), name)

    def test_keeps_out_who_shows_a_wrong_one(self) -> None:
        """Nothing but the whole token will do."""
        offers = (
            "wrong",
            "first-toke",
            "first-token2",
            "First-Token",
            "first-token,second-token",
            "",
            "\xff",
        )
        self.check({offer: visitor(offers=(offer,)) for offer in offers}, 401, "PROXY_TOKENS")
        self.check({"several": visitor(offers=offers)}, 401, "PROXY_TOKENS")

    def test_lets_in_but_does_not_know_who_shows_none(self) -> None:
        """The token may still come in the auth message."""
        self.check({"none": visitor()}, None)
        self.assertFalse(self.admission.get_authenticator(visitor())(ANYTHING))
        self.assertTrue(
            self.admission.get_authenticator(visitor())(KeyPair(Secret("first-token"), Secret("")))
        )

    def test_what_is_no_upgrade_needs_it_at_once(self) -> None:
        """No auth message can follow; only what is public needs none."""
        self.check({"page": visitor(upgrade=False)}, 401, "Authorization: Bearer")
        self.check({"page with token": visitor(upgrade=False, offers=("first-token",))}, None)
        self.assertIsNone(
            self.admission.check(visitor(upgrade=False, offers=("wrong",)), public=True)
        )

    def test_keeps_out_a_foreign_host_or_page_even_with_a_token(self) -> None:
        """A token is no way round the other rules."""
        guests = {
            "host": visitor("evil.example", offers=("first-token",)),
            "origin": visitor(origin="https://evil.example", offers=("first-token",)),
        }
        self.check(guests, 403)

    def test_without_tokens_everybody_is_known(self) -> None:
        """Whatever the headers offer: SDKs send Alpaca's own keys."""
        self.admission = Admission((), (), OPEN)
        for guest in (visitor(), visitor(offers=("PK123", "secret"))):
            self.check({"anybody": guest}, None)
            self.assertTrue(self.admission.get_authenticator(guest)(ANYTHING))

    def test_no_refusal_shows_what_was_offered(self) -> None:
        """The line that goes into the response holds nothing of the request."""
        guest = visitor(offers=("HUSH",))
        refusal = self.admission.check(guest)
        assert refusal is not None
        self.assertNotIn("HUSH", repr(refusal) + repr(guest))
        self.assertNotIn("first-token", repr(refusal) + repr(guest))


class AuthMessageTests(SynchronousTestCase):
    """With tokens, an auth message holds one in any of its fields."""

    def test_lets_in_who_has_a_token_in_any_field(self) -> None:
        """Key, secret or OAuth token: SDKs differ in what they let a user set freely."""
        right, wrong, none = Secret("second-token"), Secret("PK123"), Secret("")
        table: list[tuple[Credentials, bool]] = [
            (KeyPair(right, wrong), True),
            (KeyPair(wrong, right), True),
            (KeyPair(right, none), True),
            (KeyPair(none, right), True),
            (OAuthToken(right), True),
            (KeyPair(wrong, wrong), False),
            (KeyPair(none, none), False),
            (KeyPair(Secret("second-"), Secret("token")), False),
            (OAuthToken(wrong), False),
            (OAuthToken(Secret("\ud800")), False),
        ]
        for credentials, admitted in table:
            self.assertIs(GUARDED.admit_credentials(credentials), admitted, credentials)
            self.assertTrue(OPEN.admit_credentials(credentials), credentials)
