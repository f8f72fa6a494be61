"""Tests for tradeproxy.hub.account: the status of the upstream, and gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.accounts import BEGIN, AccountTestCase
from tests.support.journals import event, memory_journal, time_of
from tests.support.redisjournals import RedisJournalCase
from tradeproxy.hub.account import ANOTHER_ACCOUNT, Account
from tradeproxy.hub.replication import StreamState
from tradeproxy.wire.proxy_status import Gap, GapOutcome, JournalStatus, UpstreamStatus

if TYPE_CHECKING:
    from collections.abc import Callable


class UpstreamStatusTests(SynchronousTestCase):
    """The account records the state of its upstream, and since when."""

    def test_upstream_after_each_change_has_state_reason_and_since(self) -> None:
        """`since` is the beginning of the state: another failed attempt does not move it."""
        clock = Clock()
        clock.advance(1000)
        account = Account("paper", memory_journal(clock), clock)
        up, down = account.mark_upstream_up, account.mark_upstream_down
        self.assertEqual(account.upstream, UpstreamStatus(False, "not connected yet", 1000.0))
        self.assertIsNone(account.next_attempt)
        steps: list[tuple[str, Callable[[], None], UpstreamStatus]] = [
            (
                "the first attempt fails",
                lambda: down("refused"),
                UpstreamStatus(False, "refused", 1000.0),
            ),
            ("it comes up", up, UpstreamStatus(True, "streaming", 1020.0)),
            ("it is lost", lambda: down("lost"), UpstreamStatus(False, "lost", 1030.0)),
            (
                "an attempt fails",
                lambda: down("HTTP 429"),
                UpstreamStatus(False, "HTTP 429", 1030.0),
            ),
            ("it comes up again", up, UpstreamStatus(True, "streaming", 1050.0)),
            ("it is lost again", lambda: down("lost"), UpstreamStatus(False, "lost", 1060.0)),
        ]
        for name, step, status in steps:
            clock.advance(10)
            step()
            self.assertEqual(account.upstream, status, name)


class StateObserverTests(AccountTestCase):
    """Who observes the state is called when it changes."""

    def test_observer_is_called_for_each_change(self) -> None:
        """Of the upstream, a gap and the journal; not for an event, nor after it has left."""
        seen: list[tuple[bool, bool]] = []
        self.account.on_state[self] = lambda: seen.append(
            (self.account.upstream.streaming, self.account.journal.status.durable)
        )
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.assertEqual(seen, [(True, True)])
        status = JournalStatus(False, "disk full", self.clock.seconds())
        self.journal.status = status
        self.journal.on_status(status)
        self.assertEqual(seen[1:], [(True, False)])
        self.account.mark_upstream_down("lost")
        self.assertEqual(seen[2:], [(False, False), (False, False)])  # the gap too
        del self.account.on_state[self]
        self.account.mark_upstream_up()
        self.assertEqual(len(seen), 4)


class AccountNoteTests(AccountTestCase):
    """Texts that others keep with the log."""

    def test_note_is_saved_with_the_log(self) -> None:
        """Who has to know that it survives a crash waits for that."""
        self.account.set_metadata("note", "7")
        self.assertEqual(self.journal.get_metadata("note"), "7")
        self.assertTrue(self.successResultOf(self.account.when_saved()))
        self.journal.status = JournalStatus(False, "disk full", self.clock.seconds())
        self.assertFalse(self.successResultOf(self.account.when_saved()))
        self.account.set_metadata("note", None)
        self.assertIsNone(self.journal.get_metadata("note"))

    def test_log_of_one_node_has_no_imports_of_others(self) -> None:
        """The import then goes to the journal's own file."""
        self.assertIsNone(self.account.import_log)


class AccountGapTests(AccountTestCase):
    """An outage is a gap: from the last event to the return of the stream."""

    def outage(self) -> None:
        self.account.mark_upstream_down("lost")
        self.clock.advance(10)
        self.account.mark_upstream_up()

    def test_upstream_up_with_new_journal_begins_no_gap(self) -> None:
        """Before the first stream of a new journal no event can have been missed."""
        self.account.mark_upstream_up()
        self.assertIsNone(self.account.open_gap)

    def test_outage_begins_gap_at_last_event(self) -> None:
        """The gap lasts from the newest event to the return of the stream."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.outage()
        gap = self.account.open_gap
        assert gap is not None
        self.assertEqual(gap.begin, event(1).time)
        self.assertEqual(gap.end, (BEGIN + 10) * 1_000_000)

    def test_upstream_up_with_earlier_journal_begins_gap_at_last_event(self) -> None:
        """Events while no proxy ran were missed too. A failed attempt begins no gap."""
        self.journal.append([event(1)])
        self.account.mark_upstream_down("refused")
        self.assertIsNone(self.account.open_gap)
        self.account.mark_upstream_up()
        gap = self.account.open_gap
        assert gap is not None
        self.assertEqual(gap.begin, event(1).time)

    def test_outage_announces_every_change_of_upstream_and_gap(self) -> None:
        """Subscribers get a frame for each change of the upstream and of the gap."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.subscriber.statuses.clear()
        self.outage()
        self.account.count_found(3)
        self.account.settle_gap(GapOutcome.RECOVERED)
        announced = [
            (status["event"], status.get("outcome", status.get("state")))
            for status in self.subscriber.statuses
        ]
        self.assertEqual(
            announced,
            [
                ("upstream", "down"),
                ("gap", "pending"),
                ("upstream", "up"),
                ("gap", "pending"),
                ("gap", "recovered"),
            ],
        )
        self.assertEqual(self.subscriber.statuses[-1]["events"], 3)

    def test_identify_another_account_settles_gap_as_lost_and_sends_hello(self) -> None:
        """The hello frame has a cursor of the new epoch. The same account changes nothing."""
        self.account.identify("one")
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.account.mark_upstream_down("lost")
        self.subscriber.statuses.clear()
        epoch = self.journal.epoch
        others: list[str] = []
        self.account.on_another_account = lambda: others.append(self.journal.epoch)
        self.account.identify("one")
        self.assertEqual((self.subscriber.statuses, others), ([], []))
        self.account.identify("two")
        self.assertEqual(others, [self.journal.epoch])
        hello, gap = self.subscriber.statuses
        self.assertEqual((gap["outcome"], gap["reason"]), ("lost", ANOTHER_ACCOUNT))
        self.assertEqual(self.account.gap_outcomes, {GapOutcome.PENDING: 1, GapOutcome.LOST: 1})
        self.assertEqual(hello["event"], "hello")
        self.assertNotIn(epoch, hello["cursor"])

    def test_reconnects_counts_streams_after_the_first(self) -> None:
        """Failed attempts and the first stream do not count."""
        self.account.mark_upstream_down("refused")
        self.account.mark_upstream_up()
        self.assertEqual(self.account.reconnects, 0)
        self.outage()
        self.outage()
        self.assertEqual(self.account.reconnects, 2)

    def test_upstream_down_same_reason_announces_once(self) -> None:
        """Repeated attempts with the same failure are announced once."""
        for reason in ("refused", "refused", "HTTP 429"):
            self.account.mark_upstream_down(reason)
        self.assertEqual(
            [status["reason"] for status in self.subscriber.statuses], ["refused", "HTTP 429"]
        )


class AccountStreamStateTests(AccountTestCase):
    """One of several nodes leads an account; the others copy its stream state."""

    def setUp(self) -> None:
        super().setUp()
        self.states: list[StreamState] = []
        self.account.on_stream_state = self.states.append

    def test_on_stream_state_every_change_passes_complete_state(self) -> None:
        """Each call has the status of the upstream and all gaps."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.account.flush()
        self.account.mark_upstream_down("lost")
        self.account.gaps.settle(GapOutcome.OPEN, "HTTP 500")
        self.assertEqual([len(state.gaps) for state in self.states], [0, 0, 1, 1])
        self.assertEqual(
            self.states[-1], StreamState(self.account.upstream, tuple(self.account.gaps))
        )

    def test_apply_stream_state_repeated_announces_once(self) -> None:
        """The state of the leader is copied, and announced when it changes."""
        up = UpstreamStatus(streaming=True, reason="streaming", since=BEGIN + 1.5)
        gap = Gap(1, 2, GapOutcome.RECOVERED, 3)
        for lines in (["paper: upstream of the leader is streaming"], []):
            with capturedLogs() as logged:
                self.account.apply_stream_state(StreamState(up, (gap,)))
            self.assertEqual(list(map(formatEvent, logged)), lines)
        self.assertEqual((self.account.upstream, list(self.account.gaps)), (up, [gap]))
        self.assertEqual(
            [status["event"] for status in self.subscriber.statuses], ["gap", "upstream"]
        )
        self.assertEqual(self.account.reconnects, 0)

    def test_take_over_ends_gap_at_first_stream(self) -> None:
        """Events between the two streams may have been missed."""
        self.journal.append([event(1)])
        self.account.apply_stream_state(
            StreamState(UpstreamStatus(streaming=True, reason="streaming", since=BEGIN), ())
        )
        self.clock.advance(5)
        self.account.take_over()
        self.assertEqual(self.account.upstream, UpstreamStatus(False, "connecting", BEGIN + 5))
        self.clock.advance(1)
        self.account.mark_upstream_up()
        self.assertEqual(
            list(self.account.gaps), [Gap(time_of(1), max((BEGIN + 6) * 1_000_000, time_of(1)))]
        )
        self.assertEqual(self.account.reconnects, 0)

    def test_take_over_second_term_begins_gap(self) -> None:
        """Another node led in between, although this one has streamed before."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.account.flush()
        self.account.mark_upstream_down("the lease was lost")
        self.account.apply_stream_state(
            StreamState(UpstreamStatus(streaming=True, reason="streaming", since=BEGIN), ())
        )
        self.account.take_over()
        self.account.mark_upstream_up()
        [gap] = self.account.gaps
        self.assertEqual((gap.begin, gap.outcome), (time_of(1), GapOutcome.PENDING))

    def test_take_over_while_stream_was_down_begins_gap(self) -> None:
        """The other node may have missed events before it lost the lease."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.account.flush()
        self.account.apply_stream_state(
            StreamState(UpstreamStatus(streaming=False, reason="lost", since=BEGIN), ())
        )
        self.account.take_over()
        self.account.mark_upstream_up()
        self.assertEqual([gap.begin for gap in self.account.gaps], [time_of(1)])
        self.assertEqual(self.account.reconnects, 0)

    def test_journal_status_is_announced(self) -> None:
        """Clients of the proxy_status stream see that the disk fails."""
        self.journal.on_status(JournalStatus(durable=False, reason="disk full", since=BEGIN))
        [status] = self.subscriber.statuses
        self.assertEqual(
            (status["event"], status["state"], status["reason"]),
            ("journal", "not durable", "disk full"),
        )

    def test_journal_durable_again_is_announced_with_cursor(self) -> None:
        """The last events had none. A client that resumes before the next event needs it."""
        self.publish(1)
        self.account.flush()
        self.journal.on_status(JournalStatus(durable=True, reason="", since=BEGIN))
        journal, hello = self.subscriber.statuses
        self.assertEqual((journal["event"], journal["state"]), ("journal", "durable"))
        self.assertEqual(
            (hello["event"], hello["cursor"]), ("hello", self.account.cursor_at(self.journal.last))
        )

    def test_journal_replaced_drops_every_subscriber(self) -> None:
        """No earlier position is valid in the new log."""
        self.journal.on_replaced()
        self.assertEqual(len(self.account.broadcaster), 0)


class AccountNoteInRedisTests(RedisJournalCase, AccountTestCase):
    """The imports in a log that nodes share."""

    def test_imports_are_those_of_the_log(self) -> None:
        """Every node reads what one of them has imported."""
        self.assertIsNotNone(self.account.import_log)
        self.assertIs(self.account.import_log, self.journal.import_log)


class AccountGapInRedisTests(RedisJournalCase, AccountGapTests):
    """The same with a journal in Redis."""


class AccountStreamStateInRedisTests(RedisJournalCase, AccountStreamStateTests):
    """The same with a journal in Redis."""
