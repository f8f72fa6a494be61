"""Tests for tradeproxy.config.addresses: where to listen."""

from __future__ import annotations

import socket

from tests.config.settings_case import PAIR, TOKEN, SettingsTestCase
from tradeproxy.config.endpoints import describe_tcp, has_ipv6_loopback, loopback_descriptions
from tradeproxy.config.settings import read_settings

EXPOSED = "and read every order; set PROXY_TOKENS, or PROXY_ALLOW_ANONYMOUS=1 to allow that"


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


class ReusePortTests(SettingsTestCase):
    """PROXY_REUSE_PORT: processes that share the TCP ports share the log in Redis."""

    redis = {"PROXY_REDIS_URL": "rediss://:hush@redis.example/2"}

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
