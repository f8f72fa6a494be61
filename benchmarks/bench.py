"""Measures the proxy and other servers in turns, and prints tables; see README.md.

python -m benchmarks.bench [--full] [--clients N ...] [--rounds N] [--servers WORD ...] [--tls]
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from argparse import ArgumentParser
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from benchmarks.lab import LabError, phase, prepare, progress, run_load, running
from benchmarks.servers import (
    KEEPING,
    LIMIT,
    LIMIT_TLS,
    PEER_PYTHON,
    PROXY,
    PROXY_TLS,
    SERVERS,
    TLS_SERVERS,
    Server,
)
from benchmarks.workspace import HERE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from io import RawIOBase

RESULTS = HERE / "results.json"
ALL_CLIENTS = (100, 1_000, 5_000, 10_000)
RATE = 10
"""Events a second in the phase with a fixed rate."""

MIN_ROUNDS = 3
"""Rounds for a meaningful comparison: two starts of one server may differ by a third."""

Figures = dict[str, float]


def choose_phases(clients: int) -> list[str]:
    """Return the phases of the load: fewer events for more clients, but enough for a p99.

    The first phases warm up and are not counted: the first hundred events cost up to a fifth more.
    """
    single = min(2_000, max(200, 500_000 // clients))
    bursts = min(300, max(20, 60_000 // clients))
    warm_up = [f"single:{max(20, single // 5)}", f"burst:{16 * max(4, bursts // 5)}"]
    return [
        "hold:2",
        *warm_up,
        f"single:{single}",
        f"burst:{16 * bursts}",
        f"rate:{3 * RATE}:{RATE}",
    ]


def measure(server: Server, clients: int) -> Figures:
    """Start a server, load it, and return its figures."""
    with running(server) as target:
        report = run_load(target, clients, choose_phases(clients))
    figures: Figures = {
        "handshakes_per_second": report["handshakes"]["per_second"],
        "handshake_cpu_us": report["handshakes"]["cpu_us"],
        "idle_mb": report["memory"]["idle_kb"] / 1024,
        "client_kb": report["memory"]["client_kb"],
        "idle_cpu_percent": phase(report, "hold")["cpu_percent"],
    }
    for name in ("single", "burst", "rate"):
        phase_report: dict[str, Any] = phase(report, name)
        for figure in (
            "deliveries_per_second",
            "cpu_us",
            "first_p50_ms",
            "last_p50_ms",
            "last_p99_ms",
        ):
            figures[f"{name}_{figure}"] = phase_report[figure]
    return figures


def run(servers: Sequence[Server], sizes: Sequence[int], rounds: int) -> Iterator[dict[str, Any]]:
    """Measure all servers in every round, forwards and backwards in turn; yield each result."""
    for clients in sizes:
        for number in range(1, rounds + 1):
            for server in servers if number % 2 else reversed(servers):
                progress(f"{clients:,} clients, round {number} of {rounds}: {server.name}")
                result: dict[str, Any] = {
                    "server": server.name,
                    "clients": clients,
                    "round": number,
                }
                try:
                    result["figures"] = measure(server, clients)
                except LabError as error:
                    progress(str(error))
                    result["error"] = str(error)
                yield result


Rounds = dict[str, dict[int, Figures]]
"""The figures by server and round, without failed runs."""


def group_by_server(runs: Sequence[dict[str, Any]]) -> Rounds:
    """Group the runs by server, in the order of the lists; KEEPING is in `make latency` only."""
    rounds: Rounds = {}
    for server in dict.fromkeys((*SERVERS, KEEPING, *TLS_SERVERS)):
        own = [each for each in runs if each["server"] == server.name and "figures" in each]
        if own:
            rounds[server.name] = {each["round"]: each["figures"] for each in own}
    return rounds


def paired_ratios(
    numerator: dict[int, Figures], denominator: dict[int, Figures], figure: str
) -> list[float]:
    """Return the ratio of a figure in each round of both servers.

    Differences between rounds come from the machine, so only runs of one round are compared.
    """
    return [
        numerator[number][figure] / denominator[number][figure]
        for number in numerator
        if number in denominator and denominator[number][figure]
    ]


def format_spread(values: Sequence[float], form: str) -> str:
    """Format the median, with the lowest and the highest of several values."""
    if not values:
        return ""
    middle = f"{median(values):{form}}"
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}}-{max(values):{form}})"


def format_tables(runs: Sequence[dict[str, Any]]) -> str:
    """Return the tables for one number of clients, in Markdown."""
    rounds = group_by_server(runs)
    counts = {len(own) for own in rounds.values()}
    lines = [f"### {runs[0]['clients']:,} clients", "", *_overview(rounds), ""]
    lines.append(
        f"Medians of {max(counts, default=0)} rounds; the lowest and highest value in brackets."
    )
    if min(counts, default=0) < MIN_ROUNDS:
        lines.append(f"Fewer than {MIN_ROUNDS} rounds: differences may be noise.")
    lines += _comparison(rounds)
    failures = [f"{each['server']} (round {each['round']})" for each in runs if "error" in each]
    if failures:
        lines += ["", f"Failed: {', '.join(failures)}."]
    return "\n".join(lines)


def _overview(rounds: Rounds) -> Iterable[str]:
    yield (
        "| server | single: deliveries/s | µs CPU | times the limit | first client p50 ms "
        "| last client p50 / p99 ms | burst: deliveries/s | µs CPU "
        "| 10/s: last client p50 / p99 ms "
        "| handshakes/s | µs CPU a handshake | MB idle | KB a client |"
    )
    yield "|---" * 13 + "|"
    limit = rounds.get(LIMIT.name) or rounds.get(LIMIT_TLS.name, {})
    for server, own in rounds.items():
        figures = {
            name: median(each[name] for each in own.values()) for name in next(iter(own.values()))
        }
        cells = [
            server,
            f"{figures['single_deliveries_per_second']:,.0f}",
            format_spread([each["single_cpu_us"] for each in own.values()], ".1f"),
            format_spread(paired_ratios(own, limit, "single_cpu_us"), ".2f"),
            f"{figures['single_first_p50_ms']:.2f}",
            f"{figures['single_last_p50_ms']:.1f} / {figures['single_last_p99_ms']:.1f}",
            f"{figures['burst_deliveries_per_second']:,.0f}",
            format_spread([each["burst_cpu_us"] for each in own.values()], ".2f"),
            f"{figures['rate_last_p50_ms']:.1f} / {figures['rate_last_p99_ms']:.1f}",
            f"{figures['handshakes_per_second']:,.0f}",
            f"{figures['handshake_cpu_us']:.0f}",
            f"{figures['idle_mb']:.0f}",
            f"{figures['client_kb']:.1f}",
        ]
        yield "| " + " | ".join(cells) + " |"


def _comparison(rounds: Rounds) -> Iterable[str]:
    compared = {
        "single, µs CPU": "single_cpu_us",
        "burst, µs CPU": "burst_cpu_us",
        "single, last client p50": "single_last_p50_ms",
        "burst, last client p50": "burst_last_p50_ms",
        "CPU a handshake": "handshake_cpu_us",
    }
    name = next((each.name for each in (PROXY_TLS, PROXY) if each.name in rounds), None)
    if name is None:
        return
    yield ""
    yield f"| {name} relative to | {' | '.join(compared)} |"
    yield "|---" * (len(compared) + 1) + "|"
    own = rounds[name]
    for server, other in rounds.items():
        if server != name:
            cells = (
                format_spread(paired_ratios(own, other, figure), ".2f")
                for figure in compared.values()
            )
            yield f"| {server} | {' | '.join(cells)} |"


def describe_machine() -> dict[str, str]:
    """Describe the machine and the versions of the programs."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?"
    )
    with TemporaryFile(buffering=0) as file:
        sync = sync_time(file, 8_192)
    return {
        "cpu": cpu,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "disk": f"{sync * 1e6:.0f} µs to append 8 KiB and sync it",
        **{name: _read_version(*command) for name, command in _VERSIONS.items()},
    }


def sync_time(file: RawIOBase, size: int, pause: float = 0) -> float:
    """Return the median time (s) to write `size` bytes to a file and sync them.

    Args:
        file: an empty file is appended to; another one is overwritten, again and again.
        size: the bytes of one write.
        pause: seconds before each write.
    """
    length = file.seek(0, os.SEEK_END)
    times = []
    for number in range(100):
        if length:
            file.seek(number * size % max(length - size, 1))
        time.sleep(pause)
        began = time.perf_counter()
        file.write(bytes(size))
        os.fdatasync(file.fileno())
        times.append(time.perf_counter() - began)
    return median(times)


_VERSIONS = {
    "node": ("node", "--version"),
    "go": ("go", "version"),
    "peers": (
        str(PEER_PYTHON),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "list",
        "--format=freeze",
    ),
}


def _read_version(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "none"
    return " ".join(done.stdout.split())


def select_servers(words: Sequence[str], servers: Sequence[Server] = SERVERS) -> list[Server]:
    """Return the servers whose names contain one of `words`, or all; log those that are skipped."""
    matching = [
        server for server in servers if not words or any(word in server.name for word in words)
    ]
    for server in matching:
        if missing := server.missing():
            progress(f"skipped: {server.name}, missing {', '.join(map(str, missing))}")
    return [server for server in matching if not server.missing()]


def main() -> None:
    """Measure, store the results as JSON, and print the tables."""
    parser = ArgumentParser(description="Measure the proxy and other servers.")
    parser.add_argument(
        "--full", action="store_true", help="with 100, 1,000, 5,000 and 10,000 clients"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1_000], metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument(
        "--servers",
        nargs="+",
        default=[],
        metavar="WORD",
        help="only servers whose names contain it",
    )
    parser.add_argument(
        "--output", type=Path, default=RESULTS, metavar="FILE", help="for the figures, in JSON"
    )
    parser.add_argument(
        "--tls", action="store_true", help="servers with TLS, and the proxy without"
    )
    arguments = parser.parse_args()
    servers = TLS_SERVERS if arguments.tls else SERVERS
    prepare()
    sizes = ALL_CLIENTS if arguments.full else tuple(arguments.clients)
    machine, runs = describe_machine(), []
    for result in run(select_servers(arguments.servers, servers), sizes, arguments.rounds):
        runs.append(result)
        arguments.output.write_text(json.dumps({"machine": machine, "runs": runs}, indent=1))
    for clients in sizes:
        print(
            format_tables([result for result in runs if result["clients"] == clients]), end="\n\n"
        )


if __name__ == "__main__":
    main()
