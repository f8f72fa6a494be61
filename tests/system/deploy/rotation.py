"""deploy/logrotate.conf with the log of a daemon that keeps running."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet import task

from tests.support.processes import PATIENCE, free_port
from tests.support.sockets import SocketTestCase
from tests.system.deploy.tools import DEPLOY, need, run

reactor: Any = chosen

LOGS = "/var/log/tradeproxy"


class RotationTests(SocketTestCase):
    """`twistd --logfile`, SIGUSR1 and logrotate."""

    async def test_rotation_loses_no_line(self) -> None:
        """Twisted rotates the file, logrotate compresses it, and the log continues."""
        logrotate = need("logrotate", "Debian's package logrotate")
        await self.simulate()
        self.directory = self.make_directory()
        text = (DEPLOY / "logrotate.conf").read_text(encoding="utf-8")
        self.assertIn(LOGS, text)
        rules = Path(self.directory, "logrotate.conf")
        rules.write_text(text.replace(LOGS, self.directory))
        rules.chmod(0o644)
        pidfile, log = Path(self.directory, "t.pid"), Path(self.directory, "t.log")
        parent = self.command(
            "twistd",
            f"--pidfile={pidfile}",
            f"--logfile={log}",
            "tradeproxy",
            ALPACA_API_KEY="PKTEST",
            ALPACA_SECRET_KEY="test-secret",
            ALPACA_URL=f"http://127.0.0.1:{self.alpaca_port}",
            PROXY_PORT=str(free_port()),
        )
        self.assertEqual(await parent.ended, 0, parent.output)
        process = int(pidfile.read_text())
        self.addCleanup(lambda: self.kill(process))

        await self.until(lambda: "is streaming" in log.read_text())
        os.kill(process, signal.SIGUSR1)
        rotated = log.with_name("t.log.1")
        await self.until(rotated.exists)
        state = str(Path(self.directory, "state"))
        status, output = run(logrotate, "--force", f"--state={state}", str(rules))
        self.assertEqual((status, output), (0, ""))
        self.assertFalse(rotated.exists())
        [compressed] = Path(self.directory).glob("t.log.1-*.gz")
        self.assertIn("is streaming", gzip.decompress(compressed.read_bytes()).decode())

        os.kill(process, signal.SIGTERM)
        await self.until(lambda: "Server Shut Down" in log.read_text())
        self.assertNotIn("\0", log.read_text())
        self.assertNotIn("is streaming", log.read_text())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Poll until the condition holds: processes do not report changes of files."""
        for _ in range(int(PATIENCE * 20)):
            if condition():
                return
            await task.deferLater(reactor, 0.05)
        self.fail("the condition did not hold in time")

    def kill(self, process: int) -> None:
        """Kill the daemon, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
