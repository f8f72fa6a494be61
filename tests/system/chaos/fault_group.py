"""What every group of faults has: ways to wait, to inject, and to demand that events arrive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from twisted.internet import reactor as chosen
from twisted.internet.task import deferLater

from tradeproxy.simulator.faults import Fault, FaultKind

if TYPE_CHECKING:
    from tests.system.chaos.resuming import ResumingClient
    from tests.system.chaos.run import ChaosWorld

reactor: Any = chosen
POLL_INTERVAL = 0.05
"""Seconds."""

UP_TIMEOUT = 30.0
"""Seconds from a start of the proxy to its first event, on a busy machine."""

Strike: TypeAlias = Callable[[], Awaitable[None]]
"""Injects one fault and returns at its end; its effects may last longer."""


class FaultGroup:
    """The base of all groups."""

    def __init__(
        self, world: ChaosWorld, clients: Sequence[ResumingClient], random: Random
    ) -> None:
        self.problems: list[str] = []
        """What had to happen in time and did not, one line each."""
        self._world = world
        self._clients = clients
        self._random = random

    async def kill_proxy(self) -> None:
        """Kill the proxy and restart it."""
        await self._world.restart_proxy()

    async def _restart(self) -> None:
        """Restart the proxy, whose waits begin again, and return once its backfill is over."""
        await self._world.kill_proxy()
        await self._world.alpaca.when_gone()
        await self._world.start_proxy()
        await self._demand_arrival("restart", self._world.orders.trade(), UP_TIMEOUT)
        await self._wait(2, 3)  # the backfill of the restart reads the history for a second more

    async def _wait(self, least: float, most: float) -> None:
        await deferLater(reactor, self._random.uniform(least, most))

    def _inject(self, kind: FaultKind, **details: Any) -> None:
        self._world.alpaca.inject(Fault(kind, **details))

    async def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Return whether the condition holds before the seconds are over."""
        limit = monotonic() + seconds
        while not condition():
            if monotonic() > limit:
                return False
            await deferLater(reactor, POLL_INTERVAL)  # not random: its number varies
        return True

    async def _demand_arrival(self, what: str, numbers: Collection[int], seconds: float) -> None:
        """Wait until each client that sees cursors has the events, or what replaces them."""
        clients = [client for client in self._clients if client.resumes_by_cursor]

        def missing() -> int:
            return max(client.count_missing(numbers) for client in clients)

        if not await self._until(lambda: not missing(), seconds):
            self.problems.append(
                f"{what}: {missing()} of {len(numbers)} events did not arrive in {seconds:.0f} s"
            )
