"""Measures what Redis in between costs, and a second node: the same clients, three ways, in turns.

python -m benchmarks.nodes [--clients N ...] [--rounds N] [--spread]

One node with its log in SQLite, one node with it in Redis, and two nodes with it in Redis that share
a port, so that each has about half of the clients. All nodes and Redis run on core 1, and the load on core 0:
on a machine of two cores two nodes share what one has, and what they cost is seen, not what they gain. With
--spread they may use both cores, and take their part of the load's.
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

from benchmarks.bench import Figures, ratios, spread
from benchmarks.lab import (
    PATIENCE,
    ROOT,
    SERVER_CORE,
    LabError,
    end,
    phase,
    pinned,
    prepare,
    progress,
    run_load,
    running,
)
from benchmarks.servers import NORMAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.lab import Running

RATE, SECONDS = 10, 20
"""Events a second, and for how long, in the phase that goes by the clock."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of those that are compared."""

    name: str
    nodes: int
    redis: bool


ALONE = Way("one node, SQLite", 1, redis=False)
WAYS = (ALONE, Way("one node, Redis", 1, redis=True), Way("two nodes, Redis", 2, redis=True))

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
def started(command: Sequence[str], directory: Path, environ: Mapping[str, str]) -> Iterator[int]:
    """Run a program until the block ends, and give its process id."""
    directory.mkdir()
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield process.pid
        finally:
            end(process)


@contextmanager
def redis(directory: Path) -> Iterator[tuple[str, int]]:
    """Run a Redis that keeps its data as it is advised to (fsync every second); give its URL and its id."""
    socket = directory / "socket"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", "."]
    command += ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
    with started(
        pinned(SERVER_CORE, command), directory / "redis", {"PATH": os.environ["PATH"]}
    ) as pid:
        _wait_for(socket)
        yield f"unix://{socket}", pid


@contextmanager
def further_node(first: Running, directory: Path, environ: Mapping[str, str]) -> Iterator[int]:
    """Run another node at the first one's port; give its id."""
    place = first.place
    basic = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": str(ROOT)}
    command = pinned(SERVER_CORE, first.server.command(place))
    with started(
        command, directory / "node", basic | dict(first.server.environ(place)) | dict(environ)
    ) as pid:
        log, limit = directory / "node/log", time.monotonic() + PATIENCE
        while "caught up" not in log.read_text():
            if time.monotonic() > limit:
                raise LabError(f"the second node does not follow: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield pid


def _wait_for(path: Path) -> None:
    limit = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > limit:
            raise LabError(f"there is no {path}")
        time.sleep(0.01)


def phases(clients: int) -> list[str]:
    """Return the phases for so many clients; what comes first of each kind warms up, and is not counted."""
    single, bursts = min(2_000, 400_000 // clients), min(200, 40_000 // clients)
    warm_up = [f"single:{single // 5}", f"burst:{16 * (bursts // 5)}"]
    return [*warm_up, f"single:{single}", f"burst:{16 * bursts}", f"rate:{SECONDS * RATE}:{RATE}"]


def measure(way: Way, clients: int, *, everywhere: bool) -> Figures:
    """Start what there is to start, load it, and return the figures."""
    with ExitStack() as stack, TemporaryDirectory(prefix="nodes-") as name:
        directory, environ, pids = Path(name), {}, []
        if way.redis:
            url, pid = stack.enter_context(redis(directory))
            environ = {"PROXY_REDIS_URL": url, "PROXY_REUSE_PORT": "1"}
            pids.append(pid)
        first = stack.enter_context(running(NORMAL, **environ))
        for _ in range(way.nodes - 1):
            pids.append(stack.enter_context(further_node(first, directory, environ)))
        for pid in (*pids, first.pid) if everywhere else ():
            os.sched_setaffinity(pid, range(os.cpu_count() or 1))
        options = [word for pid in pids for word in ("--pid", str(pid))]
        report = run_load(first, clients, phases(clients), *options)
    figures: Figures = {}
    for kind in ("rate", "single", "burst"):
        for figure, value in phase(report, kind).items():
            if isinstance(value, float | int):
                figures[f"{kind}_{figure}"] = value
    return figures


def run(
    sizes: Sequence[int], rounds: int, *, everywhere: bool
) -> Iterator[tuple[int, Way, int, Figures]]:
    """Measure all of them, one after the other, and that again in every round, in turn forth and back."""
    for clients in sizes:
        for number in range(1, rounds + 1):
            for way in WAYS if number % 2 else reversed(WAYS):
                progress(f"{clients:,} clients, round {number} of {rounds}: {way.name}")
                yield clients, way, number, measure(way, clients, everywhere=everywhere)


def table(clients: int, rounds: Mapping[Way, Mapping[int, Figures]]) -> str:
    """Return the medians in Markdown, and what the others take of what a node alone takes."""
    lines = [
        f"### {clients:,} clients",
        "",
        f"| | {' | '.join(FIGURES)} |",
        "|---" * (len(FIGURES) + 1) + "|",
    ]
    for way, own in rounds.items():
        cells = (
            _written(median(each[figure] for each in own.values())) for figure in FIGURES.values()
        )
        lines.append(f"| {way.name} | {' | '.join(cells)} |")
    for way, own in rounds.items():
        if way is not ALONE:
            alone = dict(rounds[ALONE])
            cells = (spread(ratios(dict(own), alone, figure), ".2f") for figure in FIGURES.values())
            lines.append(f"| {way.name}, of {ALONE.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _written(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.2f}"


def main() -> None:
    """Measure, and print the tables."""
    parser = ArgumentParser(description="Measure what Redis in between costs, and a second node.")
    parser.add_argument("--clients", type=int, nargs="+", default=[200, 1_000], metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument(
        "--spread", action="store_true", help="let the nodes and Redis use every core"
    )
    arguments = parser.parse_args()
    if shutil.which("redis-server") is None:
        sys.exit("skipped: there is no redis-server here; Debian's package of that name has it")
    prepare()
    figures: dict[int, dict[Way, dict[int, Figures]]] = {}
    for clients, way, number, measured in run(
        arguments.clients, arguments.rounds, everywhere=arguments.spread
    ):
        figures.setdefault(clients, {each: {} for each in WAYS})[way][number] = measured
    for clients, rounds in figures.items():
        print(table(clients, rounds), end="\n\n")
    print(
        f"Medians of {arguments.rounds} rounds; then the ratio within a round: median (least-greatest).",
        f"All of it runs on one machine of {os.cpu_count()} cores, the load and the clients too;",
        "µs CPU is of all nodes and Redis, for one event to one client.",
    )


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"FAILED: {error}")
