"""Reading the log in steps: the rows that a client gets before the next check whether it reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from twisted.internet.interfaces import IReactorTime

from tradeproxy.journal.base import Batch, Log
from tradeproxy.runtime.fair_queue import FairQueue
from tradeproxy.wire.proxy_status import JournalStatus

STEP_ROWS = 128
STEP_BYTES = 64 * 1024
"""Payload bytes of one step, unless one row alone is larger.

A client that does not read is paused after one step, which its transport buffers.
"""

MIN_STEP_BYTES = 4 * 1024
"""The same while very many clients do not read."""

PAUSED_BYTES = 8 * 1024 * 1024
"""Bytes that the clients that do not read share, by address. The more of them an address has, the
smaller its steps."""

STEPS_PER_TURN = 32
"""Steps in one turn of the reactor: a thousand replays at once delay no live event."""

TURN = 0.005
"""Seconds after which a turn begins no further step. One step with a filter may take 3 ms."""

CACHED_STEPS = 8
"""Clients that fell behind together read at few different positions, rarely at more than these."""


class LogReader:
    """Reads logs in steps. Clients at the same position share one read and its encoded bytes.

    It also queues the steps of all clients: each turn of the reactor has a few of them. The
    addresses of the clients take turns, so that one with many clients does not delay the others.
    """

    def __init__(self, clock: IReactorTime, stall_timeout: float) -> None:
        """Create a reader; a client must read what it was sent in `stall_timeout` seconds."""
        self.clock = clock
        self.stall_timeout = stall_timeout
        self._read_step = lru_cache(maxsize=CACHED_STEPS)(_read_step)
        self._waiting: FairQueue[str, Callable[[], None]] = FairQueue()
        self._has_turn = False
        self._paused = Counter[str]()

    @property
    def paused(self) -> int:
        """How many feeds wait until their clients read."""
        return self._paused.total()

    def add_paused(self, host: str) -> None:
        """Count a feed that waits until its client, of this address, reads."""
        self._paused[host] += 1

    def discard_paused(self, host: str) -> None:
        """Count a feed no longer."""
        self._paused[host] -= 1
        if not self._paused[host]:
            del self._paused[host]

    def find_step_bytes(self, host: str) -> int:
        """Return the bytes of the next step of a client: a power of two, so that steps are alike.

        The addresses have equal shares, so that those of one do not make the steps of others small.
        """
        hosts = len(self._paused) + (host not in self._paused)
        share = PAUSED_BYTES // (hosts * max(self._paused[host], 1))
        return max(min(STEP_BYTES, 1 << share.bit_length() - 1), MIN_STEP_BYTES)

    def schedule(self, step: Callable[[], None], host: str) -> None:
        """Call `step` soon, but not now. STEPS_PER_TURN, or those of TURN seconds, share a turn.

        It must not raise, and may schedule itself again. The steps of one address, `host`, are in
        FIFO order.
        """
        self._waiting.push(host, step)
        if not self._has_turn:
            self._has_turn = True
            self.clock.callLater(0, self._run_steps)

    def cancel(self, step: Callable[[], None]) -> None:
        """Forget a step that waits, if it does."""
        self._waiting.discard(step)

    def _run_steps(self) -> None:
        self._has_turn = False
        end = self.clock.seconds() + TURN
        for _ in range(min(len(self._waiting), STEPS_PER_TURN)):
            if not self._waiting:  # a step has cancelled the others
                break
            step = self._waiting.pop()
            step()
            if self.clock.seconds() >= end:
                break
        if self._waiting and not self._has_turn:
            self._has_turn = True
            self.clock.callLater(0, self._run_steps)

    def read(self, journal: Log, after: int, host: str = "") -> Batch | None:
        """Return the next step after sequence number `after`; None at the end of the log.

        `host` is the address of the client.

        A hole is a step of its own. Other steps end before the next hole.

        Raises TrimmedError or UnreadableError.
        """
        return self._read_step(
            journal,
            journal.epoch,
            journal.first,
            journal.last,
            journal.status,
            after,
            self.find_step_bytes(host),
        )


def _read_step(
    journal: Log, epoch: str, first: int, last: int, status: JournalStatus, after: int, limit: int
) -> Batch | None:
    """Read one step.

    Everything that the result depends on is an argument, and so part of the cache's key. The
    bounds and the status rarely change while many clients catch up.
    """
    batch = journal.read(after, STEP_ROWS * limit // STEP_BYTES)
    if batch is None:
        return None
    size = 0
    for index, row in enumerate(batch.rows):
        size += len(row.payload or b"")
        if index > 0 and (row.payload is None or size > limit or batch.rows[0].payload is None):
            return Batch(batch.rows[:index])
    return batch
