"""Counts the calls of Python functions and the system calls of a server for one event."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from benchmarks.lab import ROOT, LabError, progress, run_load, running, terminate
from benchmarks.servers import LIMIT, Server
from benchmarks.workspace import BUILD, HERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

COUNTED = (100, 600)
"""Events of the two runs whose difference gives the calls for one event, one after the other."""

CALLS, SYSTEM_CALLS = "python_calls", "system_calls"


def count_python_calls(server: Server, clients: int, events: int) -> int:
    """Return the calls of Python functions in a whole run."""
    path = BUILD / "calls"
    path.write_bytes(bytes(8))
    paths = f"{HERE / 'calls'}:{ROOT}"
    with running(server, PYTHONPATH=paths, CALLS_FILE=str(path)) as target:
        run_load(target, clients, [f"single:{events}"])
    return int.from_bytes(path.read_bytes(), "little")


def count_system_calls(server: Server, clients: int, events: int) -> int:
    """Return the system calls in a whole run; raise OSError or LabError without strace."""
    path = BUILD / "system_calls"
    path.unlink(missing_ok=True)
    command = ["strace", "-c", "-f", "-U", "calls,name", "-o", str(path), "-p"]
    with running(server) as target:
        strace = subprocess.Popen(
            [*command, str(target.pid)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        try:
            assert strace.stderr is not None
            strace.stderr.readline()  # "attached"
            run_load(target, clients, [f"single:{events}"])
        finally:
            terminate(strace)
    match path.read_text().split():
        case [*_, total, "total"]:
            return int(total)
    raise LabError("strace may not trace it")


def count_per_event(
    server: Server, clients: int, count: Callable[[Server, int, int], int]
) -> float | None:
    """Return the calls for one event, from two runs; None if they cannot be counted."""
    few, many = COUNTED
    try:
        return (count(server, clients, many) - count(server, clients, few)) / (many - few)
    except (OSError, LabError) as error:
        progress(f"{server.name}: {error}")
        return None


def count_calls(servers: Iterable[Server], clients: int) -> dict[str, dict[str, float | None]]:
    """Return the Python calls and system calls of each server for one event."""
    counts: dict[str, dict[str, float | None]] = {}
    for server in servers:
        progress(f"calls: {server.name}")
        counts[server.name] = {
            CALLS: None
            if server is LIMIT
            else count_per_event(server, clients, count_python_calls),
            SYSTEM_CALLS: count_per_event(server, clients, count_system_calls),
        }
    return counts
