"""The scenario that every client runs; it determines the cells of the matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.task import LoopingCall, deferLater

from tests.system.interop.clients import Column, InteropClient
from tests.system.interop.driver import Driver, DriverTimeoutError, install, start
from tests.system.interop.environments import ClientEnvironment
from tests.system.interop.fronts import start_front
from tests.system.interop.orders import OrderEvent
from tests.system.interop.world import InteropWorld
from tradeproxy.simulator.faults import Fault, FaultKind

reactor: Any = chosen

PATIENCE = 20.0
"""Seconds for an event to reach a client."""

START_TIMEOUT = 60.0
"""Seconds for a client to start and connect; a browser takes 20 on a busy machine."""

PROBE = 0.25
"""Seconds between events while a client connects."""


@dataclass(slots=True)
class ScenarioOutcome:
    """The problem of one client in each column, "" for none; later columns may be missing."""

    client: InteropClient
    problems: dict[Column, str] = field(default_factory=dict)
    evidence: str = ""
    """The last output of the driver and the proxy, if there was a problem."""


async def play(client: InteropClient, environment: ClientEnvironment) -> ScenarioOutcome:
    """Run the scenario for a client, up to the first column in which it does not respond."""
    outcome = ScenarioOutcome(client)
    # The processes of a browser end a little later, and may still write.
    with TemporaryDirectory(
        dir=environment.directory, prefix="run-", ignore_cleanup_errors=True
    ) as name:
        directory = Path(name)
        world = InteropWorld(directory, settings=client.settings)
        install(client, environment, directory / "driver")
        await world.start()
        front = await start_front(client.front, directory / "front") if client.front else None
        driver = start(client, environment, directory / "driver")
        try:
            await Scenario(client, world, driver, outcome).play()
        finally:
            await driver.stop()
            if front:
                await front.stop()
            await world.stop()
    if any(outcome.problems.values()):
        outcome.evidence = f"{driver.other_output}\n--- the proxy:\n{world.proxy.output[-2000:]}"
    return outcome


class Scenario:
    """The steps for one client, in the order of the columns; the first timeout ends it."""

    def __init__(
        self, client: InteropClient, world: InteropWorld, driver: Driver, outcome: ScenarioOutcome
    ) -> None:
        self._client = client
        self._world = world
        self._driver = driver
        self._problems = outcome.problems

    async def play(self) -> None:
        """Run every step."""
        for column, step in (
            (Column.CONNECTS, self._connect),
            (Column.ALL_EVENTS, self._check_all_events),
            (Column.UNDISTURBED, self._drop_upstream),
            (Column.RESTART, self._restart_proxy),
        ):
            try:
                await step()
            except DriverTimeoutError as error:
                self._problems[column] = str(error)
                return
            self._problems.setdefault(column, "")
        if problem := self._find_repeated():
            self._problems[Column.ALL_EVENTS] = self._problems[Column.ALL_EVENTS] or problem

    async def _connect(self) -> None:
        await self._probe(START_TIMEOUT)

    async def _check_all_events(self) -> None:
        # One malformed frame ends an old alpaca-py.
        self._world.alpaca.inject(Fault(FaultKind.GARBAGE, count=3))
        expected = self._world.script.all_kinds(multi_leg=not self._client.fails_on_multi_leg)
        await self._wait_until_printed(expected)
        self._problems[Column.ALL_EVENTS] = self._compare(expected)

    async def _restart_proxy(self) -> None:
        await self._world.stop_proxy()
        missed = self._world.script.orders(2)
        await deferLater(reactor, self._client.outage)
        await self._world.start_proxy()
        await self._world.alpaca.when_listening()
        missed += self._world.script.orders(2)
        await self._probe(self._client.reconnect_timeout)
        if self._client.resumes:
            await self._wait_until_printed(missed)
            self._problems[Column.RESUMES] = self._compare(missed)

    async def _drop_upstream(self) -> None:
        alpaca, before = self._world.alpaca, self._world.connections()
        alpaca.inject(Fault(FaultKind.RESET))
        events = self._world.script.orders(2)
        await alpaca.when_gone()
        events += self._world.script.orders(1)
        await alpaca.when_listening()
        events += self._world.script.orders(2)
        await self._wait_until_printed(events)
        problem = self._compare(events)
        if not problem and self._world.connections() != before:
            problem = "it has another connection than before"
        self._problems[Column.UNDISTURBED] = problem

    async def _probe(self, timeout: float) -> None:
        """Emit events until the client prints one: then it is connected and subscribed."""
        probes: set[OrderEvent] = set()
        probing = LoopingCall(lambda: probes.add(self._world.script.order()))
        probing.start(PROBE)
        try:
            await self._driver.when(
                lambda: not probes.isdisjoint(self._driver.events),
                "event after connecting",
                timeout,
            )
        finally:
            probing.stop()

    async def _wait_until_printed(self, events: Sequence[OrderEvent]) -> None:
        """Return once the client has had time for `events`: it has printed a later one."""
        await self._driver.when_printed(self._world.script.order(), PATIENCE)

    def _compare(self, expected: Sequence[OrderEvent]) -> str:
        """Return how the printed events differ from `expected`, in order; "" if they do not."""
        orders = {each.order for each in expected}
        printed = [each for each in self._driver.events if each.order in orders]
        if printed == list(expected) or (
            self._client.orders_only and _last(printed) == _last(expected)
        ):
            return ""
        names = [each.event for each in printed]
        return f"of {[each.event for each in expected]} it printed {names}"

    def _find_repeated(self) -> str:
        """Return which events were printed twice at any time; "" for none."""
        events = [] if self._client.orders_only else self._driver.events
        twice = {each for each in events if events.count(each) > 1}
        return f"printed twice: {sorted(each.event for each in twice)}" if twice else ""


def _last(events: Sequence[OrderEvent]) -> dict[str, str]:
    """Return the last event of each order."""
    return {each.order: each.event for each in events}
