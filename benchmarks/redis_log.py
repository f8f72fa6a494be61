"""Measures the costs of the log in Redis: memory there and in nodes, a node's start, CPU time.

python -m benchmarks.redis_log [--events N ...] [--nodes N ...] [--clients N]
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import hiredis
from twisted.internet.defer import Deferred, fail, succeed

from benchmarks.lab import LOAD_CORE, SERVER_CORE, pinned, prepare, progress
from benchmarks.publish import COLUMNS
from benchmarks.publish import measure as delivery
from benchmarks.servers import NORMAL, PROXY
from tradeproxy.cluster.log_entries import EpochStart, EventEntry
from tradeproxy.cluster.redis_client import NoScriptError, RedisUnavailableError
from tradeproxy.cluster.redis_log import RedisLog
from tradeproxy.cluster.replica import Replica
from tradeproxy.journal.metadata import Metadata
from tradeproxy.wire.event import Event, read_event

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

PAYLOAD = 1_000
"""Bytes of an event, as in the other benchmarks."""

BATCH = 16
EVENTS_PER_ORDER = 3
"""New, partial fill, fill."""

FANOUT_EVENTS = 2_000
NOW = 1_800_000_000_000_000
CONFIGURATION = Path(__file__).parent.parent / "deploy/cluster/redis.conf"


class BlockingSender:
    """A connection that waits for each reply: a CommandSender without a reactor."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._reader = hiredis.Reader()

    def call(self, *command: str | bytes | int, timeout: float = 0.0) -> Deferred[Any]:
        """Send a command, and wait for its reply."""
        self.send(*command)
        reply = self.read_reply()
        if isinstance(reply, hiredis.ReplyError):
            return fail(NoScriptError() if str(reply).startswith("NOSCRIPT") else reply)
        return succeed(reply)

    def refuse_reply(self) -> RedisUnavailableError:
        """Return the error of a reply that is not the command's."""
        return RedisUnavailableError("its reply is not valid")

    def send(self, *command: str | bytes | int) -> None:
        """Send a command."""
        words: Any = tuple(str(word) if isinstance(word, int) else word for word in command)
        self._socket.sendall(hiredis.pack_command(words))

    def read_reply(self) -> Any:
        """Wait for a reply."""
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 20))
        return reply


def run_now(work: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that does not wait."""
    results: list[Any] = []
    Deferred.fromCoroutine(work).addCallbacks(
        results.append, lambda failure: failure.raiseException()
    )
    return results[0]


@contextmanager
def run_redis() -> Iterator[tuple[str, int]]:
    """Run a Redis with the configuration of deploy/; yield its socket's path and process id."""
    program = shutil.which("redis-server") or sys.exit("there is no redis-server here")
    with TemporaryDirectory(prefix="benchmark-") as directory:
        path = f"{directory}/redis.sock"
        options = ("--port", "0", "--dir", directory, "--unixsocket", path, "--maxmemory", "0")
        command = pinned(SERVER_CORE, [program, str(CONFIGURATION), *options])
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not Path(path).exists():
                if process.poll() is not None:
                    sys.exit("redis-server does not start")
                time.sleep(0.05)
            yield path, process.pid
        finally:
            process.terminate()
            process.wait()


def read_used_memory(sender: BlockingSender) -> int:
    """Return the bytes that Redis reports as used."""
    sender.send("INFO", "memory")
    [line] = [
        line
        for line in sender.read_reply().decode().splitlines()
        if line.startswith("used_memory:")
    ]
    return int(line.partition(":")[2])


def read_cpu_seconds(process: int) -> float:
    """Return the CPU seconds of a process."""
    schedstat = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in schedstat) / 1e9


def read_resident_memory() -> int:
    """Return this process' resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def make_event(number: int) -> Event:
    """Return an event like Alpaca's, with PAYLOAD bytes; EVENTS_PER_ORDER share an order."""
    order, step = divmod(number, EVENTS_PER_ORDER)
    data: dict[str, Any] = {
        "event_id": f"01KYA98DWAS5PA{number:012d}",
        "event": ("new", "partial_fill", "fill")[step],
        "timestamp": f"2026-07-24T14:42:49.{number % 1_000_000:06d}Z",
        "order": {
            "id": f"00000000-0000-0000-0000-{order:012d}",
            "status": ("new", "partially_filled", "filled")[step],
            "filled_qty": str(step * 50),
            "symbol": "SPY",
            "pad": "",
        },
    }
    frame = {"stream": "trade_updates", "data": data}
    data["order"]["pad"] = "x" * (PAYLOAD - len(json.dumps(frame)))
    return read_event(json.dumps(frame).encode(), data)


def fill(sender: BlockingSender, count: int) -> tuple[RedisLog, str]:
    """Write events to an empty log as a leader does; return the log and the lease's token."""
    log = RedisLog("paper", "benchmark", sender)
    token = run_now(log.query_lease(3_600_000, acquire=True)).token
    metadata = {"epoch": "0" * 16, "base_url": "", "trimmed": "0", "begins": "0"}
    run_now(log.begin_epoch(token, NOW, 0, EpochStart("", 0, metadata)))
    for first in range(0, count, BATCH):
        events = [make_event(number) for number in range(first, min(first + BATCH, count))]
        run_now(log.write(token, NOW, events, {}, ""))
    return log, token


def read_log(path: str, count: int, results: Any) -> None:
    """Read the whole log as a new node does; report the bytes it takes, and the seconds."""
    log, metadata = RedisLog("paper", "reader", BlockingSender(path)), Metadata("")
    replica = Replica(metadata)
    before, began, at = read_resident_memory(), time.perf_counter(), b"0-0"
    while metadata.last < count:
        entries = run_now(log.read_entries(at))
        replica.extend([entry for entry in entries if isinstance(entry, EventEntry)])
        at = entries[-1].id
    results.put((read_resident_memory() - before, time.perf_counter() - began))


def measure_memory(count: int) -> None:
    """Print the table's row for a log of `count` events."""
    with run_redis() as (path, process):
        sender = BlockingSender(path)
        before, ran = read_used_memory(sender), read_cpu_seconds(process)
        fill(sender, count)
        in_redis, writing = read_used_memory(sender) - before, read_cpu_seconds(process) - ran
        spawning = multiprocessing.get_context("spawn")
        results: Any = spawning.Queue()
        node = spawning.Process(target=read_log, args=(path, count, results))
        node.start()
        in_node, took = results.get()
        node.join()
    print(
        f"| {count:,} | {in_redis / count:,.0f} | {in_node / count:,.0f} | {took:.1f}"
        f" | {writing / count * 1e6:.0f} |"
    )


def measure_fanout(nodes: int) -> None:
    """Print Redis' CPU time for one event that `nodes` nodes wait for."""
    with run_redis() as (path, process):
        sender = BlockingSender(path)
        log, token = fill(sender, BATCH)
        stream = "tradeproxy:{paper}:stream"
        readers, at = [BlockingSender(path) for _ in range(nodes)], f"{BATCH}-0"
        ran = read_cpu_seconds(process)
        for number in range(BATCH, BATCH + FANOUT_EVENTS):
            for reader in readers:
                reader.send("XREAD", "COUNT", 500, "BLOCK", 10_000, "STREAMS", stream, at)
            run_now(log.write(token, NOW, [make_event(number)], {}, ""))
            for reader in readers:
                reader.read_reply()
            at = f"{number + 1}-0"
        print(f"| {nodes} | {(read_cpu_seconds(process) - ran) / FANOUT_EVENTS * 1e6:,.0f} |")


def measure_delivery(clients: int) -> None:
    """Print the delivery times of an event with the log on disk and in Redis."""
    with run_redis() as (path, _):
        shared = {"PROXY_REDIS_URL": f"unix://{path}?db=0"}
        by_redis = replace(
            PROXY, name="Redis", environ=lambda place: {**PROXY.environ(place), **shared}
        )
        for server in (NORMAL, PROXY, by_redis):
            progress(server.name)
            for name, figures in delivery(server, clients).items():
                cpu_ms, first, first_high, last, last_high = figures
                times = f"{first:.2f} / {first_high:.2f} | {last:.1f} / {last_high:.1f}"
                print(f"| {server.name}, {name} | {cpu_ms:.2f} | {times} |")


def main() -> None:
    """Measure, and print three tables in Markdown."""
    parser = ArgumentParser(description="Measure what the log in Redis costs.")
    parser.add_argument("--events", type=int, nargs="+", default=[10_000, 100_000], metavar="N")
    parser.add_argument("--nodes", type=int, nargs="+", default=[0, 2, 10, 50, 100], metavar="N")
    parser.add_argument("--clients", type=int, default=1_000, metavar="N")
    arguments = parser.parse_args()
    prepare()
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {LOAD_CORE})
    print(
        "| events | bytes each, Redis | bytes each, a node "
        "| a node has read all after s | CPU µs a write |"
    )
    print("|---" * 5 + "|")
    for count in arguments.events:
        progress(f"{count:,} events")
        measure_memory(count)
    print("\n| nodes that wait | Redis: CPU µs an event |\n|---|---|")
    for nodes in arguments.nodes:
        progress(f"{nodes} nodes")
        measure_fanout(nodes)
    print(f"\n| log, {arguments.clients:,} clients | {' | '.join(COLUMNS)} |\n|---|---|---|---|")
    measure_delivery(arguments.clients)


if __name__ == "__main__":
    main()
