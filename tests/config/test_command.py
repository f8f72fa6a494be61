"""Tests for the name of the `tradeproxy` command in messages."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.command import name_command


class CommandNameTests(SynchronousTestCase):
    """A message named `tradeproxy run`, which a shell does not find in a clone."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.scripts = self.directory / ".venv" / "bin"
        self.scripts.mkdir(parents=True)
        for name in ("tradeproxy", "twistd", "python"):
            (self.scripts / name).write_text("#!/bin/sh\n")
            (self.scripts / name).chmod(0o755)
        before = Path.cwd()
        os.chdir(self.directory)
        self.addCleanup(os.chdir, before)
        self.patch(os, "environ", {"PATH": "/nonexistent"})

    def name(self, called: str, python: str = "/usr/bin/python3") -> str:
        self.patch(sys, "argv", [called, "run"])
        self.patch(sys, "executable", python)
        return name_command("run")

    def test_script_outside_path_is_named_as_it_is_called(self) -> None:
        """By tradeproxy itself, by twistd beside it, and by the interpreter beside it."""
        module = str(self.directory / "tradeproxy" / "__main__.py")
        for called, python in (
            (".venv/bin/tradeproxy", "/usr/bin/python3"),
            (str(self.scripts / "tradeproxy"), "/usr/bin/python3"),
            (".venv/bin/twistd", "/usr/bin/python3"),
            (module, str(self.scripts / "python")),
        ):
            self.assertEqual(self.name(called, python), ".venv/bin/tradeproxy run")
        os.chdir(self.scripts.parent)
        self.assertEqual(self.name(str(self.scripts / "twistd")), "bin/tradeproxy run")
        (self.directory / "other").mkdir()
        os.chdir(self.directory / "other")
        whole = str(self.scripts / "tradeproxy")
        self.assertEqual(self.name(whole), f"{whole} run")

    def test_script_in_path_needs_no_directory(self) -> None:
        """As in a container or an activated environment."""
        os.environ["PATH"] = str(self.scripts)
        self.assertEqual(self.name(str(self.scripts / "tradeproxy")), "tradeproxy run")

    def test_name_without_script_is_the_name_alone(self) -> None:
        """As for a program that imports the package."""
        self.assertEqual(self.name("/usr/bin/program", "/usr/bin/python3"), "tradeproxy run")
