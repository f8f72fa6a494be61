"""200 clients of an old alpaca-py, which tries again every 10 ms, while the proxy is stopped and started.

Beside them a patient client that resumes, and must not miss anything of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater

from tests.system.interop.clients_python import OLD_ALPACA_PY, WEBSOCKETS
from tests.system.interop.driver import Driver, SilenceError, start
from tests.system.interop.environments import UnavailableError, prepare
from tests.system.interop.life import Happening
from tests.system.interop.world import World

reactor: Any = chosen

PROCESSES, STREAMS = 4, 50
"""So many processes, and so many clients in each."""

ROUNDS = 3

EVERY = 0.5
"""Seconds between two events; they go on while the proxy is down."""

OUTAGE = 4
"""Seconds for which the proxy is down; two cores make some 3,600 attempts a second meanwhile."""

PATIENCE = 60
"""Seconds within which all have an event."""

CROWD = replace(OLD_ALPACA_PY, driver="many_alpaca_py.py", arguments=(str(STREAMS),))


async def stampede() -> list[str]:
    """Play it, print what was measured, and return what went wrong, a line each."""
    try:
        of_crowd, of_patient = prepare(CROWD), prepare(WEBSOCKETS)
    except UnavailableError as reason:
        print(f"skipped: stampede: {reason}")
        return []
    with TemporaryDirectory(dir=of_crowd.directory, prefix="run-") as name:
        directory = Path(name)
        world = World(directory)
        await world.start()
        patient = start(WEBSOCKETS, of_patient, directory / "patient", world.port)
        crowds = [start(CROWD, of_crowd, directory / f"{n}", world.port) for n in range(PROCESSES)]
        try:
            return await Stampede(world, crowds, patient).play()
        except SilenceError as silence:
            return [f"stampede: {silence}", patient.other_output, world.proxy.output[-2000:]]
        finally:
            for driver in (patient, *crowds):
                await driver.stop()
            await world.stop()


class Stampede:
    """One run; `told` is all that happens at Alpaca meanwhile."""

    def __init__(self, world: World, crowds: Sequence[Driver], patient: Driver) -> None:
        self._world = world
        self._crowds = crowds
        self._patient = patient
        self._told: list[Happening] = []

    async def play(self) -> list[str]:
        """Stop and start the proxy again and again, and compare what the patient client has with what was."""
        telling = LoopingCall(self._tell)
        telling.start(EVERY)
        try:
            await self._patient.when(lambda: bool(self._patient.happenings), "event", PATIENCE)
            await self._everybody_has_news()
            for _ in range(ROUNDS):
                await self._restart()
        finally:
            telling.stop()
        self._tell()
        await self._patient.prints(self._told[-1], PATIENCE)
        expected = self._told[self._told.index(self._patient.happenings[0]) :]
        print(f"  the patient client has {len(self._patient.happenings)} of {len(expected)} events")
        problems = []
        if self._patient.happenings != expected:
            problems.append(
                "stampede: the patient client does not have every event once and in order"
            )
        if (handshakes := self._world.alpaca.handshakes) != 1 + ROUNDS:
            problems.append(
                f"stampede: {handshakes} connections to Alpaca, for {1 + ROUNDS} starts of the proxy"
            )
        return problems

    async def _restart(self) -> None:
        await self._world.stop_proxy()
        await deferLater(reactor, OUTAGE)
        began = monotonic()
        await self._world.start_proxy()
        listening = monotonic() - began
        await self._everybody_has_news()
        served = monotonic() - began
        print(
            f"stampede: {PROCESSES * STREAMS} clients of {OLD_ALPACA_PY.name}, {OUTAGE} s without the proxy:"
            f" it listens {listening:.1f} s after its start, and has served all {served:.1f} s after it"
        )

    async def _everybody_has_news(self) -> None:
        """Return once every client in the crowds has an event of after this moment."""
        known = len(self._told)
        for crowd in self._crowds:
            crowd.printed.clear()
        for crowd in self._crowds:
            await self._all_have_news(crowd, known)

    def _all_have_news(self, crowd: Driver, known: int) -> Deferred[None]:
        def is_so() -> bool:
            news = {happening.order for happening in self._told[known:]}
            return len({p["stream"] for p in crowd.printed if p["order"] in news}) == STREAMS

        return crowd.when(is_so, f"event for each of {STREAMS} clients in a process", PATIENCE)

    def _tell(self) -> None:
        self._told.append(self._world.life.order())
