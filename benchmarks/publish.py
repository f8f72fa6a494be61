"""Measures the cost of one event with the journal at `full`, at `normal` and in memory.

python -m benchmarks.publish [--clients N] [--rounds N]
"""

from __future__ import annotations

from argparse import ArgumentParser
from statistics import median

from benchmarks.lab import phase, prepare, progress, run_load, running
from benchmarks.servers import IN_MEMORY, NORMAL, PROXY, Server

BURST = 16
PHASES = ("single", "burst")
WARM_UP, EVENTS = 96, 640

COLUMNS = ("CPU ms an event", "first client p50 / p99 ms", "last client p50 / p99 ms")


def measure(server: Server, clients: int) -> dict[str, list[float]]:
    """Return for single events and for bursts the CPU time (ms) and four delivery times (ms)."""
    with running(server) as target:
        report = run_load(
            target, clients, [f"{name}:{count}" for count in (WARM_UP, EVENTS) for name in PHASES]
        )
    figures: dict[str, list[float]] = {}
    for name in PHASES:
        phase_report = phase(report, name)
        times = [
            phase_report[f"{which}_{rank}_ms"]
            for which in ("first", "last")
            for rank in ("p50", "p99")
        ]
        figures[name] = [phase_report["cpu_us"] * clients / 1_000, *times]
    return figures


def main() -> None:
    """Measure the servers in turns, and print the medians as a table in Markdown."""
    parser = ArgumentParser(description="Measure the cost of one event.")
    parser.add_argument("--clients", type=int, default=1_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    arguments = parser.parse_args()
    prepare()
    rounds: dict[tuple[str, str], list[list[float]]] = {}
    for number in range(1, arguments.rounds + 1):
        for server in (PROXY, NORMAL, IN_MEMORY):
            progress(f"round {number} of {arguments.rounds}: {server.name}")
            for name, figures in measure(server, arguments.clients).items():
                rounds.setdefault((name, server.name), []).append(figures)
    print(f"| {arguments.clients:,} clients | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for (name, server_name), measured in sorted(
        rounds.items(), key=lambda item: item[0][0], reverse=True
    ):
        cpu, first, first_high, last, last_high = (
            median(column) for column in zip(*measured, strict=True)
        )
        batch = "alone" if name == "single" else f"{BURST} at once"
        times = f"{first:.2f} / {first_high:.2f} | {last:.1f} / {last_high:.1f}"
        print(f"| {server_name}, {batch} | {cpu:.2f} | {times} |")


if __name__ == "__main__":
    main()
