"""What every client goes through, and what becomes of each column of the matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.task import LoopingCall, deferLater

from tests.system.interop.clients import Client, Column
from tests.system.interop.driver import Driver, SilenceError, start
from tests.system.interop.environments import Environment
from tests.system.interop.life import Happening
from tests.system.interop.world import World
from tradeproxy.simulator.faults import Fault, FaultKind

reactor: Any = chosen

PATIENCE = 20.0
"""Seconds within which a client must have what was sent to it."""

PROBE = 0.25
"""Seconds between two events that are sent until a client that connects has one."""


OUTAGE = 2.5
"""Seconds for which the proxy is down: clients that try again every second find nobody at least once."""


@dataclass(slots=True)
class Outcome:
    """What has been seen of one client: a problem, or "" for none, by column; not all may be reached."""

    client: Client
    problems: dict[Column, str] = field(default_factory=dict)
    evidence: str = ""
    """What the driver and the proxy said last, if there was a problem."""


async def play(client: Client, environment: Environment) -> Outcome:
    """Let a client go through everything, as far as it comes."""
    outcome = Outcome(client)
    with TemporaryDirectory(dir=environment.directory, prefix="run-") as name:
        directory = Path(name)
        world = World(directory)
        await world.start()
        driver = start(client, environment, directory / "driver", world.port)
        try:
            await Scenario(client, world, driver, outcome).play()
        finally:
            await driver.stop()
            await world.stop()
    if any(outcome.problems.values()):
        outcome.evidence = f"{driver.other_output}\n--- the proxy:\n{world.proxy.output[-2000:]}"
    return outcome


class Scenario:
    """One client's day, in the order of the columns; the first silence ends it."""

    def __init__(self, client: Client, world: World, driver: Driver, outcome: Outcome) -> None:
        self._client = client
        self._world = world
        self._driver = driver
        self._problems = outcome.problems

    async def play(self) -> None:
        """Go through all of it."""
        for column, part in (
            (Column.CONNECTS, self._connect),
            (Column.ALL_EVENTS, self._live),
            (Column.RESTART, self._restart),
            (Column.UNDISTURBED, self._drop),
        ):
            try:
                await part()
            except SilenceError as silence:
                self._problems[column] = str(silence)
                return
            self._problems.setdefault(column, "")
        if problem := self._repeated():
            self._problems[Column.ALL_EVENTS] = self._problems[Column.ALL_EVENTS] or problem

    async def _connect(self) -> None:
        await self._probe(PATIENCE)

    async def _live(self) -> None:
        self._world.alpaca.inject(
            Fault(FaultKind.GARBAGE, count=3)
        )  # one such frame ends an old alpaca-py
        expected = self._world.life.scripted(multi_leg=not self._client.dies_of_legs)
        await self._printed_behind(expected)
        wanted = [happening for happening in expected if happening.event not in self._client.lacks]
        self._problems[Column.ALL_EVENTS] = self._compare(wanted)

    async def _restart(self) -> None:
        await self._world.stop_proxy()
        missed = self._world.life.orders(2)
        await deferLater(reactor, OUTAGE)
        await self._world.start_proxy()
        await self._world.alpaca.when_listening()
        missed += self._world.life.orders(2)
        await self._probe(self._client.patience)
        if self._client.resumes:
            await self._printed_behind(missed)
            self._problems[Column.RESUMES] = self._compare(missed)

    async def _drop(self) -> None:
        alpaca, before = self._world.alpaca, self._world.connections()
        alpaca.inject(Fault(FaultKind.RESET))
        events = self._world.life.orders(2)
        await alpaca.when_gone()
        events += self._world.life.orders(1)
        await alpaca.when_listening()
        events += self._world.life.orders(2)
        await self._printed_behind(events)
        problem = self._compare(events)
        if not problem and self._world.connections() != before:
            problem = "it has another connection than before"
        self._problems[Column.UNDISTURBED] = problem

    async def _probe(self, patience: float) -> None:
        """Let orders be accepted until the client has one of them: then it is connected and listens."""
        probes: set[Happening] = set()
        probing = LoopingCall(lambda: probes.add(self._world.life.order()))
        probing.start(PROBE)
        try:
            await self._driver.when(
                lambda: not probes.isdisjoint(self._driver.happenings),
                "event after connecting",
                patience,
            )
        finally:
            probing.stop()

    async def _printed_behind(self, happenings: Sequence[Happening]) -> None:
        """Return once the client has had time for all of these: it has one more, that came behind them."""
        await self._driver.prints(self._world.life.order(), PATIENCE)

    def _compare(self, expected: Sequence[Happening]) -> str:
        """Say what is wrong with what was printed of these, each to come once and in their order."""
        orders = {happening.order for happening in expected}
        printed = [happening for happening in self._driver.happenings if happening.order in orders]
        if printed == list(expected) or (
            self._client.orders_only and _last(printed) == _last(expected)
        ):
            return ""
        names = [happening.event for happening in printed]
        return f"of {[happening.event for happening in expected]} it printed {names}"

    def _repeated(self) -> str:
        """Say which events were printed twice at any time."""
        happenings = [] if self._client.orders_only else self._driver.happenings
        twice = {happening for happening in happenings if happenings.count(happening) > 1}
        return f"printed twice: {sorted(happening.event for happening in twice)}" if twice else ""


def _last(happenings: Sequence[Happening]) -> dict[str, str]:
    """Return how each order ended."""
    return {happening.order: happening.event for happening in happenings}
