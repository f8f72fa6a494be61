"""The recovery against the simulator: outages of every kind, in memory and in fake time."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import capturedLogs, formatEvent

from tests.recovery.recovery_case import BROKEN, OrdersTestCase, RecoveryTestCase
from tests.support.journals import BASE_URL, DAY
from tradeproxy.config.settings import RecoveryMode
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.proxy_status import GapOutcome


class HistoryTests(RecoveryTestCase):
    """What was missed comes from the history of events."""

    def test_what_was_missed_comes_once_and_before_what_is_newer(self) -> None:
        """The missed events arrive in their place and without a mark."""
        self.outage(lambda: self.emit(1, 2, 3))
        self.emit(4)
        self.advance(2)
        self.emit(5)
        self.advance(0)
        self.assertEqual(self.told(), [(n, None) for n in range(6)])
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 3))
        self.assertIsNone(self.account.gaps.current)

    def test_the_very_first_stream_makes_no_gap(self) -> None:
        """Before it there is nothing to miss."""
        self.assertEqual(self.told(), [(0, None)])
        self.assertEqual(tuple(self.account.gaps), ())

    def test_an_outage_without_events_ends_without_any(self) -> None:
        """Known events of the overlap are no news, and no duplicates."""
        self.outage(lambda: None)
        self.advance(2)
        self.assertEqual(self.told(), [(0, None)])
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 0))
        self.assertEqual(self.journal.duplicates, 0)

    def test_the_account_is_identified(self) -> None:
        """Alpaca's id of the account is in the journal: with other keys, it begins anew."""
        epoch = self.journal.epoch
        self.outage(lambda: None)
        self.advance(2)
        self.assertEqual(self.journal.epoch, epoch)
        self.journal.identify("another")
        self.assertNotEqual(self.journal.epoch, epoch)

    def test_the_log_says_how_it_ended(self) -> None:
        """One line: account, outcome, count and seconds."""
        with capturedLogs() as logs:
            self.outage(lambda: self.emit(1, 2))
            self.advance(2)
        lines = [line for event in logs if "recovery" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), 1)
        self.assertRegex(
            lines[0], r"paper: recovery ended: recovered, 2 missed events in [0-9.]+ s$"
        )

    def test_a_truncated_history_is_continued(self) -> None:
        """A response that is cut off is asked for again from where it broke."""
        self.inject(FaultKind.HISTORY_TRUNCATE, events=3)
        self.outage(lambda: self.emit(*range(1, 8)))
        self.advance(4)
        self.assertEqual(self.told(), [(n, None) for n in range(8)])
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 7))

    def test_a_history_that_left_something_out_is_asked_for_again(self) -> None:
        """Alpaca says so in a comment; the response is worth nothing from there on."""
        self.inject(FaultKind.HISTORY_DROP, events=2, dropped=3)
        self.outage(lambda: self.emit(*range(1, 8)))
        self.advance(4)
        self.assertEqual(self.told(), [(n, None) for n in range(8)])

    def test_events_that_are_no_json_are_counted(self) -> None:
        """They cost nothing but themselves."""

        def happens() -> None:
            self.emit(1)
            self.alpaca.history.append(BROKEN)
            self.emit(2)

        self.outage(happens)
        self.advance(2)
        self.assertEqual([n for n, _ in self.told()], [0, 1, 2])
        self.assertEqual(self.account.dropped_frames.total(), 1)

    def test_a_history_that_starts_again_after_503_is_waited_for(self) -> None:
        """Within the deadline nothing is late; the pause is the one that Alpaca asked for."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, retry_after=3)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(2.5)
        self.assertEqual(self.told(), [(0, None)])
        self.advance(2)
        self.assertEqual(self.told(), [(0, None), (1, None), (2, None)])

    def test_a_second_outage_during_the_recovery_begins_it_anew(self) -> None:
        """Held events are kept over it, and all that was missed in both comes in order."""
        self.inject(FaultKind.HISTORY_DELAY, delay=3)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0.5)
        self.outage(lambda: self.emit(3), 0.5)
        self.emit(4)
        self.advance(3)
        self.assertEqual(self.told(), [(n, None) for n in range(5)])
        self.assertEqual(
            (self.gap.outcome, len(tuple(self.account.gaps))), (GapOutcome.RECOVERED, 1)
        )

    def test_another_process_goes_on_where_the_last_one_was(self) -> None:
        """What happened while no proxy ran is recovered, too."""
        self.stop()
        self.emit(1, 2)
        self.advance(30)
        self.new_process()
        self.advance(2)
        self.assertEqual(self.told(), [(0, None), (1, None), (2, None)])


class RefusedTests(RecoveryTestCase):
    """Modes in which the history is all that is asked for."""

    mode = RecoveryMode.EVENTS

    def test_a_refused_history_is_a_lost_gap(self) -> None:
        """Nothing waits for what will never come, and the reason is told."""
        self.inject(FaultKind.HISTORY_REFUSE, status=403)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0.5)
        self.assertEqual(self.told(), [(0, None), (2, None)])
        self.assertEqual(
            (self.gap.outcome, self.gap.reason),
            (GapOutcome.LOST, "the history is refused: HTTP 403"),
        )


class OffTests(RecoveryTestCase):
    """No recovery at all."""

    mode = RecoveryMode.OFF

    def test_nothing_waits_and_the_gap_is_lost(self) -> None:
        """Clients are told that there is a hole, and why."""
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0)
        self.assertEqual(self.told(), [(0, None), (2, None)])
        self.assertEqual((self.gap.outcome, self.gap.reason), (GapOutcome.LOST, "recovery is off"))


class StopTests(RecoveryTestCase):
    """The end, wherever the recovery stands."""

    def assert_ends(self) -> None:
        stopped = self.service.stopService()
        self.advance(3)
        assert stopped is not None
        self.successResultOf(stopped)
        self.advance(0)
        self.journal.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_stop_during_a_request(self) -> None:
        """The request is given up, what was held is in the journal, and the gap is still open there."""
        self.host.hanging = True
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(1)
        self.assert_ends()
        self.assertEqual([n for n, _ in self.told()], [0, 2])
        self.assertIsNotNone(self.account.gaps.current)

    def test_a_stop_between_two_attempts(self) -> None:
        """No attempt follows."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=1000.0)
        self.outage(lambda: self.emit(1))
        self.advance(20)
        self.assert_ends()

    def test_a_stop_during_the_response(self) -> None:
        """The history is left in the middle."""
        self.inject(FaultKind.HISTORY_DELAY, delay=30)
        self.outage(lambda: self.emit(1))
        self.advance(2)
        self.assert_ends_but_for_alpaca()

    def assert_ends_but_for_alpaca(self) -> None:
        self.alpaca.feeds.close_all()
        self.assert_ends()

    def test_a_stop_after_a_mistake(self) -> None:
        """It is not tried again."""
        self.budget.broken = True
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assert_ends()

    def test_what_is_held_is_in_the_journal_when_the_account_is_closed(self) -> None:
        """In one turn, too: nobody waits for the next one when the process ends."""
        self.inject(FaultKind.HISTORY_DELAY, delay=30)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(1)
        self.assertEqual(self.told(), [(0, None)])
        self.alpaca.feeds.close_all()
        self.service.stopService()
        self.account.close()
        self.assertEqual(self.told(), [(0, None), (2, None)])
        self.advance(5)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_stop_of_a_healthy_stream(self) -> None:
        """The next check is called off."""
        self.assert_ends()


class NotingJournal(SqliteJournal):
    """A journal that notes which event was the last one when it was told how far all is known."""

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(
            "paper",
            None,
            clock,
            base_url=BASE_URL,
            full_sync=False,
            max_age=7 * DAY,
            max_events=1_000_000,
        )
        self.known_at: list[int] = []

    def set_metadata(self, key: str, value: str | None) -> None:
        if key == "checked through":
            self.known_at.append(self.last)
        super().set_metadata(key, value)

    def advance_dedup_horizon(self, time: int) -> None:
        self.known_at.append(self.last)
        super().advance_dedup_horizon(time)


class KnowingTests(OrdersTestCase):
    """What was found is in the journal before that says that nothing is missing."""

    def new_journal(self) -> NotingJournal:
        journal = NotingJournal(self.ours)
        journal.open()
        return journal

    def test_what_was_found_is_kept_first(self) -> None:
        """Where a crash came in between, it was taken for known ever after, and asked for no more."""
        assert isinstance(self.journal, NotingJournal)
        before = self.journal.last
        self.journal.known_at.clear()
        self.outage(self.submit)
        self.advance(5)
        self.assertEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.assertGreater(self.journal.last, before)
        self.assertEqual(self.journal.known_at, [self.journal.last] * 2)
