"""The short form of `make cluster`: an update, and faults in nodes and Redis, lose no event."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.support.redis import need_redis
from tests.support.sockets import SocketTestCase
from tests.system.cluster.run import attack, update
from tests.system.cluster.update import extract_former

STEPS = ("cut_leader_off_shortly", "restart_redis")
"""Those that end before a lease expires."""


class ShortClusterTests(SocketTestCase):
    """Short faults, once each; `make cluster` runs all of them for three minutes."""

    timeout = 100

    async def test_short_faults_lose_repeat_or_reorder_no_event(self) -> None:
        """For every client on every node; at most one node is connected to Alpaca at a time."""
        need_redis()
        report = await attack(self.make_directory(), seed=7, steps=STEPS, nodes=2)
        self.assertTrue(report.is_clean, (report.broken, report.verdicts, report.trail))
        self.assertEqual((report.overlaps, report.log[0]), (0, report.events))
        self.assertGreater(report.reconnects, 0)

    async def test_rolling_update_loses_repeats_or_reorders_no_event(self) -> None:
        """The nodes start with the former version, and the leader is updated last."""
        need_redis()
        directory = self.make_directory()
        former = Path(directory, "former")
        if missing := extract_former(former):
            raise SkipTest(missing)
        report = await update(directory, former, seed=7, with_crash=False)
        self.assertTrue(report.is_clean, (report.broken, report.verdicts, report.trail))
        self.assertEqual((report.overlaps, report.log[0]), (0, report.events))
        self.assertGreater(report.reconnects, 0)
