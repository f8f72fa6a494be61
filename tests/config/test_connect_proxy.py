"""Tests for tradeproxy.config.connect_proxy."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.config.connect_proxy import ConnectProxy, read_connect_proxy
from tradeproxy.config.env import Findings
from tradeproxy.config.settings import SettingsError, read_settings

PAIR = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret"}
PAPER = "paper-api.alpaca.markets"
SCHEME = "only a proxy with http:// or https:// is supported"


class ConnectProxyTestCase(SynchronousTestCase):
    """Reads the variables of an environment; it has no test."""

    def read(self, environ: dict[str, str]) -> ConnectProxy | None:
        """Return the proxy; `findings` has what was found."""
        self.findings = Findings()
        return read_connect_proxy(environ, self.findings)

    def read_valid(self, url: str, no_proxy: str = "") -> ConnectProxy:
        """Return the proxy of a valid URL."""
        proxy = self.read({"HTTPS_PROXY": url, "NO_PROXY": no_proxy})
        self.assertEqual(self.findings.problems, [])
        assert proxy is not None
        return proxy


class UrlTests(ConnectProxyTestCase):
    """HTTPS_PROXY."""

    def test_url_names_the_proxy(self) -> None:
        """Without a scheme it is http, as in curl; the port is that of the scheme."""
        for url, label in (
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128"),
            ("http://proxy.example", "http://proxy.example:80"),
            ("https://proxy.example", "https://proxy.example:443"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("127.0.0.1:3128", "http://127.0.0.1:3128"),
            ("http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
            ("user:hush@proxy.example:3128", "http://proxy.example:3128"),
        ):
            self.assertEqual(self.read_valid(url).label, label, url)

    def test_credentials_are_decoded_and_kept_secret(self) -> None:
        """Special characters are percent-encoded in the URL, and sent as UTF-8."""
        for userinfo, decoded in (
            ("me:hush", "me:hush"),
            ("me", "me:"),
            ("me:", "me:"),
            (":hush", ":hush"),
            ("m%40e:h%3Au%2Fs%23h%3F%25", "m@e:h:u/s#h?%"),
            ("me:h@u:sh", "me:h@u:sh"),
            ("m%C3%A9:hush%E2%82%AC", "mé:hush€"),
        ):
            proxy = self.read_valid(f"http://{userinfo}@proxy.example:3128")
            assert proxy.authorization is not None
            scheme, _, encoded = proxy.authorization.reveal().partition(" ")
            self.assertEqual((scheme, b64decode(encoded).decode()), ("Basic", decoded))
            self.assertNotIn("hush", repr(proxy) + proxy.label)
            self.assertNotIn(encoded, repr(proxy))
        self.assertIsNone(self.read_valid("http://proxy.example").authorization)

    def test_other_scheme_is_a_problem(self) -> None:
        """A SOCKS proxy that were ignored would let the connection go around it."""
        for url in (
            "socks5://proxy.example",
            "socks5h://me:hush@p",
            "ftp://p",
            "://p",
            "a:hush://p",
        ):
            self.assertIsNone(self.read({"HTTPS_PROXY": url}))
            self.assertEqual(self.findings.problems, [f"HTTPS_PROXY: {SCHEME}"], url)

    def test_malformed_url_is_a_problem_without_a_quote(self) -> None:
        """A password may be anywhere in it. An unencoded "/" makes it look like a port."""
        for url in (
            "http://",
            "http://me:hush@",
            "http://me:12/hush@proxy.example:3128",
            "http://me:12#hush@proxy.example:3128",
            "http://me:12?hush@proxy.example:3128",
            "http://me:hush/x@proxy.example:3128",
            "http://me:h ush@proxy.example",
            "http://me:h\u00fcsh@proxy.example",
            "http://me:hush%@proxy.example",
            "http://me:hush%ff@proxy.example",
            "http://m%3Ae:hush@proxy.example",
            "http://proxy.example:hush",
            "http://proxy.example:0",
            "http://proxy.example:65536",
            "http://proxy.example/hush",
            "http://hush!/",
            "http://[::1",
        ):
            self.assertIsNone(self.read({"https_proxy": url}), url)
            [problem] = self.findings.problems
            self.assertTrue(problem.startswith("https_proxy: "), problem)
            self.assertNotIn("hush", problem)
            self.assertNotIn("12", problem.replace("3128", ""))

    def test_lower_case_counts_first(self) -> None:
        """As in curl and requests. If they differ, a warning names the one that does not count."""
        both = {"https_proxy": "http://one", "HTTPS_PROXY": "http://two"}
        proxy = self.read(both)
        assert proxy is not None
        self.assertEqual((proxy.host, proxy.source), ("one", "https_proxy"))
        self.assertEqual(
            self.findings.warnings, ["HTTPS_PROXY: not used, since https_proxy is set"]
        )
        self.read(dict.fromkeys(both, "http://one"))
        self.assertEqual(self.findings.warnings, [])
        proxy = self.read(both | {"https_proxy": " "})
        assert proxy is not None
        self.assertEqual((proxy.host, proxy.source), ("two", "HTTPS_PROXY"))
        self.assertIsNone(self.read({"HTTP_PROXY": "http://one", "ALL_PROXY": "http://two"}))

    @examples()
    @given(
        st.text(max_size=30) | st.from_regex(r"\A(https?://)?[a-z%:@/#?.\[\]0-9]{0,30}\Z"),
        st.text(),
    )
    def test_any_text_is_a_proxy_or_a_problem(self, url: str, no_proxy: str) -> None:
        """Nothing else is raised."""
        proxy = self.read({"HTTPS_PROXY": url, "NO_PROXY": no_proxy})
        self.assertEqual(proxy is None, not url.strip() or bool(self.findings.problems))
        if proxy is not None:
            proxy.serves(PAPER, 443)


class ExceptionTests(ConnectProxyTestCase):
    """NO_PROXY."""

    def serves(self, no_proxy: str, host: str = PAPER, port: int = 443) -> bool:
        """Return whether the proxy serves a server in spite of NO_PROXY."""
        return self.read_valid("http://proxy.example", no_proxy).serves(host, port)

    def test_name_stands_for_its_subdomains(self) -> None:
        """A leading dot or "*." makes no difference, as in curl."""
        for no_proxy in (
            "*",
            PAPER,
            "alpaca.markets",
            ".alpaca.markets",
            "*.alpaca.markets",
            "ALPACA.markets.",
            "markets",
            "localhost, .corp.example alpaca.markets,,",
            "alpaca.markets:443",
        ):
            self.assertFalse(self.serves(no_proxy), no_proxy)
        self.assertFalse(self.serves(".alpaca.markets", "alpaca.markets"))

    def test_other_name_is_no_exception(self) -> None:
        """A part of a label does not count, and neither does another port."""
        for no_proxy in (
            "",
            "paca.markets",
            "api.alpaca.markets",
            "x.paper-api.alpaca.markets",
            "alpaca.markets.example",
            "alpaca.markets:8443",
            "10.0.0.0/8",
            "localhost,127.0.0.1,::1",
        ):
            self.assertTrue(self.serves(no_proxy), no_proxy)

    def test_address_is_compared_as_an_address(self) -> None:
        """Names are not resolved, so an address in NO_PROXY is for an address in ALPACA_URL."""
        for no_proxy, host, serves in (
            ("10.1.2.3", "10.1.2.3", False),
            ("10.0.0.0/8", "10.1.2.3", False),
            ("10.1.2.3:443", "10.1.2.3", False),
            ("10.1.2.3:80", "10.1.2.3", True),
            ("11.0.0.0/8", "10.1.2.3", True),
            ("2001:DB8::1", "2001:db8::1", False),
            ("[2001:db8::1]", "2001:db8::1", False),
            ("[2001:db8::1]:443", "2001:db8::1", False),
            ("2001:db8::/32", "2001:db8::1", False),
            ("2001:db8::2", "2001:db8::1", True),
            ("2.3", "10.1.2.3", True),
        ):
            self.assertIs(self.serves(no_proxy, host), serves, (no_proxy, host))

    def test_loopback_is_never_served(self) -> None:
        """The simulator and a test's Alpaca are on this machine, not on the proxy's."""
        for host in ("localhost", "127.0.0.1", "127.8.9.10", "::1"):
            self.assertFalse(self.serves("", host, 8100), host)

    def test_unusable_entry_is_a_warning(self) -> None:
        """Other programs may understand it."""
        self.assertTrue(self.serves("<local>,a*b,10.0.0.0/33,x:y"))
        self.assertEqual(len(self.findings.warnings), 4)
        self.assertEqual(
            self.findings.warnings[0],
            "NO_PROXY: entry 1 is no host name, domain, address or network; it is not used",
        )

    def test_entry_is_not_quoted(self) -> None:
        """Who confuses the two variables puts a password there, whole or up to a comma in it."""
        self.serves("example.org,http://me:hush@proxy.example:3128,http://me:hush,")
        self.assertEqual(
            self.findings.warnings,
            [
                f"NO_PROXY: entry {number} is no host name, domain, address or network;"
                " it is not used"
                for number in (2, 3)
            ],
        )


class SettingsTests(SynchronousTestCase):
    """The settings with a proxy."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def test_only_the_environment_counts(self) -> None:
        """A `.env` does not redirect connections; a warning says so."""
        file = self.directory / ".env"
        file.write_text("HTTPS_PROXY=socks5://me:hush@evil.example\nno_proxy=*\n", encoding="utf-8")
        file.chmod(0o600)
        settings = read_settings(PAIR, directory=self.directory, ipv6_loopback=True)
        self.assertIsNone(settings.connect_proxy)
        self.assertEqual(
            set(settings.warnings),
            {
                f"{name}: not used; only the environment can set it"
                for name in ("HTTPS_PROXY", "no_proxy")
            },
        )
        settings = read_settings(
            PAIR | {"HTTPS_PROXY": "http://me:hush@proxy.example:3128"},
            directory=self.directory,
            ipv6_loopback=True,
        )
        assert settings.connect_proxy is not None
        self.assertTrue(settings.connect_proxy.serves(PAPER, 443))
        self.assertNotIn("hush", repr(settings))

    def test_other_scheme_prevents_the_start(self) -> None:
        """It was ignored. The demo has no connection for a proxy."""
        environ = PAIR | {"HTTPS_PROXY": "socks5://proxy.example"}
        with self.assertRaisesRegex(SettingsError, f"HTTPS_PROXY: {SCHEME}"):
            read_settings(environ, directory=self.directory, ipv6_loopback=True)
        demo = read_settings(environ, directory=self.directory, demo=True, ipv6_loopback=True)
        self.assertIsNone(demo.connect_proxy)
