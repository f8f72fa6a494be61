"""Tests for tradeproxy.config.settings: what the environment, .env and the options come to, and every bad value."""

from __future__ import annotations

import socket
from pathlib import Path

from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Authority
from tradeproxy.config.accounts import demo_account
from tradeproxy.config.endpoints import describe_tcp, has_ipv6_loopback, loopback_descriptions
from tradeproxy.config.settings import (
    VARIABLES,
    Limits,
    RecoveryMode,
    RecoverySettings,
    Settings,
    SettingsError,
    read_settings,
)
from tradeproxy.wire.credentials import Secret
from tradeproxy.wire.messages import Dialect

PAIR = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret"}
TOKEN = "a-token-of-some-length"
EXPOSED = "and would see every order; set PROXY_TOKENS, or PROXY_ALLOW_ANONYMOUS=1 if they may"


class SettingsTestCase(SynchronousTestCase):
    """Settings are read in a folder of the test's own, and where there is a ::1."""

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
        """Read the settings from these variables and options."""
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
        """Return the problems of variables and options, with an account where none is given."""
        try:
            self.read({**PAIR, **variables}, env_file=env_file, port=port, listen=listen, demo=demo)
        except SettingsError as error:
            return list(error.problems)
        return []


class ReadSettingsTests(SettingsTestCase):
    """The whole: defaults, every problem at once, warnings that stop nothing."""

    def test_two_keys_are_enough(self) -> None:
        """All else has a default: loopback, no tokens, the documented limits."""
        settings = self.read(PAIR)
        self.assertEqual([account.name for account in settings.accounts], ["paper"])
        self.assertEqual(settings.accounts[0].dialect, Dialect.AUTHENTICATE)
        self.assertEqual(settings.listen, loopback_descriptions(8099, ipv6=True))
        self.assertEqual(settings.limits, Limits(10_000, 5.0, 10.0, 16 * 1024, 30.0))
        self.assertEqual(
            (settings.tokens, settings.allowed_origins, settings.allowed_hosts), ((), (), ())
        )
        self.assertEqual((settings.simulator_port, settings.warnings), (None, ()))

    def test_every_problem_is_told_at_once(self) -> None:
        """One line each, in the error's own text too."""
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

    def test_blank_is_unset_and_white_space_is_cut(self) -> None:
        """A line of .env may be left blank."""
        settings = self.read({**PAIR, "PROXY_PORT": "  ", "PROXY_MAX_CLIENTS": " 7 "})
        self.assertEqual(settings.listen, loopback_descriptions(8099, ipv6=True))
        self.assertEqual(settings.limits.max_clients, 7)

    def test_an_unknown_variable_is_warned_of(self) -> None:
        """With the nearest known name, since it is most likely meant."""
        settings = self.read({**PAIR, "PROXY_PROT": "1", "PROXY_TOKEN": "x", "PROXYPORT": "1"})
        expected = (
            "PROXY_PROT: unknown variable; did you mean PROXY_PORT?",
            "PROXY_TOKEN: unknown variable; did you mean PROXY_TOKENS?",
        )
        self.assertEqual(settings.warnings, expected)

    def test_values_that_are_not_understood(self) -> None:
        """Each is told by the variable, with what is accepted."""
        number = "is not a whole number (1 or more)"
        seconds = "is not a number of seconds (more than 0)"
        origin = "each must be scheme://host or scheme://host:port, without *, null or a path"
        host = "is neither a host name nor an address"
        for name, value, reason in [
            *((f"PROXY_{name}", bad, f"{bad!r} {number}")
              for name in ("MAX_CLIENTS", "MAX_MESSAGE")
              for bad in ("0", "-1", "1.5", "1_000", "many", "٣", "9" * 5000)),
            *((f"PROXY_{name}", bad, f"{bad!r} {seconds}")
              for name in ("AUTH_TIMEOUT", "HANDSHAKE_TIMEOUT", "STALL_TIMEOUT", "RECOVERY_DEADLINE",
                           "RECONCILE_INTERVAL")
              for bad in ("0", "0.0", "-1", "nan", "inf", "1e999", "soon")),
            *(("PROXY_PORT", bad, f"{bad!r} is not a port (1 to 65535)")
              for bad in ("0", "65536", "-1", "80.0", "8_0", "٣", "9" * 5000)),
            ("PROXY_ALLOW_ANONYMOUS", "maybe", "'maybe' is neither yes (1, true) nor no (0, false)"),
            ("PROXY_REST", "on", "'on' is neither yes (1, true) nor no (0, false)"),
            ("PROXY_RECOVERY", "yes", "'yes' is not one of auto, events, off"),
            ("PROXY_JOURNAL_SYNC", "off", "'off' is neither full nor normal"),
            ("PROXY_UPSTREAM_AUTH", "AUTH", "'AUTH' is neither authenticate nor auth"),
            *(("PROXY_ALLOWED_ORIGINS", bad, origin)
              for bad in ("*", "null", "a.example", "https://a/b", "https://me:hush@a", "https://a?b", "://a")),
            ("PROXY_ALLOWED_ORIGINS", "https://*.example", origin),
            ("PROXY_ALLOWED_ORIGINS", "https://[:::]", f"':::' {host}"),
            ("PROXY_ALLOWED_ORIGINS", "https://a:0", "0 is not a port (1 to 65535)"),
            *(("PROXY_ALLOWED_HOSTS", bad, f"{bad!r} {host}") for bad in ("a:80", "[::1]", "*", "a b", "-a")),
            ("PROXY_HOST", "a:80", f"'a:80' {host}"),
        ]:  # fmt: skip
            self.assertEqual(self.problems({name: value}), [f"{name}: {reason}"])

    def test_values_that_are_understood(self) -> None:
        """Numbers, yes and no, and the dialect."""
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

    def test_origins_and_hosts_are_brought_to_one_spelling(self) -> None:
        """Lower case, no default port, no slash, addresses compressed: as browsers send them."""
        settings = self.read(
            {
                **PAIR,
                "PROXY_ALLOWED_ORIGINS": "HTTPS://A.example:443/, http://b:80,, http://b:8080,"
                "https://b:80, http://[::0001]:3000, moz-extension://abc",
                "PROXY_ALLOWED_HOSTS": "Proxy.Example, 0::1",
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
        self.assertEqual(settings.allowed_hosts, ("proxy.example", "::1"))


class TokenTests(SettingsTestCase):
    """Tokens: a list, in a variable or in a file."""

    def test_tokens_are_parted_by_commas(self) -> None:
        """White space around them and empty ones don't count."""
        expected = (Secret(TOKEN), Secret("another-of-some-length"))
        tokens = f" {TOKEN},, another-of-some-length ,"
        self.assertEqual(self.read({**PAIR, "PROXY_TOKENS": tokens}).tokens, expected)
        (self.directory / "tokens").write_text(tokens)
        self.assertEqual(self.read({**PAIR, "PROXY_TOKENS_FILE": "tokens"}).tokens, expected)

    def test_what_is_no_token_is_a_problem(self) -> None:
        """To go on without would let everyone in."""
        (self.directory / "two").write_text("one-token-a-line\nis-not-how-it-goes\n")
        malformed = "a token holds white space, or is not ASCII; commas separate tokens"
        for variables, problem in [
            ({"PROXY_TOKENS": " , "}, "PROXY_TOKENS: holds no token"),
            ({"PROXY_TOKENS": "two words of length"}, f"PROXY_TOKENS: {malformed}"),
            ({"PROXY_TOKENS_FILE": "two"}, f"PROXY_TOKENS_FILE: {malformed}"),
            (
                {"PROXY_TOKENS_FILE": "none"},
                "PROXY_TOKENS_FILE: the file it names cannot be read (No such file or directory)",
            ),
        ]:
            self.assertEqual(self.problems({**variables, "PROXY_HOST": "0.0.0.0"}), [problem])

    def test_a_short_token_is_warned_of(self) -> None:
        """It is taken all the same."""
        settings = self.read({**PAIR, "PROXY_TOKENS": f"fifteen-letters,{TOKEN}"})
        expected = ("PROXY_TOKENS: a token of fewer than 16 characters can be guessed",)
        self.assertEqual((settings.warnings, len(settings.tokens)), (expected, 2))


class RestTests(SettingsTestCase):
    """PROXY_REST: whether Alpaca's REST interface is passed through."""

    def test_it_is_off_unless_it_is_turned_on(self) -> None:
        """Blank, 0 and no are off too."""
        for text, expected in {
            "": False,
            "0": False,
            "no": False,
            "1": True,
            "true": True,
            "yes": True,
        }.items():
            self.assertIs(self.read({**PAIR, "PROXY_REST": text}).rest, expected, text)

    def test_it_does_not_go_with_tokens(self) -> None:
        """One line names both, whichever way the tokens are given."""
        (self.directory / "tokens").write_text(TOKEN)
        for name, value in (("PROXY_TOKENS", TOKEN), ("PROXY_TOKENS_FILE", "tokens")):
            [line] = self.problems({"PROXY_REST": "1", name: value})
            expected = (
                f"PROXY_REST: {name} is set too; the headers of a request cannot hold a token and"
            )
            self.assertTrue(line.startswith(expected), line)
            self.assertEqual(self.problems({"PROXY_REST": "0", name: value}), [])

    def test_keys_in_the_clear_are_warned_of(self) -> None:
        """Other machines' clients send theirs, and only TLS would hide them."""
        variables = {**PAIR, "PROXY_REST": "1", "PROXY_ALLOW_ANONYMOUS": "1"}
        [warning] = self.read({**variables, "PROXY_HOST": "0.0.0.0"}).warnings
        self.assertTrue(warning.startswith("PROXY_REST: keys travel in the clear"), warning)
        identity = Authority(str(self.directory)).issue("localhost")
        over_tls = f"ssl:443:privateKey={identity.key}:certKey={identity.certificate}"
        for elsewhere in ({}, {"PROXY_LISTEN": over_tls}):
            self.assertEqual(self.read({**variables, **elsewhere}).warnings, ())


class AddressTests(SettingsTestCase):
    """Where we listen: options over variables, descriptions over hosts and ports."""

    def test_hosts_and_port(self) -> None:
        """Several hosts share the port; the option beats the variable."""
        hosts = {**PAIR, "PROXY_HOST": "127.0.0.1, ::1", "PROXY_PORT": "81"}
        self.assertEqual(
            self.read(hosts).listen, (describe_tcp("127.0.0.1", 81), describe_tcp("::1", 81))
        )
        self.assertEqual(
            self.read(hosts, port="82").listen,
            (describe_tcp("127.0.0.1", 82), describe_tcp("::1", 82)),
        )

    def test_a_host_name_that_is_listened_on_may_be_called(self) -> None:
        """Clients put it into their Host header; an address says nothing about the name."""
        hosts = {**PAIR, "PROXY_HOST": "Trader.lan, 127.0.0.1", "PROXY_ALLOW_ANONYMOUS": "1"}
        self.assertEqual(self.read(hosts).allowed_hosts, ("trader.lan",))

    def test_whether_there_is_an_ipv6_loopback_is_found_out(self) -> None:
        """Unless the caller says so."""
        settings = read_settings(PAIR, directory=self.directory)
        self.assertEqual(settings.listen, loopback_descriptions(8099, has_ipv6_loopback()))

    def test_descriptions_replace_hosts_and_port(self) -> None:
        """White space parts them in the variable; what they replace is warned of."""
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

    def test_options_beat_variables(self) -> None:
        """Descriptions beat descriptions; a port beats them too, which is worth a warning."""
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

    def test_options_that_are_not_understood(self) -> None:
        """They are named as the options they are."""
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

    def test_a_description_that_is_none_is_a_problem(self) -> None:
        """By its variable, with Twisted's reason."""
        expected = ["PROXY_LISTEN: 'foo:1' cannot be listened on: Unknown endpoint type: 'foo'"]
        self.assertEqual(self.problems({"PROXY_LISTEN": "foo:1"}), expected)

    def test_to_listen_beyond_this_machine_takes_tokens(self) -> None:
        """Or leave to let everyone in; the source of the address is named, and what to do."""
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
            self.assertEqual(self.problems(variables, listen=listen), [f"{problem}, {EXPOSED}"])
            refused = {**variables, "PROXY_ALLOW_ANONYMOUS": "No"}
            self.assertEqual(self.problems(refused, listen=listen), [f"{problem}, {EXPOSED}"])
            for leave in ({"PROXY_ALLOW_ANONYMOUS": "1"}, {"PROXY_TOKENS": TOKEN}):
                self.assertEqual(self.problems({**variables, **leave}, listen=listen), [])


class ClusterTests(SettingsTestCase):
    """What several proxies on one log have in common."""

    redis = {"PROXY_REDIS_URL": "rediss://:hush@redis.example/2"}

    def test_the_place_of_the_events_is_said_in_words(self) -> None:
        """A directory, a Redis without its password, or none."""
        self.assertEqual(self.read({**PAIR, "PROXY_DATA_DIR": "/data"}).storage_label, "/data")
        self.assertEqual(
            self.read(PAIR | self.redis).storage_label, "Redis at rediss://redis.example:6379/2"
        )
        self.assertEqual(self.read({}, demo=True).storage_label, "memory only")

    def test_ports_are_shared_when_that_is_said(self) -> None:
        """Not by default, since two by mistake would each have a part of the clients."""
        self.assertIs(self.read(PAIR | self.redis).reuse_port, False)
        settings = self.read(PAIR | self.redis | {"PROXY_REUSE_PORT": "1"})
        self.assertEqual((settings.reuse_port, settings.warnings), (True, ()))

    def test_to_share_a_port_but_no_log_is_warned_of(self) -> None:
        """A client would find another order of events at each connection."""
        [warning] = self.read({**PAIR, "PROXY_REUSE_PORT": "1"}).warnings
        self.assertIn("PROXY_REDIS_URL is not set", warning)

    def test_a_system_that_cannot_share_ports_is_named(self) -> None:
        """Not every one has the option."""
        self.patch(socket, "SO_REUSEPORT", None)
        del socket.SO_REUSEPORT
        problems = self.problems(PAIR | self.redis | {"PROXY_REUSE_PORT": "1"})
        self.assertEqual(problems, ["PROXY_REUSE_PORT: this system has no SO_REUSEPORT"])

    def test_the_demo_is_alone(self) -> None:
        """Its Alpaca's port is nobody else's, and its events are in memory."""
        settings = self.read(self.redis | {"PROXY_REUSE_PORT": "1"}, demo=True)
        self.assertEqual((settings.redis, settings.reuse_port), (None, False))
        self.assertEqual(
            [it.split(":")[0] for it in settings.warnings], ["PROXY_REUSE_PORT", "PROXY_REDIS_URL"]
        )


class DemoTests(SettingsTestCase):
    """The demo: an Alpaca of our own on the next port, and nothing of a real account."""

    def test_the_demo_needs_nothing_and_ignores_real_accounts(self) -> None:
        """Broken ones too."""
        expected = (demo_account(8100, Dialect.AUTHENTICATE),)
        for variables in (
            {},
            PAIR,
            {"ALPACA_API_KEY": "key", "ALPACA_x_URL": "y", "ALPACA_URL": "?"},
        ):
            settings = self.read(variables, demo=True)
            self.assertEqual((settings.accounts, settings.simulator_port), (expected, 8100))
            self.assertEqual(settings.warnings, ())

    def test_its_port_is_the_next_one(self) -> None:
        """After the option's, the variable's, or the default where descriptions hold the ports."""
        self.assertEqual(self.read({"PROXY_PORT": "90"}, demo=True).simulator_port, 91)
        self.assertEqual(self.read({"PROXY_PORT": "90"}, demo=True, port="95").simulator_port, 96)
        listen = ("unix:/run/x.sock",)
        self.assertEqual(self.read({}, demo=True, listen=listen).simulator_port, 8100)
        self.assertEqual(
            self.read({"PROXY_PORT": "90"}, demo=True, listen=listen).simulator_port, 91
        )

    def test_after_the_last_port_there_is_none(self) -> None:
        """The problem names who chose it."""
        reason = "--demo takes the next port too, and there is none"
        self.assertEqual(
            self.problems({"PROXY_PORT": "65535"}, demo=True), [f"PROXY_PORT: {reason}"]
        )
        self.assertEqual(self.problems({}, demo=True, port="65535"), [f"--port: {reason}"])


class EnvFileTests(SettingsTestCase):
    """The .env file lies under the environment."""

    def write(self, text: str, name: str = ".env", mode: int = 0o600) -> Path:
        """Write a file of settings."""
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def test_the_environment_wins_unless_it_is_blank(self) -> None:
        """Containers pass on variables that nobody has set."""
        self.write(
            "ALPACA_API_KEY=key\nALPACA_SECRET_KEY=secret\nPROXY_MAX_CLIENTS=1\nPROXY_MAX_MESSAGE=1\n"
        )
        settings = self.read({"PROXY_MAX_CLIENTS": "2", "PROXY_MAX_MESSAGE": ""})
        self.assertEqual(settings.limits, Limits(max_clients=2, max_message=1))

    def test_a_variable_that_is_set_twice_is_warned_of(self) -> None:
        """The last one counts, and somebody may be looking at the first."""
        path = self.write(
            "ALPACA_API_KEY=key\nALPACA_SECRET_KEY=secret\nPROXY_PORT=81\nPROXY_PORT=82\n"
        )
        settings = self.read({})
        self.assertEqual(
            settings.warnings, (f"{path}: PROXY_PORT is set twice; the last one counts",)
        )
        self.assertIn(":82:", settings.listen[0])

    def test_a_missing_account_is_told_with_the_other_problems(self) -> None:
        """Nobody has to mend them one after the other."""
        with self.assertRaises(SettingsError) as caught:
            self.read({"PROXY_PORT": "x"})
        self.assertEqual(
            [problem.split(":")[0] for problem in caught.exception.problems],
            ["PROXY_PORT", "ALPACA_API_KEY, ALPACA_SECRET_KEY"],
        )

    def test_warnings_are_told_with_the_problems(self) -> None:
        """The typo may be what is behind the problem."""
        problems = self.problems({"PROXY_PORT": "x", "PROXY_PROT": "81"})
        self.assertEqual(
            problems[-1],
            "warning: PROXY_PROT: unknown variable; did you mean PROXY_PORT?",
        )

    def test_the_forms_of_a_line(self) -> None:
        """As shells have them: export, quotes, comments; a "$" is nothing special."""
        self.write(
            "\ufeff# a comment\n\nexport ALPACA_API_KEY='k$HOME'  # quoted\n"
            'ALPACA_SECRET_KEY = "${s}"\r\nPROXY_MAX_CLIENTS=3 # three\n'
        )
        settings = self.read({})
        expected = (Secret("k$HOME"), Secret("${s}"))
        credentials = settings.accounts[0].credentials
        self.assertEqual((credentials.key_id, credentials.secret_key), expected)  # type: ignore[union-attr]  # a pair
        self.assertEqual(settings.limits.max_clients, 3)

    def test_a_line_that_is_no_assignment_is_named_by_its_number(self) -> None:
        """What it holds may be half a secret and is not shown."""
        path = self.write(
            "PROXY_MAX_CLIENTS=1\n\n\nhush\nPROXY_HOST='127.0.0.1\n# fine\n=hush\nPROXY_PORT=2 ok\n"
        )
        expected = [f"{path}: line {line} is not NAME=value" for line in (4, 5, 7)]
        self.assertEqual(self.problems({"PROXY_PORT": "3"}), expected)

    def test_a_file_that_others_can_read_is_warned_of(self) -> None:
        """Group or others; those who can only write it cannot read."""
        for mode, warned in ((0o600, False), (0o640, True), (0o604, True), (0o622, False)):
            path = self.write("", mode=mode)
            expected = (f"{path}: others can read it; run chmod 600 on it",) if warned else ()
            self.assertEqual(self.read(PAIR).warnings, expected)

    def test_the_file_may_be_absent_unless_it_is_named(self) -> None:
        """The problem names the option."""
        self.assertEqual(self.problems({}), [])
        expected = (
            f"--env-file {self.directory / 'x.env'}: cannot be read (No such file or directory)"
        )
        self.assertEqual(self.problems({}, env_file="x.env"), [expected])

    def test_a_named_file_takes_the_place_of_dot_env(self) -> None:
        """Relative to the folder."""
        self.write("PROXY_MAX_CLIENTS=1")
        self.write("PROXY_MAX_MESSAGE=1", name="x.env")
        self.assertEqual(self.read(PAIR, env_file="x.env").limits, Limits(max_message=1))

    def test_a_file_that_cannot_be_read_is_one_problem(self) -> None:
        """A folder, or not text."""
        path = self.directory / ".env"
        path.mkdir()
        self.assertEqual(self.problems({}), [f"{path}: cannot be read (Is a directory)"])
        path.rmdir()
        path.write_bytes(b"\xff\xfe")
        self.assertEqual(self.problems({}), [f"{path}: cannot be read (it is not UTF-8 text)"])


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
"""In every secret, and in nothing else."""

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


class PropertyTests(SettingsTestCase):
    """What holds for settings of every kind."""

    def lines_and_repr(self, variables: dict[str, str], demo: bool) -> tuple[list[str], str]:
        """Return the lines for the user, and what a careless log of the outcome would show."""
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
    def test_no_secret_is_ever_shown(
        self, held: dict[str, str], urls: dict[str, str], dialect: str, demo: bool
    ) -> None:
        """Not in a problem, a warning or a repr, whatever is wrong with it or around it."""
        lines, shown = self.lines_and_repr({**held, **urls, "PROXY_UPSTREAM_AUTH": dialect}, demo)
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
    def test_every_finding_is_one_line(self, variables: dict[str, str], demo: bool) -> None:
        """It holds nothing that a terminal would obey, whatever is in names and values."""
        for line in self.lines_and_repr(variables, demo)[0]:
            self.assertTrue(line.isprintable(), repr(line))

    @profile(deadline=None, derandomize=True)
    @given(st.text("aA_=#'\"\\ \n$hush", max_size=40))
    def test_any_file_is_read_or_refused(self, text: str) -> None:
        """No text of a .env file is an error of ours, or shown."""
        path = self.directory / ".env"
        path.write_text(f"PROXY_TOKENS_FILE=x\n{text}")
        path.chmod(0o600)
        lines, _ = self.lines_and_repr(PAIR, demo=False)
        self.assertNotIn(MARK, "".join(lines))
