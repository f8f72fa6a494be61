"""The systemd units: systemd's own judgement of them."""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.system.deploy.tools import DEPLOY, need, run

SOCKET, SERVICE = "tradeproxy.socket", "tradeproxy.service"
PROGRAM = "/opt/tradeproxy/bin/tradeproxy"

EXPOSURE = 1.5
"""Of 10, where systemd calls all below 2 safe; what is left is that a server has the network."""


def listeners(unit: str) -> int:
    """Count the addresses that a socket unit opens."""
    return len(re.findall(r"^ListenStream=", unit, re.MULTILINE))


class UnitTests(SynchronousTestCase):
    """deploy/tradeproxy.socket and deploy/tradeproxy.service."""

    def setUp(self) -> None:
        self.analyze = need("systemd-analyze", "Debian's package systemd")
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        for name in (SOCKET, SERVICE):
            text = (DEPLOY / name).read_text(encoding="utf-8")
            self.assertEqual(text.count(PROGRAM), int(name == SERVICE))
            # The program is not where it would be installed; one that exists takes its place.
            (self.directory / name).write_text(text.replace(PROGRAM, sys.executable))

    def test_systemd_has_nothing_to_say_about_them(self) -> None:
        """No unknown setting, no dependency that is missing, nothing that is not as it should be."""
        units = [f"./{name}" for name in (SOCKET, SERVICE)]
        status, said = run(self.analyze, "verify", "--man=no", *units, directory=self.directory)
        about_ours = [line for line in said.splitlines() if "tradeproxy" in line or "./" in line]
        self.assertEqual((about_ours, status), ([], 0), said)

    def test_a_mistake_in_them_would_be_told(self) -> None:
        """So that the silence above says something."""
        service = self.directory / SERVICE
        service.write_text(
            service.read_text().replace("ProtectSystem=strict", "ProtectSystm=strict")
        )
        _, said = run(self.analyze, "verify", "--man=no", f"./{SERVICE}", directory=self.directory)
        self.assertIn("ProtectSystm", said)

    def test_the_service_is_hardened(self) -> None:
        """As systemd-analyze security measures it."""
        status, said = run(
            self.analyze,
            "security",
            "--offline=true",
            f"--threshold={EXPOSURE * 10:.0f}",
            f"./{SERVICE}",
            directory=self.directory,
        )
        [exposure] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", said)
        self.assertLessEqual(float(exposure), EXPOSURE, said)
        self.assertEqual(status, 0, said)

    def test_the_service_serves_every_address_that_the_socket_opens(self) -> None:
        """By their numbers, in their order."""
        service = ConfigParser(strict=False, interpolation=None)
        service.read(self.directory / SERVICE)
        text = (self.directory / SERVICE).read_text()
        indices = re.findall(r"systemd:domain=INET6?:index=([0-9]+)", text)
        opened = listeners((self.directory / SOCKET).read_text())
        self.assertEqual(indices, [str(index) for index in range(opened)])
        self.assertEqual(service["Unit"]["Requires"], SOCKET)
