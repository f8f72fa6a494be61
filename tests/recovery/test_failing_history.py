"""A history that fails, but is not rejected: the orders help until it works again."""

from __future__ import annotations

from typing import Any

from tests.recovery.recovery_case import FOREVER, OrdersTestCase
from tradeproxy.config.settings import RecoveryMode
from tradeproxy.recovery.backfill import GIVE_UP_AFTER, ORDERS_AFTER
from tradeproxy.recovery.recovery import FIRST_CHECK, MAX_RETRY
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.orders import Order
from tradeproxy.web.health import readyz
from tradeproxy.wire.proxy_status import GapOutcome

FAILURES: tuple[dict[str, Any], ...] = (
    *({"kind": FaultKind.HISTORY_REFUSE, "status": status} for status in (400, 422, 500, 501)),
    {"kind": FaultKind.HISTORY_NOT_SSE, "content_type": "text/html"},
    {
        "kind": FaultKind.HISTORY_NOT_SSE,
        "content_type": "text/event-stream",
        "body": '{"code":50010000,"message":"internal server error"}',
    },
    {"kind": FaultKind.HISTORY_HANG},
    {"kind": FaultKind.HISTORY_STALL, "events": 0},
    {"kind": FaultKind.HISTORY_TRUNCATE, "events": 0},
)


class FailingHistoryTestCase(OrdersTestCase):
    """An account whose history fails for a while."""

    def setUp(self) -> None:
        super().setUp()
        self.mend()

    def break_history(self, **fault: Any) -> None:
        self.alpaca.inject(Fault(seconds=FOREVER, **fault))

    def mend(self) -> None:
        """Let the history work."""
        for kind in {fault["kind"] for fault in FAILURES}:
            self.alpaca.inject(Fault(kind, seconds=0.001))
        self.advance(0.01)

    def fill_in_outage(self) -> Order:
        """Let an order fill while there is no stream."""
        orders: list[Order] = []
        self.outage(lambda: orders.append(self.submit()))
        return orders[0]

    def count_events(self) -> int:
        return len(self.recorder.frames)


class FailingHistoryTests(FailingHistoryTestCase):
    """The orders are used after three failures or ten seconds."""

    def test_every_failure_uses_orders(self) -> None:
        """A missed fill never came. If the history was rejected (403), it came in 3 s."""
        for fault in FAILURES:
            self.break_history(**fault)
            order = self.fill_in_outage()
            self.advance(ORDERS_AFTER + 5)
            events = self.select_events(order)
            self.assertEqual(events[-1], ("fill", "orders"), fault)
            self.mend()
            self.advance(2 * MAX_RETRY)

    def test_quick_failures_use_orders_after_third(self) -> None:
        """Their retries follow after one and two seconds."""
        self.break_history(kind=FaultKind.HISTORY_REFUSE, status=500)
        order = self.fill_in_outage()
        self.advance(7)
        self.assertEqual(self.select_events(order), [("fill", "orders")])

    def test_history_that_works_again_repeats_nothing(self) -> None:
        """It adds the changes that orders cannot show: those before the fill, and a correction."""
        self.break_history(kind=FaultKind.HISTORY_REFUSE, status=500)
        order = self.fill_in_outage()
        self.advance(15)
        self.mend()
        self.inject(FaultKind.CORRECT)
        self.advance(MAX_RETRY)
        events = self.select_events(order)
        self.assertEqual([event for event, _ in events].count("fill"), 2, events)
        self.assertEqual(events[0], ("fill", "orders"))
        self.assertIn(("new", "events"), events)
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)

    def test_history_that_works_again_after_restart_repeats_nothing(self) -> None:
        """The log shows what was made of orders."""
        self.break_history(kind=FaultKind.HISTORY_REFUSE, status=500)
        filled = self.fill_in_outage()
        self.advance(15)
        self.stop()
        self.mend()
        self.start_new_process()
        self.advance(15)
        kinds = [event for event, _ in self.select_events(filled)]
        self.assertEqual(kinds.count("fill"), 1, kinds)
        self.assertIn("new", kinds)

    def test_cancellation_made_of_order_is_not_repeated(self) -> None:
        """`pending_cancel` comes late, `canceled` does not come again."""
        order = self.submit_resting()
        self.advance(1)
        self.break_history(kind=FaultKind.HISTORY_HANG)
        self.outage(lambda: self.cancel(order))
        self.advance(15)
        self.mend()
        self.advance(MAX_RETRY)
        kinds = [event for event, _ in self.select_events(order)]
        self.assertEqual(kinds.count("canceled"), 1, kinds)

    def test_history_that_fails_for_minutes_settles_gap_by_orders(self) -> None:
        """A gateway may never offer it. /readyz must not be 503 for ever."""
        self.break_history(kind=FaultKind.HISTORY_REFUSE, status=501)
        self.fill_in_outage()
        self.advance(15)
        self.assertEqual((self.gap.outcome, self.gap.reason), (GapOutcome.OPEN, "HTTP 501"))
        self.advance(GIVE_UP_AFTER + 2 * MAX_RETRY)
        self.assertEqual(
            (self.gap.outcome, self.gap.reason),
            (GapOutcome.ORDERS, "the history fails: HTTP 501"),
        )
        self.assertEqual(readyz([self.account])[0], 200)

    def test_checks_use_orders_and_go_on_requesting_history(self) -> None:
        """What the stream omits meanwhile is found. All else comes when the history works."""
        self.break_history(kind=FaultKind.HISTORY_REFUSE, status=501)
        first = self.fill_in_outage()
        self.advance(2 * GIVE_UP_AFTER)
        self.inject(FaultKind.OMIT, seconds=2)
        omitted = self.submit()
        self.advance(2 * MAX_RETRY)
        self.assertEqual(self.select_events(omitted), [("fill", "orders")])
        self.assert_all_is_delivered()
        self.mend()
        self.advance(2 * MAX_RETRY)
        for order in (first, omitted):
            kinds = [event for event, _ in self.select_events(order)]
            self.assertEqual((kinds.count("fill"), kinds.count("new")), (1, 1), kinds)

    def test_slow_history_is_read_by_check(self) -> None:
        """An answer after 15 s is too late for the gap, but not for ever."""
        self.alpaca.inject(Fault(FaultKind.HISTORY_DELAY, delay=15, seconds=FOREVER))
        order = self.fill_in_outage()
        self.advance(ORDERS_AFTER + 5)
        self.assertEqual(self.select_events(order), [("fill", "orders")])
        self.advance(FIRST_CHECK)
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)

    def test_no_order_changed_delivers_nothing(self) -> None:
        """A failing history alone makes no event."""
        self.break_history(kind=FaultKind.HISTORY_REFUSE, status=500)
        before = self.count_events()
        self.outage(lambda: None)
        self.advance(60)
        self.assertEqual(self.count_events(), before)


class FailingHistoryOnlyTests(FailingHistoryTestCase):
    """PROXY_RECOVERY=events forbids events that are made of orders."""

    mode = RecoveryMode.EVENTS

    def test_failing_history_is_requested_until_it_answers(self) -> None:
        """The gap stays open."""
        self.break_history(kind=FaultKind.HISTORY_HANG)
        order = self.fill_in_outage()
        self.advance(GIVE_UP_AFTER + MAX_RETRY)
        self.assertEqual((self.select_events(order), self.gap.outcome), ([], GapOutcome.OPEN))
        self.mend()
        self.advance(2 * MAX_RETRY)
        self.assertEqual(self.select_events(order)[-1], ("fill", "events"))
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)
