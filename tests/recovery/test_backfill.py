"""Tests for tradeproxy.recovery.backfill, against a server in memory."""

from __future__ import annotations

from typing import Any

from tests.recovery.scripted_case import ScriptedCase, build_event, build_order
from tests.support.journals import memory_journal
from tests.upstream.support import event_stream, never, status
from tradeproxy.config.settings import RecoveryMode
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.recovery.backfill import Backfill
from tradeproxy.recovery.open_orders import OpenOrders
from tradeproxy.recovery.order_backfill import OrderBackfill
from tradeproxy.recovery.synthetic import SyntheticEvents
from tradeproxy.runtime.dates import SECOND, Dates
from tradeproxy.upstream.rest import RestUnavailableError
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.frame import Recovered, extract_data, with_mark
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import GapOutcome

SLACK = 10 * SECOND
MINUTE = 60 * SECOND


class BackfillTestCase(ScriptedCase):
    """A log that is complete up to 50 s ago."""

    age = 1000
    """How many seconds before that it began."""

    def setUp(self) -> None:
        super().setUp()
        self.found: list[tuple[Event, Recovered]] = []
        self.synthetic = SyntheticEvents(self.journal, self.clock)
        self.clock.advance(self.age)
        self.begin = self.now
        self.account.completeness.check_through(self.begin)
        self.clock.advance(50)

    def new_backfill(
        self, mode: RecoveryMode = RecoveryMode.AUTO, slack: int = 0, tries: int = 3
    ) -> Backfill:
        def deliver(event: Event, source: Recovered) -> None:
            self.found.append((event, source))

        orders = OrderBackfill(
            self.account,
            self.rest,
            self.clock,
            OpenOrders(self.account, self.rest),
            lambda event: deliver(event, Recovered.ORDERS),
            slack,
        )
        return Backfill(
            self.account,
            self.rest,
            self.clock,
            mode,
            deliver,
            orders,
            self.synthetic,
            slack,
            tries,
        )

    def fail_with(self, backfill: Backfill, seconds: float = 0) -> str:
        """Run a backfill that has no result after these seconds, and return the reason."""
        running = self.start(backfill.run())
        self.wires.advance(seconds)
        error: RestUnavailableError = self.failureResultOf(running, RestUnavailableError).value
        return error.reason

    def count_order_requests(self) -> int:
        """Return how often the orders were used: the last request is for the fills."""
        return len(self.list_requests("/v2/account/activities"))

    def list_kinds(self) -> list[tuple[str, Recovered]]:
        return [(event.kind, source) for event, source in self.found]


class RangeTestCase(BackfillTestCase):
    """The time of which the history is requested."""

    def request_range(self, slack: int = 0) -> list[str]:
        """Run a backfill, and return begin and end of the history that it requests."""
        self.outcome(self.new_backfill(slack=slack).run())
        query = self.list_requests("/v2/events/trades")[-1]
        return [query["since"], query["until"]]

    def build_range(self, begin: int, end: int) -> list[str]:
        """Return a range; both times are seconds after the time up to which the log is complete."""
        return [format_time(self.begin + seconds * SECOND) for seconds in (begin, end)]


class RangeTests(RangeTestCase):
    """A log that is older than the overlap."""

    def test_history_is_requested_with_overlap_of_five_minutes(self) -> None:
        """It ends with the second that a Date names, or before the time left to the stream."""
        self.assertEqual(self.request_range(), self.build_range(-300, 51))
        self.assertEqual(self.request_range(SLACK), self.build_range(-300, 40))

    def test_gap_in_the_future_is_not_settled(self) -> None:
        """Its range is empty: an answer without events proves nothing."""
        end = self.now + SECOND
        self.account.completeness.check_through(end - 1)
        result = self.outcome(self.new_backfill().run())
        self.assertEqual((result.outcome, result.through), (GapOutcome.RECOVERED, end))
        self.account.completeness.check_through(end)
        self.assertIn("in the future", self.fail_with(self.new_backfill()))


class YoungLogTests(RangeTestCase):
    """A log that is younger than the overlap."""

    age = 200

    def test_overlap_ends_at_beginning_of_log(self) -> None:
        """Older events were never in it. With a horizon they are dropped, so all are requested."""
        self.assertEqual(self.request_range(), self.build_range(-201, 51))
        self.journal.advance_dedup_horizon(self.begin - 250 * SECOND)
        self.assertEqual(self.request_range(), self.build_range(-300, 51))


class FailingBackfillTests(BackfillTestCase):
    """A history that fails: when the orders are used, and how long it is tried."""

    def setUp(self) -> None:
        super().setUp()
        self.history = status(500)
        self.listed = [build_order(10, time=self.now)]

    def test_orders_are_used_after_third_failure(self) -> None:
        """Once. The history is then tried alone."""
        backfill = self.new_backfill()
        for count in (0, 0, 1, 1, 1):
            self.assertEqual(self.fail_with(backfill, 3), "HTTP 500")
            self.assertEqual(self.count_order_requests(), count)
            self.assertEqual(len(self.found), count)

    def test_orders_are_used_after_ten_seconds(self) -> None:
        """That is how long the history may take to answer."""
        self.history = never
        running = self.start(self.new_backfill().run())
        self.wires.advance(9.5)
        self.history = status(500)
        self.assertEqual(self.count_order_requests(), 0)
        self.wires.advance(1.5)
        self.assertEqual(self.count_order_requests(), 1)
        self.wires.advance(5)
        self.failureResultOf(running, RestUnavailableError)

    def test_second_failure_after_ten_seconds_uses_orders(self) -> None:
        """The time counts from the first request."""
        for seconds, count in ((9.5, 0), (10, 1)):
            self.setUp()
            backfill = self.new_backfill()
            self.fail_with(backfill)
            self.clock.advance(seconds)
            self.fail_with(backfill, 3)
            self.assertEqual(self.count_order_requests(), count, seconds)

    def test_history_without_answer_gets_20_s_where_nothing_waits(self) -> None:
        """Without the orders, in a check, and after the orders were used."""
        used = self.new_backfill(tries=1)
        self.fail_with(used, 3)
        for backfill in (
            self.new_backfill(RecoveryMode.EVENTS),
            self.new_backfill(slack=SLACK, tries=9),
            used,
        ):
            self.history = never
            ended: list[Any] = []
            self.start(backfill.run()).addBoth(ended.append)
            self.wires.advance(19.5)
            self.assertEqual(ended, [])
            self.wires.advance(5)
            self.assertEqual(len(ended), 1)

    def test_gap_is_settled_by_orders_after_five_minutes(self) -> None:
        """The log counts as complete, but the history is still requested from the begin."""
        for seconds, is_settled in ((299.5, False), (300, True)):
            self.setUp()
            backfill = self.new_backfill(tries=1)
            self.fail_with(backfill, 3)
            self.wires.advance(seconds - 3)
            running = self.start(backfill.run())
            self.wires.advance(3)
            if not is_settled:
                self.failureResultOf(running, RestUnavailableError)
                continue
            result = self.successResultOf(running)
            self.assertEqual(
                (result.outcome, result.reason, result.history_from),
                (GapOutcome.ORDERS, "the history fails: HTTP 500", self.begin),
            )

    def test_first_use_of_orders_settles_gap_that_is_five_minutes_old(self) -> None:
        """The time counts at the end of the comparison, which takes 3 s."""
        for seconds, is_settled in ((296.5, False), (297, True)):
            self.setUp()
            backfill = self.new_backfill()
            self.fail_with(backfill)
            self.clock.advance(seconds)
            running = self.start(backfill.run())
            self.wires.advance(3)
            if is_settled:
                self.assertEqual(self.successResultOf(running).outcome, GapOutcome.ORDERS)
            else:
                self.failureResultOf(running, RestUnavailableError)

    def test_check_is_settled_by_orders_at_once(self) -> None:
        """The next check requests the history again, from where it worked last."""
        running = self.start(self.new_backfill(slack=SLACK, tries=1).run())
        self.wires.advance(3)
        result = self.successResultOf(running)
        self.assertEqual((result.outcome, result.history_from), (GapOutcome.ORDERS, self.begin))

    def test_orders_rejected_while_history_fails_is_no_loss(self) -> None:
        """The history may work again."""
        self.listed = []
        self.answer = lambda request: (
            status(403)(request) if request.path == b"/v2/orders" else self.respond(request)
        )
        self.assertEqual(self.fail_with(self.new_backfill(tries=1), 3), "HTTP 500")

    def test_orders_are_compared_from_last_comparison_on(self) -> None:
        """The history has no progress of its own while it fails."""
        for _ in range(2):
            running = self.start(self.new_backfill(slack=SLACK, tries=1).run())
            self.wires.advance(600)
            self.successResultOf(running)
        begins = [self.begin, self.begin + 40 * SECOND]
        self.assertEqual(
            [query["after"] for query in self.list_requests("/v2/account/activities")],
            [format_time(begin - 5 * MINUTE - 1) for begin in begins],
        )

    def test_wait_for_own_limit_is_no_failure(self) -> None:
        """The identification took the last request of a minute. The history then works."""
        for _ in range(59):
            self.rate_limiter.count_request(self.clock.seconds())
        self.history = event_stream()
        running = self.start(self.new_backfill().run())
        self.wires.advance(59.5)
        self.assertEqual(len(self.requested_uris()), 1)
        self.wires.advance(0.5)
        self.assertEqual(self.successResultOf(running).outcome, GapOutcome.RECOVERED)

    def test_rejected_history_is_replaced_by_orders_at_once(self) -> None:
        """Without them, the gap is lost."""
        rejected, auto = status(403), RecoveryMode.AUTO
        refused = "the history is refused: HTTP 403"
        both = f"{refused}, the orders are too: HTTP 403"
        for mode, orders, outcome, reason in (
            (auto, None, GapOutcome.ORDERS, refused),
            (auto, rejected, GapOutcome.LOST, both),
            (RecoveryMode.EVENTS, None, GapOutcome.LOST, refused),
        ):
            self.setUp()
            self.history = rejected
            self.answer = lambda request, orders=orders: (
                orders(request) if orders and b"orders" in request.path else self.respond(request)
            )
            began = self.now
            running = self.start(self.new_backfill(mode).run())
            self.wires.advance(3)
            result = self.successResultOf(running)
            self.assertEqual((result.outcome, result.reason), (outcome, reason))
            end = began + SECOND if outcome is GapOutcome.ORDERS else began
            self.assertEqual(result.through, end)
            self.assertIsNone(result.history_from)

    def test_failing_history_without_orders_is_requested_for_ever(self) -> None:
        """The gap stays open."""
        backfill = self.new_backfill(RecoveryMode.EVENTS)
        for _ in range(4):
            self.assertEqual(self.fail_with(backfill, 200), "HTTP 500")
        self.assertEqual(self.count_order_requests(), 0)

    def test_rejected_history_is_not_requested_again(self) -> None:
        """Alpaca would reject it again."""
        self.history = status(403)
        self.listed = {"message": "maintenance"}
        backfill = self.new_backfill()
        for _ in range(2):
            self.assertEqual(self.fail_with(backfill, 3), "an answer of another shape")
        self.assertEqual(len(self.list_requests("/v2/events/trades")), 1)


class CoveredBackfillTests(BackfillTestCase):
    """Events of the history that were made of orders before."""

    def setUp(self) -> None:
        super().setUp()
        self.made_at = self.begin - 5 * MINUTE - MINUTE
        document = build_order(0, "canceled", self.made_at)
        message = parse_server(with_mark(build_event(document).payload, Recovered.ORDERS))
        assert isinstance(message, TradeUpdate)
        self.log(message.event)
        late = build_event(document, at=format_time(self.begin), event_id="late")
        self.history = event_stream(b"data: %s\n\n" % extract_data(late.payload)[0])

    def test_history_covers_what_was_made_until_a_minute_before_it(self) -> None:
        """What was made earlier is forgotten, also if it was known to an earlier backfill."""
        self.account.completeness.record_synthetic(self.made_at - MINUTE)
        self.outcome(self.new_backfill().run())
        self.assertEqual(self.found, [])
        self.account.completeness.check_through(self.begin + 1)
        self.outcome(self.new_backfill().run())
        self.assertEqual(self.list_kinds(), [("canceled", Recovered.EVENTS)])


class UncertainDateBackfillTests(BackfillTestCase):
    """A Date that agrees with no clock."""

    def new_journal(self) -> SqliteJournal:
        dates = Dates(self.clock.seconds, lambda: self.clock.seconds() + 3600)
        return memory_journal(self.clock, dates=dates)

    def test_log_is_not_complete_up_to_uncertain_date(self) -> None:
        """What is found is delivered. A later Date may confirm the first one."""
        event = build_event(build_order(10), event_id="1")
        self.history = event_stream(b"data: %s\n\n" % extract_data(event.payload)[0])
        backfill = self.new_backfill()
        self.assertEqual(self.fail_with(backfill), "Alpaca's clock is not known yet")
        self.assertEqual(len(self.found), 1)
        self.clock.advance(30)
        self.assertEqual(self.outcome(backfill.run()).outcome, GapOutcome.RECOVERED)
