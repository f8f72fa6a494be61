"""Tests for tradeproxy.config.settings: the environment, .env, options and invalid values."""

from __future__ import annotations

import socket
from pathlib import Path

from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Authority
from tradeproxy.config.accounts import demo_accounts
from tradeproxy.config.endpoints import describe_tcp, has_ipv6_loopback, loopback_descriptions
from tradeproxy.config.files import MAX_SIZE
from tradeproxy.config.settings import (
    VARIABLES,
    Limits,
    RecoveryMode,
    RecoverySettings,
    Settings,
    SettingsError,
    read_settings,
)
from tradeproxy.wire.credentials import KeyPair, Secret
from tradeproxy.wire.messages import Dialect

PAIR = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret"}
TOKEN = "a-token-of-some-length"
EXPOSED = "and read every order; set PROXY_TOKENS, or PROXY_ALLOW_ANONYMOUS=1 to allow that"


class SettingsTestCase(SynchronousTestCase):
    """Each test reads settings in its own directory, on a machine with ::1."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def read(
        self,
        variables: dict[str, str],
        *,
        env_file: str | None = None,
        port: str | None = None,
        listen: tuple[str, ...] = (),
        demo: bool = False,
    ) -> Settings:
        """Return the settings for these variables and options."""
        return read_settings(
            variables,
            directory=self.directory,
            env_file=env_file,
            port=port,
            listen=listen,
            demo=demo,
            ipv6_loopback=True,
        )

    def problems(
        self,
        variables: dict[str, str],
        *,
        env_file: str | None = None,
        port: str | None = None,
        listen: tuple[str, ...] = (),
        demo: bool = False,
    ) -> list[str]:
        """Return the problems of these variables and options. By default there is an account."""
        try:
            self.read({**PAIR, **variables}, env_file=env_file, port=port, listen=listen, demo=demo)
        except SettingsError as error:
            return list(error.problems)
        return []


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


class TokenSettingsTests(SettingsTestCase):
    """A list of tokens, in a variable or in a file."""

    def test_tokens_are_separated_by_commas(self) -> None:
        """White space around tokens is stripped, and empty tokens are ignored."""
        expected = (Secret(TOKEN), Secret("another-of-some-length"))
        tokens = f" {TOKEN},, another-of-some-length ,"
        self.assertEqual(self.read({**PAIR, "PROXY_TOKENS": tokens}).tokens, expected)
        (self.directory / "tokens").write_text(tokens)
        self.assertEqual(self.read({**PAIR, "PROXY_TOKENS_FILE": "tokens"}).tokens, expected)

    def test_tokens_invalid_is_a_problem(self) -> None:
        """A start without tokens would admit every client."""
        (self.directory / "two").write_text("one-token-a-line\nis-not-how-it-goes\n")
        malformed = "a token contains white space, or is not ASCII; separate tokens by commas"
        for variables, problem in [
            ({"PROXY_TOKENS": " , "}, "PROXY_TOKENS: contains no token"),
            ({"PROXY_TOKENS": "two words of length"}, f"PROXY_TOKENS: {malformed}"),
            ({"PROXY_TOKENS_FILE": "two"}, f"PROXY_TOKENS_FILE: {malformed}"),
            (
                {"PROXY_TOKENS_FILE": "none"},
                "PROXY_TOKENS_FILE: the file it names cannot be read (No such file or directory)",
            ),
        ]:
            self.assertEqual(self.problems({**variables, "PROXY_HOST": "0.0.0.0"}), [problem])

    def test_token_short_is_a_warning(self) -> None:
        """The token is still accepted."""
        settings = self.read({**PAIR, "PROXY_TOKENS": f"fifteen-letters,{TOKEN}"})
        expected = (
            "PROXY_TOKENS: a token of fewer than 16 characters can be guessed;"
            " a later version will refuse it",
        )
        self.assertEqual((settings.warnings, len(settings.tokens)), (expected, 2))


class RestSettingsTests(SettingsTestCase):
    """PROXY_REST: whether the proxy forwards Alpaca's REST interface."""

    def test_rest_is_off_by_default(self) -> None:
        """Blank, 0 and no mean off too."""
        for text, expected in {
            "": False,
            "0": False,
            "no": False,
            "1": True,
            "true": True,
            "yes": True,
        }.items():
            self.assertIs(self.read({**PAIR, "PROXY_REST": text}).rest, expected, text)

    def test_rest_with_tokens_is_a_problem(self) -> None:
        """The problem names both variables, also if a file contains the tokens."""
        (self.directory / "tokens").write_text(TOKEN)
        for name, value in (("PROXY_TOKENS", TOKEN), ("PROXY_TOKENS_FILE", "tokens")):
            [line] = self.problems({"PROXY_REST": "1", name: value})
            expected = (
                f"PROXY_REST: {name} is set too; the headers of a request cannot carry a token and"
            )
            self.assertTrue(line.startswith(expected), line)
            self.assertEqual(self.problems({"PROXY_REST": "0", name: value}), [])

    def test_rest_for_other_machines_without_tls_is_a_warning(self) -> None:
        """Clients send their keys, and only TLS encrypts them."""
        variables = {**PAIR, "PROXY_REST": "1", "PROXY_ALLOW_ANONYMOUS": "1"}
        [warning] = self.read({**variables, "PROXY_HOST": "0.0.0.0"}).warnings
        self.assertTrue(warning.startswith("PROXY_REST: other machines send their keys"), warning)
        identity = Authority(str(self.directory)).issue("localhost")
        over_tls = f"ssl:443:privateKey={identity.key}:certKey={identity.certificate}"
        for elsewhere in ({}, {"PROXY_LISTEN": over_tls}):
            self.assertEqual(self.read({**variables, **elsewhere}).warnings, ())


class ListenSettingsTests(SettingsTestCase):
    """Options override variables, and descriptions override hosts and ports."""

    def test_hosts_share_the_port(self) -> None:
        """The option --port overrides PROXY_PORT."""
        hosts = {**PAIR, "PROXY_HOST": "127.0.0.1, ::1", "PROXY_PORT": "81"}
        self.assertEqual(
            self.read(hosts).listen, (describe_tcp("127.0.0.1", 81), describe_tcp("::1", 81))
        )
        self.assertEqual(
            self.read(hosts, port="82").listen,
            (describe_tcp("127.0.0.1", 82), describe_tcp("::1", 82)),
        )

    def test_listen_host_name_is_an_allowed_host(self) -> None:
        """Clients send it in their `Host` header. An address adds no name."""
        hosts = {**PAIR, "PROXY_HOST": "Trader.lan, 127.0.0.1", "PROXY_ALLOW_ANONYMOUS": "1"}
        self.assertEqual(self.read(hosts).allowed_hosts, ("trader.lan",))

    def test_ipv6_loopback_by_default_is_detected(self) -> None:
        """Without the argument, the settings include ::1 if the machine has it."""
        settings = read_settings(PAIR, directory=self.directory)
        self.assertEqual(settings.listen, loopback_descriptions(8099, has_ipv6_loopback()))

    def test_listen_descriptions_replace_hosts_and_port(self) -> None:
        """White space separates them. Variables without effect cause warnings."""
        variables = {
            **PAIR,
            "PROXY_LISTEN": "unix:/run/x.sock:mode=660  tcp:80:interface=127.0.0.1",
            "PROXY_HOST": "0.0.0.0",
            "PROXY_PORT": "81",
        }
        settings = self.read(variables)
        expected = ("unix:/run/x.sock:mode=660", "tcp:80:interface=127.0.0.1:backlog=4096")
        self.assertEqual(settings.listen, expected)
        expected = (
            "PROXY_HOST: not used for listening, since PROXY_LISTEN is set",
            "PROXY_PORT: not used for listening, since PROXY_LISTEN is set",
        )
        self.assertEqual(settings.warnings, expected)

    def test_options_override_listen_variable(self) -> None:
        """--listen replaces PROXY_LISTEN. --port replaces it too, with a warning."""
        variables = {**PAIR, "PROXY_LISTEN": "tcp:80:interface=127.0.0.1"}
        settings = self.read(variables, listen=("unix:/run/a b.sock", "unix:/run/c.sock"))
        self.assertEqual(
            settings.listen, ("unix:/run/a b.sock:mode=600", "unix:/run/c.sock:mode=600")
        )
        self.assertEqual(settings.warnings, ())
        settings = self.read(variables, port="81")
        self.assertEqual(settings.listen, loopback_descriptions(81, ipv6=True))
        expected = ("PROXY_LISTEN: not used for listening, since --port is set",)
        self.assertEqual(settings.warnings, expected)

    def test_option_invalid_is_a_problem(self) -> None:
        """The problem names the option."""
        self.assertEqual(
            self.problems({}, port="abc"), ["--port: 'abc' is not a port (1 to 65535)"]
        )
        self.assertEqual(self.problems({}, port=""), ["--port: '' is not a port (1 to 65535)"])
        self.assertEqual(
            self.problems({}, listen=("foo:1", "unix:/run/x.sock")),
            ["--listen: 'foo:1' cannot be listened on: Unknown endpoint type: 'foo'"],
        )
        self.assertEqual(
            self.problems({}, port="80", listen=("unix:/run/x.sock",)),
            ["--port: --listen is given too, and contains the port"],
        )

    def test_listen_description_invalid_is_a_problem(self) -> None:
        """The problem names the variable and contains Twisted's reason."""
        expected = ["PROXY_LISTEN: 'foo:1' cannot be listened on: Unknown endpoint type: 'foo'"]
        self.assertEqual(self.problems({"PROXY_LISTEN": "foo:1"}), expected)

    def test_listen_for_other_machines_without_tokens_is_a_problem(self) -> None:
        """PROXY_ALLOW_ANONYMOUS allows it. The problem names the source of the address."""
        cases: list[tuple[dict[str, str], tuple[str, ...], str]] = [
            (
                {"PROXY_HOST": "0.0.0.0"},
                (),
                "PROXY_HOST: other machines may reach http://0.0.0.0:8099",
            ),
            (
                {"PROXY_LISTEN": "tcp:80"},
                (),
                "PROXY_LISTEN: other machines may reach http://0.0.0.0:80",
            ),
            ({}, ("tcp6:80",), "--listen: other machines may reach http://[::]:80"),
        ]
        for variables, listen, problem in cases:
            self.assertEqual(self.problems(variables, listen=listen), [f"{problem} {EXPOSED}"])
            forbidden = {**variables, "PROXY_ALLOW_ANONYMOUS": "No"}
            self.assertEqual(self.problems(forbidden, listen=listen), [f"{problem} {EXPOSED}"])
            for allowed in ({"PROXY_ALLOW_ANONYMOUS": "1"}, {"PROXY_TOKENS": TOKEN}):
                self.assertEqual(self.problems({**variables, **allowed}, listen=listen), [])


class ClusterSettingsTests(SettingsTestCase):
    """The settings of several nodes with one log."""

    redis = {"PROXY_REDIS_URL": "rediss://:hush@redis.example/2"}

    def test_storage_label_names_directory_redis_or_memory(self) -> None:
        """The label of Redis contains no password."""
        self.assertEqual(self.read({**PAIR, "PROXY_DATA_DIR": "/data"}).storage_label, "/data")
        self.assertEqual(
            self.read(PAIR | self.redis).storage_label, "Redis at rediss://redis.example:6379/2"
        )
        self.assertEqual(self.read({}, demo=True).storage_label, "memory only")

    def test_reuse_port_is_off_by_default(self) -> None:
        """Otherwise a second process, started by mistake, would get a part of the clients."""
        self.assertIs(self.read(PAIR | self.redis).reuse_port, False)
        settings = self.read(PAIR | self.redis | {"PROXY_REUSE_PORT": "1"})
        self.assertEqual((settings.reuse_port, settings.warnings), (True, ()))

    def test_reuse_port_without_redis_is_a_warning(self) -> None:
        """A client could get another order of events on each connection."""
        [warning] = self.read({**PAIR, "PROXY_REUSE_PORT": "1"}).warnings
        self.assertIn("PROXY_REDIS_URL is not set", warning)

    def test_reuse_port_unsupported_is_a_problem(self) -> None:
        """Some systems have no SO_REUSEPORT."""
        self.patch(socket, "SO_REUSEPORT", None)
        del socket.SO_REUSEPORT
        problems = self.problems(PAIR | self.redis | {"PROXY_REUSE_PORT": "1"})
        self.assertEqual(problems, ["PROXY_REUSE_PORT: this system has no SO_REUSEPORT"])

    def test_demo_uses_neither_redis_nor_reuse_port(self) -> None:
        """The demo is one process with its own simulator, and stores events in memory."""
        settings = self.read(self.redis | {"PROXY_REUSE_PORT": "1"}, demo=True)
        self.assertEqual((settings.redis, settings.reuse_port), (None, False))
        self.assertEqual(
            [warning.split(":")[0] for warning in settings.warnings],
            ["PROXY_REUSE_PORT", "PROXY_REDIS_URL"],
        )


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


class EnvFileTests(SettingsTestCase):
    """The environment overrides the .env file."""

    def write(self, text: str, name: str = ".env", mode: int = 0o600) -> Path:
        """Write a file of settings."""
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def test_environment_overrides_file_unless_blank(self) -> None:
        """Containers pass on unset variables as blank."""
        self.write(
            "ALPACA_API_KEY=key\nALPACA_SECRET_KEY=secret\n"
            "PROXY_MAX_CLIENTS=1\nPROXY_MAX_MESSAGE=1\n"
        )
        settings = self.read({"PROXY_MAX_CLIENTS": "2", "PROXY_MAX_MESSAGE": ""})
        self.assertEqual(settings.limits, Limits(max_clients=2, max_message=1))

    def test_variable_set_twice_is_a_warning(self) -> None:
        """The last line counts, and a user may see only the first."""
        path = self.write(
            "ALPACA_API_KEY=key\nALPACA_SECRET_KEY=secret\nPROXY_PORT=81\nPROXY_PORT=82\n"
        )
        settings = self.read({})
        self.assertEqual(
            settings.warnings, (f"{path}: PROXY_PORT is set twice; the last one counts",)
        )
        self.assertIn(":82:", settings.listen[0])

    def test_account_missing_is_reported_with_other_problems(self) -> None:
        """Users can fix all problems at once."""
        with self.assertRaises(SettingsError) as caught:
            self.read({"PROXY_PORT": "x"})
        self.assertEqual(
            [problem.split(":")[0] for problem in caught.exception.problems],
            ["PROXY_PORT", "ALPACA_API_KEY, ALPACA_SECRET_KEY"],
        )

    def test_warnings_follow_the_problems(self) -> None:
        """A misspelt variable may be the cause of a problem."""
        problems = self.problems({"PROXY_PORT": "x", "PROXY_PROT": "81"})
        self.assertEqual(
            problems[-1],
            "warning: PROXY_PROT: unknown variable; did you mean PROXY_PORT?",
        )

    def test_line_in_shell_syntax_is_parsed(self) -> None:
        """A line may have `export`, quotes and a comment. "$" is an ordinary character."""
        self.write(
            "\ufeff# a comment\n\nexport ALPACA_API_KEY='k$HOME'  # quoted\n"
            'ALPACA_SECRET_KEY = "${s}"\r\nPROXY_MAX_CLIENTS=3 # three\n'
        )
        settings = self.read({})
        expected = (Secret("k$HOME"), Secret("${s}"))
        credentials = settings.accounts[0].credentials
        assert isinstance(credentials, KeyPair)
        self.assertEqual((credentials.key_id, credentials.secret_key), expected)
        self.assertEqual(settings.limits.max_clients, 3)

    def test_line_invalid_is_a_problem_with_its_number(self) -> None:
        """The problem does not quote the line, which may contain a part of a secret."""
        path = self.write(
            "PROXY_MAX_CLIENTS=1\n\n\nhush\nPROXY_HOST='127.0.0.1\n# fine\n=hush\nPROXY_PORT=2 ok\n"
        )
        expected = [
            f"{path}: line 4 is not NAME=value",
            f"{path}: line 5 has a value that begins with ' and does not end with it",
            f"{path}: line 7 is not NAME=value",
        ]
        self.assertEqual(self.problems({"PROXY_PORT": "3"}), expected)

    def test_quotes_of_a_value_are_explained(self) -> None:
        """A quote that is not closed can swallow the next lines, whose quote then ends it."""
        unclosed = 'has a value that begins with " and does not end with it'
        for text, explanation in (
            ('PROXY_HOST="127.0.0.1\n', unclosed),
            ('PROXY_HOST="127.0.0.1\nPROXY_MAX_CLIENTS="3"\n', unclosed),
            ('PROXY_HOST = "127.0.0.1" x\n', "has text after the quoted value"),
        ):
            path = self.write(text)
            self.assertIn(f"{path}: line 1 {explanation}", self.problems(dict(PAIR)))

    def test_name_in_lower_case_is_a_warning(self) -> None:
        """It has no effect, which nothing else would show. Other programs have other names."""
        names = {"proxy_port": "1", "Proxy_Token": "x", "http_proxy": "x", "alpaca_x": "x"}
        settings = self.read({**PAIR, **names, "alpaca_url": "x"})
        self.assertEqual(
            sorted(settings.warnings),
            [
                "Proxy_Token: not used; the variable is PROXY_TOKEN",
                "alpaca_url: not used; the variable is ALPACA_URL",
                "proxy_port: not used; the variable is PROXY_PORT",
            ],
        )

    def test_file_readable_by_others_is_a_warning(self) -> None:
        """Read permission counts, for the group or for others. See test_trust.py for writing."""
        for mode, warned in ((0o600, False), (0o640, True), (0o604, True)):
            path = self.write("", mode=mode)
            expected = (f"{path}: others can read it; run chmod 600 on it",) if warned else ()
            self.assertEqual(self.read(PAIR).warnings, expected)

    def test_file_missing_is_a_problem_only_for_the_option(self) -> None:
        """The problem names --env-file."""
        self.assertEqual(self.problems({}), [])
        expected = (
            f"--env-file {self.directory / 'x.env'}: cannot be read (No such file or directory)"
        )
        self.assertEqual(self.problems({}, env_file="x.env"), [expected])

    def test_env_file_option_replaces_dot_env(self) -> None:
        """Its path is relative to the directory."""
        self.write("PROXY_MAX_CLIENTS=1")
        self.write("PROXY_MAX_MESSAGE=1", name="x.env")
        self.assertEqual(self.read(PAIR, env_file="x.env").limits, Limits(max_message=1))

    def test_file_unreadable_is_one_problem(self) -> None:
        """A directory and binary data are unreadable, and so is a file without an end."""
        path = self.directory / ".env"
        path.mkdir()
        self.assertEqual(self.problems({}), [f"{path}: cannot be read (Is a directory)"])
        path.rmdir()
        path.write_bytes(b"\xff\xfe")
        self.assertEqual(self.problems({}), [f"{path}: cannot be read (it is not UTF-8 text)"])
        path.write_bytes(b"\n" * MAX_SIZE)
        self.assertNotIn("too large", str(self.problems({})))
        path.write_bytes(b"\n" * (MAX_SIZE + 1))
        self.assertEqual(self.problems({}), [f"{path}: cannot be read (File too large)"])


SECRETS = [
    f"ALPACA_{name}{form}{suffix}"
    for name in ("", "LIVE_", "DESK_", "PAPER_", "bad-name_")
    for form in ("API_KEY", "SECRET_KEY", "OAUTH_TOKEN")
    for suffix in ("", "_FILE")
] + [
    f"PROXY_{name}{suffix}"
    for name in ("TOKENS", "REDIS_PASSWORD", "REDIS_URL")
    for suffix in ("", "_FILE")
]
MARK = "hush"
"""A part of every secret, and of nothing else."""

awkward = st.text("a \t\n\r\x00\x1b\x85\u2028\ud800é,=:\\'\"#$", max_size=4)
secrets = st.tuples(awkward, awkward).map(MARK.join)
urls = st.sampled_from(
    [
        "https://me:hush@h",
        "https://h?hush",
        "https://h\nhush",
        "http://h/#hush",
        "https://h",
        "redis://hush:hush@h",
    ]
)


class SettingsPropertyTests(SettingsTestCase):
    """Properties of all settings."""

    def lines_and_repr(self, variables: dict[str, str], demo: bool) -> tuple[list[str], str]:
        """Return the lines for the user, and all text that a log of the result could contain."""
        try:
            settings = self.read(variables, demo=demo)
        except SettingsError as error:
            return list(error.problems), f"{error!r} {error}"
        return list(settings.warnings), f"{settings!r}"

    @profile(deadline=None, derandomize=True)
    @given(
        st.dictionaries(st.sampled_from(SECRETS), secrets),
        st.dictionaries(
            st.sampled_from(
                ["ALPACA_URL", "ALPACA_LIVE_URL", "PROXY_ALLOWED_ORIGINS", "PROXY_REDIS_URL"]
            ),
            urls,
        ),
        st.sampled_from(["", "auth"]),
        st.booleans(),
    )
    def test_secret_is_never_shown(
        self, secret_variables: dict[str, str], urls: dict[str, str], dialect: str, demo: bool
    ) -> None:
        """No problem, warning or repr contains a secret, valid or not."""
        variables = {**secret_variables, **urls, "PROXY_UPSTREAM_AUTH": dialect}
        lines, shown = self.lines_and_repr(variables, demo)
        self.assertNotIn(MARK, "".join(lines) + shown)

    @profile(deadline=None, derandomize=True)
    @given(
        st.dictionaries(
            st.sampled_from([*VARIABLES, *SECRETS, "ALPACA_URL"])
            | awkward.map("PROXY_{}".format)
            | awkward.map("ALPACA_{}_API_KEY".format),
            awkward,
        ),
        st.booleans(),
    )
    def test_finding_is_one_printable_line(self, variables: dict[str, str], demo: bool) -> None:
        """It contains no control characters, whatever is in names and values."""
        for line in self.lines_and_repr(variables, demo)[0]:
            self.assertTrue(line.isprintable(), repr(line))

    @profile(deadline=None, derandomize=True)
    @given(st.text("aA_=#'\"\\ \n$hush", max_size=40))
    def test_file_with_any_text_is_read_or_a_problem(self, text: str) -> None:
        """No text of a .env file raises another exception or appears in a problem."""
        path = self.directory / ".env"
        path.write_text(f"PROXY_TOKENS_FILE=x\n{text}")
        path.chmod(0o600)
        lines, _ = self.lines_and_repr(PAIR, demo=False)
        self.assertNotIn(MARK, "".join(lines))
