"""Measures how stalled clients affect the proxy's memory and the latency of a healthy client.

First one client is connected alone. Then 200 more connect and read nothing while 100,000 events are
sent. The kernel buffers some megabytes for each, within the first fifth of the events. From then on
they are stalled, and the proxy keeps only their positions. Finally they read, and each must get the
whole log, byte for byte like the healthy client.

    python -m benchmarks.stalled [--stalled N] [--events N]
"""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from benchmarks.lab import (
    LabError,
    RunningServer,
    load_command,
    parse_report,
    prepare,
    progress,
    run_load,
    running,
)
from benchmarks.servers import PROXY

if TYPE_CHECKING:
    from collections.abc import Sequence

EVENT_SIZE = 300
RECEIVE_BUFFER = 4_096
ALLOWED_GROWTH = 30 * 1_024
"""KiB."""

SAMPLE_INTERVAL = 0.5
"""Seconds."""


def watched_load(
    target: RunningServer, clients: int, phases: Sequence[str], options: Sequence[str]
) -> tuple[dict[str, Any], list[int]]:
    """Run the load and sample the proxy's memory.

    Args:
        target: the proxy.
        clients: how many clients connect, the stalled ones included.
        phases: the phases of the load; see load.c.
        options: further options of the load.

    Returns the report of the load, and the samples in KiB.
    """
    samples = [target.rss()]
    command = load_command(target, clients, phases, options)
    process = subprocess.Popen(
        command,
        pass_fds=[target.listener.fileno()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while True:
            try:
                output, errors = process.communicate(timeout=SAMPLE_INTERVAL)
                break
            except subprocess.TimeoutExpired:
                samples.append(target.rss())
    finally:
        process.kill()
    return parse_report(process.returncode, output, errors), samples


def main() -> None:
    """Measure, print the figures, and exit with 1 if memory grew too much."""
    parser = ArgumentParser(description="Measure the cost of clients that stop reading.")
    parser.add_argument("--stalled", type=int, default=200, metavar="N")
    parser.add_argument("--events", type=int, default=100_000, metavar="N")
    arguments = parser.parse_args()
    prepare()
    small = ("--size", str(EVENT_SIZE), "--timeout", "600")
    with running(PROXY, PROXY_STALL_TIMEOUT="3600") as target:
        progress("a healthy client alone")
        warm_up, measured = "burst:1600", f"burst:{max(16, arguments.events // 10)}"
        before = run_load(target, 1, [warm_up, measured], *small)["phases"][-1]
        progress(f"the same with {arguments.stalled} stalled clients, which read at the end")
        options = (
            "--stalled",
            str(arguments.stalled),
            "--receive-buffer",
            str(RECEIVE_BUFFER),
            "--digest",
        )
        clients = arguments.stalled + 1
        filling = arguments.events // 5
        phases = [f"burst:{filling}", f"burst:{arguments.events - filling}"]
        report, samples = watched_load(target, clients, phases, (*small, *options))
    while_filling, during = report["phases"]
    connected = report["memory"]["idle_kb"] + report["memory"]["client_kb"] * clients
    growth = max(samples) - connected
    print(
        f"{arguments.events:,} events of {EVENT_SIZE} bytes, 16 at once;"
        f" {arguments.stalled} stalled clients"
    )
    healthy = {
        "alone": before,
        "while the kernel's buffers fill": while_filling,
        "with full buffers": during,
    }
    for name, figures in healthy.items():
        print(
            f"healthy client {name}: p50 {figures['last_p50_ms']:.2f} ms,"
            f" p99 {figures['last_p99_ms']:.2f} ms,"
            f" {figures['deliveries_per_second']:,.0f} events/s"
        )
    print(
        f"memory of the proxy: {connected / 1024:.1f} MB before,"
        f" {report['end_kb'] / 1024:.1f} MB after"
    )
    print(f"highest memory in between: {max(samples) / 1024:.1f} MB")
    print(
        "once they read again, every client had the complete log"
        f" after {report['woken']['seconds']:.1f} s"
    )
    if growth > ALLOWED_GROWTH:
        print(f"FAILED: memory grew by {growth / 1024:.1f} MB, over {ALLOWED_GROWTH / 1024:.0f} MB")
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"FAILED: {error}")
