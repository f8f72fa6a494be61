"""One run: a simulator that emits, a real proxy, clients, the nemesis, and the verdicts at the end."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from time import time
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import LoopingCall, deferLater

from tests.support.processes import Command, free_port, run
from tests.system.chaos.checker import Truth, Verdict, deliveries_without_cursor, judge
from tests.system.chaos.clients import Resuming, declared_gaps, resuming
from tests.system.chaos.nemesis import Nemesis
from tests.system.chaos.numbered import Numbered
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.service import Simulator
from tradeproxy.simulator.web import ApiSite

reactor: Any = chosen
EVERY = 0.05
"""Seconds between two emissions."""

QUIET = 4.0
"""Seconds from the last event to the verdict: the history is asked once more, and what was left out comes."""

PATIENCE = 20.0
"""Seconds for the last event to come to every client, before that; two cores may have much else to do."""

HASTE = {
    "PROXY_HOST": "127.0.0.1",
    "PROXY_STALL_TIMEOUT": "2",
    "PROXY_RECOVERY_DEADLINE": "2",
    "PROXY_RECONCILE_INTERVAL": "3",
}
"""Settings of a proxy that has no minutes to wait."""

CLIENTS = {"cursor": 4, "event_id": 3, "sse": 2}


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has come to."""

    events: int
    faults: dict[str, int]
    verdicts: list[Verdict]
    reconnects: int

    @property
    def is_clean(self) -> bool:
        """Whether no client has lost anything, or had it twice or out of order, without being told."""
        return all(verdict.is_clean for verdict in self.verdicts)


class World(Numbered):
    """The simulated Alpaca and the proxy."""

    proxy: Command

    def __init__(self, directory: str, random: Random) -> None:
        super().__init__(Simulator(reactor, random), random)
        self.proxy_port = free_port()
        self._directory = directory
        self._listening: Any = None

    def port(self) -> int:
        """Return the port to which clients connect."""
        return self.proxy_port

    async def start(self) -> None:
        """Start both, and return once events flow."""
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        self._listening = await endpoint.listen(ApiSite(self.alpaca))
        await self.start_proxy()
        await self.alpaca.when_listening()

    async def start_proxy(self) -> None:
        """Start the proxy, and return once it takes connections."""
        self.proxy = run(
            *("twistd", "-n", "--pidfile=", "tradeproxy"),
            directory=self._directory,
            ALPACA_API_KEY="PKTEST",
            ALPACA_SECRET_KEY="test-secret",
            ALPACA_URL=f"http://127.0.0.1:{self._listening.getHost().port}",
            PROXY_PORT=str(self.proxy_port),
            **HASTE,
        )
        await self.proxy.says("listening on")

    async def restart_proxy(self) -> None:
        """Kill the proxy with SIGKILL, and start it again."""
        await self.proxy.stop("KILL")
        await self.start_proxy()

    async def stop(self) -> None:
        """Stop both."""
        await self.proxy.stop()
        await self._listening.stopListening()
        await self.alpaca.stop()


async def chaos(directory: str, *, seed: int, events: int, faults: int) -> Report:
    """Let `faults` things go wrong while `events` events are emitted, and judge every client."""
    random = Random(seed)
    world = World(directory, random)
    await world.start()
    since = round(time() * 1e6)
    clients = resuming(CLIENTS, world.port, since)
    for client in clients:
        client.start()
    nemesis = Nemesis(world, clients, random)
    per_fault = events // faults

    def emit() -> None:
        # As many as the faults so far allow for, so that neither ends long before the other.
        due = min(events, (nemesis.counts.total() + 1) * per_fault) - len(world.emitted)
        if due > 0:
            world.emit(random.randint(1, min(due, 20)))

    emitting = LoopingCall(emit)
    emitting_done = emitting.start(EVERY)
    for _ in range(faults):
        await nemesis.strike()
        await deferLater(reactor, random.uniform(0.05, 0.5))
    emitting.stop()
    await emitting_done
    await _settle(world, events, clients)
    logs = [client.log for client in clients]
    truth = Truth(
        world.emitted, declared_gaps(clients), world.retold, (), deliveries_without_cursor(logs)
    )
    verdicts = [judge(log, truth) for log in logs]
    for client in clients:
        client.stop()
    await world.stop()
    return Report(
        len(world.emitted),
        dict(nemesis.counts),
        verdicts,
        sum(client.connects - 1 for client in clients),
    )


async def _settle(world: World, events: int, clients: list[Resuming]) -> None:
    """Put everything right, emit what is left, and wait until it can have arrived."""
    for kind in (FaultKind.REST_REFUSE, FaultKind.HISTORY_REFUSE, FaultKind.HISTORY_DELAY):
        world.alpaca.inject(Fault(kind, seconds=0.001))
    await world.restart_proxy()
    await world.alpaca.when_listening()
    while (left := events - len(world.emitted)) > 0:
        world.emit(min(left, 200))
        await deferLater(reactor, EVERY)
    limit = time() + PATIENCE
    while not all(client.has(len(world.emitted)) for client in clients) and time() < limit:
        await deferLater(reactor, EVERY)
    await deferLater(reactor, QUIET)
