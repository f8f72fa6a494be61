"""Tests for the check of Origin and Sec-Fetch-Site in tradeproxy.downstream.admission."""

from __future__ import annotations

from tests.support.admission import OPEN, AdmissionTestCase, make_request
from tradeproxy.downstream.admission import Admission


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
