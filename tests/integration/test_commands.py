"""The commands as a user runs them: help, `status`, `init`, and closed or narrow streams."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred, gatherResults

from tests.support.processes import SCRIPTS, SOURCES, Command, free_port
from tests.support.sockets import MODULE, SocketTestCase
from tradeproxy.tap import Options
from tradeproxy.wire.credentials import KeyPair, Secret

reactor: Any = chosen  # of many interfaces, which mypy does not know
TOKEN = "a-token-of-some-length"
WATCH_CSV = "--watch: cannot be combined with --csv\n"
KEY, SECRET = "PKINIT", "secret'#\\x"


class HelpTests(SocketTestCase):
    """What the commands say about themselves."""

    async def test_no_command_prints_help(self) -> None:
        """A user who tries the name alone gets the list of commands."""
        command = self.command(*MODULE)
        self.assertEqual(await command.ended, 0)
        for name in ("run", "init", "check", "status", "tail", "export", "orders", "order"):
            self.assertIn(f"\n    {name} ", command.output)

    async def test_run_has_its_own_help_and_version(self) -> None:
        """Not those of twistd, whose options do not apply."""
        commands = [self.command(*MODULE, "run", option) for option in ("--help", "--version")]
        self.assertEqual(await gatherResults([each.ended for each in commands]), [0, 0])
        self.assertTrue(commands[0].output.startswith("usage: tradeproxy run "))
        self.assertTrue(commands[1].output.startswith("tradeproxy 0."))
        for name in Options().longOpt:  # a new option of the plugin needs its line here
            self.assertIn(f"--{name.rstrip('=')}", commands[0].output)


class StreamTests(SocketTestCase):
    """Standard streams that are closed."""

    def shell(self, script: str, **environment: str) -> Command:
        return self.command("/bin/bash", "-c", script, **environment)

    async def test_run_starts_with_closed_streams(self) -> None:
        """Service managers of any kind may start it so: `>&-`."""
        port = free_port(following=1)
        command = self.shell(
            f"exec 3>&2; {sys.executable} -m tradeproxy demo --port {port} <&- >&- 2>&- &"
            f" pid=$!; until {sys.executable} -m tradeproxy status >&-"
            " || ! kill -0 $pid; do :; done; kill $pid && echo ran >&3",
            PROXY_PORT=str(port),
        )
        self.assertEqual(await command.ended, 0, command.output)
        self.assertIn("ran", command.output)

    async def test_number_of_a_closed_stream_may_be_in_use(self) -> None:
        """Debian's newer libffi opens its own file, for reading, before any of our code runs."""
        code = (
            "import os, sys; os.open(os.devnull, os.O_RDONLY);"
            " from tradeproxy.cli.streams import open_missing_streams; open_missing_streams();"
            " print('x', flush=True)"
        )
        command = self.shell(f"{sys.executable} -c {shlex.quote(code)} >&-")
        self.assertEqual(await command.ended, 0, command.output)

    async def test_closed_pipe_ends_every_command_quietly(self) -> None:
        """The reader is gone before the first line; the output is unbuffered here."""
        for arguments in ("", "--help", "completion bash", "check", "status"):
            command = self.shell(
                f"{sys.executable} -m tradeproxy {arguments} | true",
                ALPACA_API_KEY="x",
                ALPACA_SECRET_KEY="x",
                ALPACA_URL="http://127.0.0.1:1",
                PROXY_PORT="1",
            )
            await command.ended
            self.assertNotIn("Traceback", command.output)
            self.assertNotIn("BrokenPipe", command.output)


class StatusTests(SocketTestCase):
    """`tradeproxy status`."""

    async def status(self, *arguments: str, **environment: str) -> tuple[int, str]:
        return await self.run_command("status", *arguments, **environment)

    async def test_healthy_proxy_exits_0(self) -> None:
        """The lines are the start, each account, and the clients."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        await self.subscribe()
        status, output = await self.status()
        self.assertEqual(status, 0, output)
        running, account, events, clients = output.splitlines()
        self.assertRegex(running, "^running since 20")
        self.assertRegex(account, r"^paper: streaming since 20..-..-.. ..:..:..[+-]..:..$")
        self.assertEqual((events, clients), ("    0 events since midnight UTC", "clients: 1"))
        status, output = await self.status("--json")
        self.assertEqual((status, json.loads(output)["clients"]["count"]), (0, 1))

    async def test_account_without_stream_exits_1(self) -> None:
        """The line has the reason."""
        proxy = await self.proxy()
        await proxy.says("upstream is down")
        status, output = await self.status()
        self.assertEqual(status, 1, output)
        self.assertRegex(output, "paper: down since .*: cannot connect: connection refused\n")

    async def test_no_proxy_or_wrong_token_exits_2(self) -> None:
        """The line names the URL and says what to do; no token is in it."""
        self.port = free_port()
        status, output = await self.status()
        url = f"http://localhost:{self.port}/status.json"
        self.assertEqual((status, output), (2, f"no proxy at {url}: connection refused\n"))
        await self.proxy(PROXY_TOKENS=TOKEN)
        status, output = await self.status()
        self.assertEqual(status, 2)
        self.assertIn("set PROXY_TOKEN, or name a file with --token-file", output)
        status, output = await self.status(PROXY_TOKEN="a-wrong-token")
        self.assertEqual(status, 2)
        self.assertNotIn("a-wrong-token", output)
        status, output = await self.status("--json", PROXY_TOKEN="a-wrong-token")
        self.assertIn("PROXY_TOKENS", json.loads(output)["error"])
        status, output = await self.status(PROXY_TOKEN=TOKEN)
        self.assertLess(status, 2, output)

    async def test_server_that_is_no_proxy_exits_2(self) -> None:
        """One line, without what it sent."""
        alpaca = await self.simulate()
        self.assertIsNotNone(alpaca)
        self.port = self.alpaca_port
        status, output = await self.status()
        self.assertEqual((status, output.count("\n")), (2, 1), output)


class StateCommandTests(SocketTestCase):
    """`tradeproxy orders`, `order` and `positions`."""

    async def test_orders_and_one_order_of_the_running_proxy(self) -> None:
        """Each form has the order; an unknown one and a misspelt filter exit with 2."""
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        client = await self.subscribe()
        order = {"id": "o-1", "client_order_id": "bot-1", "symbol": "AAPL", "side": "buy"}
        order |= {"qty": "10", "filled_qty": "0", "limit_price": "5", "status": "new"}
        order |= {"submitted_at": "2026-07-24T14:42:50Z", "type": "limit"}
        alpaca.emit({"event": "new", "order": order})
        await client.has(1)  # the book follows within a moment; the answer catches up
        status, output = await self.run_command("orders", "--json", "--symbol", "AAPL")
        self.assertEqual(status, 0, output)
        self.assertEqual([each["id"] for each in json.loads(output)["orders"]], ["o-1"])
        status, output = await self.run_command("orders", "--csv", "--status", "all")
        self.assertEqual((status, output.count("\n")), (0, 2), output)
        status, output = await self.run_command("order", "o-1")
        self.assertEqual(status, 0, output)
        self.assertIn("limit 5", output)
        self.assertEqual(await self.run_command("positions", "--csv", "--watch"), (1, WATCH_CSV))
        status, output = await self.run_command("order", "../no such")
        self.assertEqual((status, output.count("\n")), (2, 1), output)


class InitTests(SocketTestCase):
    """`tradeproxy init`, in a terminal."""

    def init(self, *arguments: str) -> Command:
        self.directory = getattr(self, "directory", None) or self.make_directory()
        command = Command()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": self.directory,
            "PYTHONPATH": str(SOURCES),
            "ALPACA_URL": f"http://127.0.0.1:{getattr(self, 'alpaca_port', 1)}",
        }
        executable = str(SCRIPTS / "tradeproxy")
        reactor.spawnProcess(
            command,
            executable,
            [executable, "init", *arguments],
            env=environment,
            path=self.directory,
            usePTY=True,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(command.finish()))
        return command

    async def answer(self, command: Command, key: str = KEY, secret: str = SECRET) -> None:
        transport: Any = command.transport
        for prompt, text in (("ALPACA_API_KEY: ", key), ("ALPACA_SECRET_KEY: ", secret)):
            await command.says(prompt)
            transport.write(f"{text}\n".encode())

    async def test_accepted_keys_are_written_for_the_owner_only(self) -> None:
        """The terminal does not show them, and the proxy reads back the same keys."""
        await self.simulate(credentials=KeyPair(Secret(KEY), Secret(SECRET)))
        command = self.init()
        await self.answer(command)
        self.assertEqual(await command.ended, 0, command.output)
        self.assertIn("logged in", command.output)
        self.assertNotIn(KEY, command.output)
        self.assertNotIn(SECRET, command.output)
        path = Path(self.directory, ".env")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        check = self.command(*MODULE, "check", PROXY_PORT=str(free_port()))
        self.assertEqual(await check.ended, 0, check.output)
        self.assertIn("logged in", check.output, "the file has the URL too")

    async def test_pasted_quotes_are_left_out(self) -> None:
        """They became a part of the key, which Alpaca then refused without a reason."""
        await self.simulate(credentials=KeyPair(Secret(KEY), Secret(SECRET)))
        command = self.init()
        await self.answer(command, f'"{KEY}"', f"'{SECRET}'")
        self.assertEqual(await command.ended, 0, command.output)
        self.assertIn("ALPACA_API_KEY: the quotes around it are left out", command.output)
        self.assertIn("logged in", command.output)
        text = Path(self.directory, ".env").read_text(encoding="ascii")
        self.assertIn(f"ALPACA_API_KEY={KEY}\n", text)

    async def test_rejected_keys_are_written_only_on_request(self) -> None:
        """Without a yes there is no file."""
        await self.simulate(credentials=KeyPair(Secret("other"), Secret("other")))
        command = self.init()
        await self.answer(command)
        await command.says("in spite of that? [y/N]")
        transport: Any = command.transport
        transport.write(b"\n")
        self.assertEqual(await command.ended, 1)
        self.assertIn("nothing was written", command.output)
        self.assertFalse(Path(self.directory, ".env").exists())

    async def test_existing_file_is_never_changed(self) -> None:
        """Nor one that a link names; the command ends before it asks."""
        self.directory = self.make_directory()
        path = Path(self.directory, ".env")
        path.symlink_to("absent")
        command = self.init()
        self.assertEqual(await command.ended, 1)
        self.assertIn("exists and is not changed", command.output)
        self.assertNotIn("ALPACA_API_KEY: ", command.output)
        self.assertFalse(Path(self.directory, "absent").exists())

    async def test_without_terminal_is_one_line(self) -> None:
        """Keys from a pipe would be in a file or in a command line."""
        command = self.command(*MODULE, "init")
        self.assertEqual(await command.ended, 1)
        self.assertEqual(command.output.count("\n"), 1, command.output)


class CheckStartTests(SocketTestCase):
    """`tradeproxy check`: what would prevent a start."""

    async def check(self, **environment: str) -> tuple[int, str]:
        account = {
            "ALPACA_API_KEY": "PKTEST",
            "ALPACA_SECRET_KEY": "test-secret",
            "ALPACA_URL": f"http://127.0.0.1:{self.alpaca_port}",
        }
        command = self.command(*MODULE, "check", **(account | environment))
        return await command.ended, command.output

    async def test_port_in_use_exits_1(self) -> None:
        """The line has the address and what helps."""
        await self.simulate()
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            status, output = await self.check(PROXY_PORT=port)
        self.assertEqual(status, 1, output)
        self.assertIn(f"127.0.0.1:{port} is in use: ", output)
        self.assertIn("logged in", output)

    async def test_token_of_the_commands_is_compared(self) -> None:
        """PROXY_TOKEN does not protect the proxy, which its name suggests."""
        await self.simulate()
        for environment, warning in (
            ({}, "PROXY_TOKEN: only `"),
            ({"PROXY_TOKENS": TOKEN}, "PROXY_TOKEN: is not one of PROXY_TOKENS"),
            ({"PROXY_TOKENS": f"{TOKEN},the-other-token-of-clients"}, None),
        ):
            status, output = await self.check(
                PROXY_PORT=str(free_port()), PROXY_TOKEN="the-other-token-of-clients", **environment
            )
            self.assertEqual(status, 0, output)
            self.assertEqual("PROXY_TOKEN: " in output, warning is not None, output)
            self.assertIn(warning or "tokens: 2", output)

    async def test_schema_version_of_journal_is_shown(self) -> None:
        """After the first start there is a journal."""
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        status, output = await self.check(PROXY_PORT=str(free_port()))
        self.assertIn("another tradeproxy uses it\n", output)
        self.assertNotIn("schema version", output, "it is not the problem")
        await proxy.stop()
        await alpaca.when_gone()
        status, output = await self.check(PROXY_PORT=str(free_port()))
        self.assertEqual(status, 0, output)
        self.assertRegex(output, r"paper\.sqlite3: schema version [0-9]+\n")
