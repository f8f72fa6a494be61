"""Measures what a log in Redis costs, and a second node: three setups with the same clients.

python -m benchmarks.nodes [--clients N ...] [--rounds N] [--spread]

The setups are one node with its log in SQLite, one node with it in Redis, and two nodes with it in
Redis. The two share a port, so each has about half of the clients. All nodes and Redis run on
core 1, and the load on core 0. So on a machine with two cores the second node's cost shows, and not
its gain. With --spread they may use both cores, and compete with the load.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.bench import Figures, format_spread, paired_ratios
from benchmarks.lab import (
    ROOT,
    SERVER_CORE,
    START_TIMEOUT,
    LabError,
    phase,
    pinned,
    prepare,
    progress,
    run_load,
    running,
    terminate,
)
from benchmarks.servers import NORMAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.lab import RunningServer

RATE, SECONDS = 10, 20
"""Events per second, and seconds, of the phase at a fixed rate."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One of the setups to compare."""

    name: str
    nodes: int
    redis: bool


ALONE = Setup("one node, SQLite", 1, redis=False)
SETUPS = (ALONE, Setup("one node, Redis", 1, redis=True), Setup("two nodes, Redis", 2, redis=True))

FIGURES = {
    "10/s: first client p50 ms": "rate_first_p50_ms",
    "first p99 ms": "rate_first_p99_ms",
    "last p50 ms": "rate_last_p50_ms",
    "last p99 ms": "rate_last_p99_ms",
    "single: deliveries/s": "single_deliveries_per_second",
    "single µs CPU": "single_cpu_us",
    "burst: deliveries/s": "burst_deliveries_per_second",
    "burst µs CPU": "burst_cpu_us",
}


@contextmanager
def run_program(
    command: Sequence[str], directory: Path, environ: Mapping[str, str]
) -> Iterator[int]:
    """Run a program until the block ends; yield its process id."""
    directory.mkdir()
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield process.pid
        finally:
            terminate(process)


@contextmanager
def run_redis(directory: Path) -> Iterator[tuple[str, int]]:
    """Run a Redis with fsync every second, as advised; yield its URL and process id."""
    socket = directory / "socket"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", "."]
    command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
    with run_program(
        pinned(SERVER_CORE, command), directory / "redis", {"PATH": os.environ["PATH"]}
    ) as pid:
        _wait_for(socket)
        yield f"unix://{socket}", pid


@contextmanager
def run_second_node(
    first: RunningServer, directory: Path, environ: Mapping[str, str]
) -> Iterator[int]:
    """Run another node at the port of the first; yield its process id."""
    place = first.config
    basic = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": str(ROOT)}
    command = pinned(SERVER_CORE, first.server.command(place))
    with run_program(
        command, directory / "node", basic | dict(first.server.environ(place)) | dict(environ)
    ) as pid:
        log, limit = directory / "node/log", time.monotonic() + START_TIMEOUT
        while "caught up" not in log.read_text():
            if time.monotonic() > limit:
                raise LabError(f"the second node does not catch up: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield pid


def _wait_for(path: Path) -> None:
    limit = time.monotonic() + START_TIMEOUT
    while not path.exists():
        if time.monotonic() > limit:
            raise LabError(f"there is no {path}")
        time.sleep(0.01)


def list_phases(clients: int) -> list[str]:
    """Return the phases for this many clients; the first of each kind is a warm-up."""
    single, bursts = min(2_000, 400_000 // clients), min(200, 40_000 // clients)
    warm_up = [f"single:{single // 5}", f"burst:{16 * (bursts // 5)}"]
    return [*warm_up, f"single:{single}", f"burst:{16 * bursts}", f"rate:{SECONDS * RATE}:{RATE}"]


def measure(setup: Setup, clients: int, *, everywhere: bool) -> Figures:
    """Run one setup under load, and return its figures."""
    with ExitStack() as stack, TemporaryDirectory(prefix="nodes-") as name:
        directory, environ, pids = Path(name), {}, []
        if setup.redis:
            url, pid = stack.enter_context(run_redis(directory))
            environ = {"PROXY_REDIS_URL": url, "PROXY_REUSE_PORT": "1"}
            pids.append(pid)
        first = stack.enter_context(running(NORMAL, **environ))
        for _ in range(setup.nodes - 1):
            pids.append(stack.enter_context(run_second_node(first, directory, environ)))
        for pid in (*pids, first.pid) if everywhere else ():
            os.sched_setaffinity(pid, range(os.cpu_count() or 1))
        options = [word for pid in pids for word in ("--pid", str(pid))]
        report = run_load(first, clients, list_phases(clients), *options)
    figures: Figures = {}
    for kind in ("rate", "single", "burst"):
        for figure, value in phase(report, kind).items():
            if isinstance(value, float | int):
                figures[f"{kind}_{figure}"] = value
    return figures


def measure_all(
    sizes: Sequence[int], rounds: int, *, everywhere: bool
) -> Iterator[tuple[int, Setup, int, Figures]]:
    """Measure every setup in every round, in alternating order."""
    for clients in sizes:
        for number in range(1, rounds + 1):
            for setup in SETUPS if number % 2 else reversed(SETUPS):
                progress(f"{clients:,} clients, round {number} of {rounds}: {setup.name}")
                yield clients, setup, number, measure(setup, clients, everywhere=everywhere)


def format_table(clients: int, rounds: Mapping[Setup, Mapping[int, Figures]]) -> str:
    """Return the medians in Markdown, and the ratios to a single node with a file."""
    lines = [
        f"### {clients:,} clients",
        "",
        f"| | {' | '.join(FIGURES)} |",
        "|---" * (len(FIGURES) + 1) + "|",
    ]
    for setup, own in rounds.items():
        cells = (
            _format(median(each[figure] for each in own.values())) for figure in FIGURES.values()
        )
        lines.append(f"| {setup.name} | {' | '.join(cells)} |")
    for setup, own in rounds.items():
        if setup is not ALONE:
            alone = dict(rounds[ALONE])
            cells = (
                format_spread(paired_ratios(dict(own), alone, figure), ".2f")
                for figure in FIGURES.values()
            )
            lines.append(f"| {setup.name}, of {ALONE.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _format(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.2f}"


def main() -> None:
    """Measure, and print the tables."""
    parser = ArgumentParser(description="Measure what a log in Redis costs, and a second node.")
    parser.add_argument("--clients", type=int, nargs="+", default=[200, 1_000], metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument(
        "--spread", action="store_true", help="let the nodes and Redis use every core"
    )
    arguments = parser.parse_args()
    if shutil.which("redis-server") is None:
        sys.exit("skipped: there is no redis-server here; Debian's package of that name has it")
    prepare()
    figures: dict[int, dict[Setup, dict[int, Figures]]] = {}
    for clients, setup, number, measured in measure_all(
        arguments.clients, arguments.rounds, everywhere=arguments.spread
    ):
        figures.setdefault(clients, {each: {} for each in SETUPS})[setup][number] = measured
    for clients, rounds in figures.items():
        print(format_table(clients, rounds), end="\n\n")
    print(
        f"Medians of {arguments.rounds} rounds;",
        "then the ratio within a round: median (least-greatest).",
        f"All of it runs on one machine of {os.cpu_count()} cores, the load and the clients too;",
        "µs CPU is of all nodes and Redis, for one event to one client.",
    )


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"FAILED: {error}")
