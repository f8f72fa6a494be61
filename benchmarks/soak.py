"""Ten minutes of ten thousand clients: most stay and must miss nothing, others come, go and stall.

Ends with status 1 if a client that stayed missed an event or was lost, or if the proxy's memory grew.

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
    Running,
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
LONGEST_STAY = 10.0
"""Seconds."""

ALLOWED_SLOPE = 1_024.0
"""KiB a minute by which memory may seem to grow; judged only after so many minutes as the next says."""

SHORTEST_JUDGED = 5.0


async def connect(target: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, and send the login."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.place.port)
    writer.write(
        f"GET {target.server.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"\x81" + bytes([128 | len(LOGIN)]) + bytes(4) + LOGIN)  # the mask is zero
    return reader, writer


class Churn:
    """Clients that come and go, each in its own way; `counts` says how many did."""

    def __init__(self, target: Running, random: Random) -> None:
        self._target = target
        self._random = random
        self.counts = {"closed": 0, "dropped": 0, "stalled": 0, "reset": 0}

    async def churn(self) -> None:
        """Be one client after another, until cancelled."""
        ways: list[tuple[str, Callable[..., Coroutine[None, None, None]]]] = [
            ("closed", self._read_and_close),
            ("dropped", self._read),
            ("stalled", self._stall),
            ("reset", self._reset),
        ]
        while True:
            name, stay = self._random.choice(ways)
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await connect(self._target)
                try:
                    await stay(reader, writer)
                    self.counts[name] += 1
                finally:
                    writer.close()
            await asyncio.sleep(self._random.random())

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = time.monotonic() + self._random.random() * LONGEST_STAY
        while (rest := end - time.monotonic()) > 0:
            with suppress(TimeoutError):
                if not await asyncio.wait_for(reader.read(65_536), rest):
                    return

    async def _read_and_close(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._read(reader, writer)
        writer.write(CLOSE)
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(), LONGEST_STAY)

    async def _stall(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # every TCP transport has it
        await asyncio.sleep(self._random.random() * LONGEST_STAY)

    async def _reset(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._random.random())
        writer.transport.abort()


async def soak(
    target: Running, command: list[str], churners: int, seconds: float
) -> list[tuple[float, int]]:
    """Run the load beside the churn and print its figures; return the proxy's memory: seconds and KiB."""
    churn = Churn(target, Random(1))  # the same every time
    load = await asyncio.create_subprocess_exec(
        *command,
        pass_fds=[target.listener.fileno()],
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    ended = asyncio.create_task(load.communicate())
    tasks = [asyncio.create_task(churn.churn()) for _ in range(churners)]
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
    output, trouble = await ended
    report = parse_report(load.returncode or 0, output.decode(), trouble.decode())
    told = phase(report, "rate")
    print(
        f"{report['clients']:,} clients each had {told['events']:,} events, in order, and stayed connected"
    )
    print(f"last client: p50 {told['last_p50_ms']:.1f} ms, p99 {told['last_p99_ms']:.1f} ms")
    print(
        f"beside them came and went: {', '.join(f'{n:,} {name}' for name, n in churn.counts.items())}"
    )
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()):
            raise LabError(f"the churn failed: {error!r}")
    return samples


def slope(samples: list[tuple[float, int]]) -> float:
    """Return by how many KiB a minute memory grew, in the latter two thirds: at first, clients connect."""
    later = samples[len(samples) // 3 :]
    if len(later) < 3:
        raise LabError("too short for a slope")
    return linear_regression(
        [seconds / 60 for seconds, _ in later], [kib for _, kib in later]
    ).slope


def main() -> None:
    """Soak, print the figures, and end with status 1 if a promise is not kept."""
    parser = ArgumentParser(description="Hold many clients for minutes, and lose nothing.")
    parser.add_argument("--minutes", type=float, default=10, metavar="N")
    parser.add_argument("--clients", type=int, default=10_000, metavar="N", help="that stay")
    parser.add_argument(
        "--churners", type=int, default=100, metavar="N", help="that come and go, at a time"
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
    grew = slope(samples)
    first, highest = samples[0][1] / 1024, max(kib for _, kib in samples) / 1024
    print(f"memory of the proxy: {first:.1f} MB at first, {highest:.1f} MB at its highest,")
    print(f"in the latter two thirds {grew:+.0f} KiB a minute")
    if arguments.minutes < SHORTEST_JUDGED:
        print(f"(not judged: under {SHORTEST_JUDGED:g} minutes it is mostly what the start takes)")
    elif grew > ALLOWED_SLOPE:
        print(f"FAILED: that is more than {ALLOWED_SLOPE:.0f}")
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except LabError as error:
        sys.exit(f"FAILED: {error}")
