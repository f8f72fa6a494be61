"""The world of a cluster run: a simulated Alpaca, a Redis, and nodes as processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from treq.client import HTTPClient
from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater
from twisted.web.client import Agent

from tests.support.processes import Command, free_ports, run
from tests.support.redis import Redis
from tests.support.tcp_relay import RelayMode, TcpRelay
from tests.system.chaos.numbered import NumberedEvents
from tests.system.chaos.run import FAST_SETTINGS
from tests.system.cluster.alpaca import RecordedStreamProtocol, RecordingAlpaca
from tradeproxy.simulator.web import ApiSite

reactor: Any = chosen
ACCOUNT = "paper"
POLL_INTERVAL = 0.05
"""Seconds between two checks of a condition."""

PATIENCE = 40.0
"""Seconds after which a condition has failed: a lease expires in 10, and two cores are few."""

COMMANDS = (("twistd", "-n", "--pidfile=", "tradeproxy"), ("tradeproxy", "run"))
"""Both ways to start it, used in turn."""


class StuckError(AssertionError):
    """Something did not happen in time."""


async def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    """Wait until a condition holds; it may return an awaitable. Raises StuckError."""
    limit = monotonic() + seconds
    while True:
        result = condition()
        if await result if isawaitable(result) else result:
            return
        if monotonic() > limit:
            raise StuckError(f"not within {seconds:.0f} s: {what}")
        await deferLater(reactor, POLL_INTERVAL)


async def run_concurrently(tasks: Iterable[Awaitable[None]]) -> None:
    """Run all of them concurrently; return when the last is done."""
    coroutines: Iterable[Any] = tasks
    running = [Deferred.fromCoroutine(each) for each in coroutines]
    await gatherResults(running, consumeErrors=True)


class NodeProcess:
    """One proxy process; `key` is the id of its key at Alpaca."""

    def __init__(
        self, number: int, port: int, directory: Path, environment: dict[str, str], relay: TcpRelay
    ) -> None:
        self.name = f"node {number + 1}"
        self.key = f"PKNODE{number + 1}"
        self.port = port
        self.relay = relay
        self.pauses: list[tuple[float, float | None]] = []
        """Begin and end of each pause, in monotonic seconds; the end is None while it lasts."""
        self.output = ""
        """The output of the processes that have ended."""
        self._command = COMMANDS[number % len(COMMANDS)]
        self._directory = directory
        self._environment = environment
        self._sources: Path | None = None
        self._process: Command | None = None
        self._http = HTTPClient(Agent(reactor, connectTimeout=2))

    @property
    def is_running(self) -> bool:
        """Whether there is a process, and it is not paused."""
        return self._process is not None and not self._is_paused

    @property
    def _is_paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1][1] is None

    @property
    def is_former(self) -> bool:
        """Whether it starts, or last started, with the code of another directory."""
        return self._sources is not None

    def use_sources(self, sources: Path | None) -> None:
        """Start with the code in a directory from now on; None is this checkout's."""
        self._sources = sources

    async def start(self) -> None:
        """Start it; done when it accepts connections."""
        self._directory.mkdir(parents=True, exist_ok=True)
        sources = {} if self._sources is None else {"PYTHONPATH": str(self._sources)}
        self._process = run(
            *self._command, directory=str(self._directory), **self._environment, **sources
        )
        await self._process.says("listening on")

    async def stop(self, by: str = "TERM") -> None:
        """End it by a signal; done when it has exited. Does nothing if it is not running."""
        process, self._process = self._process, None
        if process is not None:
            if by != "KILL" and process.status is None:
                self._resume(process)
            await process.stop(by)
            self._record_resumed()
            self.output += process.output

    def pause(self) -> None:
        """Stop the process with SIGSTOP: its connections stay open."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        self.pauses.append((monotonic(), None))

    def resume(self) -> None:
        """Continue after `pause`."""
        assert self._process is not None
        self._resume(self._process)

    def _resume(self, process: Command) -> None:
        os.kill(process.pid, signal.SIGCONT)
        self._record_resumed()

    def _record_resumed(self) -> None:
        if self._is_paused:
            self.pauses[-1] = (self.pauses[-1][0], monotonic())

    async def read_state(self) -> dict[str, Any] | None:
        """Return the JSON of /readyz; None if there is no answer."""
        try:
            answer = await self._http.get(f"http://127.0.0.1:{self.port}/readyz", timeout=2)
            document: dict[str, Any] = json.loads(await answer.content())
        except Exception:  # of many kinds: refused, reset, timed out
            return None
        return document

    async def is_ready(self) -> bool:
        """Whether it reports itself as ready."""
        state = await self.read_state()
        return state is not None and state["ready"]

    async def until_ready(self) -> None:
        """Wait until it is ready. Raises StuckError, with its reasons."""
        try:
            await until(self.is_ready, f"{self.name} is ready")
        except StuckError as stuck:
            state = await self.read_state()
            raise StuckError(
                f"{stuck}; {'no answer' if state is None else state['reasons']}"
            ) from None

    def end(self) -> None:
        """Kill it without waiting, since this process is ending too."""
        if self._process is not None:
            self._process.end()

    @property
    def full_output(self) -> str:
        """The output of all its processes."""
        return self.output + ("" if self._process is None else self._process.output)


class ClusterWorld(NumberedEvents):
    """Everything in a run. The nodes share one account and nothing else."""

    size = 300

    alpaca: RecordingAlpaca

    def __init__(
        self,
        directory: str,
        random: Random,
        nodes: int = 3,
        sources: Path | None = None,
        server: str = "redis",
    ) -> None:
        """Nothing runs before `start`.

        Args:
            directory: gets a home directory for each node.
            random: the source of ids.
            nodes: how many nodes.
            sources: the code of the nodes; None is this checkout's.
            server: the program with the log, one of tests.support.redis.SERVERS.
        """
        super().__init__(RecordingAlpaca(random), random)
        self.nodes: list[NodeProcess] = []
        self._count = nodes
        self._directory = Path(directory)
        self._sources = sources
        self.redis = Redis(appendonly=True, password="a-password", server=server)
        self._listening: Any = None
        reactor.addSystemEventTrigger("during", "shutdown", self.end)

    async def start(self) -> None:
        """Start everything; done when every node is ready."""
        await self.redis.start()
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        self._listening = await endpoint.listen(ApiSite(self.alpaca, RecordedStreamProtocol))
        for number, port in enumerate(free_ports(self._count)):
            relay = TcpRelay(self.redis.port)
            await relay.start()
            directory = self._directory / f"node-{number + 1}"
            environment = self._environment(number, port, relay)
            node = NodeProcess(number, port, directory, environment, relay)
            node.use_sources(self._sources)
            self.nodes.append(node)
        await run_concurrently(node.start() for node in self.nodes)
        await self.until_ready()

    def _environment(self, number: int, port: int, relay: TcpRelay) -> dict[str, str]:
        return FAST_SETTINGS | {
            "ALPACA_API_KEY": f"PKNODE{number + 1}",
            "ALPACA_SECRET_KEY": "test-secret",
            "ALPACA_URL": f"http://127.0.0.1:{self._listening.getHost().port}",
            "PROXY_PORT": str(port),
            "PROXY_REDIS_URL": f"redis://127.0.0.1:{relay.port}/0",
            "PROXY_REDIS_PASSWORD": self.redis.password,
        }

    async def stop(self) -> None:
        """Stop everything."""
        await run_concurrently(node.stop() for node in self.nodes)
        await self.redis.kill()
        await run_concurrently(node.relay.stop() for node in self.nodes)
        if self._listening is not None:
            await self._listening.stopListening()
        await self.alpaca.stop()

    def end(self) -> None:
        """Kill every node without waiting."""
        for node in self.nodes:
            node.end()

    @property
    def leader(self) -> NodeProcess | None:
        """The node that is connected to Alpaca, as the simulator sees it."""
        listener = self.alpaca.listener
        return None if listener is None else self.find_node(listener.key)

    def find_node(self, key: str) -> NodeProcess:
        """Return the node with a key."""
        return next(node for node in self.nodes if node.key == key)

    async def find_leader(self) -> NodeProcess:
        """Return the node that is connected to Alpaca, once there is one."""
        await until(lambda: self.leader is not None, "a node is connected to Alpaca")
        assert self.leader is not None
        return self.leader

    async def until_led_by_another(self, than: NodeProcess) -> None:
        """Wait until a node other than this one is connected to Alpaca."""
        await until(lambda: self.leader not in (None, than), f"a node other than {than.name} leads")

    async def until_ready(self) -> None:
        """Wait until every node is ready."""
        for node in self.nodes:
            await node.until_ready()

    async def heal(self) -> None:
        """Repair everything, and wait until every node is ready."""
        self.redis.resume()
        for node in self.nodes:
            if node.relay.mode is not RelayMode.OPEN:
                await node.relay.restore()
            if node.pauses and node.pauses[-1][1] is None:
                node.resume()
        await self.until_ready()

    def save_output(self, directory: Path) -> None:
        """Write the output of every node to files in a directory."""
        directory.mkdir(parents=True, exist_ok=True)
        for node in self.nodes:
            Path(directory, f"{node.name.replace(' ', '-')}.log").write_text(node.full_output)
