"""Tests for tradeproxy.downstream.admission."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.downstream.admission import Admission, RequestInfo, Tokens
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret

OPEN = Tokens(())
ANYTHING = KeyPair(Secret("any"), Secret("any"))
GUARDED = Tokens((Secret("first-token"), Secret("second-token")))


def make_request(
    host: str | None = "localhost:8099",
    origin: str | None = None,
    *,
    secure: bool = False,
    local_address: str | None = "127.0.0.1",
    offers: tuple[str, ...] = (),
    upgrade: bool = True,
    site: str | None = None,
) -> RequestInfo:
    """Return a WebSocket request. The defaults are those of a program on this machine."""
    secrets = tuple(Secret(offer) for offer in offers)
    return RequestInfo(host, origin, secure, local_address, secrets, upgrade, site)


class AdmissionTestCase(SynchronousTestCase):
    """What the admission tests share; it has no test."""

    admission = Admission((), (), OPEN)

    def check(self, requests: dict[str, RequestInfo], status: int | None, words: str = "") -> None:
        """Assert each request's status, None if admitted; the reason contains `words`."""
        for name, request in requests.items():
            rejection = self.admission.check(request)
            self.assertEqual(None if rejection is None else rejection.status, status, name)
            if rejection is not None:
                self.assertIn(words, rejection.reason, name)


class HostTests(AdmissionTestCase):
    """Host must be a name of this machine; this defeats DNS rebinding."""

    def test_loopback_host_is_admitted(self) -> None:
        """All loopback names and addresses are admitted, with or without a port, in any case."""
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
        self.check({host: make_request(host) for host in hosts}, None)

    def test_other_host_is_403(self) -> None:
        """Similar names, values with more than a host, and a missing Host are rejected."""
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
        self.check({repr(host): make_request(host) for host in hosts}, 403, "PROXY_ALLOWED_HOSTS")
        self.check({"no Host at all": make_request(None)}, 403, "PROXY_ALLOWED_HOSTS")

    def test_host_equal_to_local_address_is_admitted(self) -> None:
        """DNS cannot rebind an address. A dual-stack socket's form of IPv4 counts as equal."""
        requests = {
            "IPv4": make_request("192.168.1.5:8099", local_address="192.168.1.5"),
            "IPv4 at a socket of IPv6": make_request(
                "192.168.1.5:8099", local_address="::ffff:192.168.1.5"
            ),
            "IPv6": make_request("[2001:db8::5]:8099", local_address="2001:db8::5"),
            "IPv6 in capitals": make_request("[2001:DB8::5]:8099", local_address="2001:db8::5"),
            "localhost at another address": make_request("localhost", local_address="192.168.1.5"),
            "localhost at a UNIX socket": make_request("localhost", local_address=None),
        }
        self.check(requests, None)

    def test_host_with_other_address_is_403(self) -> None:
        """An address is rejected unless it is the local address of the connection."""
        requests = {
            "IPv4": make_request("192.168.1.6", local_address="192.168.1.5"),
            "a prefix": make_request("192.168.1.5", local_address="192.168.1.50"),
            "IPv6": make_request("[2001:db8::6]", local_address="2001:db8::5"),
            "nothing at a UNIX socket": make_request("", local_address=None),
            "any address at a UNIX socket": make_request("192.168.1.5", local_address=None),
        }
        self.check(requests, 403, "PROXY_ALLOWED_HOSTS")

    def test_allowed_host_is_admitted_and_its_subdomains_are_403(self) -> None:
        """Allowed names and addresses are admitted at any port; sub- and superdomains are not."""
        self.admission = Admission(("desk.lan", "10.0.0.7", "2001:db8::7"), (), OPEN)
        admitted = (
            "desk.lan",
            "desk.lan:8099",
            "DESK.lan:443",
            "10.0.0.7:1",
            "[2001:db8::7]:8099",
            "localhost",
        )
        self.check({host: make_request(host) for host in admitted}, None)
        others = ("lan", "x.desk.lan", "desk.lan.evil.example", "desk", "10.0.0.8", "[2001:db8::8]")
        self.check({host: make_request(host) for host in others}, 403, "PROXY_ALLOWED_HOSTS")


class OriginTests(AdmissionTestCase):
    """Origin must be absent, this server's own, or an allowed one."""

    admission = Admission(("desk.lan",), ("https://app.example", "http://localhost:3000"), OPEN)

    def test_no_origin_is_admitted(self) -> None:
        """Programs need not send an Origin."""
        self.check({"a program": make_request(origin=None)}, None)

    def test_own_origin_is_admitted(self) -> None:
        """Scheme, host and port equal the request's; case and a default port do not matter."""
        requests = {
            "websocket-client": make_request("localhost:8099", "http://localhost:8099"),
            "127.0.0.1": make_request("127.0.0.1:8099", "http://127.0.0.1:8099"),
            "IPv6": make_request("[::1]:8099", "http://[::1]:8099"),
            "an allowed host": make_request("desk.lan:8099", "http://desk.lan:8099"),
            "other case": make_request("LOCALHOST:8099", "HTTP://LocalHost:8099"),
            "TLS": make_request("localhost:8099", "https://localhost:8099", secure=True),
            "default port on neither side": make_request("localhost", "http://localhost"),
            "default port in Host": make_request("localhost:80", "http://localhost"),
            "default port in Origin": make_request("localhost", "http://localhost:80"),
            "default port of TLS in Host": make_request(
                "localhost:443", "https://localhost", secure=True
            ),
            "default port of TLS in Origin": make_request(
                "localhost", "https://localhost:443", secure=True
            ),
        }
        self.check(requests, None)

    def test_allowed_origin_is_admitted_at_any_host(self) -> None:
        """The host does not matter, nor the default port or capitals in the origin."""
        origins = (
            "https://app.example",
            "https://app.example:443",
            "HTTPS://APP.example",
            "http://localhost:3000",
        )
        for host in ("localhost:8099", "desk.lan:8099"):
            self.check({origin: make_request(host, origin) for origin in origins}, None)

    def test_other_origin_is_403(self) -> None:
        """Another port, scheme or host is rejected, on this machine too; also an invalid origin."""
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
            {repr(origin): make_request(origin=origin) for origin in origins},
            403,
            "PROXY_ALLOWED_ORIGINS",
        )

    def test_rebound_host_with_equal_origin_is_403(self) -> None:
        """In a rebinding attack Origin and Host are equal, so only the check of Host rejects it."""
        request = make_request("evil.example:8099", "http://evil.example:8099")
        self.check({"rebound": request}, 403, "PROXY_ALLOWED_HOSTS")

    def test_invalid_allowed_origin_admits_no_origin(self) -> None:
        """An invalid entry of the list, such as `null`, admits no request."""
        self.admission = Admission((), ("null", "*"), OPEN)
        self.check(
            {origin: make_request(origin=origin) for origin in ("null", "*", "https://x.example")},
            403,
        )


class SiteTests(AdmissionTestCase):
    """A page that embeds a resource sends no Origin; Sec-Fetch-Site names its relation."""

    admission = Admission((), ("https://app.example",), OPEN)

    def test_embedded_by_other_site_is_403(self) -> None:
        """A request from another site or port is rejected, for a public resource too."""
        requests = {
            site: make_request(site=site, upgrade=False) for site in ("cross-site", "same-site")
        }
        self.check(requests, 403, "another site")
        for request in requests.values():
            self.assertIsNotNone(self.admission.check(request, public=True))

    def test_own_page_or_typed_address_is_admitted(self) -> None:
        """Programs send no Sec-Fetch-Site, and are admitted too."""
        self.check(
            {str(s): make_request(site=s, upgrade=False) for s in ("same-origin", "none", None)},
            None,
        )

    def test_origin_overrides_fetch_site(self) -> None:
        """An allowed Origin is admitted from any site; another Origin is rejected."""
        self.check({"allowed": make_request(origin="https://app.example", site="cross-site")}, None)
        self.check({"other": make_request(origin="https://evil.example", site="same-origin")}, 403)


class AdmissionTokenTests(AdmissionTestCase):
    """With tokens, the headers must contain one."""

    admission = Admission((), (), GUARDED)

    def test_token_in_header_is_admitted(self) -> None:
        """Any token is accepted, in any of the headers."""
        requests = {
            "the first": make_request(offers=("first-token",)),
            "the second": make_request(offers=("second-token",)),
            "a wrong key, and a right secret": make_request(offers=("PK123", "second-token")),
            "a right bearer, and a wrong key": make_request(offers=("first-token", "PK123")),
        }
        self.check(requests, None)
        for name, request in requests.items():
            self.assertTrue(self.admission.get_authenticator(request)(ANYTHING), name)

    def test_wrong_token_is_401(self) -> None:
        """Only an exact token is accepted."""
        offers = (
            "wrong",
            "first-toke",
            "first-token2",
            "First-Token",
            "first-token,second-token",
            "",
            "\xff",
        )
        self.check({offer: make_request(offers=(offer,)) for offer in offers}, 401, "PROXY_TOKENS")
        self.check({"several": make_request(offers=offers)}, 401, "PROXY_TOKENS")

    def test_upgrade_without_token_is_admitted_unauthenticated(self) -> None:
        """The token may follow in the auth message."""
        self.check({"none": make_request()}, None)
        self.assertFalse(self.admission.get_authenticator(make_request())(ANYTHING))
        self.assertTrue(
            self.admission.get_authenticator(make_request())(
                KeyPair(Secret("first-token"), Secret(""))
            )
        )

    def test_no_upgrade_without_token_is_401(self) -> None:
        """No auth message can follow, so only a public resource needs no token."""
        self.check({"page": make_request(upgrade=False)}, 401, "Authorization: Bearer")
        self.check({"page with token": make_request(upgrade=False, offers=("first-token",))}, None)
        self.assertIsNone(
            self.admission.check(make_request(upgrade=False, offers=("wrong",)), public=True)
        )

    def test_other_host_or_origin_with_token_is_403(self) -> None:
        """A token does not bypass the other rules."""
        requests = {
            "host": make_request("evil.example", offers=("first-token",)),
            "origin": make_request(origin="https://evil.example", offers=("first-token",)),
        }
        self.check(requests, 403)

    def test_no_tokens_configured_accepts_any_credentials(self) -> None:
        """The headers do not matter: SDKs send Alpaca's own keys."""
        self.admission = Admission((), (), OPEN)
        for request in (make_request(), make_request(offers=("PK123", "secret"))):
            self.check({"any client": request}, None)
            self.assertTrue(self.admission.get_authenticator(request)(ANYTHING))

    def test_rejection_hides_offered_token(self) -> None:
        """The reason in the response contains nothing from the request."""
        request = make_request(offers=("HUSH",))
        rejection = self.admission.check(request)
        assert rejection is not None
        self.assertNotIn("HUSH", repr(rejection) + repr(request))
        self.assertNotIn("first-token", repr(rejection) + repr(request))


class AuthMessageTests(SynchronousTestCase):
    """With tokens, the auth message must contain one, in any field."""

    def test_token_in_any_auth_field_is_accepted(self) -> None:
        """Key, secret or OAuth token: SDKs differ in the fields that a user can set."""
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
