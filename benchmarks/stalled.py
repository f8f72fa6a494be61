"""Measures what clients that stop reading cost: the proxy's memory, and a healthy client's latency.

First one client alone has its events. Then 200 more are connected which read nothing while 100,000 events
pass. The kernel takes some megabytes for each of them, within the first fifth; from then on they are stalled,
and the proxy keeps their places. At last they read, and each must have the whole log, byte for byte the
healthy client's.

python -m benchmarks.stalled [--stalled N] [--events N]
"""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from benchmarks.lab import (
    LabError,
    Running,
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
    target: Running, clients: int, phases: Sequence[str], options: Sequence[str]
) -> tuple[dict[str, Any], list[int]]:
    """Run the load; return its report, and the proxy's memory (KiB) meanwhile."""
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
                output, trouble = process.communicate(timeout=SAMPLE_INTERVAL)
                break
            except subprocess.TimeoutExpired:
                samples.append(target.rss())
    finally:
        process.kill()
    return parse_report(process.returncode, output, trouble), samples


def main() -> None:
    """Measure, print the figures, and end with status 1 if a promise is not kept."""
    parser = ArgumentParser(description="Measure what clients that stop reading cost.")
    parser.add_argument("--stalled", type=int, default=200, metavar="N")
    parser.add_argument("--events", type=int, default=100_000, metavar="N")
    arguments = parser.parse_args()
    prepare()
    small = ("--size", str(EVENT_SIZE), "--timeout", "600")
    with running(PROXY, PROXY_STALL_TIMEOUT="3600") as target:
        progress("a healthy client alone")
        warm_up, measured = "burst:1600", f"burst:{max(16, arguments.events // 10)}"
        before = run_load(target, 1, [warm_up, measured], *small)["phases"][-1]
        progress(f"the same beside {arguments.stalled} that don't read, which are woken at the end")
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
        f"{arguments.events:,} events of {EVENT_SIZE} bytes, 16 at once; {arguments.stalled} stalled clients"
    )
    healthy = {
        "alone": before,
        "while the kernel's buffers for the others fill": while_filling,
        "once they are full": during,
    }
    for name, told in healthy.items():
        print(
            f"healthy client {name}: p50 {told['last_p50_ms']:.2f} ms, p99 {told['last_p99_ms']:.2f} ms,"
            f" {told['deliveries_per_second']:,.0f} events/s"
        )
    print(
        f"memory of the proxy: {connected / 1024:.1f} MB before, {report['end_kb'] / 1024:.1f} MB after"
    )
    print(f"its highest, while they slept and were woken: {max(samples) / 1024:.1f} MB")
    print(f"woken: every one had the complete log after {report['woken']['seconds']:.1f} s")
    if growth > ALLOWED_GROWTH:
        print(f"FAILED: it grew by {growth / 1024:.1f} MB, and may by {ALLOWED_GROWTH / 1024:.0f}")
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"FAILED: {error}")
