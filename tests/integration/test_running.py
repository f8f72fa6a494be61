"""The proxy as people run it, from `twistd`, from `twist` and as a daemon: how it starts, how it stops."""

from __future__ import annotations

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

    async def test_streams_and_stops_gracefully(self) -> None:
        """On SIGTERM every client and Alpaca get a close frame, and the process ends within five seconds."""
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
        asked = monotonic()
        await proxy.stop()
        self.assertLess(monotonic() - asked, 5)
        for client in clients:
            await client.gone()
            self.assertEqual(client.closed, (1012, "the proxy is restarting: reconnect"))
        await alpaca.when_gone()
        self.assertEqual(alpaca.last_close, (1000, None))
        self.assertFalse(pidfile.exists())
        self.assertNotIn("Traceback", proxy.output)
        self.assertNotIn("Unhandled", proxy.output)

    async def test_a_closed_terminal_stops_it_gracefully_too(self) -> None:
        """On SIGHUP a bare end would leave Alpaca's slot taken for a while."""
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        client = await self.subscribe()
        self.assertEqual(await proxy.stop("HUP"), 0)
        await client.gone()
        await alpaca.when_gone()
        assert client.closed is not None
        self.assertEqual((client.closed[0], alpaca.last_close), (1012, (1000, None)))

    async def test_says_where_it_listens_and_what_there_is(self) -> None:
        """The first lines tell a person where to point a client."""
        await self.simulate()
        proxy = await self.proxy()
        await proxy.says("is streaming")
        self.assertIn(f"listening on http://127.0.0.1:{self.port}", proxy.output)
        self.assertIn("/trade-updates-paper/stream", proxy.output)
        await proxy.stop("INT")

    async def test_runs_as_a_daemon(self) -> None:
        """With a pidfile and a logfile, until it is told to stop."""
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

    async def test_runs_under_twist(self) -> None:
        """Twisted's newer runner never calls privilegedStartService; all works without."""
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

    async def test_restarts_on_the_same_port_at_once(self) -> None:
        """Connections that linger in TIME_WAIT do not keep the next process from listening."""
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


class DemoTests(SocketTestCase):
    """`--demo`: an embedded Alpaca, and no account of anybody's."""

    async def test_shows_orders_by_itself(self) -> None:
        """Somebody without keys sees updates within seconds; real keys in the environment are not touched."""
        live = await self.simulate()
        demo = await self.proxy("--demo", ALPACA_LIVE_API_KEY="real", ALPACA_LIVE_SECRET_KEY="real")
        client = await self.subscribe()
        await client.has(3)
        self.assertIn(b'"trade_updates"', client.messages[0])
        self.assertEqual(live.handshakes, 0)
        self.assertIn(f"http://127.0.0.1:{self.port + 1}", demo.output)
        await demo.stop()
        self.assertNotIn("Traceback", demo.output)

    async def test_a_busy_port_is_told_from_the_embedded_alpacas(self) -> None:
        """Each with what chooses another; an account's own Alpaca is not in the way of itself."""
        await self.simulate()
        taken = f"tcp:{self.alpaca_port}:interface=127.0.0.1"
        for options, listen, words in (
            (("--port", str(self.alpaca_port)), "", "PROXY_PORT or --port chooses another"),
            (("--port", str(self.alpaca_port)), "tcp:1", "PROXY_PORT or --port chooses another"),
            (("--port", str(self.alpaca_port - 1)), "", "the embedded Alpaca takes the port after"),
            (("--listen", taken), "", "PROXY_LISTEN or --listen chooses another"),
            ((), taken, "PROXY_LISTEN or --listen chooses another"),
        ):
            demo = self.command(
                "twistd", "-n", "tradeproxy", "--demo", *options, PROXY_LISTEN=listen
            )
            self.assertEqual(await demo.ended, 1, demo.output)
            [line] = demo.output.splitlines()
            self.assertTrue(
                line.startswith(f"127.0.0.1:{self.alpaca_port} is in use: {words}"), line
            )


class CommandTests(SocketTestCase):
    """`tradeproxy`, the command for people."""

    def tradeproxy(self, *arguments: str, **environment: str) -> Command:
        return self.command(sys.executable, "-m", "tradeproxy", *arguments, **environment)

    async def test_simulate_is_an_alpaca_to_run_against(self) -> None:
        """It says what to set, and serves until it is stopped; a busy port is a line."""
        self.alpaca_port = free_port()
        simulate = self.tradeproxy("simulate", "--port", str(self.alpaca_port))
        await simulate.says(f"ALPACA_URL=http://127.0.0.1:{self.alpaca_port}")
        again = self.tradeproxy("simulate", "--port", str(self.alpaca_port))
        self.assertEqual(
            (await again.ended, again.output), (1, f"127.0.0.1:{self.alpaca_port} is in use\n")
        )
        proxy = await self.proxy()
        await proxy.says("upstream is streaming")
        await simulate.stop()
        await proxy.says("upstream is down")

    async def test_demo_and_run_are_twistd_in_the_foreground(self) -> None:
        """Without a pidfile in the way, and with the options of `twistd tradeproxy`."""
        self.port, other = free_port(following=1), free_port()
        demo = self.tradeproxy("demo", "--port", str(self.port))
        run = self.tradeproxy("run", "--port", str(other), **KEYS, ALPACA_URL="http://127.0.0.1:1")
        await gatherResults([demo.says("upstream is streaming"), run.says("upstream is down")])
        self.assertEqual(list(Path(self.directory).glob("*.pid")), [])

    async def test_what_is_wrong_is_a_line(self) -> None:
        """Whichever command it was said to."""
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
    """What is wrong is a line each, and status 1: no traceback, no usage text, nothing half started."""

    async def refuse(self, *options: str, **environment: str) -> list[str]:
        command = self.command("twistd", "-n", "tradeproxy", *options, **environment)
        self.assertEqual(await command.ended, 1, command.output)
        return command.output.strip().splitlines()

    async def test_each_is_a_line_that_names_its_variable(self) -> None:
        """All are told at once, so that nobody has to mend them one by one."""
        mistakes = {
            "ALPACA_DESK_SECRET_KEY": "x",
            "ALPACA_URL": "http://api.example",
            "PROXY_LISTEN": "tcp:nonsense",
            "PROXY_MAX_CLIENTS": "many",
            "PROXY_AUTH_TIMEOUT": "soon",
        }
        lines = await self.refuse(**KEYS, **mistakes)
        self.assertEqual(len(lines), len(mistakes), lines)
        for variable in ("ALPACA_DESK_API_KEY", *mistakes.keys() - {"ALPACA_DESK_SECRET_KEY"}):
            self.assertEqual(len([line for line in lines if variable in line]), 1, lines)

    async def test_an_env_file_that_cannot_be_read(self) -> None:
        """Neither one in the directory nor one that was named is passed over."""
        self.directory = self.make_directory()
        Path(self.directory, ".env").mkdir()
        [[dot_env], [named]] = await gatherResults(
            [
                Deferred.fromCoroutine(self.refuse(*options, **KEYS))
                for options in ((), ("--env-file", "other"))
            ]
        )
        self.assertIn(".env", dot_env)
        self.assertIn("--env-file", named)

    async def test_a_busy_port(self) -> None:
        """Another process has it: the line says which address, under twistd and under twist."""
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
