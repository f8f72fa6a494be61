"""Tests for tradeproxy.config.settings: defaults, invalid values and the demo."""

from __future__ import annotations

from pathlib import Path

from tests.config.settings_case import PAIR, SettingsTestCase
from tradeproxy.config.accounts import demo_accounts
from tradeproxy.config.endpoints import loopback_descriptions
from tradeproxy.config.settings import (
    Limits,
    RecoveryMode,
    RecoverySettings,
    SettingsError,
)
from tradeproxy.wire.messages import Dialect


class ReadSettingsTests(SettingsTestCase):
    """Defaults, the list of problems, and warnings."""

    def test_two_keys_are_sufficient(self) -> None:
        """Everything else has a default: loopback, no tokens, the documented limits."""
        settings = self.read(PAIR)
        self.assertEqual([account.name for account in settings.accounts], ["paper"])
        self.assertEqual(settings.accounts[0].dialect, Dialect.AUTHENTICATE)
        self.assertEqual(settings.listen, loopback_descriptions(8099, ipv6=True))
        self.assertEqual(settings.limits, Limits(10_000, 5.0, 10.0, 16 * 1024, 30.0))
        self.assertEqual(
            (settings.tokens, settings.allowed_origins, settings.allowed_hosts), ((), (), ())
        )
        self.assertEqual((settings.demo, settings.warnings), (False, ()))

    def test_several_problems_are_one_error(self) -> None:
        """The text of the error has one line per problem."""
        variables = {
            "ALPACA_API_KEY": "key",
            "PROXY_PORT": "abc",
            "PROXY_MAX_CLIENTS": "0",
            "PROXY_UPSTREAM_AUTH": "oauth",
        }
        error = self.assertRaises(SettingsError, self.read, variables)
        expected = (
            "PROXY_PORT: 'abc' is not a port (1 to 65535)",
            "PROXY_UPSTREAM_AUTH: 'oauth' is neither authenticate nor auth",
            "ALPACA_SECRET_KEY is missing: ALPACA_API_KEY is set",
            "PROXY_MAX_CLIENTS: '0' is not a whole number (1 or more)",
        )
        self.assertEqual(error.problems, expected)
        self.assertEqual(str(error), "\n".join(expected))

    def test_value_blank_is_unset_and_others_are_stripped(self) -> None:
        """A line of .env may be blank."""
        settings = self.read({**PAIR, "PROXY_PORT": "  ", "PROXY_MAX_CLIENTS": " 7 "})
        self.assertEqual(settings.listen, loopback_descriptions(8099, ipv6=True))
        self.assertEqual(settings.limits.max_clients, 7)

    def test_variable_unknown_is_a_warning(self) -> None:
        """The warning suggests the nearest known name. PROXY_TOKEN is for `tradeproxy tail`."""
        known = {"PROXY_TOKEN": "x", "PROXY_TOKEN_FILE": "x"}
        settings = self.read({**PAIR, **known, "PROXY_PROT": "1", "PROXYPORT": "1"})
        expected = ("PROXY_PROT: unknown variable; did you mean PROXY_PORT?",)
        self.assertEqual(settings.warnings, expected)

    def test_value_invalid_is_a_problem(self) -> None:
        """The problem names the variable and the accepted values."""
        number = "is not a whole number (1 or more)"
        seconds = "is not a number of seconds (more than 0)"
        origin = "each must be scheme://host or scheme://host:port, without *, null or a path"
        host = "is neither a host name nor an address"
        flag = "is neither yes (1, true) nor no (0, false)"
        for name, value, reason in [
            *((f"PROXY_{name}", bad, f"{bad!r} {number}")
              for name in ("MAX_CLIENTS", "MAX_MESSAGE")
              for bad in ("0", "-1", "1.5", "1_000", "many", "٣", "9" * 5000)),
            *((f"PROXY_{name}", bad, f"{bad!r} {seconds}")
              for name in ("AUTH_TIMEOUT", "HANDSHAKE_TIMEOUT", "STALL_TIMEOUT",
                           "RECOVERY_DEADLINE", "RECONCILE_INTERVAL")
              for bad in ("0", "0.0", "-1", "nan", "inf", "1e999", "soon")),
            *(("PROXY_PORT", bad, f"{bad!r} is not a port (1 to 65535)")
              for bad in ("0", "65536", "-1", "80.0", "8_0", "٣", "9" * 5000)),
            ("PROXY_ALLOW_ANONYMOUS", "maybe", f"'maybe' {flag}"),
            ("PROXY_REST", "on", f"'on' {flag}"),
            ("PROXY_RECOVERY", "yes", "'yes' is not one of auto, events, off"),
            ("PROXY_JOURNAL_SYNC", "off", "'off' is neither full nor normal"),
            ("PROXY_UPSTREAM_AUTH", "AUTH", "'AUTH' is neither authenticate nor auth"),
            *(("PROXY_ALLOWED_ORIGINS", bad, origin)
              for bad in ("*", "null", "a.example", "https://a/b", "https://me:hush@a",
                          "https://a?b", "://a")),
            ("PROXY_ALLOWED_ORIGINS", "https://*.example", origin),
            ("PROXY_ALLOWED_ORIGINS", "https://[:::]", f"':::' {host}"),
            ("PROXY_ALLOWED_ORIGINS", "https://a:0", "0 is not a port (1 to 65535)"),
            *(("PROXY_ALLOWED_HOSTS", bad, f"{bad!r} {host}")
              for bad in ("a:80", "[::1]", "*", "a b", "-a")),
            ("PROXY_HOST", "a:80", f"'a:80' {host}"),
            ("PROXY_TRUSTED_PROXIES", "nginx",
             "'nginx' is neither an address, a network nor unix"),
        ]:  # fmt: skip
            self.assertEqual(self.problems({name: value}), [f"{name}: {reason}"])

    def test_value_valid_overrides_default(self) -> None:
        """Numbers, directories, modes and the dialect."""
        settings = self.read(
            {
                **PAIR,
                "PROXY_MAX_CLIENTS": "1",
                "PROXY_HANDSHAKE_TIMEOUT": "0.5",
                "PROXY_AUTH_TIMEOUT": "3",
                "PROXY_MAX_MESSAGE": "2",
                "PROXY_STALL_TIMEOUT": "4",
                "PROXY_UPSTREAM_AUTH": "auth",
                "PROXY_DATA_DIR": "/data",
                "PROXY_RECOVERY": "events",
                "PROXY_RECOVERY_DEADLINE": "2.5",
                "PROXY_RECONCILE_INTERVAL": "60",
            }
        )
        self.assertEqual(settings.limits, Limits(1, 0.5, 3.0, 2, 4.0))
        self.assertEqual(settings.recovery, RecoverySettings(RecoveryMode.EVENTS, 2.5, 60.0))
        self.assertEqual(settings.journal.directory, Path("/data"))
        self.assertEqual(settings.accounts[0].dialect, Dialect.AUTH)

    def test_origins_and_hosts_are_canonical(self) -> None:
        """As browsers send them: lower case, no default port, no slash, addresses compressed."""
        settings = self.read(
            {
                **PAIR,
                "PROXY_ALLOWED_ORIGINS": "HTTPS://A.example:443/, http://b:80,, http://b:8080,"
                "https://b:80, http://[::0001]:3000, moz-extension://abc",
                "PROXY_ALLOWED_HOSTS": "Proxy.Example, 0::1, Desk.lan.",
                "PROXY_TRUSTED_PROXIES": "127.0.0.1, 0::1, 172.17.0.1/16, Unix",
            }
        )
        expected = (
            "https://a.example",
            "http://b",
            "http://b:8080",
            "https://b:80",
            "http://[::1]:3000",
            "moz-extension://abc",
        )
        self.assertEqual(settings.allowed_origins, expected)
        self.assertEqual(settings.allowed_hosts, ("proxy.example", "::1", "desk.lan"))
        self.assertEqual(
            settings.trusted_proxies, ("127.0.0.1/32", "::1/128", "172.17.0.0/16", "unix")
        )

    def test_storage_label_names_directory_redis_or_memory(self) -> None:
        """The label of Redis contains no password."""
        self.assertEqual(self.read({**PAIR, "PROXY_DATA_DIR": "/data"}).storage_label, "/data")
        self.assertEqual(
            self.read(PAIR | {"PROXY_REDIS_URL": "rediss://:hush@redis.example/2"}).storage_label,
            "Redis at rediss://redis.example:6379/2",
        )
        self.assertEqual(self.read({}, demo=True).storage_label, "memory only")


class DemoSettingsTests(SettingsTestCase):
    """The demo has a simulator on the next port, and no real account."""

    def test_demo_ignores_real_accounts(self) -> None:
        """Invalid accounts cause no problem either."""
        expected = demo_accounts(8100, Dialect.AUTHENTICATE)
        for variables in (
            {},
            PAIR,
            {"ALPACA_API_KEY": "key", "ALPACA_x_URL": "y", "ALPACA_URL": "?"},
        ):
            settings = self.read(variables, demo=True)
            self.assertEqual((settings.accounts, settings.demo), (expected, True))
            self.assertEqual(settings.warnings, ())

    def ports(
        self, variables: dict[str, str], port: str | None = None, listen: tuple[str, ...] = ()
    ) -> list[int]:
        """Return the ports of the demo's simulators."""
        settings = self.read(variables, demo=True, port=port, listen=listen)
        return [account.base_url.port for account in settings.accounts]

    def test_demo_simulators_have_the_next_ports(self) -> None:
        """They follow --port, PROXY_PORT or, with descriptions only, the default port."""
        self.assertEqual(self.ports({"PROXY_PORT": "90"}), [91, 92])
        self.assertEqual(self.ports({"PROXY_PORT": "90"}, port="95"), [96, 97])
        listen = ("unix:/run/x.sock",)
        self.assertEqual(self.ports({}, listen=listen), [8100, 8101])
        self.assertEqual(self.ports({"PROXY_PORT": "90"}, listen=listen), [91, 92])

    def test_demo_on_last_port_is_a_problem(self) -> None:
        """The problem names the source of the port."""
        reason = "--demo also uses the next two ports; at most 65533 leaves room for them"
        for port in ("65535", "65534"):
            self.assertEqual(
                self.problems({"PROXY_PORT": port}, demo=True), [f"PROXY_PORT: {reason}"]
            )
            self.assertEqual(self.problems({}, demo=True, port=port), [f"--port: {reason}"])
        self.assertEqual(self.ports({"PROXY_PORT": "65533"}), [65534, 65535])
