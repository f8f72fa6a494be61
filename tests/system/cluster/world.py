"""The world of a cluster: a simulated Alpaca, a Redis, and nodes that are real processes."""

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

from tests.support.cut import Cut, Way
from tests.support.processes import Command, free_ports, run
from tests.support.redis import Redis
from tests.system.chaos.numbered import Numbered
from tests.system.chaos.run import HASTE
from tests.system.cluster.alpaca import Alpaca, KnownProtocol
from tradeproxy.simulator.web import ApiSite

reactor: Any = chosen
ACCOUNT = "paper"
LOOK = 0.05
"""Seconds between two looks at what is waited for."""

PATIENCE = 40.0
"""Seconds after which what should have happened has not: a lease runs out in 10, and two cores are few."""

COMMANDS = (("twistd", "-n", "--pidfile=", "tradeproxy"), ("tradeproxy", "run"))
"""Both ways to start it, in turn."""


class StuckError(AssertionError):
    """Something did not come to pass in time."""


async def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
    """Wait until this is so; it may be asked asynchronously. Raises StuckError."""
    limit = monotonic() + seconds
    while True:
        answer = condition()
        if await answer if isawaitable(answer) else answer:
            return
        if monotonic() > limit:
            raise StuckError(f"not within {seconds:.0f} s: {what}")
        await deferLater(reactor, LOOK)


async def at_once(works: Iterable[Awaitable[None]]) -> None:
    """Do all of it at the same time, and return when the last is done."""
    await gatherResults([Deferred.fromCoroutine(work) for work in works], consumeErrors=True)  # type: ignore[arg-type]


class Node:
    """One process of the proxy; `key` is the id of its key at Alpaca."""

    def __init__(
        self, number: int, port: int, directory: Path, environment: dict[str, str], cut: Cut
    ) -> None:
        self.name = f"node {number + 1}"
        self.key = f"PKNODE{number + 1}"
        self.port = port
        self.cut = cut
        self.pauses: list[tuple[float, float | None]] = []
        """From when to when it was stopped, in monotonic seconds; None: it still is."""
        self.output = ""
        """Of the processes that have ended."""
        self._command = COMMANDS[number % len(COMMANDS)]
        self._directory = directory
        self._environment = environment
        self._process: Command | None = None
        self._http = HTTPClient(Agent(reactor, connectTimeout=2))

    @property
    def runs(self) -> bool:
        """Whether there is a process, and it has not been stopped."""
        return self._process is not None and not self._is_paused

    @property
    def _is_paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1][1] is None

    async def start(self) -> None:
        """Start it; done when it takes connections."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._process = run(*self._command, directory=str(self._directory), **self._environment)
        await self._process.says("listening on")

    async def stop(self, by: str = "TERM") -> None:
        """End it by a signal; done when it is gone. Harmless if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            if by != "KILL":
                self._wake(process)
            await process.stop(by)
            self._note_awake()
            self.output += process.output

    def pause(self) -> None:
        """Stop the process in its tracks: its connections stay."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        self.pauses.append((monotonic(), None))

    def wake(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._wake(self._process)

    def _wake(self, process: Command) -> None:
        os.kill(process.pid, signal.SIGCONT)
        self._note_awake()

    def _note_awake(self) -> None:
        if self._is_paused:
            self.pauses[-1] = (self.pauses[-1][0], monotonic())

    async def state(self) -> dict[str, Any] | None:
        """Return what it says of its readiness; None if it says nothing."""
        try:
            answer = await self._http.get(f"http://127.0.0.1:{self.port}/readyz", timeout=2)
            document: dict[str, Any] = json.loads(await answer.content())
        except Exception:  # of many kinds: refused, reset, timed out
            return None
        return document

    async def is_ready(self) -> bool:
        """Whether it streams, and nothing is missing."""
        state = await self.state()
        return state is not None and state["ready"]

    async def until_ready(self) -> None:
        """Wait until it is ready. Raises StuckError, with its reasons."""
        try:
            await until(self.is_ready, f"{self.name} is ready")
        except StuckError as stuck:
            state = await self.state()
            raise StuckError(
                f"{stuck}; {'no answer' if state is None else state['reasons']}"
            ) from None

    def end(self) -> None:
        """Kill it, and do not wait for that: this process is ending too."""
        if self._process is not None:
            self._process.end()

    @property
    def said(self) -> str:
        """All that it has written."""
        return self.output + ("" if self._process is None else self._process.output)


class World(Numbered):
    """All of it. The nodes share one account, and nothing else."""

    size = 300

    alpaca: Alpaca

    def __init__(self, directory: str, random: Random, nodes: int = 3) -> None:
        super().__init__(Alpaca(random), random)
        self.nodes: list[Node] = []
        self._count = nodes
        self._directory = Path(directory)
        self.redis = Redis(appendonly=True, password="a-password")
        self._listening: Any = None
        reactor.addSystemEventTrigger("during", "shutdown", self.end)

    async def start(self) -> None:
        """Start all, and return once every node is ready."""
        await self.redis.start()
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        self._listening = await endpoint.listen(ApiSite(self.alpaca, KnownProtocol))
        for number, port in enumerate(free_ports(self._count)):
            cut = Cut(self.redis.port)
            await cut.start()
            directory = self._directory / f"node-{number + 1}"
            self.nodes.append(
                Node(number, port, directory, self._environment(number, port, cut), cut)
            )
        await at_once(node.start() for node in self.nodes)
        await self.until_whole()

    def _environment(self, number: int, port: int, cut: Cut) -> dict[str, str]:
        return HASTE | {
            "ALPACA_API_KEY": f"PKNODE{number + 1}",
            "ALPACA_SECRET_KEY": "test-secret",
            "ALPACA_URL": f"http://127.0.0.1:{self._listening.getHost().port}",
            "PROXY_PORT": str(port),
            "PROXY_REDIS_URL": f"redis://127.0.0.1:{cut.port}/0",
            "PROXY_REDIS_PASSWORD": self.redis.password,
        }

    async def stop(self) -> None:
        """End all."""
        await at_once(node.stop("HUP") for node in self.nodes)
        await self.redis.kill()
        await at_once(node.cut.stop() for node in self.nodes)
        if self._listening is not None:
            await self._listening.stopListening()
        await self.alpaca.end()

    def end(self) -> None:
        """Kill what runs, and do not wait for that."""
        for node in self.nodes:
            node.end()

    @property
    def leader(self) -> Node | None:
        """The node that holds the stream, as Alpaca sees it."""
        listener = self.alpaca.listener
        return None if listener is None else self.node_of(listener.key)

    def node_of(self, key: str) -> Node:
        """Return the node that has a key."""
        return next(node for node in self.nodes if node.key == key)

    async def find_leader(self) -> Node:
        """Return the node that holds the stream, once one does."""
        await until(lambda: self.leader is not None, "a node holds the stream")
        assert self.leader is not None
        return self.leader

    async def until_led_by_another(self, than: Node) -> None:
        """Wait until a node other than this one holds the stream."""
        await until(lambda: self.leader not in (None, than), f"another than {than.name} leads")

    async def until_whole(self) -> None:
        """Wait until every node is ready."""
        for node in self.nodes:
            await node.until_ready()

    async def heal(self) -> None:
        """Put everything right, and wait until every node is ready."""
        self.redis.resume()
        for node in self.nodes:
            if node.cut.way is not Way.OPEN:
                await node.cut.mend()
            if node.pauses and node.pauses[-1][1] is None:
                node.wake()
        await self.until_whole()

    def save_output(self, directory: Path) -> None:
        """Write down what the nodes have said, for whoever looks for the cause."""
        directory.mkdir(parents=True, exist_ok=True)
        for node in self.nodes:
            Path(directory, f"{node.name.replace(' ', '-')}.log").write_text(node.said)
