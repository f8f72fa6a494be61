"""The trade log through hundreds of random crashes, power cuts and full disks."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random
from typing import Any

from tests.support.journals import event
from tests.tradelog.trade_log_case import TradeLogCase
from tradeproxy.tradelog.checkpoints import Checkpoint, CheckpointFile
from tradeproxy.tradelog.service import RETRY_INTERVAL

STEPS = 100
"""Steps of one run; about one in five is a crash."""

DATES = 3
"""Trade dates over which the events are spread, back and forth."""


class CrashTests(TradeLogCase):
    """At the end, the files have each row of the journal once, in the file of its date."""

    def setUp(self) -> None:
        self.random = Random(27)
        self.synced: dict[Path, int] = {}
        self.is_full = False
        real_write, real_pwrite, real_checkpoint = os.write, os.pwrite, CheckpointFile.write

        def write_checkpoint(file: CheckpointFile, checkpoint: Checkpoint) -> None:
            real_checkpoint(file, checkpoint)
            # A power cut keeps what the files have at a checkpoint.
            self.synced = {path: path.stat().st_size for path in self.directory.glob("*.csv")}

        self.patch(CheckpointFile, "write", write_checkpoint)
        super().setUp()

        def write(descriptor: int, data: Any) -> int:
            if self.is_ours(descriptor) and self.random.random() < 0.7:
                real_write(descriptor, bytes(data)[: self.random.randrange(len(data))])
                raise OSError(errno.ENOSPC, "No space left on device")
            return real_write(descriptor, data)

        def pwrite(descriptor: int, data: bytes, offset: int) -> int:
            if self.is_ours(descriptor) and self.random.random() < 0.5:
                raise OSError(errno.EIO, "Input/output error")
            return real_pwrite(descriptor, data, offset)

        self.patch(os, "write", write)
        self.patch(os, "pwrite", pwrite)

    def is_ours(self, descriptor: int) -> bool:
        """Whether a descriptor is on the full disk: that of the journal has room."""
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        return self.is_full and path.parent == self.directory.resolve()

    def cut_power(self) -> None:
        """Lose parts of what was written after the last checkpoint."""
        for path in self.directory.glob("*.csv"):
            content, size = path.read_bytes(), self.synced.get(path, 0)
            kept = self.random.randint(size, len(content))
            zeros = self.random.choice((0, 0, min(500, len(content) - kept)))
            path.write_bytes(content[:kept] + bytes(zeros))

    def test_no_row_is_missing_or_twice(self) -> None:
        """Whatever happens between two checkpoints, the next start finds out."""
        numbers: dict[int, int] = {}
        crashes = 0
        for _ in range(STEPS):
            match self.random.randrange(10):
                case 0 | 1:
                    self.kill()
                    if self.random.random() < 0.5:
                        self.cut_power()
                    self.is_full = self.random.random() < 0.3
                    self.start()
                    crashes += 1
                case 2:
                    self.is_full = not self.is_full
                case 3 | 4:
                    self.clock.advance(RETRY_INTERVAL)
                case _:
                    for _ in range(self.random.randrange(40)):
                        n = len(numbers) + 1
                        numbers[n] = n + 86_400 * self.random.randrange(DATES)
                        self.account.publish(event(numbers[n]))
                    self.clock.advance(self.random.choice((0, 1)))
        self.is_full = False
        self.clock.pump([RETRY_INTERVAL] * 4)
        self.assertGreater(crashes, 10)
        found = [int(row["order_id"][-12:]) for row in self.read_rows()]
        self.assertEqual(len(found), len(set(found)))
        self.assertEqual(sorted(found), sorted(numbers.values()))
        self.assertEqual(
            {row["cursor"] for row in self.read_rows()},
            {self.account.cursor_at(seq) for seq in range(1, self.journal.last + 1)},
        )
        assert self.account.trade_log is not None
        self.assertEqual(self.account.trade_log.missing, 0)
