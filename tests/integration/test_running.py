"""The proxy as users run it, with twistd, with twist and as a daemon: start and stop."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from time import monotonic

from twisted.internet.defer import Deferred, gatherResults

from tests.support.frames import LISTEN
from tests.support.processes import Command, free_port
from tests.support.sockets import SocketTestCase

KEYS = {"ALPACA_API_KEY": "PKTEST", "ALPACA_SECRET_KEY": "test-secret"}
EVENT = {"event": "new", "order": {"id": "1"}}


class TwistdTests(SocketTestCase):
    """`twistd -n tradeproxy`."""

    async def test_sigterm_closes_all_connections(self) -> None:
        """Every client and Alpaca get a close frame, and the process ends within 5 s."""
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        clients = [await self.subscribe(), await self.subscribe("/paper/stream")]
        clients[1].sendMessage(LISTEN)
        await clients[1].has(1)
        clients[1].taken()
        event = alpaca.emit(EVENT)
        for client in clients:
            await client.has(1)
            self.assertEqual(client.taken(), [event])
        pidfile = Path(self.directory, "twistd.pid")
        self.assertTrue(pidfile.exists())
        started = monotonic()
        await proxy.stop()
        self.assertLess(monotonic() - started, 5)
        for client in clients:
            await client.gone()
            self.assertEqual(client.closed, (1012, "the proxy is restarting: reconnect"))
        await alpaca.when_gone()
        self.assertEqual(alpaca.last_close, (1000, None))
        self.assertFalse(pidfile.exists())
        self.assertNotIn("Traceback", proxy.output)
        self.assertNotIn("Unhandled", proxy.output)

    async def test_start_logs_addresses_and_paths(self) -> None:
        """The first lines show the URLs for clients."""
        await self.simulate()
        proxy = await self.proxy()
        await proxy.says("is streaming")
        self.assertIn(f"listening on http://127.0.0.1:{self.port}", proxy.output)
        self.assertIn("/trade-updates-paper/stream", proxy.output)
        await proxy.stop("INT")

    async def test_daemon_streams_until_sigterm(self) -> None:
        """It has a pidfile and a log file."""
        alpaca = await self.simulate()
        self.port = free_port()
        environment = KEYS | {
            "ALPACA_URL": f"http://127.0.0.1:{self.alpaca_port}",
            "PROXY_PORT": str(self.port),
        }
        parent = self.command(
            "twistd", "--pidfile=t.pid", "--logfile=t.log", "tradeproxy", **environment
        )
        self.assertEqual(await parent.ended, 0, parent.output)
        await alpaca.when_listening()
        client = await self.subscribe()
        pidfile, logfile = Path(self.directory, "t.pid"), Path(self.directory, "t.log")
        os.kill(int(pidfile.read_text()), 15)
        await client.gone()
        await alpaca.when_gone()
        self.assertEqual(client.closed, (1012, "the proxy is restarting: reconnect"))
        self.assertIn("listening on", logfile.read_text())

    async def test_twist_runs_the_proxy(self) -> None:
        """The proxy does not need privilegedStartService, which twist never calls."""
        alpaca = await self.simulate()
        self.port = free_port()
        environment = KEYS | {
            "ALPACA_URL": f"http://127.0.0.1:{self.alpaca_port}",
            "PROXY_PORT": str(self.port),
        }
        twist = self.command("twist", "tradeproxy", **environment)
        await twist.says("listening on")
        await alpaca.when_listening()
        client = await self.subscribe()
        event = alpaca.emit(EVENT)
        await client.has(1)
        self.assertEqual(client.taken(), [event])
        await twist.stop()

    async def test_restart_on_same_port_listens_at_once(self) -> None:
        """Connections in TIME_WAIT do not keep the port."""
        await self.simulate()
        proxy = await self.proxy()
        client = await self.subscribe()
        await proxy.stop()
        await client.gone()
        environment = KEYS | {
            "ALPACA_URL": f"http://127.0.0.1:{self.alpaca_port}",
            "PROXY_PORT": str(self.port),
        }
        again = self.command("twistd", "-n", "tradeproxy", **environment)
        await again.says("listening on")


class DemoRunTests(SocketTestCase):
    """`--demo`: an embedded Alpaca, without real accounts."""

    async def test_demo_streams_orders_without_keys(self) -> None:
        """Updates come within seconds; real keys in the environment are not used."""
        live = await self.simulate()
        demo = await self.proxy("--demo", ALPACA_LIVE_API_KEY="real", ALPACA_LIVE_SECRET_KEY="real")
        client = await self.subscribe()
        await client.has(3)
        self.assertIn(b'"trade_updates"', client.messages[0])
        self.assertEqual(live.handshakes, 0)
        base = f"http://127.0.0.1:{self.port}"
        for text in (
            f"paper: an embedded Alpaca takes orders at http://127.0.0.1:{self.port + 1}",
            f"live: an embedded Alpaca takes orders at http://127.0.0.1:{self.port + 2}",
            f"the dashboard at {base}/, health at {base}/healthz and {base}/readyz, "
            f"metrics at {base}/metrics",
            f"; ws://127.0.0.1:{self.port}/trade-updates-live speaks the original protocol",
        ):
            self.assertIn(text, demo.output)
        await demo.stop()
        self.assertNotIn("Traceback", demo.output)

    async def test_demo_busy_port_names_its_option(self) -> None:
        """The proxy's port and the embedded Alpaca's port have different messages."""
        await self.simulate()
        busy = f"tcp:{self.alpaca_port}:interface=127.0.0.1"
        for options, listen, words in (
            (("--port", str(self.alpaca_port)), "", "PROXY_PORT or --port chooses another"),
            (("--port", str(self.alpaca_port)), "tcp:1", "PROXY_PORT or --port chooses another"),
            (("--port", str(self.alpaca_port - 1)), "", "the embedded Alpaca takes the two"),
            (("--port", str(self.alpaca_port - 2)), "", "the embedded Alpaca takes the two"),
            (("--listen", busy), "", "PROXY_LISTEN or --listen chooses another"),
            ((), busy, "PROXY_LISTEN or --listen chooses another"),
        ):
            demo = self.command(
                "twistd", "-n", "tradeproxy", "--demo", *options, PROXY_LISTEN=listen
            )
            self.assertEqual(await demo.ended, 1, demo.output)
            # A neighbouring port may be in use by another test.
            problem = f"127.0.0.1:{self.alpaca_port} is in use: "
            [line] = [line for line in demo.output.splitlines() if line.startswith(problem)]
            self.assertTrue(line.startswith(problem + words), line)


class TradeproxyCommandTests(SocketTestCase):
    """The `tradeproxy` command."""

    def tradeproxy(self, *arguments: str, **environment: str) -> Command:
        return self.command(sys.executable, "-m", "tradeproxy", *arguments, **environment)

    async def test_simulate_serves_the_proxy(self) -> None:
        """It prints the variables to set; a busy port is one line."""
        self.alpaca_port = free_port()
        simulate = self.tradeproxy("simulate", "--port", str(self.alpaca_port))
        await simulate.says(f"ALPACA_URL=http://127.0.0.1:{self.alpaca_port}")
        lines = [json.loads(line) for line in simulate.output.splitlines()]
        self.assertEqual(
            {tuple(line)[:4] for line in lines}, {("time", "level", "logger", "message")}
        )
        again = self.tradeproxy("simulate", "--port", str(self.alpaca_port))
        self.assertEqual(
            (await again.ended, again.output), (1, f"127.0.0.1:{self.alpaca_port} is in use\n")
        )
        proxy = await self.proxy()
        await proxy.says("upstream is streaming")
        await simulate.stop()
        await proxy.says("upstream is down")

    async def test_demo_and_run_need_no_pidfile(self) -> None:
        """They have the options of `twistd tradeproxy`."""
        self.port, other = free_port(following=2), free_port()
        demo = self.tradeproxy("demo", "--port", str(self.port))
        run = self.tradeproxy("run", "--port", str(other), **KEYS, ALPACA_URL="http://127.0.0.1:1")
        await gatherResults([demo.says("upstream is streaming"), run.says("upstream is down")])
        self.assertEqual(list(Path(self.directory).glob("*.pid")), [])

    async def test_wrong_usage_is_one_line(self) -> None:
        """For every command."""
        commands = [
            self.tradeproxy("simulate", "--port", "99999"),
            self.tradeproxy("check", "--nonsense"),
            self.tradeproxy("check"),
            self.tradeproxy("--version"),
            self.tradeproxy("run", "--prot", "1"),
            self.tradeproxy("demo", "now"),
            self.tradeproxy("run", "--env-file", "absent"),
            self.tradeproxy("check", "--env-file", "absent"),
        ]
        statuses = await gatherResults([command.ended for command in commands])
        self.assertEqual(statuses, [2, 2, 1, 0, 1, 1, 1, 1])
        lines = [command.output.strip().splitlines()[-1] for command in commands]
        self.assertIn("'99999' is not a port (1 to 65535)", lines[0])
        self.assertIn("unrecognized arguments: --nonsense", lines[1])
        self.assertIn("ALPACA_API_KEY", lines[2])
        self.assertTrue(
            lines[4].startswith("tradeproxy run: option --prot not recognized"), lines[4]
        )
        self.assertTrue(lines[5].startswith("tradeproxy demo: unexpected words: now"), lines[5])
        for line in lines[6:]:
            self.assertRegex(line, "^--env-file .*absent: cannot be read")
        self.assertEqual([command.output.count("\n") for command in commands[4:]], [1] * 4)


class BadSettingTests(SocketTestCase):
    """Each problem with the settings is one line, with exit status 1 and no traceback."""

    async def lines_of_failure(self, *options: str, **environment: str) -> list[str]:
        command = self.command("twistd", "-n", "tradeproxy", *options, **environment)
        self.assertEqual(await command.ended, 1, command.output)
        return command.output.strip().splitlines()

    async def test_every_problem_is_reported_at_once(self) -> None:
        """Each line names its variable."""
        mistakes = {
            "ALPACA_DESK_SECRET_KEY": "x",
            "ALPACA_URL": "http://api.example",
            "PROXY_LISTEN": "tcp:nonsense",
            "PROXY_MAX_CLIENTS": "many",
            "PROXY_AUTH_TIMEOUT": "soon",
        }
        lines = await self.lines_of_failure(**KEYS, **mistakes)
        self.assertEqual(len(lines), len(mistakes), lines)
        for variable in ("ALPACA_DESK_API_KEY", *mistakes.keys() - {"ALPACA_DESK_SECRET_KEY"}):
            self.assertEqual(len([line for line in lines if variable in line]), 1, lines)

    async def test_unreadable_env_file_is_a_problem(self) -> None:
        """The default .env and a named file are treated alike."""
        self.directory = self.make_directory()
        Path(self.directory, ".env").mkdir()
        [[dot_env], [named]] = await gatherResults(
            [
                Deferred.fromCoroutine(self.lines_of_failure(*options, **KEYS))
                for options in ((), ("--env-file", "other"))
            ]
        )
        self.assertIn(".env", dot_env)
        self.assertIn("--env-file", named)

    async def test_busy_port_names_address(self) -> None:
        """With twistd and with twist."""
        await self.simulate()
        environment = KEYS | {"PROXY_PORT": str(self.alpaca_port)}
        commands = [
            self.command(*runner, "tradeproxy", **environment)
            for runner in (("twistd", "-n"), ("twist",))
        ]
        for command in commands:
            self.assertEqual(await command.ended, 1, command.output)
            [line] = command.output.strip().splitlines()
            self.assertIn(f"127.0.0.1:{self.alpaca_port}", line)
