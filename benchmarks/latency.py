"""Measures one event to a few clients, through the proxy and other relays; see README.md.

python -m benchmarks.latency [--rounds N] [--seconds N] [--servers WORD ...]
"""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.bench import (
    MIN_ROUNDS,
    describe_machine,
    format_spread,
    group_by_server,
    paired_ratios,
    select_servers,
    sync_time,
)
from benchmarks.calls import SYSTEM_CALLS, count_calls
from benchmarks.lab import SERVER_CORE, LabError, prepare, progress, run_load, running
from benchmarks.servers import (
    AIOHTTP,
    KEEPING,
    LIMIT,
    NO_BOOK,
    NORMAL,
    PICOWS,
    PROXY,
    WEBSOCKETS,
    Server,
    with_upstream_tls,
)
from benchmarks.workspace import HERE
from tradeproxy.journal.spool import HEAD, MAGIC, MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.bench import Figures

RESULTS = HERE / "latency.json"
COMPARED = (PROXY, NORMAL, NO_BOOK, WEBSOCKETS, KEEPING, AIOHTTP, PICOWS, LIMIT)
RATE, SLOW_RATE, SLOW_EVENTS = 200, 5, 100
CLIENTS, FEW = (1, 5, 20), 5
WARM_UP = 100
COLUMNS = {
    "first_p50_us": "first client: p50 µs",
    "first_p99_us": "p99 µs",
    "last_p50_us": "last client: p50 µs",
    "last_p99_us": "p99 µs",
    "cpu_us": "CPU µs",
}
RATIOS = {
    "first_p50_us": "times websockets: first p50",
    "last_p99_us": "last p99",
    "cpu_us": "CPU",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A number of clients, a rate of events, and whether the upstream has TLS."""

    clients: int
    rate: int = RATE
    tls: bool = False

    def __str__(self) -> str:
        clients = f"{self.clients} client{'s' if self.clients > 1 else ''}"
        return f"{clients}, {self.rate} events/s{', TLS upstream' if self.tls else ''}"

    def phases(self, seconds: float) -> list[str]:
        """Return the phases of the load: the last one is measured."""
        events = SLOW_EVENTS if self.rate == SLOW_RATE else round(seconds * self.rate)
        return [f"clients:{self.clients}", f"single:{WARM_UP}", f"rate:{events}:{self.rate}"]


SLOW, TLS = Case(FEW, SLOW_RATE), Case(FEW, tls=True)
CASES = (*map(Case, CLIENTS), SLOW, TLS)


def cases_of(server: Server) -> list[Case]:
    """Return the cases of a server. The C relay has no TLS."""
    left_out = {NORMAL: (), WEBSOCKETS: (), NO_BOOK: (TLS,), KEEPING: (TLS,), LIMIT: (TLS,)}.get(
        server, (SLOW, TLS)
    )
    return [case for case in CASES if case not in left_out]


def measure(server: Server, cases: Sequence[Case], seconds: float) -> dict[Case, Figures]:
    """Start a server, and return its figures in each case; the clients of one stay for the next."""
    phases = [phase for case in sorted(cases, key=_clients) for phase in case.phases(seconds)]
    with running(server) as target:
        report = run_load(target, min(map(_clients, cases)), phases, "--poll")
        sync = measure_sync(target.config.directory / "journal") if server is PROXY else {}
    measured = [each for each in report["phases"] if each["phase"] == "rate"]
    return {
        case: {
            f"{which}_us": phase_report[f"{which}_ms"] * 1_000
            for which in ("first_p50", "first_p99", "last_p50", "last_p99")
        }
        | {"cpu_us": phase_report["cpu_us"] * case.clients, **sync}
        for case, phase_report in zip(sorted(cases, key=_clients), measured, strict=True)
    }


def _clients(case: Case) -> int:
    return case.clients


def measure_sync(journal: Path) -> Figures:
    """Return the bytes that the spool gets of an event, and the time (µs) to write and sync them.

    They overwrite a copy of the spool in its own directory, as after the first 64 events.
    """
    [spool] = journal.rglob("*.spool")
    content = spool.read_bytes()
    size = record_size(content)
    copy = spool.with_suffix(".copy")
    copy.write_bytes(content.ljust(MAX_ROWS * size, b"\0"))
    with copy.open("r+b", buffering=0) as file:
        return {"record_bytes": size, "sync_us": sync_time(file, size, 1 / RATE) * 1e6}


def record_size(spool: bytes) -> int:
    """Return the size of the first record of a spool; see its file format. The clients got it."""
    size, _ = HEAD.unpack_from(spool, len(MAGIC))
    return HEAD.size + int(size)


def run(servers: Sequence[Server], rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Measure all servers in every round, each time from the next one on; yield each result."""
    for number in range(1, rounds + 1):
        start = number % len(servers)
        for server in [*servers[start:], *servers[:start]]:
            progress(f"round {number} of {rounds}: {server.name}")
            for tls in (False, True):
                cases = [case for case in cases_of(server) if case.tls == tls]
                used = with_upstream_tls(server) if tls else server
                try:
                    figures = measure(used, cases, seconds) if cases else {}
                except LabError as error:
                    progress(str(error))
                    yield {"server": server.name, "round": number, "error": str(error)}
                    continue
                for case, own in figures.items():
                    result = {"server": server.name, "case": str(case), "round": number}
                    yield {**result, "figures": own}


def format_table(results: dict[str, Any], case: Case) -> Iterable[str]:
    """Return the table of a case, in Markdown."""
    rounds = group_by_server([each for each in results["runs"] if each.get("case") == str(case)])
    counted = case == Case(FEW)
    headings = ["server", *COLUMNS.values(), *RATIOS.values()]
    headings += ["Python calls", "system calls"] if counted else []
    yield from ("", f"### {case}", "", f"| {' | '.join(headings)} |", "|---" * len(headings) + "|")
    base = rounds.get(WEBSOCKETS.name, {})
    for name, own in rounds.items():
        cells = [name]
        cells += [format_spread([each[key] for each in own.values()], ".0f") for key in COLUMNS]
        cells += [format_spread(paired_ratios(own, base, key), ".2f") for key in RATIOS]
        if counted:
            counts = results["calls"][name].values()
            cells += ["-" if each is None else f"{each:.1f}" for each in counts]
        yield f"| {' | '.join(cells)} |"


def format_sync(results: dict[str, Any]) -> Iterable[str]:
    """Return what `full` costs more than `normal`, compared with a write and fdatasync."""
    runs = [each for each in results["runs"] if each.get("case") == str(Case(FEW))]
    rounds = group_by_server(runs)
    full, normal = rounds.get(PROXY.name, {}), rounds.get(NORMAL.name, {})
    both = [(full[number], normal[number]) for number in full if number in normal]
    if both:
        sync = [own["sync_us"] for own, _ in both]
        more = [own["first_p50_us"] - other["first_p50_us"] for own, other in both]
        ratios = [each / time for each, time in zip(more, sync, strict=True)]
        yield ""
        yield (
            f"A write and fdatasync of {median(own['record_bytes'] for own, _ in both):,.0f} "
            f"bytes, as the spool gets of one event: {format_spread(sync, '.0f')} µs. Journal "
            f"`full` takes {format_spread(more, '.0f')} µs more than `normal` until the first "
            f"client has the event (p50, {FEW} clients): {format_spread(ratios, '.2f')} times that."
        )


def find_late(runs: Iterable[dict[str, Any]]) -> list[str]:
    """Return the servers that took longer for the median event than until the next one."""
    return sorted(
        {
            each["server"]
            for each in runs
            if each.get("case") != str(SLOW)
            and each.get("figures", {}).get("first_p50_us", 0) > 1e6 / RATE
        }
    )


def format_results(results: dict[str, Any], rounds: int) -> str:
    """Return all tables, and what is missing in them."""
    lines = [line for case in CASES for line in format_table(results, case)]
    lines += [*format_sync(results), "", f"Medians of {rounds} rounds, with lowest and highest."]
    lines.append("The C relay has no TLS, so it is not in that table.")
    if any(counts[SYSTEM_CALLS] is None for counts in results["calls"].values()):
        lines.append("System calls are missing where strace is not installed or may not trace.")
    if rounds < MIN_ROUNDS:
        lines.append(f"Fewer than {MIN_ROUNDS} rounds: differences may be noise.")
    if late := find_late(results["runs"]):
        lines.append(f"In some round the median event waited for those before: {'; '.join(late)}.")
    failed = [
        f"{each['server']} (round {each['round']})" for each in results["runs"] if "error" in each
    ]
    return "\n".join([*lines, *([f"Failed: {', '.join(failed)}."] if failed else [])])


def main() -> None:
    """Measure, store the results as JSON, and print the tables."""
    parser = ArgumentParser(description="Measure the way of one event to a few clients.")
    parser.add_argument("--rounds", type=int, default=10, metavar="N")
    parser.add_argument("--seconds", type=float, default=2, metavar="N", help="for each case")
    parser.add_argument(
        "--servers", nargs="+", default=[], metavar="WORD", help="those with it in their names"
    )
    arguments = parser.parse_args()
    prepare()
    os.sched_setaffinity(0, {SERVER_CORE})  # the proxy's commits are synced there, too
    servers = select_servers(arguments.servers, COMPARED)
    results: dict[str, Any] = {"machine": describe_machine(), "calls": count_calls(servers, FEW)}
    results["runs"] = []
    for result in run(servers, arguments.rounds, arguments.seconds):
        results["runs"].append(result)
        RESULTS.write_text(json.dumps(results, indent=1))
    print(format_results(results, arguments.rounds))


if __name__ == "__main__":
    main()
