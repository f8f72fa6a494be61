"""Measures the stream of steady clients while 1,000 others connect at once, several times.

python -m benchmarks.stampede [--clients N] [--times N]
"""

from __future__ import annotations

import asyncio
import sys
import time
from argparse import ArgumentParser
from statistics import median

from benchmarks.lab import (
    LabError,
    RunningServer,
    load_command,
    parse_report,
    prepare,
    progress,
    running,
)
from benchmarks.servers import NORMAL
from benchmarks.soak import open_client

STEADY_CLIENTS = 20
RATE = 50
INTERVAL = 2.0
"""Seconds from one stampede to the next."""


async def connect_client(target: RunningServer) -> asyncio.StreamWriter:
    """Connect, log in, and return once the reply arrives."""
    reader, writer = await open_client(target)
    await reader.readexactly(2)
    return writer


async def stampede(target: RunningServer, clients: int) -> float:
    """Connect all clients at once and abort them one by one; return the seconds to serve all."""
    began = time.monotonic()
    writers = await asyncio.gather(*(connect_client(target) for _ in range(clients)))
    elapsed = time.monotonic() - began
    for writer in writers:
        writer.transport.abort()
        await asyncio.sleep(0.001)
    return elapsed


async def measure(
    target: RunningServer, clients: int, times: int
) -> tuple[dict[str, float], list[float]]:
    """Return the load's report of the stream, and the duration (s) of each stampede."""
    events = round((times + 1) * INTERVAL * RATE)
    load = await asyncio.create_subprocess_exec(
        *load_command(target, STEADY_CLIENTS, [f"rate:{events}:{RATE}"], ["--sleep"]),
        pass_fds=[target.listener.fileno()],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    ended = asyncio.create_task(load.communicate())
    durations = []
    for _ in range(times):
        await asyncio.sleep(INTERVAL)
        durations.append(await stampede(target, clients))
    output, errors = await ended
    report = parse_report(load.returncode or 0, output.decode(), errors.decode())
    return report["phases"][-1], durations


def main() -> None:
    """Measure, and print the figures."""
    parser = ArgumentParser(description="Measure the stream while many clients connect.")
    parser.add_argument("--clients", type=int, default=1_000, metavar="N", help="at once")
    parser.add_argument("--times", type=int, default=10, metavar="N")
    arguments = parser.parse_args()
    prepare()
    progress(
        f"{arguments.times} times {arguments.clients:,} clients at once, {RATE} events a second"
    )
    with running(NORMAL) as target:
        figures, durations = asyncio.run(measure(target, arguments.clients, arguments.times))
    print(
        f"{arguments.clients:,} clients at once: all served after {median(durations) * 1000:.0f} ms"
    )
    print(
        f"{STEADY_CLIENTS} steady clients: last client p50 {figures['last_p50_ms']:.1f} ms,"
        f" p99 {figures['last_p99_ms']:.1f} ms; all {figures['events']:,} events, in order"
    )


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"FAILED: {error}")
