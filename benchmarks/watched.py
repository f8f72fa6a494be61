"""Measures the cost of an open dashboard and a Prometheus scrape every second.

python -m benchmarks.watched [--clients N] [--rounds N]
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from contextlib import contextmanager
from statistics import median
from threading import Event, Thread
from typing import TYPE_CHECKING
from urllib.request import urlopen

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from benchmarks.lab import (
    LOAD_CORE,
    LabError,
    RunningServer,
    phase,
    prepare,
    progress,
    run_load,
    running,
)
from benchmarks.servers import NORMAL

if TYPE_CHECKING:
    from collections.abc import Iterator

PHASE, WARM_UP, EVENTS = "single", 200, 2000
LOGIN = json.dumps({"action": "auth", "key": "any", "secret": "any"})


@contextmanager
def watch(target: RunningServer) -> Iterator[None]:
    """Follow the stream and poll like the dashboard, and scrape /metrics every second."""
    base, stopped = f"127.0.0.1:{target.config.port}", Event()

    def poll() -> None:
        polls = 0
        while not stopped.wait(1.0):
            polls += 1
            for path in ("/metrics", "/status.json") if polls % 2 else ("/metrics",):
                with urlopen(f"http://{base}{path}") as answer:
                    answer.read()

    def follow() -> None:
        with connect(f"ws://{base}{target.server.path}?proxy_status=1&replay=300") as stream:
            stream.send(LOGIN)
            while not stopped.is_set():
                try:
                    stream.recv(timeout=0.2)
                except TimeoutError:
                    continue
                except WebSocketException:
                    return

    threads = [Thread(target=poll), Thread(target=follow)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def measure(clients: int, *, watched: bool) -> tuple[float, float]:
    """Return the CPU time (µs) per event and client, and the last client's median time (ms)."""
    with running(NORMAL) as target:
        phases = [f"{PHASE}:{WARM_UP}", f"{PHASE}:{EVENTS}"]
        if watched:
            with watch(target):
                figures = phase(run_load(target, clients, phases), PHASE)
        else:
            figures = phase(run_load(target, clients, phases), PHASE)
    return figures["cpu_us"], figures["last_p50_ms"]


def main() -> None:
    """Measure both in turns, and print the medians and the ratio."""
    parser = ArgumentParser(description="Measure the cost of a dashboard and of scrapes.")
    parser.add_argument("--clients", type=int, default=1_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    arguments = parser.parse_args()
    prepare()
    os.sched_setaffinity(0, {LOAD_CORE})
    figures: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for number in range(arguments.rounds):
        for watched in (False, True) if number % 2 == 0 else (True, False):
            progress(
                f"round {number + 1} of {arguments.rounds}: {'watched' if watched else 'alone'}"
            )
            figures[watched].append(measure(arguments.clients, watched=watched))
    for watched, name in (False, "alone"), (True, "watched"):
        cpu, last = (median(column) for column in zip(*figures[watched], strict=True))
        print(f"{name}: {cpu:.2f} µs of CPU an event and client, last client p50 {last:.2f} ms")
    ratios = [
        watched[0] / alone[0] for alone, watched in zip(figures[False], figures[True], strict=True)
    ]
    print(
        f"watched takes {median(ratios):.3f} times as much CPU"
        f" ({min(ratios):.3f}-{max(ratios):.3f})"
    )


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"FAILED: {error}")
