"""What a million clients would need: a small queueing model of what was measured for one process.

python -m benchmarks.million [--clients N] [--seed N]
"""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import dataclass, replace
from math import ceil, exp
from random import Random
from statistics import quantiles

SECONDS = 60.0
"""Of events that are played for each row."""

# Measured: docs/performance.md, docs/scaling.md, each on one core of a small machine, over loopback.

DELIVERY, DELIVERY_OF_16 = 5.8e-6, 16 * 0.46e-6
"""CPU seconds to give one client one event, and sixteen that came together."""

TLS_DELIVERY, TLS_DELIVERY_OF_16 = 24.0e-6, 16 * 1.87e-6
FIXED = 0.3e-3
"""Until the first client has an event: it is parsed, committed, framed."""

SPREAD = 0.116
"""Of the logarithm of a fan-out's time: the p99 of the last client was 1.31 times its median."""

HANDSHAKE, TLS_HANDSHAKE = 127e-6, 1 / 1_900
"""CPU seconds to let a client in."""

CLIENT, TLS_CLIENT = 3_800, 32_900
"""Bytes of a process for a client."""

PROCESS = 60e6
KERNEL = 4_000
"""Bytes of the kernel for an idle connection: by how much its slabs grow."""

EVENT_IN_NODE = 1_700
"""Bytes of an event of PAYLOAD in a process' replica."""

REDIS_WRITE, REDIS_READ = 60e-6, 7.5e-6
"""CPU seconds of Redis to take an event, and to give it to one node."""

# Assumed.

PAYLOAD = 1_000
ON_THE_WIRE = PAYLOAD + 4 + 52 + 38
"""Bytes: with WebSocket's, TCP's and Ethernet's headers; clients' acknowledgements go the other way."""

SERVING = 14
"""Cores of a machine that have a process each; two more are the kernel's and the network's."""

NETWORK = 25e9 * 0.8 / 8
"""Bytes a second that leave a machine at most."""

KEPT = 100_000
"""Events in the log."""

COME_BACK = 1.0
"""Seconds: a client that lost its connection comes back after a random part of that."""

RESUMED = 0.1e-3
"""CPU seconds to read and send what one has missed meanwhile."""

AT_ONCE = 32
"""Newcomers that are served before events have their turn again (downstream/door.py)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One row: how many clients of all a process has, how often something happens, whether there is TLS."""

    a_process: int
    rate: float
    tls: bool = False

    def fan_out(self, events: int) -> float:
        """Return the CPU seconds to give all clients of a process what came together."""
        one, sixteen = (
            (TLS_DELIVERY, TLS_DELIVERY_OF_16) if self.tls else (DELIVERY, DELIVERY_OF_16)
        )
        return FIXED + self.a_process * (one + (sixteen - one) / 15 * (events - 1))

    @property
    def on_the_wire(self) -> float:
        """Seconds for which one event keeps a process' part of the network busy."""
        return ON_THE_WIRE * self.a_process / (NETWORK / SERVING)

    @property
    def handshake(self) -> float:
        """CPU seconds."""
        return (TLS_HANDSHAKE if self.tls else HANDSHAKE) + RESUMED


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a plan comes to."""

    processes: int
    busy: float
    """The part of the time in which a process works."""
    p50: float
    p99: float
    """Seconds until the last of all clients has an event."""
    back: float
    """Seconds after the death of a machine until the last of its clients is served again."""
    meanwhile: float
    """The longest that an event takes meanwhile, for the last client of a process."""

    @property
    def machines(self) -> int:
        """How many there are."""
        return ceil(self.processes / SERVING)


def by_the_clock(rate: float) -> list[float]:
    """Return when events come, one as long after the other as the next."""
    return [number / rate for number in range(int(SECONDS * rate))]


def arrivals(rate: float, random: Random) -> list[float]:
    """Return when events come, independent of each other."""
    found, at = [], 0.0
    while (at := at + random.expovariate(rate)) < SECONDS:
        found.append(at)
    return found


def play(
    plan: Plan, events: list[float], delay: float, random: Random
) -> tuple[list[float], float]:
    """Return after which time the last client of one process has each event, and how long it has worked.

    What comes while it works is served together afterwards, as one burst. The network of its machine, of
    which it has its part, sends while it works.
    """
    took: list[float] = []
    worked = free = sent = 0.0
    while len(took) < len(events):
        first = len(took)
        begin = max(free, events[first] + delay)
        together = [at for at in events[first : first + 1_000] if at + delay <= begin]
        work = plan.fan_out(len(together)) * exp(random.gauss(0.0, SPREAD))
        free, worked = begin + work, worked + work
        sent = max(sent, begin) + plan.on_the_wire * len(together)
        took += [max(free, sent) - at for at in together]
    return took, worked


def storm(plan: Plan, newcomers: int, random: Random) -> tuple[float, float]:
    """Let clients come back to one process; return when all are served, and an event's longest way."""
    waiting = sorted(random.random() * COME_BACK for _ in range(newcomers))
    events = arrivals(plan.rate, random)
    now = longest = 0.0
    while waiting:
        due = sum(1 for at in events if at <= now)
        if due:
            now += plan.fan_out(due)
            longest = max(longest, now - events[0])
            del events[:due]
        here = sum(1 for came in waiting[:AT_ONCE] if came <= now)
        if here:
            now += here * plan.handshake
            del waiting[:here]
        else:
            now = min([waiting[0], *events[:1]])
    return now, longest


def carry_out(plan: Plan, clients: int, random: Random) -> Outcome:
    """Play a plan: all processes have the same events, each at its own pace, told by Redis in turns."""
    processes = ceil(clients / plan.a_process)
    events = arrivals(plan.rate, random)
    last, worked = [0.0] * len(events), 0.0
    for number in range(processes):
        took, work = play(plan, events, REDIS_WRITE + (number + 1) * REDIS_READ, random)
        last = [max(pair) for pair in zip(last, took, strict=True)]
        worked += work
    ranks = quantiles(last, n=100)
    gone = min(SERVING, processes - 1)
    left = replace(plan, a_process=ceil(clients / (processes - gone)))
    back, meanwhile = storm(left, left.a_process - plan.a_process, random)
    return Outcome(
        processes=processes,
        busy=worked / processes / max(SECONDS, events[-1]),
        p50=ranks[49],
        p99=ranks[98],
        back=back,
        meanwhile=meanwhile,
    )


PLANS = (
    Plan(5_000, 1),
    Plan(10_000, 1),
    Plan(20_000, 1),
    Plan(5_000, 10),
    Plan(10_000, 10),
    Plan(20_000, 10),
    Plan(5_000, 1, tls=True),
    Plan(5_000, 10, tls=True),
)

COLUMNS = (
    *(
        "clients a process",
        "events/s",
        "processes",
        "machines",
        "GB a machine",
        "Gbit/s a machine",
        "busy",
    ),
    *(
        "last client p50 / p99 ms",
        "16 at once: last client ms",
        "all are back after s",
        "an event meanwhile ms",
    ),
)


def row(plan: Plan, outcome: Outcome) -> str:
    """Return a row of the table."""
    here = min(SERVING, outcome.processes)
    client = (TLS_CLIENT if plan.tls else CLIENT) + KERNEL
    memory = here * (PROCESS + KEPT * EVENT_IN_NODE + plan.a_process * client)
    cells = (
        f"{plan.a_process:,}{' TLS' if plan.tls else ''}",
        f"{plan.rate:g}",
        f"{outcome.processes:,}",
        f"{outcome.machines:,}",
        f"{memory / 1e9:.1f}",
        f"{plan.rate * ON_THE_WIRE * plan.a_process * here * 8 / 1e9:.1f}",
        f"{outcome.busy:.0%}",
        f"{outcome.p50 * 1e3:,.0f} / {outcome.p99 * 1e3:,.0f}",
        f"{max(plan.fan_out(16), 16 * plan.on_the_wire) * 1e3:,.0f}",
        f"{outcome.back:.1f}",
        f"{outcome.meanwhile * 1e3:,.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print what holds for all plans, the plans, and the model beside what was measured."""
    parser = ArgumentParser(description="What a million clients would need, on paper.")
    parser.add_argument("--clients", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    arguments = parser.parse_args()
    random = Random(arguments.seed)  # the same for the same seed
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for plan in PLANS:
        print(row(plan, carry_out(plan, arguments.clients, random)))
    one = arguments.clients * ON_THE_WIRE
    print(
        f"\nOne event to {arguments.clients:,} clients: {one / 1e9:.2f} GB, {one * 8 / 1e9:.1f} Gbit."
    )
    for plan in (Plan(1_000, 10), Plan(10_000, 10)):
        took, _ = play(plan, by_the_clock(plan.rate), 0.0, random)
        ranks = quantiles(took, n=100)
        print(
            f"The model, one process, {plan.a_process:,} clients, {plan.rate:g} events/s by the clock:"
            f" last client p50 {ranks[49] * 1e3:.1f} ms, p99 {ranks[98] * 1e3:.1f} ms."
        )
    for nodes in (2, 10, 100, 200):
        cost = REDIS_WRITE + nodes * REDIS_READ
        print(
            f"Redis and {nodes} nodes: {cost * 1e3:.2f} ms an event, {1 / cost:,.0f} events/s at most."
        )


if __name__ == "__main__":
    main()
