"""The short form of `make chaos`: whatever goes wrong, no client loses anything without being told."""

from __future__ import annotations

from tests.support.sockets import SocketTestCase
from tests.system.chaos.run import chaos


class ChaosTests(SocketTestCase):
    """A few faults of every kind; `make chaos` has hundreds."""

    timeout = 100

    async def test_nothing_is_lost_doubled_or_out_of_order(self) -> None:
        """Every client's log is a whole copy of what was emitted, but for what was declared."""
        report = await chaos(self.make_directory(), seed=7, events=600, faults=6)
        self.assertGreaterEqual(report.events, 600)
        self.assertTrue(report.is_clean, report.verdicts)
        self.assertGreater(report.reconnects, 0)
