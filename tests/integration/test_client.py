"""Both clients, `tradeproxy tail` and `tradeproxy export`, against a real process."""

from __future__ import annotations

import asyncio
import contextlib  # trial would take `suppress` for its own setting
import csv
import io
import json
import re
import sys
from http import HTTPStatus
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall
from twisted.internet.threads import blockingCallFromThread, deferToThread
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.support.certificates import Authority
from tests.support.processes import PATIENCE, SOURCES, Command, free_port
from tests.support.sockets import SocketTestCase
from tradeproxy.cli import tail
from tradeproxy.client import AccountSnapshot, Client, RefusedError, StateError, Update, aio
from tradeproxy.query.stream import MAX_REPLAY

reactor: Any = chosen  # of many interfaces, which mypy does not know
COUNT = 300
ACCOUNT = {"ALPACA_API_KEY": "PKTEST", "ALPACA_SECRET_KEY": "test-secret"}
TOKEN = "a-token-of-some-length"


def event(number: int, **fields: Any) -> dict[str, Any]:
    """Return the data of an event with its own id."""
    order = {"id": f"{number}", "client_order_id": f"bot{number % 2}-{number}", "symbol": "SPY"}
    return {"event_id": f"01KYA98DWAS5PA5B{number:010d}", "event": "new", "order": order, **fields}


async def _take(client: aio.Client) -> None:
    """Read one item, and close the connection."""
    async with client:
        await anext(client)


IDS = [event(number)["event_id"] for number in range(COUNT)]


class ClientTestCase(SocketTestCase):
    """A proxy at one port that stops and restarts."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.alpaca = await self.simulate()
        self.port = free_port()

    async def start(self, **environment: str) -> Command:
        environment = {
            **ACCOUNT,
            "ALPACA_URL": f"http://127.0.0.1:{self.alpaca_port}",
            "PROXY_PORT": str(self.port),
            **environment,
        }
        proxy = self.command("twistd", "-n", "--pidfile=", "tradeproxy", **environment)
        await proxy.says("listening on")
        await self.alpaca.when_listening()
        return proxy

    @property
    def url(self) -> str:
        return f"ws://localhost:{self.port}/trade-updates-paper"

    def emit(self, begin: int, end: int) -> None:
        for number in range(begin, end):
            self.alpaca.emit(event(number))

    async def restart_amid_events(self, proxy: Command, client_has: Any) -> None:
        """Emit a third of the events before, during and after a restart of the proxy."""
        third = COUNT // 3
        self.emit(0, third)
        await client_has(third)
        self.emit(third, third + 50)  # some are on their way to the client when it happens
        await proxy.stop("KILL")
        await self.alpaca.when_gone()
        self.emit(third + 50, 2 * third)
        await self.start()
        self.emit(2 * third, COUNT)
        await client_has(COUNT)


class Progress:
    """The events that a client yielded; `has` waits for a number of them."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._awaited: list[tuple[int, Deferred[None]]] = []

    def add(self, event_id: str) -> None:
        self.ids.append(event_id)
        for awaited in [awaited for awaited in self._awaited if awaited[0] <= len(self.ids)]:
            self._awaited.remove(awaited)
            awaited[1].callback(None)

    async def has(self, count: int) -> None:
        if len(self.ids) < count:
            reached: Deferred[None] = Deferred()
            self._awaited.append((count, reached))
            await reached.addTimeout(PATIENCE, reactor)


class RestartTests(ClientTestCase):
    """SIGKILL loses no event and repeats none."""

    async def test_twisted_client_survives_restart(self) -> None:
        """The iteration continues across the restart."""
        proxy = await self.start()
        progress = Progress()
        began: Deferred[None] = Deferred()
        client = Client(
            self.url,
            on_status=lambda status: (
                None if began.called or status["event"] != "hello" else began.callback(None)
            ),
        )

        async def follow() -> None:
            async for update in client:
                assert isinstance(update, Update)
                progress.add(update.data["event_id"])

        following = Deferred.fromCoroutine(follow())
        await began
        await self.restart_amid_events(proxy, progress.has)
        await client.close()
        await following
        self.assertEqual(progress.ids, IDS)

    async def test_asyncio_client_survives_restart(self) -> None:
        """The client runs in its own event loop and thread."""
        proxy = await self.start()
        progress = Progress()
        began: Deferred[None] = Deferred()
        loop = asyncio.new_event_loop()

        def begin(status: dict[str, Any]) -> None:
            if status["event"] == "hello" and not began.called:
                reactor.callFromThread(began.callback, None)

        async def follow() -> None:
            async with aio.Client(self.url, on_status=begin) as client:
                async for update in client:
                    assert isinstance(update, Update)
                    blockingCallFromThread(reactor, progress.add, update.data["event_id"])

        following = loop.create_task(follow())

        def run() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(following)
            loop.close()

        thread = Thread(target=run)
        thread.start()
        await began
        await self.restart_amid_events(proxy, progress.has)
        loop.call_soon_threadsafe(following.cancel)
        await deferToThread(thread.join)
        self.assertEqual(progress.ids, IDS)


class DocumentTests(SocketTestCase):
    """The programs in docs/client.md."""

    async def test_documented_programs_print_updates(self) -> None:
        """They run unchanged except for the port; the one that saves its position resumes."""
        text = Path(SOURCES, "docs/client.md").read_text(encoding="utf-8")
        programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        self.assertEqual(len(programs), 3)
        alpaca = await self.simulate()
        await self.proxy()
        await alpaca.when_listening()
        numbers = count()
        trading = LoopingCall(lambda: alpaca.emit(event(next(numbers))))
        trading.start(0.05)
        self.addCleanup(trading.stop)
        for program in (*programs, programs[0]):
            program = program.replace("8099", str(self.port))
            client = self.command(sys.executable, "-u", "-c", program)
            await client.says("\nUpdate: ")  # the second one: by then the first has been dealt with
            await client.finish()
        position = Path(self.directory, "position").read_text()
        self.assertTrue(position.startswith("paper."), position)


class TlsTests(SocketTestCase):
    """A proxy at `wss:` with a certificate."""

    async def test_both_clients_verify_certificate(self) -> None:
        """They connect if the authority is trusted, and report the error if not."""
        self.directory = self.make_directory()
        authority = Authority(self.directory)
        port = free_port()
        proxy = await self.proxy("--demo", "--listen", authority.issue("localhost").endpoint(port))
        await proxy.says("is streaming")
        url = f"wss://localhost:{port}/trade-updates-paper"
        program = (
            Path(SOURCES, "docs/client.md").read_text(encoding="utf-8").split("```python\n")[1]
        )
        program = program.partition("```")[0].replace(
            "ws://localhost:8099/trade-updates-paper", url
        )
        program = program.replace("on_status=save", "on_status=print")
        forms = ("tradeproxy", "tail", "--url", url), (sys.executable, "-u", "-c", program)
        trusting = [self.command(*form, SSL_CERT_FILE=str(authority.certificate)) for form in forms]
        wary = [self.command(*form) for form in forms]
        await gatherResults(
            [
                *(client.says("new") for client in trusting),
                *(client.says("certificate verify failed") for client in wary),
            ]
        )


class AsyncioTests(ClientTestCase):
    """Errors of the asyncio client."""

    async def run_client(self, **options: Any) -> Any:
        """Run a client in its own loop; return its first event or its error."""

        async def first() -> Any:
            async with aio.Client(self.url, **options) as client:
                return await anext(client)

        return await deferToThread(asyncio.run, first())

    async def test_rejection_raises_refused_error(self) -> None:
        """HTTP statuses and close codes raise with the proxy's reason, without the token."""
        await self.start(PROXY_TOKENS=TOKEN)
        for options, code, word in (
            ({"events": ["cancelled"]}, 400, "canceled"),
            ({"key": "a-wrong-token"}, 4001, "PROXY_TOKENS"),
        ):
            with self.assertRaises(RefusedError) as caught:
                await self.run_client(**options)
            self.assertEqual(caught.exception.code, code)
            self.assertIn(word, str(caught.exception))
            self.assertNotIn("a-wrong-token", str(caught.exception))

    async def test_lost_position_raises_position_lost_error(self) -> None:
        """The error is the same as in the Twisted client."""
        await self.start()
        with self.assertRaises(aio.PositionLostError):
            await self.run_client(since_id="nonsense")

    async def test_state_and_snapshot_have_the_open_order(self) -> None:
        """Both are of the proxy's book. Without a proxy, the error says why there is no state."""
        client = aio.Client(self.url, key=TOKEN)
        with self.assertRaises(StateError) as caught:
            await deferToThread(asyncio.run, client.state())
        self.assertIn("refused", str(caught.exception))
        await self.start(PROXY_TOKENS=TOKEN)
        self.emit(0, 1)
        watching = aio.Client(self.url, key=TOKEN, replay=1)
        await deferToThread(asyncio.run, _take(watching))
        state = await deferToThread(asyncio.run, client.state())
        self.assertEqual([order["id"] for order in state.orders], ["0"])
        item = await self.run_client(key=TOKEN, snapshot=True)
        assert isinstance(item, AccountSnapshot)
        self.assertEqual((item.orders, item.cursor), (state.orders, state.cursor))
        for key in ("a-wrong-token", "a-wrong\ntoken"):
            with self.assertRaises((RefusedError, StateError)) as caught:
                await deferToThread(asyncio.run, aio.Client(self.url, key=key).state())
            self.assertNotIn("a-wrong", str(caught.exception))

    async def test_message_of_too_many_fragments_raises_refused_error(self) -> None:
        """The library counts their bytes only. A message in a few fragments is read."""

        async def answer(connection: ServerConnection) -> None:
            await connection.recv()
            await connection.send([b"{", b"}"], text=True)  # the answer to the login
            with contextlib.suppress(ConnectionClosed):
                await connection.send([b""] * 1001, text=True)
                await connection.wait_closed()

        async def read() -> Any:
            async with serve(answer, "127.0.0.1", self.port):
                return await anext(aio.Client(self.url.replace("localhost", "127.0.0.1")))

        with self.assertRaises(RefusedError) as caught:
            await deferToThread(asyncio.run, read())
        self.assertEqual(caught.exception.code, 1009)

    async def test_redirect_is_not_followed(self) -> None:
        """The token went to any server that a redirect named; a bad URL there ended the client."""
        token, other_port = "a-token-for-the-proxy", free_port()
        targets = [f"ws://127.0.0.1:{other_port}/", "https://localhost/", "ws://[::bad/"]
        strangers: list[ServerConnection] = []

        async def answer(connection: ServerConnection) -> None:
            self.assertIn(token, str(await connection.recv()))
            await connection.close(4001)

        async def listen(connection: ServerConnection) -> None:
            strangers.append(connection)

        def redirect(connection: ServerConnection, _: Request) -> Response | None:
            if not targets:
                return None
            response = connection.respond(HTTPStatus.FOUND, "")
            response.headers["Location"] = targets.pop()
            return response

        async def read() -> Any:
            stranger = serve(listen, "127.0.0.1", other_port)
            server = serve(answer, "127.0.0.1", self.port, process_request=redirect)
            async with stranger, server:
                url = self.url.replace("localhost", "127.0.0.1")
                return await anext(aio.Client(url, key=token))

        with self.assertRaises(RefusedError) as caught:
            await deferToThread(asyncio.run, read())
        self.assertEqual((caught.exception.code, targets, strangers), (4001, [], []))

    async def test_import_does_not_load_twisted(self) -> None:
        """Autobahn supports only one of Twisted and asyncio per process."""
        program = (
            "import sys, tradeproxy.client.aio; "
            "print({'twisted', 'autobahn', 'txaio'} & {*sys.modules})"
        )
        command = self.command(sys.executable, "-c", program, PYTHONPATH=str(SOURCES))
        self.assertEqual(await command.ended, 0, command.output)
        self.assertEqual(command.output.strip(), "set()")


class TailTests(ClientTestCase):
    """`tradeproxy tail`."""

    def tail(self, *arguments: str, **environment: str) -> Command:
        return self.command(
            "tradeproxy", "tail", *arguments, PROXY_PORT=str(self.port), **environment
        )

    async def test_restart_then_interrupt_exits_130(self) -> None:
        """Each event appears once, the restart is reported, and ^C prints no traceback."""
        proxy = await self.start()
        command = self.tail("--json")
        await command.says("connected to the proxy")
        await self.subscribe()  # by then the proxy has heard the other one too
        self.emit(0, 10)
        await command.says(IDS[9])
        await proxy.stop()
        await self.alpaca.when_gone()
        self.emit(10, 20)
        await self.start()
        await command.says(IDS[19])
        await command.says("gap: recovered, 10 events")
        self.assertEqual(await command.stop("INT"), 130)
        lines = [line for line in command.output.splitlines() if line.startswith("{")]
        self.assertEqual([json.loads(line)["event_id"] for line in lines], IDS[:20])
        self.assertIn("the proxy is restarting", command.output)
        self.assertNotIn("Traceback", command.output)

    async def test_sigterm_exits_without_proxy_error(self) -> None:
        """Service managers and `timeout` stop the command this way."""
        await self.start()
        command = self.tail()
        await command.says("connected to the proxy")
        self.assertEqual(await command.stop("TERM"), 143)
        self.assertNotIn("no connection", command.output)

    async def test_position_and_filter_select_rows(self) -> None:
        """The table starts at the position and has one strategy's orders."""
        await self.start()
        client = await self.subscribe()
        self.emit(0, 10)
        await client.has(10)
        command = self.tail(
            "--since-id", IDS[3], "--client-order-id-prefix", "bot1-", "--symbol", "spy"
        )
        await command.says("bot1-9")
        shown = [line.split()[-1] for line in command.output.splitlines() if "SPY" in line]
        self.assertEqual(shown, ["bot1-5", "bot1-7", "bot1-9"])

    async def test_filtered_replay_counts_events_that_match(self) -> None:
        """The last two of a symbol, although others came later; then new ones as they come."""
        await self.start()
        client = await self.subscribe()
        for number in range(10):
            symbol = "AAPL" if number in (1, 2, 3) else "SPY"
            order = {"client_order_id": f"bot-{number}", "symbol": symbol}
            self.alpaca.emit(event(number, order=order))
        await client.has(10)
        command = self.tail("--replay", "2", "--symbol", "aapl")
        await command.says("bot-3")
        order = {"client_order_id": "bot-10", "symbol": "AAPL"}
        self.alpaca.emit(event(10, order=order))
        await command.says("bot-10")
        shown = [line.split()[-1] for line in command.output.splitlines() if "AAPL" in line]
        self.assertEqual(shown, ["bot-2", "bot-3", "bot-10"])

    async def test_replay_that_is_no_number_is_one_error(self) -> None:
        """The most is that of the protocol."""
        self.assertEqual(tail.MAX_REPLAY, MAX_REPLAY)
        for text in ("-1", "two", "1000001"):
            command = self.tail(f"--replay={text}")
            self.assertEqual(await command.ended, 2)
            self.assertIn(f"--replay: '{text}' is not a number from 0 to", command.output)

    async def test_closed_pipe_exits_quietly(self) -> None:
        """`| head` closes the pipe."""
        await self.start()
        client = await self.subscribe()
        self.emit(0, 50)
        await client.has(50)
        piped = f"{sys.executable} -m tradeproxy tail --json --replay 50 | head -n 3"
        script = f"{piped}; echo ended ${{PIPESTATUS[0]}}"
        shell = self.command("/bin/bash", "-c", script, PROXY_PORT=str(self.port))
        await shell.says("ended 0")
        self.assertEqual(sum(line.startswith("{") for line in shell.output.splitlines()), 3)
        self.assertNotIn("BrokenPipe", shell.output)

    async def test_rejection_prints_one_line(self) -> None:
        """The line has the reason and no token, and the status is not 0."""
        await self.start(PROXY_TOKENS=TOKEN)
        refused = {
            "; accounts here: paper": self.tail("desk", PROXY_TOKEN=TOKEN),
            "the proxy needs a token: set PROXY_TOKEN, or name a file with --token-file": (
                self.tail()
            ),
            "events: there is no cancelled; the nearest is canceled": self.tail(
                "--event", "cancelled"
            ),
            "it must be one of PROXY_TOKENS": self.tail(PROXY_TOKEN="a-wrong-token"),
            "--url: ": self.tail("--url", "localhost:1"),
        }
        for reason, command in refused.items():
            self.assertEqual(await command.ended, 1, command.output)
            [line] = command.output.splitlines()
            self.assertIn(reason, line)
            self.assertNotIn("a-wrong-token", line)
        welcome = self.tail(PROXY_TOKEN=TOKEN)
        await welcome.says("connected to the proxy")
        self.assertNotIn(TOKEN, welcome.output)


class ExportTests(ClientTestCase):
    """`tradeproxy export` beside a running proxy."""

    async def test_export_during_and_after_run_is_equal(self) -> None:
        """The output is the same, and the proxy continues to commit events."""
        proxy = await self.start()
        client = await self.subscribe()
        self.emit(0, 3)
        self.alpaca.emit(event(3, event="fill", price="512.330", qty="1.10"))
        await client.has(4)
        table = await self.export("--format", "csv")
        [row] = csv.DictReader(io.StringIO(table))
        self.assertEqual((row["event_id"], row["price"], row["qty"]), (IDS[3], "512.330", "1.10"))
        self.emit(4, 5)
        await client.has(5)
        await proxy.stop()
        lines = (await self.export("--kind", "all")).splitlines()
        self.assertEqual([json.loads(line)["event_id"] for line in lines], IDS[:5])
        again = await self.start()
        await again.says("is streaming")

    async def export(self, *arguments: str) -> str:
        command = self.command("tradeproxy", "export", "--from", "2000-01-01", *arguments)
        self.assertEqual(await command.ended, 0, command.output)
        exported, _, report = command.output.rstrip().rpartition("\n")
        self.assertRegex(report, "^paper: [0-9]+ (trade|event)s? from 2000-01-01 .* written to ")
        return exported


class CompletionTests(ClientTestCase):
    """`tradeproxy completion`."""

    async def test_bash_completes_commands_and_options(self) -> None:
        """A real bash completes commands, and the options of `run` that twistd parses."""
        script = await self.completion("bash")
        for words, expected in (
            (["tradeproxy", "ta"], ["tail"]),
            (["tradeproxy", "export", "--form"], ["--format"]),
            (["tradeproxy", "run", "--li"], ["--listen"]),
        ):
            program = (
                f"{script}\nCOMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1};"
                f' _shtab_tradeproxy tradeproxy {words[-1]} {words[-2]}; echo "${{COMPREPLY[@]}}"'
            )
            shell = self.command("/bin/bash", "-c", program)
            self.assertEqual(await shell.ended, 0, shell.output)
            self.assertEqual(shell.output.split(), expected)

    async def completion(self, shell: str) -> str:
        command = self.command("tradeproxy", "completion", shell)
        self.assertEqual(await command.ended, 0, command.output)
        return command.output
