"""The short form of `make chaos`: no client loses events without a report, despite faults."""

from __future__ import annotations

from tests.support.sockets import SocketTestCase
from tests.system.chaos.run import chaos


class ChaosTests(SocketTestCase):
    """A few faults; `make chaos` has hundreds."""

    timeout = 100

    async def test_chaos_every_client_log_is_clean(self) -> None:
        """Every log has every event once and in order, except as declared."""
        await self.attack(tls=False)

    async def test_chaos_over_tls_every_client_log_is_clean(self) -> None:
        """The same with clients over TLS."""
        await self.attack(tls=True)

    async def attack(self, *, tls: bool) -> None:
        report = await chaos(self.make_directory(), seed=7, events=600, faults=6, tls=tls)
        self.assertGreaterEqual(report.events, 600)
        self.assertTrue(report.is_clean, report.verdicts)
        self.assertGreater(report.reconnects, 0)
