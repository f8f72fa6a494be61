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


IDLE_STATE = {
    "clients": 0,
    "dropped_frames": 0,
    "duplicates": 0,
    "journal": {"durable": True, "reason": "", "first": 1, "last": 0},
    "gap": None,
}


class HealthTests(SynchronousTestCase):
    """/healthz and /readyz."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.disk = Connections()
        self.paper = Account(
            "paper", memory_journal(self.clock, "paper", connect=self.disk), self.clock
        )
        self.live = Account("live", memory_journal(self.clock, "live"), self.clock)

    def test_healthz_upstream_down_or_disk_failing_is_200(self) -> None:
        """A restart fixes neither."""
        self.paper.mark_upstream_down("HTTP 502 at the handshake")
        self.disk.refuse_writing()
        self.paper.publish(event(1))
        self.clock.advance(0)
        self.assertFalse(self.paper.journal.status.durable)
        self.assertEqual(healthz([self.paper, self.live]), (200, {"status": "ok"}))

    def test_healthz_failed_account_is_503(self) -> None:
        """The proxy no longer connects, so a restart helps; the reason names the account."""
        self.live.has_failed = True
        self.live.mark_upstream_down("an error of the proxy's own: see its log")
        reasons = ["live: an error of the proxy's own: see its log"]
        self.assertEqual(
            healthz([self.paper, self.live]), (503, {"status": "failed", "reasons": reasons})
        )

    def test_since_is_that_of_the_reason(self) -> None:
        """With a full disk it was the time at which the stream came up."""
        self.paper.mark_upstream_up()
        self.clock.advance(60)
        self.disk.refuse_writing()
        self.paper.publish(event(1))
        self.clock.advance(0)
        state = readyz([self.paper])[1]["accounts"]["paper"]
        self.assertEqual(state["since"], "2026-07-24T14:43:49.354000Z")
        self.paper.mark_upstream_down("connection lost")
        self.clock.advance(5)
        state = readyz([self.paper])[1]["accounts"]["paper"]
        self.assertEqual((state["reason"], state["since"][14:19]), ("connection lost", "43:49"))

    def test_readyz_all_streaming_is_200(self) -> None:
        """The document has the start of each stream, in UTC."""
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
                    **IDLE_STATE,
                },
                "live": {
                    "ready": True,
                    "reason": "streaming",
                    "since": "2026-07-24T14:43:49.354000Z",
                    **IDLE_STATE,
                },
            },
        }
        self.assertEqual(readyz([self.paper, self.live]), (200, document))

    def test_notice_is_a_reason_without_503(self) -> None:
        """A restart would not help, and a load balancer has no better proxy."""
        self.paper.mark_upstream_up()
        self.paper.notices["trade log"] = "the trade log is not written: /a: disk full"
        status, document = readyz([self.paper])
        self.assertEqual((status, document["ready"]), (200, True))
        self.assertEqual(
            document["reasons"], ["paper: the trade log is not written: /a: disk full"]
        )
        state = document["accounts"]["paper"]
        self.assertEqual((state["ready"], state["reason"]), (True, "streaming"))
        self.assertEqual(state["notices"], ["the trade log is not written: /a: disk full"])

    def test_readyz_before_first_connection_is_503(self) -> None:
        """An account that has never streamed is not connected since the start of the process."""
        document = {
            "ready": False,
            "reasons": ["paper: not connected yet"],
            "accounts": {
                "paper": {
                    "ready": False,
                    "reason": "not connected yet",
                    "since": "2026-07-24T14:42:49.354000Z",
                    **IDLE_STATE,
                },
            },
        }
        self.assertEqual(readyz([self.paper]), (503, document))

    def test_readyz_one_account_down_is_503(self) -> None:
        """Its state has the reason and the start of the outage; the other account is ready."""
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
                    **IDLE_STATE,
                },
                "live": {
                    "ready": False,
                    "reason": "HTTP 429 at the handshake",
                    "since": "2026-07-24T14:42:50.354000Z",
                    **IDLE_STATE,
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

    def test_readyz_reports_journal_range_and_duplicates(self) -> None:
        """The state has the first and last row, and the events that Alpaca repeated."""
        self.paper.mark_upstream_up()
        for n in (1, 2, 2):
            self.paper.publish(event(n))
        self.clock.advance(0)
        state = readyz([self.paper])[1]["accounts"]["paper"]
        self.assertEqual(state["journal"], {"durable": True, "reason": "", "first": 1, "last": 2})
        self.assertEqual((state["duplicates"], state["ready"]), (1, True))

    def test_readyz_journal_not_durable_is_503(self) -> None:
        """Events are delivered, but a crash would lose them."""
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

    def test_readyz_several_problems_lists_all(self) -> None:
        """An operator need not fix one problem to see the next.

        While the stream is down, no new events wait: with a wrong key, the line had no cause.
        """
        self.disk.refuse_writing()
        self.paper.publish(event(1))
        self.clock.advance(0)
        self.paper.start_buffering()
        journal = "paper: the journal is not durable: the file is read-only"
        live = "live: not connected yet"
        document = readyz([self.paper, self.live])[1]
        self.assertEqual(document["reasons"], ["paper: not connected yet", journal, live])
        self.paper.mark_upstream_up()
        document = readyz([self.paper, self.live])[1]
        wait = "paper: new events wait for older ones"
        self.assertEqual(document["reasons"][0], journal)
        self.assertEqual(document["reasons"][-2:], [wait, live])

    def test_readyz_open_gap_is_503(self) -> None:
        """From the start of the gap until it is settled, with any outcome."""
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

    def test_readyz_buffering_is_503(self) -> None:
        """New events wait for older ones until buffering stops."""
        self.paper.mark_upstream_up()
        self.paper.start_buffering()
        self.assertEqual(readyz([self.paper])[0], 503)
        self.paper.stop_buffering()
        self.assertEqual(readyz([self.paper])[0], 200)
