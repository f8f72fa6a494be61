"""A wheel, built from the sources and installed outside of the checkout."""

from __future__ import annotations

import shutil
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import treq
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.web.client import Agent

from tests.support.processes import SOURCES, Command, free_port
from tests.support.sockets import SocketTestCase

TWISTD = ("-c", "from twisted.scripts.twistd import run; run()")
"""Runs twistd without its script: Twisted is not installed in the new environment."""


class WheelTests(SocketTestCase):
    """Build, install, run and uninstall a wheel, without a network."""

    def setUp(self) -> None:
        self.directory = self.make_directory()
        self.environment = Path(self.directory, "environment")
        venv.create(self.environment, symlinks=True)
        self.packages = Path(
            sysconfig.get_path(
                "purelib", "venv", {"base": self.environment, "platbase": self.environment}
            )
        )

    async def test_wheel_installs_runs_and_uninstalls(self) -> None:
        """The demo streams, the plugin is listed, and uninstalling removes every file."""
        wheel = await self.build()
        self.assert_holds_the_package(wheel)
        before = self.files()
        await self.pip(
            "--python", str(self.environment), "install", "--no-deps", "--no-index", str(wheel)
        )
        dependencies = self.packages / "dependencies.pth"
        dependencies.write_text(sysconfig.get_path("purelib"))

        self.port = free_port(following=2)
        demo = self.installed(*TWISTD, "-n", "tradeproxy", "--demo", "--port", str(self.port))
        plugins = self.installed(*TWISTD, "--help")
        usage = self.installed(str(self.environment / "bin" / "tradeproxy"), "--help")
        origin = self.installed("-c", "import tradeproxy; print(tradeproxy.__file__)")
        await gatherResults([plugins.ended, usage.ended, origin.ended])
        await demo.says("is streaming")
        self.assertIn("tradeproxy", plugins.output)
        self.assertIn("check the settings and each account's login", usage.output)
        self.assertEqual(origin.output.strip(), str(self.packages / "tradeproxy" / "__init__.py"))
        client = await self.subscribe()
        await client.has(1)
        self.assertIn(b"tradeproxy", await self.fetch("/"))
        self.assertIn(b"import", await self.fetch("/dashboard/main.js"))
        await demo.stop()
        self.assertNotIn("Traceback", demo.output)

        await self.pip("--python", str(self.environment), "uninstall", "--yes", "tradeproxy")
        plugins = self.installed(*TWISTD, "--help")
        self.assertEqual(await plugins.ended, 0, plugins.output)
        self.assertNotIn("tradeproxy", plugins.output)
        # Twisted writes its plugin cache into every directory of plugins.
        own = {dependencies, self.packages / "twisted" / "plugins" / "dropin.cache"}
        self.assertEqual(self.files() - before - own, set())

    async def fetch(self, path: str) -> bytes:
        """Return the body of a page of the site."""
        answer = await HTTPClient(Agent(reactor)).get(f"http://127.0.0.1:{self.port}{path}")
        self.assertEqual(answer.code, 200, path)
        content: bytes = await treq.content(answer)
        return content

    async def build(self) -> Path:
        """Build a wheel from a copy of the sources, since a build writes into its directory."""
        sources = Path(self.directory, "sources")
        ignored = shutil.ignore_patterns(
            ".*", "_trial_temp*", "__pycache__", "build", "dist", "*.egg-info"
        )
        shutil.copytree(SOURCES, sources, ignore=ignored)
        wheels = Path(self.directory, "wheels")
        offline = ("--no-build-isolation", "--no-deps", "--no-index")
        await self.pip("wheel", *offline, "--wheel-dir", str(wheels), str(sources))
        [wheel] = wheels.iterdir()
        return wheel

    def assert_holds_the_package(self, wheel: Path) -> None:
        with ZipFile(wheel) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
            metadata = {name.partition(".dist-info/")[2] for name in archive.namelist()} - {""}
        package = {str(path.relative_to(SOURCES)) for path in SOURCES.glob("tradeproxy/**/*.py")}
        plugin = "twisted/plugins/tradeproxy_plugin.py"
        data = {
            str(path.relative_to(SOURCES))
            for directory in ("cluster/lua", "web/dashboard")
            for path in SOURCES.glob(f"tradeproxy/{directory}/*.*")
        }
        self.assertLess({"tradeproxy/web/dashboard/index.html"}, data)
        self.assertEqual(names, package | data | {"tradeproxy/py.typed", plugin})
        self.assertIn("licenses/LICENSE", metadata)

    async def pip(self, *arguments: str) -> None:
        """Run pip of the tests' environment, without the sources in the module path."""
        options = ("-m", "pip", "--disable-pip-version-check")
        command = self.command("python", *options, *arguments, PYTHONPATH="")
        self.assertEqual(await command.ended, 0, command.output)

    def installed(self, *arguments: str) -> Command:
        """Run Python of the new environment, without the sources in the module path."""
        return self.command(str(self.environment / "bin" / "python"), *arguments, PYTHONPATH="")

    def files(self) -> set[Path]:
        """Return every file of the new environment."""
        return {path for path in self.environment.rglob("*") if not path.is_dir()}
