"""The nemesis: it injects faults in an order that a seed determines."""

from __future__ import annotations

import resource
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as chosen
from twisted.internet.task import deferLater

from tradeproxy.simulator.faults import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.system.chaos.clients import ResumingClient
    from tests.system.chaos.run import ChaosWorld

reactor: Any = chosen
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Nemesis:
    """Picks faults at random and injects them."""

    def __init__(
        self, world: ChaosWorld, clients: Sequence[ResumingClient], random: Random
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._world = world
        self._clients = clients
        self._random = random
        # The weights: short faults are frequent; those that interrupt the stream for long are rare.
        self._faults = {
            self.kill_client: 14,
            self.stall_client: 12,
            self.repeat_events: 8,
            self.send_garbage: 4,
            self.end_upstream: 10,
            self.silence_upstream: 5,
            self.skip_events: 4,
            self.refuse_login: 2,
            self.throttle_upstream: 2,
            self.hinder_recovery: 14,
            self.refuse_history: 2,
            self.fill_disk: 7,
            self.kill_proxy: 8,
        }

    async def strike(self) -> None:
        """Inject one fault and wait for its end; its effects may last longer."""
        (fault,) = self._random.choices(list(self._faults), list(self._faults.values()))
        self.counts[fault.__name__.replace("_", " ")] += 1
        await fault()

    async def kill_client(self) -> None:
        """Abort the connection of a client."""
        self._random.choice(self._clients).kill()

    async def stall_client(self) -> None:
        """Stop a client from reading while many events are emitted."""
        client = self._random.choice(self._clients)
        client.stall()
        self._world.emit(self._random.randint(50, 200))
        await self._wait(0.2, 3)
        client.resume_reading()

    async def repeat_events(self) -> None:
        """Send the last events from Alpaca again."""
        self._world.repeat(self._random.randint(1, 50))

    async def send_garbage(self) -> None:
        """Send malformed frames from Alpaca."""
        self._inject(FaultKind.GARBAGE, count=5)

    async def end_upstream(self) -> None:
        """End the upstream with a close frame, without one, or by a reset."""
        self._inject(self._random.choice((FaultKind.CLOSE, FaultKind.DROP, FaultKind.RESET)))

    async def silence_upstream(self) -> None:
        """Silence the upstream, so that its events are missed, and then reset it."""
        self._inject(FaultKind.SILENCE)
        await self._wait(0.2, 1)
        self._inject(FaultKind.RESET)

    async def skip_events(self) -> None:
        """Leave events out of the stream, without a disconnect."""
        self._inject(FaultKind.SILENCE, seconds=0.2)
        self._world.emit(3)
        await self._wait(0.3, 0.4)

    async def refuse_login(self) -> None:
        """Reject the next login. Restart the proxy, which would retry only after a minute."""
        self._inject(FaultKind.REFUSE, count=1)
        await self.kill_proxy()
        await self._wait(0.5, 1)
        await self.kill_proxy()

    async def throttle_upstream(self) -> None:
        """Reject connections for a second, as if another one used the account."""
        self._inject(FaultKind.THROTTLE, count=1, retry_after=1)
        self._inject(FaultKind.RESET)

    async def hinder_recovery(self) -> None:
        """End the upstream, and make the history slow, busy, truncated or incomplete."""
        match self._random.randrange(5):
            case 0:
                self._inject(
                    FaultKind.HISTORY_REFUSE, status=503, seconds=self._random.uniform(0.5, 4)
                )
            case 1:
                self._inject(FaultKind.REST_REFUSE, status=429, retry_after=1, seconds=1)
            case 2:
                self._inject(FaultKind.HISTORY_DELAY, delay=self._random.uniform(0.5, 4), count=1)
            case 3:
                self._inject(
                    FaultKind.HISTORY_TRUNCATE, events=self._random.randint(0, 20), count=2
                )
            case _:
                self._inject(
                    FaultKind.HISTORY_DROP, events=self._random.randint(0, 5), dropped=5, count=1
                )
        await self.end_upstream()

    async def refuse_history(self) -> None:
        """Miss events and refuse their history permanently: they are lost and declared."""
        self._inject(FaultKind.SILENCE)
        self._world.emit(20)
        self._inject(FaultKind.HISTORY_REFUSE, status=403, seconds=3)
        self._inject(FaultKind.RESET)
        await self._wait(3, 3)

    async def fill_disk(self) -> None:
        """Make every write of the proxy to a file fail for a while."""
        resource.prlimit(self._world.proxy.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        pid = self._world.proxy.pid
        await self._wait(0.3, 2)
        if self._random.random() < 0.7 and pid == self._world.proxy.pid:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, UNLIMITED)
        else:
            await self.kill_proxy()

    async def kill_proxy(self) -> None:
        """Kill the proxy and restart it."""
        await self._world.restart_proxy()

    async def _wait(self, least: float, most: float) -> None:
        await deferLater(reactor, self._random.uniform(least, most))

    def _inject(self, kind: FaultKind, **details: Any) -> None:
        self._world.alpaca.inject(Fault(kind, **details))
