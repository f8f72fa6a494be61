"""What the tests of nodes behind HAProxy, or with Redis behind it, have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import treq
from twisted.internet import reactor as chosen
from twisted.internet import task
from twisted.internet.defer import Deferred

from tests.support.processes import PATIENCE, Command, run, spawn
from tests.support.redis import Redis, need_redis
from tests.support.sockets import SocketTestCase
from tests.system.deploy.cluster import CLUSTER
from tests.system.deploy.tools import need
from tradeproxy.simulator.service import Simulator

reactor: Any = chosen

PASSWORD = "open-sesame"


class ClusterCase(SocketTestCase):
    """An Alpaca at which events happen, and whatever of HAProxy, Redis and nodes a test starts."""

    alpaca: Simulator

    def setUp(self) -> None:
        """Skip the test where a program is missing."""
        self._haproxy = need("haproxy", "Debian's package haproxy")
        need_redis()
        self.directory = self.make_directory()
        self.sent: list[str] = []
        self._numbers = count()
        self._programs: list[Command] = []

    def ended_at_last(self, program: Command) -> Command:
        """Return a program, which does not outlive the test."""
        self._programs.append(program)
        self.addCleanup(lambda: Deferred.fromCoroutine(program.stop("KILL")))
        return program

    async def start_redis(self) -> Redis:
        """Start one that keeps its data, and has a password."""
        redis = Redis(appendonly=True, password=PASSWORD)
        self.addCleanup(lambda: Deferred.fromCoroutine(redis.kill()))
        await redis.start()
        return redis

    def start_haproxy(self, file: str, **environ: str) -> Command:
        """Start HAProxy with a configuration as it stands."""
        command = [self._haproxy, "-db", "-f", str(CLUSTER / file)]
        return self.ended_at_last(spawn(command, self.directory, environ))

    def start_node(self, port: int, redis: int) -> Command:
        """Start a node at a port, with Redis at another."""
        node = run(
            *("tradeproxy", "run"),
            directory=self.directory,
            ALPACA_API_KEY="PKTEST",
            ALPACA_SECRET_KEY="test-secret",
            ALPACA_URL=f"http://127.0.0.1:{self.alpaca_port}",
            PROXY_PORT=str(port),
            PROXY_REDIS_URL=f"redis://127.0.0.1:{redis}/0",
            PROXY_REDIS_PASSWORD=PASSWORD,
        )
        return self.ended_at_last(node)

    async def until(self, ask: Callable[[], Awaitable[object]], expected: object) -> None:
        """Ask until this is the answer; nobody tells."""
        for _ in range(int(PATIENCE * 10)):
            said = await ask()
            if said == expected:
                return
            await task.deferLater(reactor, 0.1)
        outputs = [program.output for program in self._programs]
        self.fail(f"it says {said}, and not {expected}; the programs: {outputs}")

    async def until_ready(self, port: int) -> None:
        """Ask whoever is at the port until it is ready."""
        await self.until(lambda: self.status(port, "/readyz"), 200)

    async def status(self, port: int, path: str) -> int:
        """Return the status of a page, 0 if there is no answer."""
        try:
            answer = await treq.get(f"http://127.0.0.1:{port}{path}", persistent=False)
            await answer.text()
        except Exception:  # of many kinds, while it starts
            return 0
        status: int = answer.code
        return status

    def happen(self) -> None:
        """Let something happen at Alpaca."""
        number = next(self._numbers)
        identity = f"01KYA98DWAS5PA5B{number:010d}"
        self.alpaca.emit({"event_id": identity, "event": "new", "order": {"id": f"{number}"}})
        self.sent.append(identity)
