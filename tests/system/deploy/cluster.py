"""deploy/cluster/ and docs/scaling.md: the compose file and HAProxy's configurations."""

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

ADDRESSES = {
    "NODE_A": "127.0.0.1:1",
    "NODE_B": "127.0.0.1:2",
    "REDIS_ONE": "127.0.0.1:3",
    "REDIS_TWO": "127.0.0.1:4",
    "REDIS_PASSWORD": "secret",
}
"""Replacements for host names that exist only in Docker or in a cluster."""


class ClusterComposeTests(SynchronousTestCase):
    """deploy/cluster/compose.yaml."""

    def test_cluster_compose_passes_dclint(self) -> None:
        """Dclint includes the schema of the Compose specification."""
        dclint = need("dclint", "npm's package dclint")
        status, output = run(dclint, str(CLUSTER / "compose.yaml"))
        self.assertEqual((status, output.strip()), (0, ""))

    def test_every_service_is_hardened(self) -> None:
        """No capabilities, a read-only file system but for volumes, and no root user."""
        for name, service in COMPOSE["services"].items():
            self.assertEqual((service["read_only"], service["cap_drop"]), (True, ["ALL"]), name)
            self.assertEqual(service["security_opt"], ["no-new-privileges:true"], name)
            self.assertNotEqual(service.get("user", "10001 of the Dockerfile"), "root", name)

    def test_only_balancer_has_a_port_and_redis_is_internal(self) -> None:
        """The network of the log has no connection to the outside."""
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

    def test_secrets_are_ignored_files(self) -> None:
        """Each secret is a file outside of the repository, for the services that need it."""
        secrets = {name: secret["file"] for name, secret in COMPOSE["secrets"].items()}
        self.assertEqual({Path(file).parent.name for file in secrets.values()}, {"secrets"})
        self.assertIn("/secrets/\n", (CLUSTER / ".gitignore").read_text())
        for service in COMPOSE["services"].values():
            used = re.findall(r"/run/secrets/([\w-]+)", str(service))
            self.assertEqual(set(used), set(service.get("secrets", ())))
            self.assertLessEqual(set(used), set(secrets))

    def test_node_settings_are_valid(self) -> None:
        """Every variable exists."""
        directory = Path(self.mktemp())
        directory.mkdir()
        for name in COMPOSE["secrets"]:
            (directory / name).write_text("0123456789abcdef0123456789abcdef\n")
        for node in NODES:
            written = yaml.safe_dump(COMPOSE["services"][node]["environment"])
            # Docker replaces an unset variable by the default after ":-".
            written = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", written)
            environ = yaml.safe_load(written.replace("/run/secrets", str(directory.resolve())))
            settings = read_settings({**environ, "PROXY_HOST": "0.0.0.0"}, directory=directory)
            assert settings.redis is not None
            self.assertEqual(settings.redis.label, "redis://redis:6379/0")
            self.assertEqual(settings.allowed_hosts, ("tradeproxy",))
            [warning] = settings.warnings
            # The network is internal to one machine.
            self.assertIn("sends the password unencrypted", warning)


class HaproxyConfigurationTests(SynchronousTestCase):
    """HAProxy's check of its configurations."""

    def setUp(self) -> None:
        haproxy = need("haproxy", "Debian's package haproxy")
        self.check = (
            "/usr/bin/env",
            *(f"{name}={value}" for name, value in ADDRESSES.items()),
            haproxy,
            "-c",
            "-f",
        )

    def test_haproxy_accepts_both_configurations(self) -> None:
        """The one for the nodes and the one for Redis."""
        for name in ("haproxy.cfg", "haproxy-redis.cfg"):
            status, output = run(*self.check, str(CLUSTER / name))
            self.assertEqual((status, output.strip()), (0, "Configuration file is valid"))

    def test_haproxy_rejects_a_misspelt_option(self) -> None:
        """So that success above is meaningful."""
        broken = Path(self.mktemp())
        text = (CLUSTER / "haproxy.cfg").read_text(encoding="utf-8")
        broken.write_text(text.replace("timeout tunnel", "timeout tunel"))
        status, output = run(*self.check, str(broken))
        self.assertEqual((status, "tunel" in output), (1, True))

    def test_haproxy_and_compose_have_the_same_nodes(self) -> None:
        """A new node must be added in three places."""
        text = (CLUSTER / "haproxy.cfg").read_text(encoding="utf-8")
        servers = re.findall(r'^    server \w+ "\$\{\w+-([\w-]+):8099\}"$', text, re.MULTILINE)
        self.assertEqual(servers, [*NODES, *NODES])
        self.assertEqual(
            [name for name in COMPOSE["services"] if name.startswith("node")], list(NODES)
        )


class ScalingDocumentTests(SynchronousTestCase):
    """docs/scaling.md."""

    def setUp(self) -> None:
        self.text = (SOURCES / "docs/scaling.md").read_text(encoding="utf-8")

    def test_table_is_output_of_benchmarks_million(self) -> None:
        """The model is deterministic for one seed."""
        status, output = run(sys.executable, "-m", "benchmarks.million", directory=SOURCES)
        self.assertEqual(status, 0, output)
        table, _, _ = output.partition("\n\n")
        self.assertIn(f"\n{table}\n", self.text)

    def test_shown_haproxy_lines_exist(self) -> None:
        """Every shown line is in the configuration."""
        shown = re.findall(r"^    (tcp-check .*)$", self.text, re.MULTILINE)
        self.assertEqual(len(shown), 2)
        configuration = (CLUSTER / "haproxy-redis.cfg").read_text(encoding="utf-8")
        self.assertEqual([line for line in shown if line not in configuration], [])

    def test_shown_secrets_and_command_match_compose(self) -> None:
        """Every secret file is written, and the path of the compose file is right."""
        for name in COMPOSE["secrets"]:
            self.assertIn(f"> {name}", self.text)
        self.assertIn("docker compose -f deploy/cluster/compose.yaml up", self.text)
