"""Commands with a .env that others can change."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.config.settings_case import PAIR
from tests.config.test_trust import EVERYONE, FOREIGN, STRANGER
from tests.support.processes import run
from tests.support.sockets import SocketTestCase


class ForeignFileTests(SocketTestCase):
    """Every command that reads .env."""

    async def test_foreign_file_ends_every_command(self) -> None:
        """With the keys in the environment, the server in it would get them."""
        if os.geteuid() != 0:
            raise SkipTest("only root can give a file to another user")
        self.directory = self.make_directory()
        path = Path(self.directory, ".env")
        path.write_text("ALPACA_URL=https://stranger.example\n")
        os.chown(path, STRANGER, -1)
        for arguments in (
            ("tradeproxy", "run"),
            ("tradeproxy", "demo"),
            ("tradeproxy", "check"),
            ("tradeproxy", "tail"),
            ("tradeproxy", "export"),
            ("twistd", "-n", "tradeproxy"),
            ("twist", "tradeproxy"),
        ):
            command = run(*arguments, directory=self.directory, **PAIR)
            status = await command.ended
            self.assertEqual(status, 1, arguments)
            self.assertRegex(command.output, rf"\A{path}: refused: {FOREIGN.split('(')[0]}.*\n\Z")

    async def test_named_file_warns_in_tail_and_export(self) -> None:
        """They read few of the settings, but the warnings are those of the proxy."""
        self.directory = self.make_directory()
        path = Path(self.directory, "x.env")
        path.touch()
        path.chmod(0o666)
        for command in ("tail", "export"):
            process = (
                self.command("tradeproxy", command, "--env-file", "x.env", "--url=x")
                if (command == "tail")
                else self.command("tradeproxy", command, "--env-file", "x.env")
            )
            self.assertEqual(await process.ended, 1, process.output)
            self.assertIn(f"warning: --env-file {path}: {EVERYONE}\n", process.output)
