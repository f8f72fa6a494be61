"""200 clients of an old alpaca-py, which retries every 10 ms, while the proxy is restarted.

Beside them a resuming client must not miss an event.
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

from tests.system.interop.clients_python import WEBSOCKETS
from tests.system.interop.clients_sdk import OLD_ALPACA_PY
from tests.system.interop.driver import Driver, DriverTimeoutError, install, start
from tests.system.interop.environments import UnavailableError, prepare
from tests.system.interop.orders import OrderEvent
from tests.system.interop.world import InteropWorld

reactor: Any = chosen

PROCESSES, STREAMS = 4, 50
"""The number of processes, and of clients in each."""

ROUNDS = 3

EMIT_INTERVAL = 0.5
"""Seconds between two events; they continue while the proxy is down."""

OUTAGE = 4
"""Seconds for which the proxy is down; on two cores the clients make 3,600 attempts a second."""

PATIENCE = 60
"""Seconds for every client to receive an event."""

HERD = replace(OLD_ALPACA_PY, driver="many_alpaca_py.py", environment={"STREAMS": str(STREAMS)})


async def stampede() -> list[str]:
    """Run it, print the figures, and return the problems, one line each."""
    try:
        herd_environment, resuming_environment = prepare(HERD), prepare(WEBSOCKETS)
    except UnavailableError as reason:
        print(f"skipped: stampede: {reason}")
        return []
    with TemporaryDirectory(dir=herd_environment.directory, prefix="run-") as name:
        directory = Path(name)
        world = InteropWorld(directory)
        await world.start()
        install(WEBSOCKETS, resuming_environment, directory / "resuming")
        install(HERD, herd_environment, directory / "herd")
        resuming = start(WEBSOCKETS, resuming_environment, directory / "resuming")
        herds = [start(HERD, herd_environment, directory / "herd") for _ in range(PROCESSES)]
        try:
            return await Stampede(world, herds, resuming).play()
        except (DriverTimeoutError, AssertionError) as error:
            return [f"stampede: {error}", resuming.other_output, world.proxy.output[-2000:]]
        finally:
            for driver in (resuming, *herds):
                await driver.stop()
            await world.stop()


class Stampede:
    """One run with several restarts."""

    def __init__(self, world: InteropWorld, herds: Sequence[Driver], resuming: Driver) -> None:
        self._world = world
        self._herds = herds
        self._resuming = resuming
        self._emitted: list[OrderEvent] = []

    async def play(self) -> list[str]:
        """Restart the proxy several times; return how the resuming client's events are wrong."""
        emitting = LoopingCall(self._emit)
        emitting.start(EMIT_INTERVAL)
        try:
            await self._resuming.when(lambda: bool(self._resuming.events), "event", PATIENCE)
            await self._wait_for_new_events()
            for _ in range(ROUNDS):
                await self._restart()
        finally:
            emitting.stop()
        self._emit()
        await self._resuming.when_printed(self._emitted[-1], PATIENCE)
        expected = self._emitted[self._emitted.index(self._resuming.events[0]) :]
        print(f"  the resuming client has {len(self._resuming.events)} of {len(expected)} events")
        problems = []
        if self._resuming.events != expected:
            problems.append(
                "stampede: the resuming client does not have every event once and in order"
            )
        if (handshakes := self._world.alpaca.handshakes) != 1 + ROUNDS:
            problems.append(
                f"stampede: {handshakes} connections to Alpaca for {1 + ROUNDS} starts of the proxy"
            )
        return problems

    async def _restart(self) -> None:
        await self._world.stop_proxy()
        await deferLater(reactor, OUTAGE)
        began = monotonic()
        await self._world.start_proxy()
        listening = monotonic() - began
        await self._wait_for_new_events()
        served = monotonic() - began
        print(
            f"stampede: {PROCESSES * STREAMS} clients of {OLD_ALPACA_PY.name}, {OUTAGE} s outage:"
            f" the proxy listens after {listening:.1f} s and has served all after {served:.1f} s"
        )

    async def _wait_for_new_events(self) -> None:
        """Return once every client in the herds has an event from after this call."""
        known = len(self._emitted)
        for herd in self._herds:
            herd.events.clear()
            herd.more.clear()
        for herd in self._herds:
            await self._when_all_have_new_event(herd, known)

    def _when_all_have_new_event(self, herd: Driver, known: int) -> Deferred[None]:
        def all_have_new_event() -> bool:
            new_orders = {event.order for event in self._emitted[known:]}
            reached = {
                stream
                for event, stream in zip(herd.events, herd.more, strict=True)
                if event.order in new_orders
            }
            return len(reached) == STREAMS

        return herd.when(
            all_have_new_event, f"event for each of {STREAMS} clients in a process", PATIENCE
        )

    def _emit(self) -> None:
        self._emitted.append(self._world.script.order())
