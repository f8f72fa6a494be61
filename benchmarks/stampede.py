"""A thousand clients connect at once, again and again: what becomes of the stream meanwhile.

python -m benchmarks.stampede [--clients N] [--times N]
"""

from __future__ import annotations

import asyncio
import sys
import time
from argparse import ArgumentParser
from statistics import median

from benchmarks.lab import LabError, Running, load_command, parse_report, prepare, progress, running
from benchmarks.servers import NORMAL
from benchmarks.soak import connect

STAYING = 20
RATE = 50
INTERVAL = 2.0
"""Seconds from one stampede to the next."""


async def join(target: Running) -> asyncio.StreamWriter:
    """Connect, log in, and return once that is answered."""
    reader, writer = await connect(target)
    await reader.readexactly(2)
    return writer


async def stampede(target: Running, clients: int) -> float:
    """Let them all connect at once, and go one by one; return the seconds until all were served."""
    began = time.monotonic()
    writers = await asyncio.gather(*(join(target) for _ in range(clients)))
    elapsed = time.monotonic() - began
    for writer in writers:
        writer.transport.abort()
        await asyncio.sleep(0.001)
    return elapsed


async def measure(
    target: Running, clients: int, times: int
) -> tuple[dict[str, float], list[float]]:
    """Return what the load tells of the stream, and how long each stampede took."""
    events = round((times + 1) * INTERVAL * RATE)
    load = await asyncio.create_subprocess_exec(
        *load_command(target, STAYING, [f"rate:{events}:{RATE}"], ["--sleep"]),
        pass_fds=[target.listener.fileno()],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    ended = asyncio.create_task(load.communicate())
    took = []
    for _ in range(times):
        await asyncio.sleep(INTERVAL)
        took.append(await stampede(target, clients))
    output, trouble = await ended
    report = parse_report(load.returncode or 0, output.decode(), trouble.decode())
    return report["phases"][-1], took


def main() -> None:
    """Measure, and print the figures."""
    parser = ArgumentParser(description="Measure what a thousand clients at once do to the stream.")
    parser.add_argument("--clients", type=int, default=1_000, metavar="N", help="at once")
    parser.add_argument("--times", type=int, default=10, metavar="N")
    arguments = parser.parse_args()
    prepare()
    progress(
        f"{arguments.times} times {arguments.clients:,} clients at once, {RATE} events a second"
    )
    with running(NORMAL) as target:
        told, took = asyncio.run(measure(target, arguments.clients, arguments.times))
    print(f"{arguments.clients:,} clients at once: all served after {median(took) * 1000:.0f} ms")
    print(
        f"{STAYING} clients meanwhile: last client p50 {told['last_p50_ms']:.1f} ms,"
        f" p99 {told['last_p99_ms']:.1f} ms; all {told['events']:,} events, in order"
    )


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"FAILED: {error}")
