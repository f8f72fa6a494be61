"""deploy/cluster/ and its book: the compose file and HAProxy's configurations, as far as without Docker."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import SOURCES
from tests.system.deploy.tools import DEPLOY, need, run
from tradeproxy.config.settings import read_settings

CLUSTER = DEPLOY / "cluster"
COMPOSE: dict[str, Any] = yaml.safe_load((CLUSTER / "compose.yaml").read_text(encoding="utf-8"))
NODES = ("node-a", "node-b")

PLACES = {
    "NODE_A": "127.0.0.1:1",
    "NODE_B": "127.0.0.1:2",
    "REDIS_ONE": "127.0.0.1:3",
    "REDIS_TWO": "127.0.0.1:4",
    "REDIS_PASSWORD": "secret",
}
"""In the place of names that only Docker or a network of machines knows."""


class ComposeTests(SynchronousTestCase):
    """deploy/cluster/compose.yaml."""

    def test_a_linter_has_nothing_to_say(self) -> None:
        """Dclint, which holds it against the schema of the Compose specification."""
        dclint = need("dclint", "npm's package dclint")
        status, said = run(dclint, str(CLUSTER / "compose.yaml"))
        self.assertEqual((status, said.strip()), (0, ""))

    def test_every_service_is_hardened(self) -> None:
        """No rights, no file that it can write outside of its volume, nobody's root."""
        for name, service in COMPOSE["services"].items():
            self.assertEqual((service["read_only"], service["cap_drop"]), (True, ["ALL"]), name)
            self.assertEqual(service["security_opt"], ["no-new-privileges:true"], name)
            self.assertNotEqual(service.get("user", "10001 of the Dockerfile"), "root", name)

    def test_only_the_balancer_can_be_reached_and_redis_by_the_nodes_alone(self) -> None:
        """Their network has no way out."""
        open_ports = {
            name: service["ports"]
            for name, service in COMPOSE["services"].items()
            if "ports" in service
        }
        self.assertEqual(list(open_ports), ["balancer"])
        self.assertEqual([port.split(":")[0] for port in open_ports["balancer"]], ["127.0.0.1"])
        self.assertTrue(COMPOSE["networks"]["log"]["internal"])
        members = [
            name for name, service in COMPOSE["services"].items() if "log" in service["networks"]
        ]
        self.assertEqual(sorted(members), [*NODES, "redis"])

    def test_no_secret_is_in_it(self) -> None:
        """Each is a file that the services which need it are given, and that is not in the repository."""
        secrets = {name: secret["file"] for name, secret in COMPOSE["secrets"].items()}
        self.assertEqual({Path(file).parent.name for file in secrets.values()}, {"secrets"})
        self.assertIn("/secrets/\n", (CLUSTER / ".gitignore").read_text())
        for service in COMPOSE["services"].values():
            used = re.findall(r"/run/secrets/([\w-]+)", str(service))
            self.assertEqual(set(used), set(service.get("secrets", ())))
            self.assertLessEqual(set(used), set(secrets))

    def test_a_node_starts_with_these_settings(self) -> None:
        """Every variable is one that there is, whatever is in the secrets' files."""
        directory = Path(self.mktemp())
        directory.mkdir()
        for name in COMPOSE["secrets"]:
            (directory / name).write_text("0123456789abcdef0123456789abcdef\n")
        for node in NODES:
            written = yaml.safe_dump(COMPOSE["services"][node]["environment"])
            written = re.sub(
                r"\$\{\w+:-(\w+)\}", r"\1", written
            )  # what is not set is what comes behind :-
            environ = yaml.safe_load(written.replace("/run/secrets", str(directory.resolve())))
            settings = read_settings({**environ, "PROXY_HOST": "0.0.0.0"}, directory=directory)
            assert settings.redis is not None
            self.assertEqual(settings.redis.label, "redis://redis:6379/0")
            self.assertEqual(settings.allowed_hosts, ("tradeproxy",))
            [warning] = settings.warnings
            self.assertIn("travels in the clear", warning)  # within a network of this machine's own


class ConfigurationTests(SynchronousTestCase):
    """What HAProxy has to say about the configurations for it."""

    def setUp(self) -> None:
        haproxy = need("haproxy", "Debian's package haproxy")
        self.check = (
            "/usr/bin/env",
            *(f"{name}={value}" for name, value in PLACES.items()),
            haproxy,
            "-c",
            "-f",
        )

    def test_it_has_nothing_to_say(self) -> None:
        """Neither of the one before the nodes nor of the one before Redis."""
        for name in ("haproxy.cfg", "haproxy-redis.cfg"):
            status, said = run(*self.check, str(CLUSTER / name))
            self.assertEqual((status, said.strip()), (0, "Configuration file is valid"))

    def test_a_mistake_would_be_told(self) -> None:
        """So that the silence above says something."""
        broken = Path(self.mktemp())
        text = (CLUSTER / "haproxy.cfg").read_text(encoding="utf-8")
        broken.write_text(text.replace("timeout tunnel", "timeout tunel"))
        status, said = run(*self.check, str(broken))
        self.assertEqual((status, "tunel" in said), (1, True))

    def test_both_parts_know_the_same_nodes_as_the_compose_file(self) -> None:
        """A node that is added to one of three places is forgotten in none."""
        text = (CLUSTER / "haproxy.cfg").read_text(encoding="utf-8")
        servers = re.findall(r'^    server \w+ "\$\{\w+-([\w-]+):8099\}"$', text, re.MULTILINE)
        self.assertEqual(servers, [*NODES, *NODES])
        self.assertEqual(
            [name for name in COMPOSE["services"] if name.startswith("node")], list(NODES)
        )


class BookTests(SynchronousTestCase):
    """docs/scaling.md."""

    def setUp(self) -> None:
        self.text = (SOURCES / "docs/scaling.md").read_text(encoding="utf-8")

    def test_the_table_of_a_million_is_what_the_command_prints(self) -> None:
        """The model is the same for the same seed."""
        status, said = run(sys.executable, "-m", "benchmarks.million", directory=SOURCES)
        self.assertEqual(status, 0, said)
        table, _, _ = said.partition("\n\n")
        self.assertIn(f"\n{table}\n", self.text)

    def test_what_it_shows_of_a_configuration_is_there(self) -> None:
        """Line by line."""
        shown = re.findall(r"^    (tcp-check .*)$", self.text, re.MULTILINE)
        self.assertEqual(len(shown), 2)
        configuration = (CLUSTER / "haproxy-redis.cfg").read_text(encoding="utf-8")
        self.assertEqual([line for line in shown if line not in configuration], [])

    def test_its_files_and_commands_are_those_of_the_compose_file(self) -> None:
        """Every secret is written, and the file is called by its path."""
        for name in COMPOSE["secrets"]:
            self.assertIn(f"> {name}", self.text)
        self.assertIn("docker compose -f deploy/cluster/compose.yaml up", self.text)
