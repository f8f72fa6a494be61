"""What a running proxy leaves for other users of the machine: the modes of its files, no dumps."""

from __future__ import annotations

import os
import re
import resource
import signal
import stat
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.integration.test_running import KEYS
from tests.support.processes import Command, free_port
from tests.support.sockets import SocketTestCase

ENVIRONMENT = KEYS | {"ALPACA_URL": "http://127.0.0.1:1"}


def read_core_limit(pid: int) -> str:
    """Return the soft limit of a process's core dump."""
    limits = Path(f"/proc/{pid}/limits").read_text()
    found = re.search(r"^Max core file size +(\S+)", limits, re.MULTILINE)
    assert found is not None
    return found[1]


class FileModeTests(SocketTestCase):
    """The log and the pidfile, with the widest umask of the shell."""

    def setUp(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        self.directory = self.make_directory()

    def assert_private(self, *names: str) -> None:
        modes = {
            name: oct(stat.S_IMODE(Path(self.directory, name).stat().st_mode)) for name in names
        }
        self.assertEqual(modes, dict.fromkeys(names, "0o600"))

    def start(self, *arguments: str) -> Command:
        """Start a proxy on a port and with a journal of its own."""
        port = str(free_port())
        url = f"http://127.0.0.1:{self.alpaca_port}"
        own = {"ALPACA_URL": url, "PROXY_PORT": port, "PROXY_DATA_DIR": f"data-{port}"}
        return self.command(*arguments, **KEYS, **own)

    async def test_log_rotated_log_and_pidfile_are_private(self) -> None:
        """In the foreground too, and whatever --umask says: that comes after the log."""
        for number, options in enumerate(((), ("--umask=0",))):
            alpaca = await self.simulate()
            pidfile, log = f"{number}.pid", f"{number}.log"
            command = self.start(
                "twistd", "-n", f"--pidfile={pidfile}", f"--logfile={log}", *options, "tradeproxy"
            )
            await alpaca.when_listening()
            self.assert_private(log, pidfile)
            os.kill(command.pid, signal.SIGUSR1)
            await command.stop("TERM")
            self.assert_private(log, f"{log}.1")

    async def test_daemon_and_twist_files_are_private(self) -> None:
        """The log of a daemon has a default. twist opens its log before it reads our options."""
        alpaca = await self.simulate()
        parent = self.start("twistd", "--pidfile=d.pid", "tradeproxy")
        self.assertEqual(await parent.ended, 0, parent.output)
        await alpaca.when_listening()
        pid = int(Path(self.directory, "d.pid").read_text())
        self.addCleanup(os.kill, pid, 15)
        self.assert_private("twistd.log", "d.pid")
        other = await self.simulate()
        self.start("twist", "--log-file=twist.log", "tradeproxy")
        await other.when_listening()
        self.assert_private("twist.log")


class JournalAccessTests(SocketTestCase):
    """The directory of the journals, as an administrator left it."""

    def start(self, *arguments: str) -> Command:
        return self.command(
            *arguments, **ENVIRONMENT, PROXY_PORT=str(free_port()), PROXY_DATA_DIR=str(self.data)
        )

    def setUp(self) -> None:
        self.directory = self.make_directory()
        self.data = Path(self.directory, "data")
        self.data.mkdir()

    async def test_directory_of_everyone_ends_start_with_one_line(self) -> None:
        """Before a daemon is forked. `export` refuses what is in it."""
        self.data.chmod(0o777)
        line = (
            f"PROXY_DATA_DIR: {self.data}/paper.sqlite3: everyone can replace it:"
            f" run chmod o-w on {self.data}, or choose a directory in it\n"
        )
        (self.data / "paper.sqlite3").touch()
        for arguments in (
            ("tradeproxy", "run"),
            ("twistd", "--pidfile=", "tradeproxy"),
            ("tradeproxy", "export"),
        ):
            command = self.start(*arguments)
            self.assertEqual((await command.ended, command.output), (1, line))
        check = self.start("tradeproxy", "check")
        self.assertEqual(await check.ended, 1)
        self.assertIn(line, check.output)

    async def test_directory_of_group_is_a_warning(self) -> None:
        """In the log, once for all accounts, and in `tradeproxy check`."""
        self.data.chmod(0o770)
        line = f"PROXY_DATA_DIR: {self.data}: its group can write it; run chmod g-w on it"
        for name in ("run", "check"):
            command = self.start("tradeproxy", name)
            await command.says(line)


class CoreDumpTests(SocketTestCase):
    """A core dump would contain the keys."""

    def setUp(self) -> None:
        before = resource.getrlimit(resource.RLIMIT_CORE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_CORE, before)
        if before[1] != resource.RLIM_INFINITY and before[1] < 4096:
            raise SkipTest("the hard limit of core dumps is too low here")
        resource.setrlimit(resource.RLIMIT_CORE, (4096, before[1]))

    def start(self, *arguments: str, **environment: str) -> Command:
        return self.command(
            *arguments, **ENVIRONMENT, PROXY_PORT=str(free_port(following=2)), **environment
        )

    async def test_no_command_leaves_a_core_dump(self) -> None:
        """Every runner and command that may have keys or tokens in its memory."""
        module = (sys.executable, "-m", "tradeproxy")
        for arguments, text in (
            ((*module, "run"), "next attempt"),
            ((*module, "demo"), "streaming"),
            ((*module, "simulate", "--port", str(free_port())), "ALPACA_URL"),
            ((*module, "tail"), "no connection to the proxy"),
            (("twistd", "-n", "--pidfile=", "tradeproxy"), "next attempt"),
            (("twist", "tradeproxy"), "next attempt"),
        ):
            command = self.start(*arguments)
            await command.says(text)
            self.assertEqual(read_core_limit(command.pid), "0", arguments)
            await command.stop()

    async def test_core_dumps_variable_leaves_the_limit(self) -> None:
        """In .env or in the environment."""
        self.directory = self.make_directory()
        for variables in ({"PROXY_CORE_DUMPS": "1"}, {}):
            if not variables:
                Path(self.directory, ".env").write_text("PROXY_CORE_DUMPS=1\n")
            for arguments in (("tradeproxy", "run"), ("twistd", "-n", "--pidfile=", "tradeproxy")):
                command = self.start(*arguments, **variables)
                await command.says("next attempt")
                self.assertEqual(read_core_limit(command.pid), "4096", arguments)
                await command.stop()
