"""The logs of the commands, in a pipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from twisted.internet.defer import gatherResults

from tests.support.processes import Command, free_port
from tests.support.sockets import SocketTestCase


class LogCommandTests(SocketTestCase):
    """`tradeproxy run` and twistd write the format and the levels of the settings."""

    async def run_without_alpaca(self, *arguments: str, **environment: str) -> Command:
        """Run a command until its first attempt to connect has failed, and stop it."""
        account = {
            "ALPACA_API_KEY": "PKTEST",
            "ALPACA_SECRET_KEY": "test-secret",
            "ALPACA_URL": "http://127.0.0.1:1",
            "PROXY_PORT": str(free_port()),
        }
        command = self.command(*arguments, **account, **environment)
        await command.says("next attempt in")
        await command.stop()
        return command

    async def test_every_line_of_json_is_one_object(self) -> None:
        """This applies to `tradeproxy run` and twistd, from the first line to the last."""
        commands = (
            (sys.executable, "-m", "tradeproxy", "run"),
            ("twistd", "-n", "--pidfile=", "--logger=tradeproxy.logs.json_observer", "tradeproxy"),
        )
        for arguments in commands:
            command = await self.run_without_alpaca(*arguments)
            objects = [json.loads(line) for line in command.output.splitlines()]
            [down] = [fields for fields in objects if "delay" in fields]
            self.assertEqual((down["account"], down["level"]), ("paper", "warn"))
            self.assertIn("cannot connect", down["reason"])
            self.assertEqual(objects[-1]["message"], "stopped")
            loggers = {fields["logger"].partition(".")[0] for fields in objects}
            self.assertEqual(loggers, {"tradeproxy"})
            self.assertTrue(objects[0]["message"].startswith("listening on"), objects[0])

    async def test_settings_apply_to_run_and_twistd(self) -> None:
        """`tradeproxy run` also reads .env; twistd's observers read only the environment."""
        self.directory = self.make_directory()
        Path(self.directory, ".env").write_text("PROXY_LOG_FORMAT=text\nPROXY_LOG_LEVEL=warn\n")
        twistd = (
            "twistd",
            "-n",
            "--pidfile=",
            "--logger=tradeproxy.logs.text_observer",
            "tradeproxy",
        )
        for arguments in ((sys.executable, "-m", "tradeproxy", "run"), twistd):
            environment = {"PROXY_LOG_LEVEL": "warn"} if arguments is twistd else {}
            command = await self.run_without_alpaca(*arguments, **environment)
            for line in command.output.splitlines():
                self.assertRegex(line, r"^[-0-9]{10} [:0-9]{8} warn  ")

    async def test_unknown_level_is_one_line(self) -> None:
        """Both commands report it, though this twistd does not use the setting."""
        environment = {"ALPACA_API_KEY": "x", "ALPACA_SECRET_KEY": "x", "PROXY_LOG_LEVEL": "loud"}
        commands = [
            self.command(*arguments, **environment)
            for arguments in (
                (sys.executable, "-m", "tradeproxy", "run"),
                ("twistd", "-n", "tradeproxy"),
            )
        ]
        self.assertEqual(await gatherResults([command.ended for command in commands]), [1, 1])
        for command in commands:
            self.assertEqual(
                command.output,
                "PROXY_LOG_LEVEL: 'loud' is not one of debug, info, warn, error, critical\n",
            )
