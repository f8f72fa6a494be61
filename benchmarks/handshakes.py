"""Measures handshakes of the proxy, of plain Autobahn, and of twisted.web, which both use.

python -m benchmarks.handshakes [--clients N] [--rounds N]
"""

from __future__ import annotations

from argparse import ArgumentParser
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.bench import format_spread
from benchmarks.lab import prepare, progress, run_load, running
from benchmarks.servers import AUTOBAHN, PROXY, SITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.servers import Server

MEASURED = (PROXY, AUTOBAHN, SITE)
COLUMNS = (
    "µs CPU a handshake",
    "handshakes/s of CPU",
    "handshakes/s",
    "the proxy's handshakes/s of CPU relative to it",
    "the proxy's handshakes/s relative to it",
    "KB a client",
)

Figures = dict[str, float]


def measure(server: Server, clients: int) -> Figures:
    """Connect `clients` clients, 64 at a time, and return the server's figures."""
    with running(server) as target:
        report = run_load(target, clients, ["hold:0.1"])
    return {**report["handshakes"], "client_kb": report["memory"]["client_kb"]}


def format_row(own: Sequence[Figures], proxy: Sequence[Figures]) -> list[str]:
    """Return the cells of a server; the ratios compare the proxy with it in each round."""
    cpu = [figures["cpu_us"] for figures in own]
    rounds = list(zip(proxy, own, strict=True))
    return [
        format_spread(cpu, ".0f"),
        f"{1_000_000 / median(cpu):,.0f}",
        f"{median(figures['per_second'] for figures in own):,.0f}",
        format_spread([one["cpu_us"] / other["cpu_us"] for other, one in rounds], ".2f"),
        format_spread([other["per_second"] / one["per_second"] for other, one in rounds], ".2f"),
        f"{median(figures['client_kb'] for figures in own):.1f}",
    ]


def main() -> None:
    """Measure the servers in turns, and print a table in Markdown."""
    parser = ArgumentParser(description="Measure the cost of a handshake.")
    parser.add_argument("--clients", type=int, default=2_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    arguments = parser.parse_args()
    prepare()
    servers = [server for server in MEASURED if not server.missing()]
    figures: dict[str, list[Figures]] = {server.name: [] for server in servers}
    for number in range(1, arguments.rounds + 1):
        progress(f"round {number} of {arguments.rounds}")
        for server in servers if number % 2 else reversed(servers):
            figures[server.name].append(measure(server, arguments.clients))
    print(f"| {arguments.clients:,} clients | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, own in figures.items():
        print(f"| {name} | {' | '.join(format_row(own, figures[PROXY.name]))} |")


if __name__ == "__main__":
    main()
