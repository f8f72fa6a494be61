"""Tests for tradeproxy.web.health."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import Connections, event, memory_journal
from tradeproxy.hub.account import Account
from tradeproxy.web.health import healthz, readyz
from tradeproxy.wire.proxy_status import GapOutcome

START = 1784904169.354
"""2026-07-24T14:42:49.354Z"""


QUIET = {
    "clients": 0,
    "dropped_frames": 0,
    "duplicates": 0,
    "journal": {"durable": True, "reason": "", "first": 1, "last": 0},
    "gap": None,
}


class HealthTests(SynchronousTestCase):
    """Health, for supervisors and load balancers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.disk = Connections()
        self.paper = Account(
            "paper", memory_journal(self.clock, "paper", connect=self.disk), self.clock
        )
        self.live = Account("live", memory_journal(self.clock, "live"), self.clock)

    def test_is_alive_whatever_the_upstreams_do(self) -> None:
        """A restart would not mend what is wrong at Alpaca."""
        self.paper.mark_upstream_down("HTTP 502 at the handshake")
        self.disk.refuse_writing()
        self.paper.publish(event(1))
        self.clock.advance(0)
        self.assertFalse(self.paper.journal.status.durable)
        self.assertEqual(healthz([self.paper, self.live]), (200, {"status": "ok"}))

    def test_is_not_alive_when_nobody_tries_to_reach_alpaca_any_more(self) -> None:
        """After an error of our own, that is what a restart helps against; it says which account."""
        self.live.has_failed = True
        self.live.mark_upstream_down("an error of the proxy's own: see its log")
        reasons = ["live: an error of the proxy's own: see its log"]
        self.assertEqual(
            healthz([self.paper, self.live]), (503, {"status": "failed", "reasons": reasons})
        )

    def test_is_ready_while_every_account_streams(self) -> None:
        """The document says since when, in UTC with milliseconds."""
        self.paper.mark_upstream_up()
        self.clock.advance(60)
        self.live.mark_upstream_up()
        document = {
            "ready": True,
            "reasons": [],
            "accounts": {
                "paper": {
                    "ready": True,
                    "reason": "streaming",
                    "since": "2026-07-24T14:42:49.354000Z",
                    **QUIET,
                },
                "live": {
                    "ready": True,
                    "reason": "streaming",
                    "since": "2026-07-24T14:43:49.354000Z",
                    **QUIET,
                },
            },
        }
        self.assertEqual(readyz([self.paper, self.live]), (200, document))

    def test_is_not_ready_before_the_first_connection(self) -> None:
        """An account that never streamed says so, since the start."""
        document = {
            "ready": False,
            "reasons": ["paper: not connected yet"],
            "accounts": {
                "paper": {
                    "ready": False,
                    "reason": "not connected yet",
                    "since": "2026-07-24T14:42:49.354000Z",
                    **QUIET,
                },
            },
        }
        self.assertEqual(readyz([self.paper]), (503, document))

    def test_is_not_ready_while_one_account_does_not_stream(self) -> None:
        """The one that is down has its reason and the beginning of its outage; the other one is ready."""
        self.paper.mark_upstream_up()
        self.live.mark_upstream_up()
        self.clock.advance(1)
        self.live.mark_upstream_down("connection lost")
        self.clock.advance(1)
        self.live.mark_upstream_down("HTTP 429 at the handshake")
        document = {
            "ready": False,
            "reasons": ["live: HTTP 429 at the handshake"],
            "accounts": {
                "paper": {
                    "ready": True,
                    "reason": "streaming",
                    "since": "2026-07-24T14:42:49.354000Z",
                    **QUIET,
                },
                "live": {
                    "ready": False,
                    "reason": "HTTP 429 at the handshake",
                    "since": "2026-07-24T14:42:50.354000Z",
                    **QUIET,
                    "gap": {
                        "begin": "2026-07-24T14:42:49.354000Z",
                        "end": None,
                        "outcome": "pending",
                        "events": 0,
                        "reason": "",
                    },
                },
            },
        }
        self.assertEqual(readyz([self.paper, self.live]), (503, document))

    def test_tells_how_far_the_journal_reaches(self) -> None:
        """And how often Alpaca repeated itself."""
        self.paper.mark_upstream_up()
        for n in (1, 2, 2):
            self.paper.publish(event(n))
        self.clock.advance(0)
        state = readyz([self.paper])[1]["accounts"]["paper"]
        self.assertEqual(state["journal"], {"durable": True, "reason": "", "first": 1, "last": 2})
        self.assertEqual((state["duplicates"], state["ready"]), (1, True))

    def test_is_not_ready_while_events_are_not_on_the_disk(self) -> None:
        """They are delivered, but a crash would lose them."""
        self.paper.mark_upstream_up()
        self.disk.refuse_writing()
        self.paper.publish(event(1))
        self.clock.advance(0)
        status, document = readyz([self.paper])
        state = document["accounts"]["paper"]
        self.assertEqual((status, state["ready"], state["journal"]["durable"]), (503, False, False))
        self.assertEqual(
            state["reason"], f"the journal is not durable: {state['journal']['reason']}"
        )
        self.assertNotEqual(state["journal"]["reason"], "")

    def test_says_all_that_is_wrong(self) -> None:
        """Not the first thing alone: whoever mends that one need not ask again for the next."""
        self.disk.refuse_writing()
        self.paper.publish(event(1))
        self.clock.advance(0)
        self.paper.start_buffering()
        document = readyz([self.paper, self.live])[1]
        self.assertEqual(
            document["reasons"],
            [
                "paper: not connected yet",
                "paper: the journal is not durable: the file is read-only",
                "paper: new events wait for older ones",
                "live: not connected yet",
            ],
        )

    def test_is_not_ready_while_a_gap_is_open(self) -> None:
        """From its begin until nothing more will come of it, whatever that is."""
        self.paper.mark_upstream_up()
        self.clock.advance(60)
        self.paper.mark_upstream_down("connection lost")
        self.clock.advance(1)
        self.paper.mark_upstream_up()
        self.paper.gaps.settle(GapOutcome.OPEN)
        self.paper.gaps.count_found(3)
        status, document = readyz([self.paper])
        state = document["accounts"]["paper"]
        self.assertEqual(
            (status, state["reason"]), (503, "events may have been missed, and are not found yet")
        )
        self.assertEqual(
            state["gap"],
            {
                "begin": "2026-07-24T14:42:49.354000Z",
                "end": "2026-07-24T14:43:50.354000Z",
                "outcome": "open",
                "events": 3,
                "reason": "",
            },
        )
        self.paper.gaps.settle(GapOutcome.LOST)
        status, document = readyz([self.paper])
        self.assertEqual((status, document["accounts"]["paper"]["gap"]), (200, None))

    def test_is_not_ready_while_new_events_wait(self) -> None:
        """What was before them is being asked for."""
        self.paper.mark_upstream_up()
        self.paper.start_buffering()
        self.assertEqual(readyz([self.paper])[0], 503)
        self.paper.stop_buffering()
        self.assertEqual(readyz([self.paper])[0], 200)
