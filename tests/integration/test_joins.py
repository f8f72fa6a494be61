"""The short form of `make joins`: what clients with a snapshot get is the whole."""

from __future__ import annotations

from tests.support.sockets import SocketTestCase
from tests.system.joins.clients import KINDS
from tests.system.joins.run import join_burst


class JoinTests(SocketTestCase):
    """A few clients of each kind; `make joins` has hundreds."""

    timeout = 100

    async def test_snapshot_and_events_behind_it_are_the_whole(self) -> None:
        """The proxy is killed, loses Alpaca, and restarts meanwhile."""
        clients = 2 * len(KINDS)
        report = await join_burst(self.make_directory(), seed=3, events=400, clients=clients)
        self.assertEqual(report.problems, {})
        self.assertGreaterEqual(report.events, 400)
        self.assertGreaterEqual(report.snapshots, clients)
        self.assertGreater(report.complete, 0)
