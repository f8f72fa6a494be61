"""Long faults of the journal: damaged, removed, or on a disk that is full for long."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from shutil import rmtree

from tests.system.chaos.fault_group import FaultGroup, Strike
from tests.system.chaos.short_faults import UNLIMITED

ARRIVAL_TIMEOUT = 25.0
"""Seconds for events of the stream, on a busy machine."""

RESTART_TIMEOUT = 8.0
"""Seconds for the events of a downtime, from the restart. The checks find them after 10 s."""

DOWNTIME = 3.0
"""Seconds. Events of the last second before a journal begins are found in any case."""

OVERFLOW = 9_000
"""Events that do not fit into the backlog: of 2 KB each, it holds 8,000."""

CHUNK = 500
"""Events that are emitted at once."""


def overwrite(path: Path, size: int) -> None:
    """Overwrite the first bytes of a file."""
    with path.open("r+b") as file:
        file.write(b"\xff" * size)


def halve(path: Path) -> None:
    """Cut off the second half of a file."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def remove_log(path: Path) -> None:
    """Remove the write-ahead log of a journal, and its index."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def remove_file(path: Path) -> None:
    """Remove a journal with its write-ahead log."""
    remove_log(path)
    path.unlink(missing_ok=True)


def remove_spool(path: Path) -> None:
    """Remove the spool of a journal."""
    path.with_suffix(".spool").unlink(missing_ok=True)


def damage_spool(path: Path) -> None:
    """Overwrite the second half of the spool of a journal."""
    spool = path.with_suffix(".spool")
    content = spool.read_bytes()
    half = len(content) // 2
    spool.write_bytes(content[:half] + b"\xff" * (len(content) - half))


def remove_directory(path: Path) -> None:
    """Remove the directory of a journal."""
    rmtree(path.parent)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "damage_header": partial(overwrite, size=100),
    "damage_page": partial(overwrite, size=4096),
    "halve_journal": halve,
    "remove_wal": remove_log,
    "remove_spool": remove_spool,
    "damage_spool": damage_spool,
    "remove_journal": remove_file,
    "remove_directory": remove_directory,
}
"""What happens to the journal while the proxy is stopped."""

REMOVALS: dict[str, Callable[[Path], None]] = {
    "remove_open_journal": remove_file,
    "remove_open_directory": remove_directory,
    "remove_open_spool": remove_spool,
}
"""What happens to the journal while the proxy runs."""

AFTER_KILL = ("remove_wal", "remove_spool", "damage_spool")
"""A clean stop moves everything from these files to the database."""


class JournalFaults(FaultGroup):
    """Faults of the journal. The events of the time around them must still reach the clients."""

    def list_faults(self) -> dict[str, Strike]:
        """Return all faults by their names."""
        return {
            **{name: partial(self.damage_stopped, name) for name in DAMAGES},
            **{name: partial(self.remove_open, name) for name in REMOVALS},
            "overflow_backlog": self.overflow_backlog,
            "kill_overflowed": self.kill_overflowed,
        }

    async def damage_stopped(self, name: str) -> None:
        """Kill the proxy, damage its journal, emit events, and restart it."""
        await self._restart()
        before = [*self._world.orders.trade(), *self._emit(50)]
        await self._demand_arrival("before the damage", before, ARRIVAL_TIMEOUT)
        await self._world.end_proxy()
        if name in AFTER_KILL:
            await self._world.start_proxy()
            await self._demand_arrival("log", self._world.orders.trade(), ARRIVAL_TIMEOUT)
            await self._world.kill_proxy()
        DAMAGES[name](self._world.journal)
        # Without the directory there is no bookmark either: that is a first start.
        is_first_start = name == "remove_directory"
        await self._restart_late(None if is_first_start else name.replace("_", " "))

    async def remove_open(self, name: str) -> None:
        """Remove the journal of a running proxy, emit events, and restart the proxy."""
        await self._restart()
        REMOVALS[name](self._world.journal)
        for _ in range(4):
            numbers = [*self._world.orders.trade(), *self._emit(5)]
            await self._wait(0.5, 1)
        what = name.replace("_", " ")
        await self._demand_arrival(what, numbers, ARRIVAL_TIMEOUT)
        await self._world.kill_proxy()
        await self._restart_late(f"restart after {what}")

    async def overflow_backlog(self) -> None:
        """Fill the disk for longer than the memory suffices, and free it again."""
        await self._overflow()
        resource.prlimit(self._world.proxy.pid, resource.RLIMIT_FSIZE, UNLIMITED)
        await self._demand_arrival("after the full disk", self._emit(10), ARRIVAL_TIMEOUT)

    async def kill_overflowed(self) -> None:
        """Fill the disk for longer than the memory suffices, and kill the proxy."""
        await self._overflow()
        await self.kill_proxy()
        await self._demand_arrival("after the full disk", self._emit(10), ARRIVAL_TIMEOUT)

    async def _overflow(self) -> None:
        await self._restart()
        pid = self._world.proxy.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        for _ in range(OVERFLOW // CHUNK):
            numbers = self._emit(CHUNK)
            await self._demand_arrival("full disk", numbers[-1:], ARRIVAL_TIMEOUT)

    async def _restart_late(self, what: str | None) -> None:
        """Emit events while the proxy is stopped, and start it some seconds later.

        The events must arrive, unless `what` is None.
        """
        self._world.lost_from_log.update(self._world.emitted)
        numbers = [*self._world.orders.trade(), *self._emit(20)]
        await self._wait(DOWNTIME, DOWNTIME)
        await self._world.start_proxy()
        if what is not None:
            await self._demand_arrival(what, numbers, RESTART_TIMEOUT)

    def _emit(self, count: int) -> list[int]:
        """Emit events, and return their numbers."""
        first = len(self._world.emitted) + 1
        self._world.emit(count)
        return list(range(first, first + count))
