"""When the recovery sends its requests, against a server in memory and in fake time."""

from __future__ import annotations

import json

from twisted.logger import capturedLogs, formatEvent

from tests.recovery.scripted_case import (
    HISTORY,
    OPEN,
    START,
    ScheduleTestCase,
    build_event,
    build_order,
)
from tests.support.journals import memory_journal
from tests.upstream.support import event_stream, status
from tradeproxy.config.settings import RecoveryMode
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.runtime.dates import SECOND, Dates
from tradeproxy.wire.event import parse_time
from tradeproxy.wire.proxy_status import Gap, GapOutcome


class CheckTests(ScheduleTestCase):
    """Checks of a healthy stream."""

    def test_checks_follow_at_doubling_intervals(self) -> None:
        """The first one comes after 30 s, and the interval ends at that of the settings."""
        self.come_up()
        self.wires.advance(3700)
        self.assertEqual(self.list_times(HISTORY), [30, 90, 210, 450, 930, 1830, 2730, 3630])

    def test_check_leaves_last_ten_seconds_to_stream(self) -> None:
        """The stream may still deliver events of that time."""
        self.come_up()
        self.wires.advance(30)
        (query,) = self.list_requests(HISTORY)
        self.assertEqual(parse_time(query["until"]), self.now - 10 * SECOND)

    def test_gap_has_no_slack(self) -> None:
        """Events wait for the missed ones: the history is read up to Alpaca's present second."""
        self.begin_gap()
        (query,) = self.list_requests(HISTORY)
        self.assertEqual(parse_time(query["until"]), self.now + SECOND)

    def test_failed_check_uses_orders_after_three_attempts(self) -> None:
        """The next one, while the history fails, after the first. Checks follow every 30 s."""
        self.history = status(500)
        self.come_up()
        self.wires.advance(100)
        self.assertEqual(self.list_times(HISTORY), [30, 31, 33, 65, 97])

    def test_mute_stream_is_opened_in_the_same_second(self) -> None:
        """A check follows when it may be opened again."""
        reopened: list[tuple[str, float]] = []
        self.recovery.reopen = lambda reason: reopened.append(
            (reason, self.clock.seconds() - self.began)
        )
        self.come_up()
        for _ in range(38):
            self.bring(self.build(round(self.clock.seconds())))
            self.wires.advance(10)
        mute = "the stream was mute; it is opened again"
        self.assertEqual(reopened, [(mute, 30), (mute, 330)])

    def test_check_that_cannot_be_made_keeps_stream_mute(self) -> None:
        """Only a check that finds nothing shows that the stream works."""
        self.come_up()
        self.wires.advance(20)
        self.bring(self.build(1))
        self.wires.advance(10)
        self.assertTrue(self.account.is_mute)
        self.history = status(403)
        self.answer = lambda request: (
            status(403)(request) if request.path == b"/v2/orders" else self.respond(request)
        )
        self.wires.advance(100)
        self.assertTrue(self.account.is_mute)

    def test_check_by_orders_is_logged(self) -> None:
        """The log then lacks what orders do not show."""
        for history, reason in ((status(500), "fails: HTTP 500"), (status(403), "refused")):
            self.setUp()
            self.history = history
            self.come_up()
            with capturedLogs() as logs:
                self.wires.advance(40)
            lines = [formatEvent(each) or "" for each in logs]
            if reason == "refused":
                self.assertEqual(lines, [], "the orders are enough")
            else:
                self.assertEqual([line.endswith(reason) for line in lines], [True])

    def test_check_that_leaves_an_order_out_is_logged(self) -> None:
        """Only the log said so: no gap declared it, and the stream looked complete."""
        self.history = status(403)
        self.come_up()
        self.wires.advance(40)
        note = "x" * 1024 * 1024
        self.listed = [build_order(0, "canceled", time=self.now, id="large", note=note)]
        with capturedLogs() as logs:
            self.wires.advance(200)
        lines = [formatEvent(each) or "" for each in logs]
        (line,) = [line for line in lines if "cannot check" in line]
        self.assertIn("an event made of an order is too large", line)
        (gap,) = self.list_lost()
        self.assertIn("an event made of an order is too large", gap.reason)

    def list_lost(self) -> list[Gap]:
        return [gap for gap in self.account.gaps if gap.outcome is GapOutcome.LOST]

    def test_check_that_leaves_an_event_of_the_history_out_declares_a_gap(self) -> None:
        """The next checks find it again in the overlap: then the gap becomes longer."""
        self.come_up()
        self.wires.advance(50)
        self.history = event_stream(b'data: {"pad": "' + b"x" * 1024 * 1024 + b'"}\n\n')
        began = self.now - 60 * SECOND
        self.wires.advance(50)
        (first,) = self.list_lost()
        assert first.begin is not None
        assert first.end is not None
        self.assertGreaterEqual(first.begin, began)
        self.assertEqual(first.reason, "an event of the history has more than 1 MiB or 1000 lines")
        self.wires.advance(130)
        (longer,) = self.list_lost()
        assert longer.end is not None
        self.assertEqual(longer.begin, first.begin)
        self.assertGreater(longer.end, first.end)
        self.assertEqual(self.account.gap_outcomes[GapOutcome.LOST], 1)

    def test_order_that_closed_and_cannot_be_used_is_declared_and_forgotten(self) -> None:
        """It was requested at every second comparison, for ever, and no gap declared it."""
        for note in (
            "x" * (1024 * 1024 - len(json.dumps(build_order(0, "canceled", note="")))),
            "x" * 1024 * 1024,
        ):
            self.setUp()
            self.log(build_event(build_order(0, "new")))
            self.by_id["O"] = build_order(0, "canceled", note=note)
            self.come_up()
            with capturedLogs() as logs:
                self.wires.advance(5000)
            (gap,) = self.list_lost()
            self.assertEqual(gap.begin, START)
            self.assertIn("made of an order", gap.reason)
            self.assertEqual(len(self.list_requests("/v2/orders/O")), 1)
            lines = [formatEvent(each) or "" for each in logs]
            self.assertEqual(sum("closed without an event" in line for line in lines), 1, lines)

    def test_order_that_stays_unusable_is_declared_once(self) -> None:
        """Every check declared it again: the log does not have its end. It is still looked for."""
        longest = 1024 * 1024 - len(json.dumps(build_order(0, "canceled", note="")))
        for note in ("x" * longest, "x" * 1024 * 1024):
            self.setUp()
            self.history = status(403)
            self.log(build_event(build_order(0, "new")))
            self.by_id["O"] = build_order(0, "canceled", note=note)
            self.come_up()
            self.wires.advance(100)
            (gap,) = self.list_lost()
            self.wires.advance(5000)
            self.assertEqual(self.list_lost(), [gap])
            self.lose()
            self.come_up()
            self.wires.advance(10)
            self.assertEqual(self.gap_state, (GapOutcome.ORDERS, 0))
            self.by_id["O"] = build_order(0, "canceled")
            self.wires.advance(100)
            state = self.account.log.order("O")
            assert state is not None
            self.assertEqual(state.status, "canceled")

    def test_event_that_a_gap_left_out_adds_no_gap(self) -> None:
        """The first checks after a gap find it again in the overlap."""
        event = b'data: {"pad": "' + b"x" * 1024 * 1024 + b'"}\n\n'
        self.history = event_stream(event)
        self.begin_gap()
        self.wires.advance(1)
        self.assertEqual(len(self.list_lost()), 1)
        self.wires.advance(200)
        self.assertEqual(len(self.list_lost()), 1)


class EventsModeCheckTests(ScheduleTestCase):
    """PROXY_RECOVERY=events."""

    mode = RecoveryMode.EVENTS

    def test_failed_check_makes_three_attempts(self) -> None:
        """The next check follows at its time."""
        self.history = status(500)
        self.come_up()
        self.wires.advance(100)
        self.assertEqual(self.list_times(HISTORY), [30, 31, 33, 93, 94, 96])

    def test_rejected_check_is_logged(self) -> None:
        """Nothing shows then whether the stream is complete."""
        self.history = status(403)
        self.come_up()
        with capturedLogs() as logs:
            self.wires.advance(300)
        (line,) = [formatEvent(each) or "" for each in logs]
        self.assertIn("cannot check whether the stream is complete: the history is refused", line)

    def test_found_events_are_counted(self) -> None:
        """They are counted and logged by the check that finds them, and by no other."""
        self.come_up()
        self.wires.advance(3)
        self.bring(self.build(1))
        with capturedLogs() as logs:
            self.wires.advance(300)
        self.assertEqual(self.account.gaps.found["check"], 1)
        lines = [formatEvent(each) or "" for each in logs]
        (line,) = [line for line in lines if "omitted" in line]
        self.assertIn("the stream omitted 1 event, delivered late", line)

    def test_gap_is_retried_at_doubling_intervals(self) -> None:
        """At most 60 s, or as long as Alpaca says."""
        self.history = status(500)
        self.begin_gap()
        self.wires.advance(200)
        self.assertEqual(self.list_times(HISTORY), [0, 1, 3, 7, 15, 31, 63, 123, 183])
        self.history = status(503, retry_after="90")
        self.wires.advance(150)
        self.assertEqual(self.list_times(HISTORY), [243, 333])

    def test_count_includes_events_of_failed_attempt(self) -> None:
        """They were delivered. The next attempt may come a minute later."""
        self.history = status(500)
        self.begin_gap()
        self.bring(self.build(1), self.build(2), complete=False)
        self.wires.advance(1)
        self.assertEqual(self.gap_state, (GapOutcome.PENDING, 2))


class FirstStreamScheduleTests(ScheduleTestCase):
    """The first stream of a log."""

    def test_slow_identification_is_no_gap(self) -> None:
        """Events are released at the deadline. None is late, so there is nothing to log."""
        self.host.hanging = True
        with capturedLogs() as logs:
            self.come_up()
            self.account.publish(self.build(1))
            self.wires.advance(5)
        self.assertEqual((logs, self.account.buffered), ([], ()))


class UncertainDateTests(ScheduleTestCase):
    """A Date that agrees with no clock."""

    def new_journal(self) -> SqliteJournal:
        dates = Dates(self.clock.seconds, lambda: self.clock.seconds() + 3600)
        return memory_journal(self.clock, dates=dates)

    def test_uncertain_date_is_not_the_begin_of_the_checks(self) -> None:
        """Half a minute later, a second one confirms it."""
        self.come_up()
        self.wires.advance(29)
        self.assertIsNone(self.account.completeness.checked_through)
        self.wires.advance(2)
        self.assertIsNotNone(self.account.completeness.checked_through)


class CompareTests(ScheduleTestCase):
    """The comparison of open orders."""

    def test_orders_are_compared_every_ten_seconds_at_most(self) -> None:
        """A stream that is lost again and again causes no request more."""
        self.come_up()
        for seconds in (9.5, 0.5, 9, 1):
            self.lose()
            self.clock.advance(seconds)
            self.come_up()
        self.assertEqual(sorted(set(self.list_times(OPEN))), [0, 10, 20])

    def test_check_compares_orders(self) -> None:
        """The comparison of the start and that of the first check are two in a row."""
        self.log(build_event(build_order(0, "new", self.now)))
        self.by_id["O"] = build_order(0, "canceled", self.now)
        self.come_up()
        self.wires.advance(29.5)
        self.assertEqual(self.account.gaps.found["check"], 0)
        self.wires.advance(0.5)
        self.assertEqual(self.account.gaps.found["check"], 1)

    def test_event_found_after_backfill_is_counted(self) -> None:
        """It belongs to no gap: nothing shows when the order closed."""
        self.log(build_event(build_order(0, "new", self.now)))
        self.by_id["O"] = build_order(0, "canceled", self.now)
        self.come_up()
        self.lose()
        self.clock.advance(10)
        self.come_up()
        self.assertEqual(self.account.gaps.found["check"], 1)
