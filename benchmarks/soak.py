"""Runs 10,000 clients for ten minutes; most stay connected, others disconnect and stall.

Exits with 1 if a steady client missed an event or was disconnected, or if the proxy's memory grew.

    python -m benchmarks.soak [--minutes N] [--clients N] [--churners N] [--rate N]
"""

from __future__ import annotations

import asyncio
import sys
import time
from argparse import ArgumentParser
from contextlib import suppress
from random import Random
from statistics import linear_regression
from typing import TYPE_CHECKING

from benchmarks.lab import (
    LabError,
    RunningServer,
    load_command,
    parse_report,
    phase,
    prepare,
    progress,
    running,
)
from benchmarks.servers import PROXY

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LOGIN = b'{"action":"auth","key":"any","secret":"any"}'
CLOSE = b"\x88\x80\0\0\0\0"
SAMPLE_INTERVAL = 2.0
MAX_STAY = 10.0
"""Seconds."""

ALLOWED_SLOPE = 1_024.0
"""KiB a minute by which memory may grow; checked only in runs of MIN_MINUTES or more."""

MIN_MINUTES = 5.0


async def open_client(target: RunningServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a WebSocket and send the login."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.config.port)
    writer.write(
        f"GET {target.server.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x81" + bytes([128 | len(LOGIN)]) + bytes(4) + LOGIN)  # with a mask of zero
    return reader, writer


class Churn:
    """Clients that connect and disconnect; `counts` has their number by kind."""

    def __init__(self, target: RunningServer, random: Random) -> None:
        self._target = target
        self._random = random
        self.counts = {"closed": 0, "dropped": 0, "stalled": 0, "reset": 0}

    async def run(self) -> None:
        """Run one client after another, until cancelled."""
        kinds: list[tuple[str, Callable[..., Coroutine[None, None, None]]]] = [
            ("closed", self._read_and_close),
            ("dropped", self._read),
            ("stalled", self._stall),
            ("reset", self._reset),
        ]
        while True:
            name, stay = self._random.choice(kinds)
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await open_client(self._target)
                try:
                    await stay(reader, writer)
                    self.counts[name] += 1
                finally:
                    writer.close()
            await asyncio.sleep(self._random.random())

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = time.monotonic() + self._random.random() * MAX_STAY
        while (remaining := end - time.monotonic()) > 0:
            with suppress(TimeoutError):
                if not await asyncio.wait_for(reader.read(65_536), remaining):
                    return

    async def _read_and_close(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._read(reader, writer)
        writer.write(CLOSE)
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(), MAX_STAY)

    async def _stall(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # every TCP transport has it
        await asyncio.sleep(self._random.random() * MAX_STAY)

    async def _reset(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._random.random())
        writer.transport.abort()


async def soak(
    target: RunningServer, command: list[str], churners: int, seconds: float
) -> list[tuple[float, int]]:
    """Run the load and the churn, and print the load's figures.

    Args:
        target: the proxy.
        command: the command of the load.
        churners: how many clients connect and disconnect at a time.
        seconds: the limit for the run.

    Returns the proxy's memory as pairs of elapsed seconds and KiB.
    """
    churn = Churn(target, Random(1))  # noqa: S311  # the same in every run
    load = await asyncio.create_subprocess_exec(
        *command,
        pass_fds=[target.listener.fileno()],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    ended = asyncio.create_task(load.communicate())
    tasks = [asyncio.create_task(churn.run()) for _ in range(churners)]
    began = time.monotonic()
    samples = []
    try:
        while not ended.done() and (elapsed := time.monotonic() - began) < seconds:
            samples.append((elapsed, target.rss()))
            await asyncio.wait([ended], timeout=SAMPLE_INTERVAL)
    finally:
        for task in tasks:
            task.cancel()
        if load.returncode is None and not ended.done():
            load.kill()
    output, errors = await ended
    report = parse_report(load.returncode or 0, output.decode(), errors.decode())
    rate = phase(report, "rate")
    print(
        f"{report['clients']:,} clients each got {rate['events']:,} events in order,"
        " and stayed connected"
    )
    print(f"last client: p50 {rate['last_p50_ms']:.1f} ms, p99 {rate['last_p99_ms']:.1f} ms")
    print(f"other clients: {', '.join(f'{n:,} {name}' for name, n in churn.counts.items())}")
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()):
            raise LabError(f"the churn failed: {error!r}")
    return samples


def memory_slope(samples: list[tuple[float, int]]) -> float:
    """Return the growth of memory in KiB a minute. The first third is skipped: clients connect."""
    later = samples[len(samples) // 3 :]
    if len(later) < 3:
        raise LabError("the run was too short to measure the growth of memory")
    return linear_regression(
        [seconds / 60 for seconds, _ in later], [kib for _, kib in later]
    ).slope


def main() -> None:
    """Run, print the figures, and exit with 1 if a check failed."""
    parser = ArgumentParser(description="Keep many clients connected for minutes.")
    parser.add_argument("--minutes", type=float, default=10, metavar="N")
    parser.add_argument(
        "--clients", type=int, default=10_000, metavar="N", help="that stay connected"
    )
    parser.add_argument(
        "--churners", type=int, default=100, metavar="N", help="that disconnect, at a time"
    )
    parser.add_argument("--rate", type=float, default=2, metavar="N", help="events a second")
    arguments = parser.parse_args()
    prepare()
    events = round(arguments.minutes * 60 * arguments.rate)
    with running(PROXY) as target:
        phases = [f"rate:{events}:{arguments.rate}"]
        command = load_command(target, arguments.clients, phases, ["--sleep"])
        progress(
            f"{arguments.clients:,} clients, {events:,} events in {arguments.minutes:g} minutes"
        )
        longest = arguments.minutes * 60 * 1.2 + 120
        samples = asyncio.run(soak(target, command, arguments.churners, longest))
    grew = memory_slope(samples)
    first, highest = samples[0][1] / 1024, max(kib for _, kib in samples) / 1024
    print(f"memory of the proxy: {first:.1f} MB at the start, {highest:.1f} MB at most,")
    print(f"{grew:+.0f} KiB a minute after the first third")
    if arguments.minutes < MIN_MINUTES:
        print(f"(not checked: under {MIN_MINUTES:g} minutes most growth is from the start)")
    elif grew > ALLOWED_SLOPE:
        print(f"FAILED: the limit is {ALLOWED_SLOPE:.0f} KiB a minute")
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"FAILED: {error}")
