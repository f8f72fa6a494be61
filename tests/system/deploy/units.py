"""The systemd units under systemd's own checks."""

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
"""The highest exposure, of 10; systemd rates values below 2 as safe. The network remains."""


def count_listeners(unit: str) -> int:
    """Return the number of addresses that a socket unit opens."""
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
            # The program is not installed at its path, so an existing one replaces it.
            (self.directory / name).write_text(text.replace(PROGRAM, sys.executable))

    def test_units_pass_systemd_analyze_verify(self) -> None:
        """No unknown setting and no missing dependency."""
        units = [f"./{name}" for name in (SOCKET, SERVICE)]
        status, output = run(self.analyze, "verify", "--man=no", *units, directory=self.directory)
        own_lines = [line for line in output.splitlines() if "tradeproxy" in line or "./" in line]
        self.assertEqual((own_lines, status), ([], 0), output)

    def test_misspelt_setting_fails_verify(self) -> None:
        """So that success above is meaningful."""
        service = self.directory / SERVICE
        service.write_text(
            service.read_text().replace("ProtectSystem=strict", "ProtectSystm=strict")
        )
        _, output = run(
            self.analyze, "verify", "--man=no", f"./{SERVICE}", directory=self.directory
        )
        self.assertIn("ProtectSystm", output)

    def test_service_exposure_is_below_limit(self) -> None:
        """The exposure is that of systemd-analyze security."""
        status, output = run(
            self.analyze,
            "security",
            "--offline=true",
            f"--threshold={EXPOSURE * 10:.0f}",
            f"./{SERVICE}",
            directory=self.directory,
        )
        [exposure] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", output)
        self.assertLessEqual(float(exposure), EXPOSURE, output)
        self.assertEqual(status, 0, output)

    def test_service_listens_on_every_socket(self) -> None:
        """By index and in order."""
        service = ConfigParser(strict=False, interpolation=None)
        service.read(self.directory / SERVICE)
        text = (self.directory / SERVICE).read_text()
        indices = re.findall(r"systemd:domain=INET6?:index=([0-9]+)", text)
        opened = count_listeners((self.directory / SOCKET).read_text())
        self.assertEqual(indices, [str(index) for index in range(opened)])
        self.assertEqual(service["Unit"]["Requires"], SOCKET)
