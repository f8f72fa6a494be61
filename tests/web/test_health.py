"""Tests for tradeproxy.web.health."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.hub.account import Account
from tradeproxy.web.health import healthz, readyz

START = 1784904169.354
"""2026-07-24T14:42:49.354Z"""


QUIET = {"clients": 0, "dropped_frames": 0}


class HealthTests(SynchronousTestCase):
    """Health, for supervisors and load balancers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.paper, self.live = Account("paper", self.clock), Account("live", self.clock)

    def test_is_alive_whatever_the_upstreams_do(self) -> None:
        """A restart would not mend what is wrong at Alpaca."""
        self.paper.upstream_is_down("HTTP 502 at the handshake")
        self.assertEqual(healthz(), (200, {"status": "ok"}))

    def test_is_ready_while_every_account_streams(self) -> None:
        """The document says since when, in UTC with milliseconds."""
        self.paper.upstream_is_up()
        self.clock.advance(60)
        self.live.upstream_is_up()
        document = {
            "ready": True,
            "accounts": {
                "paper": {"ready": True, "reason": "streaming", "since": "2026-07-24T14:42:49.354Z", **QUIET},
                "live": {"ready": True, "reason": "streaming", "since": "2026-07-24T14:43:49.354Z", **QUIET},
            },
        }
        self.assertEqual(readyz([self.paper, self.live]), (200, document))

    def test_is_not_ready_before_the_first_connection(self) -> None:
        """An account that never streamed says so, since the start."""
        document = {
            "ready": False,
            "accounts": {
                "paper": {
                    "ready": False,
                    "reason": "not connected yet",
                    "since": "2026-07-24T14:42:49.354Z",
                    **QUIET,
                },
            },
        }
        self.assertEqual(readyz([self.paper]), (503, document))

    def test_is_not_ready_while_one_account_does_not_stream(self) -> None:
        """The one that is down has its reason and the beginning of its outage; the other one is ready."""
        self.paper.upstream_is_up()
        self.live.upstream_is_up()
        self.clock.advance(1)
        self.live.upstream_is_down("connection lost")
        self.clock.advance(1)
        self.live.upstream_is_down("HTTP 429 at the handshake")
        document = {
            "ready": False,
            "accounts": {
                "paper": {"ready": True, "reason": "streaming", "since": "2026-07-24T14:42:49.354Z", **QUIET},
                "live": {
                    "ready": False,
                    "reason": "HTTP 429 at the handshake",
                    "since": "2026-07-24T14:42:50.354Z",
                    **QUIET,
                },
            },
        }
        self.assertEqual(readyz([self.paper, self.live]), (503, document))
