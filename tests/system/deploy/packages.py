"""The source distribution and the wheel, with the programs that people install them with.

They use PyPI.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from zipfile import ZipFile

from twisted.internet import reactor

from tests.support.processes import SOURCES, Command, free_port
from tests.support.sockets import SocketTestCase
from tests.system.deploy.tools import need, run
from tradeproxy import __version__

CLIENT_VARIABLES = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_", "HTTP", "ALL_PROXY", "NO_PROXY")
"""How this machine reaches the package index: the beginnings of the variables' names."""


@cache
def build_packages() -> tuple[Path, Path]:
    """Build the source distribution and the wheel once for all tests; return their paths."""
    need("pyproject-build", "PyPI's package build")
    packages = tempfile.mkdtemp()
    reactor.addSystemEventTrigger("after", "shutdown", shutil.rmtree, packages)
    status, output = run(sys.executable, "-m", "build", "--outdir", packages, directory=SOURCES)
    assert status == 0, output
    [archive], [wheel] = Path(packages).glob("*.tar.gz"), Path(packages).glob("*.whl")
    return archive, wheel


class PackagesTests(SocketTestCase):
    """What `python -m build` makes."""

    def setUp(self) -> None:
        self.archive, self.wheel = build_packages()
        self.directory = self.make_directory()
        self.port = free_port(following=2)

    def test_packages_pass_twine(self) -> None:
        """The metadata is complete, and the package index can show the long description."""
        twine = need("twine", "PyPI's package twine")
        status, output = run(twine, "check", "--strict", str(self.archive), str(self.wheel))
        self.assertEqual(status, 0, output)
        self.assertEqual(output.count("PASSED"), 2, output)

    def test_both_have_every_file_and_no_other(self) -> None:
        """The wheel is built from the source distribution, so neither lacks a file."""
        package = {
            str(path.relative_to(SOURCES))
            for path in SOURCES.glob("tradeproxy/**/*")
            if path.is_file() and "__pycache__" not in path.parts
        } | {"twisted/plugins/tradeproxy_plugin.py"}
        with ZipFile(self.wheel) as wheel:
            installed = {name for name in wheel.namelist() if ".dist-info/" not in name}
        self.assertEqual(installed, package)
        with tarfile.open(self.archive) as archive:
            names = {name.partition("/")[2] for name in archive.getnames() if "/" in name}
        others = {"README.md", "LICENSE", "setup.py", "pyproject.toml"}
        self.assertEqual((package | others) - names, set())
        self.assertEqual({name for name in names if name.startswith((".", "tests"))}, set())

    def test_long_description_has_no_relative_link(self) -> None:
        """The package index has no files: each link and the picture name their place."""
        with ZipFile(self.wheel) as wheel:
            [name] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
            text = wheel.read(name).decode()
        links = re.findall(r"\]\(([^)\s]+)\)", text)
        self.assertIn(f"/raw/v{__version__}/docs/dashboard.png", "\n".join(links))
        self.assertEqual([link for link in links if not link.startswith("https://")], [])

    async def test_uvx_runs_demo(self) -> None:
        """One command, and nothing stays installed."""
        demo = self.tool(
            "uvx", "--from", str(self.wheel), "tradeproxy", "demo", "--port", str(self.port)
        )
        await self.watch(demo)

    async def test_pipx_installs_command(self) -> None:
        """The command is in pipx's directory; a second one removes it."""
        installing = self.tool("pipx", "install", "--python", sys.executable, str(self.wheel))
        self.assertEqual(await installing.ended, 0, installing.output)
        program = Path(self.directory, "bin/tradeproxy")
        await self.watch(self.command(str(program), "demo", "--port", str(self.port)))
        removing = self.tool("pipx", "uninstall", "tradeproxy")
        self.assertEqual(await removing.ended, 0, removing.output)
        self.assertFalse(program.exists())

    async def watch(self, demo: Command) -> None:
        """Stop a demo after its first event has reached a client."""
        await demo.says("is streaming")
        client = await self.subscribe()
        await client.has(1)
        await demo.stop()
        self.assertNotIn("Traceback", demo.output)

    def tool(self, program: str, *arguments: str) -> Command:
        """Run a program that installs packages, with its files in the test's directory."""
        environment = {
            **{name: os.environ[name] for name in os.environ if name.startswith(CLIENT_VARIABLES)},
            "PIPX_HOME": f"{self.directory}/pipx",
            "PIPX_BIN_DIR": f"{self.directory}/bin",
            "UV_PYTHON": sys.executable,
            "PYTHONPATH": "",
        }
        return self.command(need(program, f"PyPI's package {program}"), *arguments, **environment)
