"""The short form of `make cluster`: nodes and Redis come and go, and every node has one log, whole."""

from __future__ import annotations

from tests.support.redis import need_redis
from tests.support.sockets import SocketTestCase
from tests.system.cluster.run import attack

STEPS = ("cut_leader_off_shortly", "restart_redis")
"""Those that take no lease's time."""


class ClusterTests(SocketTestCase):
    """What goes wrong shortly, once; `make cluster` has the rest, for three minutes."""

    timeout = 100

    async def test_nothing_is_lost_doubled_or_out_of_order(self) -> None:
        """Whatever node a client is at; and never do two nodes hold the stream."""
        need_redis()
        report = await attack(self.make_directory(), seed=7, steps=STEPS, nodes=2)
        self.assertTrue(report.is_clean, (report.broken, report.verdicts, report.trail))
        self.assertEqual((report.overlaps, report.log[0]), (0, report.events))
        self.assertGreater(report.reconnects, 0)
