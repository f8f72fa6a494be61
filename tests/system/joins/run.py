"""One run: a simulated exchange trades while clients join, the proxy restarts, and a gap opens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from random import Random
from time import time
from typing import Any
from urllib.request import urlopen

from twisted.internet import reactor as chosen
from twisted.internet import threads
from twisted.internet.task import LoopingCall, deferLater

from tests.system.chaos.run import FAST_SETTINGS, ChaosWorld
from tests.system.joins.clients import KINDS, JoiningClient, Reference
from tests.system.joins.verdict import Truth, find_problems
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.orders import OrderRequest

reactor: Any = chosen
TICK = 0.01
"""Seconds between two actions of the trader."""

SYMBOLS = ("AAPL", "MSFT", "SPY")
MOST_OPEN = 400
OUTAGE = 1.0
"""Seconds of the gap."""

SETTLE_TIMEOUT = 60.0
"""Seconds for the last event to reach every client, on a busy machine with two cores."""

LAST_ORDER = OrderRequest(
    symbol="AAPL",
    side="buy",
    type="market",
    time_in_force="day",
    qty=Decimal(1),
    client_order_id="grid-last",
)
"""Every filter lets its fill through."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run."""

    events: int
    clients: int
    snapshots: int
    complete: int
    """How many of the snapshots were complete."""
    connects: int
    problems: dict[str, list[str]]
    """What is wrong, by client."""


class JoinWorld(ChaosWorld):
    """Missed events always precede newer ones, so that a client can add up events as they come."""

    settings: Mapping[str, str] = {**FAST_SETTINGS, "PROXY_RECOVERY_DEADLINE": "120"}


class Trader:
    """Submits, fills and cancels orders at random."""

    def __init__(self, world: ChaosWorld, random: Random) -> None:
        self._alpaca = world.alpaca
        self._random = random
        self._resting: list[str] = []
        self._count = 0

    def trade(self, events: int) -> None:
        """Cause about this number of events, now and within a quarter of a second."""
        exchange = self._alpaca.exchange
        for _ in range(max(events // 3, 1)):
            choice = self._random.random()
            if (choice < 0.25 and self._resting) or len(self._resting) > MOST_OPEN:
                order_id = self._resting.pop(self._random.randrange(len(self._resting)))
                self._alpaca.apply(exchange.cancel(order_id))
                continue
            self._count += 1
            symbol = self._random.choice(SYMBOLS)
            prefix = self._random.choice(("grid-", "hedge-"))
            request = OrderRequest(
                symbol=symbol,
                side=self._random.choice(("buy", "sell")) if choice < 0.6 else "buy",
                type="market" if choice < 0.6 else "limit",
                time_in_force="day",
                qty=Decimal(self._random.randint(1, 9)),
                limit_price=None if choice < 0.6 else Decimal("0.01"),
                client_order_id=f"{prefix}{self._count}",
            )
            [order, *_] = self._alpaca.apply(exchange.submit(request))
            if choice >= 0.6:
                self._resting.append(order.id)


async def join_burst(directory: str, *, seed: int, events: int, clients: int) -> Report:
    """Have clients join while events flow, and return what is wrong with what they got.

    Args:
        directory: the home directory of the proxy.
        seed: determines the orders, and when each client joins.
        events: about how many events Alpaca sends.
        clients: how many clients join.
    """
    random = Random(seed)
    world = JoinWorld(directory, random)
    alpaca = world.alpaca
    await world.start()
    await _until_complete(world)
    shared: dict[str, dict[str, Any]] = {}
    reference = Reference(world.port, shared)
    reference.start()
    await _until(lambda: reference.is_ready)
    joining = [JoiningClient(KINDS[n % len(KINDS)], world.port, shared) for n in range(clients)]
    starts = sorted((random.randrange(events), n) for n in range(clients))
    trader = Trader(world, random)

    allowed = 0.0

    def has_sent(count: float) -> bool:
        return alpaca.history.end >= count

    async def open_gap() -> None:
        alpaca.inject(Fault(FaultKind.OUTAGE, seconds=OUTAGE))

    async def restart_cleanly() -> None:
        await world.end_proxy()
        await world.start_proxy()

    def step() -> None:
        # A restart takes seconds on a busy machine. The burst goes on meanwhile, but not for long.
        if alpaca.history.end < allowed:
            trader.trade(random.randint(1, 12))
        while starts and alpaca.history.end >= starts[0][0]:
            joining[starts.pop(0)[1]].start()

    trading = LoopingCall(step)
    trading_done = trading.start(TICK)
    try:
        for number, disturb in enumerate((world.restart_proxy, open_gap, restart_cleanly, None), 1):
            due = events * number / 4
            allowed = due + events / 10
            await _until(partial(has_sent, due))
            if disturb is not None:
                await disturb()
    finally:
        trading.stop()
    await trading_done
    for _, number in starts:
        joining[number].start()
    world.end_faults(FaultKind.OUTAGE)
    await alpaca.when_listening()
    await _until(lambda: all(client.snapshots for client in joining))
    alpaca.apply(alpaca.exchange.submit(LAST_ORDER))
    await _until(lambda: not any(map(alpaca.exchange.has_next_step, _list_open(world))))
    [last] = alpaca.history.last(1)
    everybody = [reference, *joining]
    await _until(lambda: all(client.has(str(last.event_id)) for client in everybody))
    await _until(lambda: len(reference.by_seq) >= alpaca.history.end)
    for client in everybody:
        client.stop()
    portfolio = alpaca.exchange.portfolio
    truth = Truth(
        reference.by_seq,
        {order.id: order.document() for order in alpaca.exchange.orders()},
        {held.symbol: held.position for held in portfolio.positions()},
    )
    problems = {
        f"{number} ({client.kind.name})": found
        for number, client in enumerate(joining)
        if (found := find_problems(client, truth))
    }
    sent = {record.event_id for record in alpaca.history}
    if sent != {data["event_id"] for data in truth.events.values()}:
        problems["reference"] = [f"{len(truth.events)} events instead of {len(sent)}"]
    await world.stop()
    snapshots = [snapshot for client in joining for snapshot in client.snapshots]
    return Report(
        alpaca.history.end,
        clients,
        len(snapshots),
        sum(snapshot.is_complete for snapshot in snapshots),
        sum(client.connects for client in joining),
        problems,
    )


def _list_open(world: ChaosWorld) -> list[str]:
    return [order.id for order in world.alpaca.exchange.orders()]


async def _until_complete(world: ChaosWorld) -> None:
    """Return once the proxy knows the orders that were open before it ran."""
    url = f"http://127.0.0.1:{world.port()}/trade-updates-paper/state"
    limit = time() + SETTLE_TIMEOUT
    while time() < limit:
        state = json.loads(await threads.deferToThread(lambda: urlopen(url).read()))
        if state["complete"]:
            return
        await deferLater(reactor, 0.1)


async def _until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds, or after SETTLE_TIMEOUT."""
    limit = time() + SETTLE_TIMEOUT
    while not condition() and time() < limit:
        await deferLater(reactor, 0.05)
