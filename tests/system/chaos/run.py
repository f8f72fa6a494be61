"""One chaos run: a simulator, a real proxy, clients, the nemesis, and the verdicts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic, time
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import LoopingCall, deferLater

from tests.support.certificates import Authority
from tests.support.faketime import FakeClock, find_library
from tests.support.processes import Command, free_port, run
from tests.system.chaos.checker import Truth, Verdict, count_deliveries_without_cursor, judge
from tests.system.chaos.clients import build_clients, declared_gaps
from tests.system.chaos.nemesis import Nemesis
from tests.system.chaos.numbered import NumberedEvents
from tests.system.chaos.orders import NumberedOrders
from tests.system.chaos.resuming import ResumingClient
from tests.system.chaos.trade_log import DECLARED, compare, read_lines, read_rows
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.simulator.service import Simulator
from tradeproxy.simulator.web import ApiSite

reactor: Any = chosen
EMIT_INTERVAL = 0.05
"""Seconds between two emissions."""

SETTLE_TIME = 4.0
"""Seconds from the last event to the verdicts; includes one more check of the history."""

MAX_SETTLE_TIME = 300.0
"""Seconds after which no more events are waited for: a client could get some again for ever."""

ARRIVAL_TIMEOUT = 20.0
"""Seconds in which no client gets an event. On a busy machine thousands may still be on the way."""

JOURNAL = ".local/state/tradeproxy/paper.sqlite3"
"""The journal's place in the home directory of the proxy."""

TRADE_LOG = "trades"
"""The folder of the trade log in that home directory."""

TRADE_LOG_TIMEOUT = 60.0
"""Seconds for the trade log to catch up. It writes some thousand rows a second."""

OLD_ORDERS, OLD_ORDERS_AGE = 20, 3_600.0
"""Orders that are open before the journal begins, and their age in seconds."""

FAST_SETTINGS = {
    "PROXY_STALL_TIMEOUT": "2",
    "PROXY_RECOVERY_DEADLINE": "2",
    "PROXY_RECONCILE_INTERVAL": "3",
}
"""Settings with short intervals, so that a run does not take hours."""

CLIENTS = {"cursor": 4, "event_id": 3, "sse": 2, "live": 1, "since": 2}


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run."""

    events: int
    faults: dict[str, int]
    verdicts: list[Verdict]
    problems: list[str]
    """What had to happen in time and did not, one line each."""
    reconnects: int
    trail: list[tuple[int, str]]
    """Each fault: how many events were emitted before it, and its name."""
    has_clock_faults: bool
    """Whether the proxy's clock could be changed."""
    logged: int
    """Rows of the trade log."""

    def find_fault(self, number: int) -> str:
        """Return the fault during which an event was emitted; "" before the first one."""
        index = bisect_left(self.trail, (number, ""))
        return self.trail[index - 1][1] if index else ""

    @property
    def is_clean(self) -> bool:
        """Whether no client has undeclared losses, duplicates or disorder, and none had to wait."""
        return not self.problems and all(verdict.is_clean for verdict in self.verdicts)


class ChaosWorld(NumberedEvents):
    """The simulated Alpaca and the proxy."""

    proxy: Command
    settings: Mapping[str, str] = FAST_SETTINGS
    """Settings of the proxy, besides its account and its address."""

    def __init__(
        self, directory: str, random: Random, sources: str | None = None, *, tls: bool = False
    ) -> None:
        """Create both, without starting them.

        Args:
            directory: the home directory of the proxy.
            random: the source of everything random.
            sources: a checkout whose proxy runs; by default this one.
            tls: whether clients connect to the proxy over TLS.
        """
        self._age = OLD_ORDERS_AGE
        super().__init__(Simulator(reactor, random, wall_clock=self._now), random)
        self.orders = NumberedOrders(self)
        self.journal = Path(directory, JOURNAL)
        self.proxy_port = free_port()
        self._listen = {"PROXY_HOST": "127.0.0.1", "PROXY_PORT": str(self.proxy_port)}
        if tls:
            identity = Authority(directory).issue("localhost")
            self._listen = {"PROXY_LISTEN": identity.endpoint(self.proxy_port)}
        self.fake_clock: FakeClock | None = None
        """The proxy's wall clock; None without libfaketime."""
        if (library := find_library()) is not None:
            self.fake_clock = FakeClock(library, Path(directory, "clock"))
        self._directory = directory
        self.trade_log = Path(directory, TRADE_LOG)
        self._declared = 0
        self._sources = {} if sources is None else {"PYTHONPATH": str(Path(sources).resolve())}
        self._listening: Any = None

    def _now(self) -> float:
        return time() - self._age

    def port(self) -> int:
        """Return the port of the proxy."""
        return self.proxy_port

    async def start(self) -> None:
        """Start both, and return once the proxy streams."""
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        self._listening = await endpoint.listen(ApiSite(self.alpaca))
        self.orders.open_unseen(OLD_ORDERS)
        self._age = 0.0
        await self.start_proxy()
        await self.alpaca.when_listening()

    async def start_proxy(self) -> None:
        """Start the proxy, and return once it listens."""
        self.proxy = run(
            *("twistd", "-n", "--pidfile=", "tradeproxy"),
            directory=self._directory,
            ALPACA_API_KEY="PKTEST",
            ALPACA_SECRET_KEY="test-secret",
            ALPACA_URL=f"http://127.0.0.1:{self._listening.getHost().port}",
            **self._listen,
            **self.settings,
            PROXY_TRADE_LOG=str(self.trade_log.resolve()),
            PROXY_TRADE_LOG_FORMAT="jsonl",
            **self._sources,
            **({} if self.fake_clock is None else self.fake_clock.environment),
        )
        await self.proxy.says("listening on")

    async def restart_proxy(self) -> None:
        """Kill the proxy with SIGKILL, and restart it."""
        await self.kill_proxy()
        await self.start_proxy()

    async def kill_proxy(self) -> None:
        """Kill the proxy with SIGKILL."""
        await self._stop_proxy("KILL")

    async def end_proxy(self) -> None:
        """Stop the proxy cleanly."""
        await self._stop_proxy("TERM")

    async def stop(self) -> None:
        """Stop both."""
        await self._stop_proxy("TERM")
        await self._listening.stopListening()
        await self.alpaca.stop()

    async def _stop_proxy(self, signal: str) -> None:
        pid = self.proxy.pid  # None once the process has ended
        await self.proxy.stop(signal)
        self._declared += self._count_declared()
        self.proxy.output = ""  # they are counted once
        FakeClock.clean_up(pid)

    def _count_declared(self) -> int:
        return sum(map(int, DECLARED.findall(self.proxy.output)))

    async def check_trade_log(self) -> list[str]:
        """Return how the trade log differs from the journal, once it had the time to catch up."""
        limit = time() + TRADE_LOG_TIMEOUT
        while True:
            lines, declared = read_lines(self.trade_log), self._declared + self._count_declared()
            problems = compare(lines, read_rows(self.journal), declared)
            if not problems or time() > limit:
                return problems
            await deferLater(reactor, 1)


async def chaos(
    directory: str,
    *,
    seed: int,
    events: int,
    faults: int | None,
    proxy: str | None = None,
    only: Sequence[str] = (),
    tls: bool = False,
) -> Report:
    """Inject `faults` faults while `events` events are emitted, and judge every client.

    Args:
        directory: the home directory of the proxy.
        seed: determines the faults and the events.
        events: how many events to emit.
        faults: how many faults to inject; None for each of `only` once.
        proxy: a checkout whose proxy runs; by default this one.
        only: the names of the faults to inject, in turn; by default they are random.
        tls: whether clients connect over TLS.

    Raises UnknownFaultError.
    """
    random = Random(seed)
    world = ChaosWorld(directory, random, proxy, tls=tls)
    clients: list[ResumingClient] = []
    nemesis = Nemesis(world, clients, Random(seed))  # its own: other draws depend on the time
    plan = list(nemesis.plan(faults, only))
    await world.start()
    clients += build_clients(CLIENTS, world.port, round(time() * 1e6))
    for client in clients:
        client.find_order_event = world.orders.find
        client.tls = tls
        client.start()
    await _wait_until(lambda: all(client.is_ready for client in clients), ARRIVAL_TIMEOUT)
    per_fault = events // len(plan)

    emitted = 0

    def emit() -> None:
        # Emit in proportion to the faults so far, so that both end at about the same time. The
        # events of faults do not count: after a fault with thousands, no others would follow.
        nonlocal emitted
        due = min(events, (nemesis.counts.total() + 1) * per_fault) - emitted
        if due > 0:
            count = random.randint(1, min(due, 20))
            world.emit(count)
            emitted += count

    emitting = LoopingCall(emit)
    emitting_done = emitting.start(EMIT_INTERVAL)
    for fault in plan:
        await nemesis.strike(fault)
        await deferLater(reactor, random.uniform(0.05, 0.5))
    emitting.stop()
    await emitting_done
    await _settle(world, events, clients)
    logs = [client.log for client in clients]
    truth = Truth(
        world.emitted,
        declared_gaps(clients),
        world.retold,
        world.lost_from_log,
        count_deliveries_without_cursor(logs),
        world.orders.numbers,
        world.unfindable,
    )
    verdicts = [judge(log, truth) for log in logs]
    for client in clients:
        client.stop()
    problems = [f"trade log: {problem}" for problem in await world.check_trade_log()]
    await world.stop()
    return Report(
        len(world.emitted),
        dict(nemesis.counts),
        verdicts,
        [*nemesis.problems, *problems],
        sum(client.connects - 1 for client in clients),
        nemesis.trail,
        world.fake_clock is not None,
        len(read_lines(world.trade_log)),
    )


async def _settle(world: ChaosWorld, events: int, clients: list[ResumingClient]) -> None:
    """End all faults, emit the remaining events, and wait while more of them arrive."""
    world.end_faults(*(kind for kind in FaultKind if kind.lasting))
    await world.restart_proxy()
    await world.alpaca.when_listening()
    while (left := events - len(world.emitted)) > 0:
        world.emit(min(left, 200))
        await deferLater(reactor, EMIT_INTERVAL)
    limit, numbers = monotonic() + MAX_SETTLE_TIME, range(1, len(world.emitted) + 1)
    is_waiting = True
    while is_waiting and monotonic() < limit:
        # Not only the last event: a backfill may be about to bring thousands of older ones.
        is_complete = not any(client.count_missing(numbers) for client in clients)
        is_waiting = await _wait_for_event(clients, SETTLE_TIME if is_complete else ARRIVAL_TIMEOUT)


async def _wait_for_event(clients: Sequence[ResumingClient], seconds: float) -> bool:
    """Wait until a client gets an event; return whether one does within the seconds."""
    before = sum(len(client.log.entries) for client in clients)
    return await _wait_until(
        lambda: sum(len(client.log.entries) for client in clients) > before, seconds
    )


async def _wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether the condition holds before the seconds are over."""
    limit = monotonic() + seconds
    while not condition():
        if monotonic() > limit:
            return False
        await deferLater(reactor, EMIT_INTERVAL)
    return True
