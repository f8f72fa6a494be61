"""Webhooks of several nodes: the leader sends, and the next one continues where it was."""

from __future__ import annotations

from typing import Any

from tests.support.journals import event_id_of
from tests.support.nodes import Member, NodesCase
from tests.support.webhooks import MemoryReceiver, webhook_with
from tradeproxy.cluster.leadership import LEASE
from tradeproxy.webhooks.service import Webhooks
from tradeproxy.webhooks.state import DeliveryState


class LeadersCase(NodesCase):
    """Two nodes with the same webhook."""

    events = "new,leader_changed"

    def setUp(self) -> None:
        super().setUp()
        self.receiver = MemoryReceiver()
        self.first, self.first_webhooks = self.start_both("one")
        self.second, self.second_webhooks = self.start_both("two")

    def start_both(self, name: str) -> tuple[Member, Webhooks]:
        """Start a node and its webhooks."""
        clock: Any = self.clock
        member = self.start_node()
        webhooks = Webhooks(
            (webhook_with(EVENTS=self.events),),
            {"paper": member.account},
            lambda _: self.receiver,
            name,
            clock,
            lambda: 1.0,
        )
        webhooks.startService()
        self.addCleanup(lambda: webhooks.running and webhooks.stopService())
        self.advance(2)
        return member, webhooks

    def sent(self) -> list[str]:
        """Return the ids of the events, without reports."""
        return [each for each in self.receiver.ids if not each.startswith("proxy")]

    def reports(self) -> list[str]:
        """Return the types of the reports."""
        return [each["type"] for each in self.receiver.documents if "proxy" in each["type"]]


class LeaderTests(LeadersCase):
    """One node sends at a time, and nothing is lost in between."""

    def test_only_the_leader_sends(self) -> None:
        """Both have the events."""
        self.first.publish(1, 2)
        self.advance(3)
        self.assertEqual(self.sent(), [event_id_of(1), event_id_of(2)])
        [stats] = self.second_webhooks.list_stats()
        self.assertEqual(stats.state, DeliveryState.WAITING)

    def test_next_leader_continues_after_the_last_message(self) -> None:
        """A stop hands over in order: nothing is repeated, and nothing missing."""
        self.first.publish(1, 2)
        self.advance(3)
        self.first_webhooks.stopService()
        self.first.publish(3)
        self.advance(1)
        self.first.stop()
        self.advance(LEASE)
        self.assertTrue(self.second.is_leader)
        self.second.publish(4)
        self.advance(3)
        self.assertEqual(self.sent(), [event_id_of(n) for n in (1, 2, 3, 4)])
        self.assertEqual(self.reports(), ["proxy.leader_changed"])

    def test_leader_that_is_killed_loses_no_message(self) -> None:
        """The last ones may come again."""
        self.first.publish(1)
        self.advance(3)
        self.receiver.default = None
        self.first.publish(2)
        self.advance(1)
        self.first.kill()
        self.receiver.default = MemoryReceiver().default
        self.advance(2 * LEASE)
        self.assertTrue(self.second.is_leader)
        self.advance(3)
        found = list(dict.fromkeys(self.sent()))
        self.assertEqual(found, [event_id_of(1), event_id_of(2)])

    def test_node_that_no_longer_leads_ends_its_request(self) -> None:
        """Its message would come after later ones of the next leader."""
        self.receiver.default = None
        self.first.publish(1)
        self.advance(1)
        self.assertEqual(len(self.receiver.requests), 1)
        self.first.cut()
        self.advance(LEASE)
        self.assertFalse(self.first.is_leader)
        self.assertGreaterEqual(self.receiver.cancelled, 1)
        [stats] = self.first_webhooks.list_stats()
        self.assertEqual(stats.state, DeliveryState.WAITING)


class TermTests(LeadersCase):
    """What a node knows of a term before is no longer the newest."""

    events = "leader_changed,upstream_down"

    def test_node_that_leads_again_repeats_no_report_of_the_leader_between(self) -> None:
        """It compared the account with what it had reported itself, in its term before."""
        self.first.account.mark_upstream_up()
        self.advance(2)
        self.first.cut()
        self.advance(2 * LEASE)
        self.assertTrue(self.second.is_leader)
        self.second.account.mark_upstream_down("maintenance")
        self.advance(62)
        found = ["proxy.leader_changed", "proxy.upstream_down"]
        self.assertEqual(self.reports(), found)
        self.first.restore()
        self.advance(3)
        self.second.cut()
        self.advance(2 * LEASE)
        self.assertTrue(self.first.is_leader)
        self.assertEqual(self.reports(), [*found, "proxy.leader_changed"])
