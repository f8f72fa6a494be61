"""The base of tests with nodes, HAProxy and Redis."""

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


class DeployedClusterTestCase(SocketTestCase):
    """A simulated Alpaca, and the HAProxy, Redis and nodes that a test starts."""

    alpaca: Simulator

    def setUp(self) -> None:
        """Skip the test if a program is missing."""
        self._haproxy = need("haproxy", "Debian's package haproxy")
        need_redis()
        self.directory = self.make_directory()
        self.sent: list[str] = []
        self._numbers = count()
        self._programs: list[Command] = []

    def kill_at_end(self, program: Command) -> Command:
        """Kill a program at the end of the test; return it."""
        self._programs.append(program)
        self.addCleanup(lambda: Deferred.fromCoroutine(program.stop("KILL")))
        return program

    async def start_redis(self) -> Redis:
        """Start a Redis with persistence and a password."""
        redis = Redis(appendonly=True, password=PASSWORD)
        self.addCleanup(lambda: Deferred.fromCoroutine(redis.kill()))
        await redis.start()
        return redis

    def start_haproxy(self, file: str, **environ: str) -> Command:
        """Start HAProxy with an unchanged configuration file."""
        command = [self._haproxy, "-db", "-f", str(CLUSTER / file)]
        return self.kill_at_end(spawn(command, self.directory, environ))

    def start_node(self, port: int, redis: int) -> Command:
        """Start a node at a port, with Redis at another port."""
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
        return self.kill_at_end(node)

    async def until(self, read: Callable[[], Awaitable[object]], expected: object) -> None:
        """Poll `read` until it returns `expected`; fail after PATIENCE seconds."""
        for _ in range(int(PATIENCE * 10)):
            value = await read()
            if value == expected:
                return
            await task.deferLater(reactor, 0.1)
        outputs = [program.output for program in self._programs]
        self.fail(f"the value is {value}, not {expected}; the programs: {outputs}")

    async def until_ready(self, port: int) -> None:
        """Poll /readyz at a port until it is 200."""
        await self.until(lambda: self.status(port, "/readyz"), 200)

    async def status(self, port: int, path: str) -> int:
        """Return the status of a page, 0 without a response."""
        try:
            answer = await treq.get(f"http://127.0.0.1:{port}{path}", persistent=False)
            await answer.text()
        except Exception:  # various errors while the program starts
            return 0
        status: int = answer.code
        return status

    def emit_event(self) -> None:
        """Emit one event at Alpaca."""
        number = next(self._numbers)
        identity = f"01KYA98DWAS5PA5B{number:010d}"
        self.alpaca.emit({"event_id": identity, "event": "new", "order": {"id": f"{number}"}})
        self.sent.append(identity)
