"""What a million clients would need: a small queueing model with figures measured for one process.

python -m benchmarks.million [--clients N] [--seed N]
"""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import dataclass, replace
from math import ceil, exp
from random import Random
from statistics import quantiles

SECONDS = 60.0
"""Seconds of events to simulate for each row."""

# Measured on one core of a small machine, over loopback: docs/performance.md, docs/scaling.md.

DELIVERY, DELIVERY_OF_16 = 5.8e-6, 16 * 0.46e-6
"""CPU seconds to deliver one event to one client, and sixteen events in one batch."""

TLS_DELIVERY, TLS_DELIVERY_OF_16 = 24.0e-6, 16 * 1.87e-6
FIRST_CLIENT = 0.3e-3
"""CPU seconds until the first client gets an event: parse, commit, frame."""

SPREAD = 0.116
"""Standard deviation of the logarithm of a fan-out's time.

The p99 of the last client was 1.31 times its median."""

HANDSHAKE, TLS_HANDSHAKE = 127e-6, 1 / 1_900
"""CPU seconds for the handshake of one client."""

CLIENT, TLS_CLIENT = 3_800, 32_900
"""Bytes in a process for each client."""

PROCESS = 60e6
"""Bytes of a process without clients and events."""

KERNEL = 4_000
"""Bytes in the kernel for each idle connection: the growth of its slabs."""

EVENT_IN_NODE = 1_700
"""Bytes in the replica of a process for each event of PAYLOAD bytes."""

REDIS_WRITE, REDIS_READ = 60e-6, 7.5e-6
"""CPU seconds of Redis to write an event, and to send it to one node."""

# Assumed.

PAYLOAD = 1_000
"""Bytes of an event."""

ON_THE_WIRE = PAYLOAD + 4 + 52 + 38
"""Bytes of an event with the headers of WebSocket, TCP and Ethernet.

Acknowledgements travel in the other direction."""

SERVING = 14
"""Processes on a machine, one per core; two more cores are for the kernel and the network."""

NETWORK = 25e9 * 0.8 / 8
"""Bytes per second that a machine can send."""

LOG_EVENTS = 100_000
"""Events in the log."""

RETURN_WITHIN = 1.0
"""Seconds within which a client that lost its connection reconnects, at a random time."""

RESUME = 0.1e-3
"""CPU seconds to read and send what a client missed."""

PER_TURN = 32
"""Handshakes between two events (downstream/handshake_limits.py)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One row: clients per process, events per second, and whether the clients use TLS."""

    clients_per_process: int
    rate: float
    tls: bool = False

    def fan_out(self, events: int) -> float:
        """Return the CPU seconds to deliver a batch of events to all clients of a process."""
        one, sixteen = (
            (TLS_DELIVERY, TLS_DELIVERY_OF_16) if self.tls else (DELIVERY, DELIVERY_OF_16)
        )
        return FIRST_CLIENT + self.clients_per_process * (one + (sixteen - one) / 15 * (events - 1))

    @property
    def network_seconds(self) -> float:
        """Seconds for which one event occupies a process' share of the network."""
        return ON_THE_WIRE * self.clients_per_process / (NETWORK / SERVING)

    @property
    def handshake(self) -> float:
        """CPU seconds for one client to connect and resume."""
        return (TLS_HANDSHAKE if self.tls else HANDSHAKE) + RESUME


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results for a plan."""

    processes: int
    busy: float
    """The fraction of the time in which a process is busy."""
    p50: float
    p99: float
    """Seconds until the last of all clients has an event."""
    all_back: float
    """Seconds from the loss of a machine until its last client has resumed."""
    worst_during_return: float
    """Seconds that the slowest event takes meanwhile, to the last client of a process."""

    @property
    def machines(self) -> int:
        """The number of machines."""
        return ceil(self.processes / SERVING)


def regular_arrivals(rate: float) -> list[float]:
    """Return the times of events at regular intervals."""
    return [number / rate for number in range(int(SECONDS * rate))]


def random_arrivals(rate: float, random: Random) -> list[float]:
    """Return the times of independent events (a Poisson process)."""
    found, at = [], 0.0
    while (at := at + random.expovariate(rate)) < SECONDS:
        found.append(at)
    return found


def simulate_process(
    plan: Plan, events: list[float], delay: float, random: Random
) -> tuple[list[float], float]:
    """Return each event's latency to the last client of one process, and its busy seconds.

    Events that arrive during a fan-out are delivered together afterwards, as one batch. The process
    sends over its share of the machine's network while it works.

    Args:
        plan: the row.
        events: the times of the events, in seconds, in order.
        delay: seconds from an event until the process has it.
        random: for the spread of the fan-out's time.
    """
    latencies: list[float] = []
    worked = free = sent = 0.0
    while len(latencies) < len(events):
        first = len(latencies)
        begin = max(free, events[first] + delay)
        together = [at for at in events[first : first + 1_000] if at + delay <= begin]
        work = plan.fan_out(len(together)) * exp(random.gauss(0.0, SPREAD))
        free, worked = begin + work, worked + work
        sent = max(sent, begin) + plan.network_seconds * len(together)
        latencies += [max(free, sent) - at for at in together]
    return latencies, worked


def simulate_reconnects(plan: Plan, returning: int, random: Random) -> tuple[float, float]:
    """Let clients reconnect to one process.

    Returns the seconds until all have resumed, and the latency of the slowest event meanwhile.
    """
    waiting = sorted(random.random() * RETURN_WITHIN for _ in range(returning))
    events = random_arrivals(plan.rate, random)
    now = longest = 0.0
    while waiting:
        due = sum(1 for at in events if at <= now)
        if due:
            now += plan.fan_out(due)
            longest = max(longest, now - events[0])
            del events[:due]
        here = sum(1 for at in waiting[:PER_TURN] if at <= now)
        if here:
            now += here * plan.handshake
            del waiting[:here]
        else:
            now = min([waiting[0], *events[:1]])
    return now, longest


def simulate(plan: Plan, clients: int, random: Random) -> Outcome:
    """Simulate a plan: Redis sends the same events to one process after the other."""
    processes = ceil(clients / plan.clients_per_process)
    events = random_arrivals(plan.rate, random)
    last, worked = [0.0] * len(events), 0.0
    for number in range(processes):
        latencies, work = simulate_process(
            plan, events, REDIS_WRITE + (number + 1) * REDIS_READ, random
        )
        last = [max(pair) for pair in zip(last, latencies, strict=True)]
        worked += work
    ranks = quantiles(last, n=100)
    lost = min(SERVING, processes - 1)
    remaining = replace(plan, clients_per_process=ceil(clients / (processes - lost)))
    all_back, worst_during_return = simulate_reconnects(
        remaining, remaining.clients_per_process - plan.clients_per_process, random
    )
    return Outcome(
        processes=processes,
        busy=worked / processes / max(SECONDS, events[-1]),
        p50=ranks[49],
        p99=ranks[98],
        all_back=all_back,
        worst_during_return=worst_during_return,
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
    """Return a row of the table, in Markdown."""
    here = min(SERVING, outcome.processes)
    client = (TLS_CLIENT if plan.tls else CLIENT) + KERNEL
    memory = here * (PROCESS + LOG_EVENTS * EVENT_IN_NODE + plan.clients_per_process * client)
    cells = (
        f"{plan.clients_per_process:,}{' TLS' if plan.tls else ''}",
        f"{plan.rate:g}",
        f"{outcome.processes:,}",
        f"{outcome.machines:,}",
        f"{memory / 1e9:.1f}",
        f"{plan.rate * ON_THE_WIRE * plan.clients_per_process * here * 8 / 1e9:.1f}",
        f"{outcome.busy:.0%}",
        f"{outcome.p50 * 1e3:,.0f} / {outcome.p99 * 1e3:,.0f}",
        f"{max(plan.fan_out(16), 16 * plan.network_seconds) * 1e3:,.0f}",
        f"{outcome.all_back:.1f}",
        f"{outcome.worst_during_return * 1e3:,.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table of the plans, and figures to compare with measurements."""
    parser = ArgumentParser(description="What a million clients would need, on paper.")
    parser.add_argument("--clients", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    arguments = parser.parse_args()
    random = Random(arguments.seed)  # noqa: S311 (a model: the same for the same seed)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for plan in PLANS:
        print(row(plan, simulate(plan, arguments.clients, random)))
    one = arguments.clients * ON_THE_WIRE
    print(
        f"\nOne event to {arguments.clients:,} clients:"
        f" {one / 1e9:.2f} GB, {one * 8 / 1e9:.1f} Gbit."
    )
    for plan in (Plan(1_000, 10), Plan(10_000, 10)):
        latencies, _ = simulate_process(plan, regular_arrivals(plan.rate), 0.0, random)
        ranks = quantiles(latencies, n=100)
        print(
            f"The model, one process, {plan.clients_per_process:,} clients,"
            f" {plan.rate:g} events/s by the clock:"
            f" last client p50 {ranks[49] * 1e3:.1f} ms, p99 {ranks[98] * 1e3:.1f} ms."
        )
    for nodes in (2, 10, 100, 200):
        cost = REDIS_WRITE + nodes * REDIS_READ
        print(
            f"Redis and {nodes} nodes: {cost * 1e3:.2f} ms an event,"
            f" {1 / cost:,.0f} events/s at most."
        )


if __name__ == "__main__":
    main()
