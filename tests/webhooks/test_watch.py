"""Tests for tradeproxy.webhooks.watch, through the service: reports about the proxy itself."""

from __future__ import annotations

from tests.support.webhooks import OK, webhook_with
from tests.webhooks.test_delivery import LOST, WebhookTestCase
from tradeproxy.hub.replication import NodeRole
from tradeproxy.webhooks.positions import KEY, StoredPosition, read_positions
from tradeproxy.wire.proxy_status import GapOutcome, JournalStatus

ALL = "new,upstream_down,upstream_up,gap_open,gap_lost,journal_not_durable,leader_changed"


class ReportTestCase(WebhookTestCase):
    """A webhook for everything, and an account whose upstream is up."""

    def setUp(self) -> None:
        super().setUp()
        self.webhooks.replace(())
        self.account.mark_upstream_up()
        self.settings = (webhook_with(EVENTS=ALL, AFTER="60"),)
        self.webhooks.replace(self.settings)

    def assert_types(self, *types: str) -> None:
        """Assert that the messages so far have these types, without the part before the dot."""
        found = [document["type"].partition(".")[2] for document in self.receiver.documents]
        self.assertEqual(found, list(types))


class UpstreamTests(ReportTestCase):
    """The upstream is down, and up again."""

    def test_long_outage_is_reported_with_its_reason_and_its_end(self) -> None:
        """The time is that of its beginning."""
        self.account.mark_upstream_down("connection lost")
        self.advance(58)
        self.assert_types()
        self.advance(4)
        self.account.mark_upstream_up()
        self.advance(2)
        self.assert_types("upstream_down", "upstream_up")
        self.assertEqual(self.receiver.documents[0]["data"], {"reason": "connection lost"})

    def test_short_outage_is_not_reported(self) -> None:
        """Alpaca closes every stream now and then."""
        self.account.mark_upstream_down("connection lost")
        self.advance(50)
        self.account.mark_upstream_up()
        self.advance(120)
        self.assert_types()

    def test_report_that_was_made_is_not_repeated_by_a_restart(self) -> None:
        """The end of the outage is reported by the next process."""
        self.account.mark_upstream_down("connection lost")
        self.advance(62)
        self.restart()
        self.advance(120)
        self.assert_types("upstream_down")
        self.account.mark_upstream_up()
        self.advance(2)
        self.assert_types("upstream_down", "upstream_up")

    def test_report_keeps_its_place_among_the_events(self) -> None:
        """The receiver was down: the event before it comes first, the one after it later."""
        self.receiver.default = LOST
        self.publish_now(1)
        self.account.mark_upstream_down("connection lost")
        self.advance(62)
        self.account.mark_upstream_up()
        self.publish_now(2)
        self.receiver.requests.clear()
        self.receiver.default = OK
        self.advance(400)
        self.assert_types("new", "upstream_down", "upstream_up", "new")

    def test_report_behind_an_event_that_is_not_wanted_keeps_its_place(self) -> None:
        """Both events behind the first one are read at once."""
        self.receiver.default = LOST
        self.publish_now(1)
        self.publish_now(2, event="canceled")
        self.account.mark_upstream_down("connection lost")
        self.advance(62)
        self.publish_now(3)
        self.receiver.requests.clear()
        self.receiver.default = OK
        self.advance(400)
        self.assert_types("new", "upstream_down", "new")

    def test_unwanted_report_is_not_sent(self) -> None:
        """Like an event of another kind."""
        self.settings = (webhook_with(EVENTS="new,upstream_up"),)
        self.webhooks.replace(self.settings)
        self.account.mark_upstream_down("connection lost")
        self.advance(62)
        self.assert_types()


class OtherReportTests(ReportTestCase):
    """Gaps, the journal and the leader."""

    def test_gap_is_reported_once_per_outcome(self) -> None:
        """While missed events can still come, and when they cannot."""
        self.account.mark_upstream_down("connection lost")
        self.account.mark_upstream_up()
        self.advance(2)
        self.assert_types()
        self.account.gaps.settle(GapOutcome.OPEN, "the backfill is late")
        self.advance(4)
        self.account.gaps.settle(GapOutcome.LOST, "the history is refused")
        self.advance(4)
        self.restart()
        self.advance(4)
        self.assert_types("gap_open", "gap_lost")
        self.assertEqual(self.receiver.documents[1]["data"]["reason"], "the history is refused")

    def test_journal_that_is_not_durable_is_reported_once(self) -> None:
        """Until it is durable again."""
        for _ in range(2):
            for is_durable in (False, True):
                status = JournalStatus(is_durable, "disk full", self.clock.seconds())
                self.journal.status = status
                self.advance(5)
        self.assert_types("journal_not_durable", "journal_not_durable")

    def test_new_leader_reports_itself(self) -> None:
        """The first leader of a log does not: nothing has changed."""
        role = NodeRole(self.clock.seconds())
        self.account.role = role
        self.advance(2)
        role.start_leading(self.clock.seconds())
        role.is_writing = True
        self.advance(2)
        self.assert_types()
        self.webhooks.stopService()
        self.webhooks = self.start("two")
        self.advance(2)
        self.assert_types("leader_changed")


class StoredPositionTests(WebhookTestCase):
    """What is read from the log."""

    def test_position_that_cannot_be_read_is_none(self) -> None:
        """Redis has what others write; the webhook begins with the next event."""
        for text in ("", "x", "[]", "7", '{"DESK":7}', '{"DESK":[]}', '{"DESK":"x"}'):
            self.journal.set_metadata(KEY, text)
            self.assertEqual(read_positions(self.account), {})

    def test_fields_of_other_versions_and_types_are_left_out(self) -> None:
        """Nodes are upgraded one after the other."""
        self.journal.set_metadata(
            KEY, '{"DESK":{"cursor":7,"time":"x","down":true,"gap":[null,"lost"],"later":1}}'
        )
        self.assertEqual(
            read_positions(self.account),
            {"DESK": StoredPosition(down=True, gap=(None, "lost"))},
        )
