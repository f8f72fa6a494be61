"""The recovery from orders under faults: nothing is delivered twice or counted too early."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from tests.recovery.recovery_case import INTERVAL, OrdersTestCase
from tests.support.journals import Connections, memory_journal
from tests.upstream.support import ClockAhead, status
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.recovery.order_backfill import CLOCK_STEP, SETTLE
from tradeproxy.recovery.recovery import FIRST_CHECK
from tradeproxy.runtime.dates import SECOND
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.event import format_time
from tradeproxy.wire.proxy_status import GapOutcome


class OrderRecoveryFaultTests(OrdersTestCase):
    """Streams that die, lag or are released at the worst moment."""

    def test_stream_dies_silently_during_recovery_loses_nothing(self) -> None:
        """The time of the recovery counted as complete although a dead stream had sent nothing."""
        for seconds in (0.2, CLOCK_STEP + 0.5, CLOCK_STEP + SETTLE - 0.2):
            self.outage(lambda: None)
            self.advance(seconds)
            self.inject(FaultKind.SILENCE)
            self.submit()
            self.advance(100)
            self.assert_all_is_delivered()

    def test_events_released_at_deadline_count_as_delivered(self) -> None:
        """They were released in the turn of the comparison, and were not in the log yet."""
        self.inject(FaultKind.REST_REFUSE, status=503, retry_after=2, count=2)
        self.outage(lambda: None, 0.5)
        self.submit()
        self.advance(20)
        self.assert_all_is_delivered()

    def test_journal_unreadable_is_retried(self) -> None:
        """A read error ended the recovery as an error of the proxy's own."""
        old = self.submit_resting()
        self.outage(lambda: self.cancel(old))
        self.connections.refuse_everything()
        self.advance(4)
        self.assertNotEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.connections.refuse_everything(False)
        self.advance(10)
        self.assertEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.assert_all_is_delivered()

    def new_journal(self) -> SqliteJournal:
        self.connections = Connections()
        return memory_journal(self.clock, connect=self.connections)


class ScriptedOrdersTests(OrdersTestCase):
    """An Alpaca that shows only the orders and fills of the test."""

    def setUp(self) -> None:
        super().setUp()
        self.advance(2)
        self.listed: Any = []
        self.by_id: dict[str, Any] = {}
        self.fills: list[Any] = []
        self.override(self.show)

    def show(self, request: Request) -> bytes | None:
        path = request.path.decode()
        if path == "/v2/orders":
            return json.dumps(self.listed).encode()
        if path == "/v2/account/activities":
            return json.dumps(self.fills).encode()
        if (order := self.by_id.get(path.removeprefix("/v2/orders/"))) is not None:
            return json.dumps(order).encode()
        return None

    def order(
        self, filled: int, ago: float = 0, age: float = 9000, **fields: Any
    ) -> dict[str, Any]:
        """Return an order of 10 that changed `ago` seconds ago and is `age` seconds old."""
        return {
            "id": "O",
            "status": "filled" if filled == 10 else "partially_filled",
            "filled_qty": str(filled),
            "created_at": self.time(age),
            "submitted_at": self.time(age),
            "updated_at": self.time(ago),
        } | fields

    def fill(self, qty: int, cum: int, ago: float = 0) -> dict[str, Any]:
        """Return the activity of a fill of that order."""
        return {
            "id": f"activity {cum}",
            "order_id": "O",
            "type": "fill" if cum == 10 else "partial_fill",
            "qty": str(qty),
            "cum_qty": str(cum),
            "price": "1.5",
            "transaction_time": self.time(ago),
        }

    def time(self, ago: float) -> str:
        return format_time(round((self.clock.seconds() - ago) * SECOND))

    def delivered_fills(self) -> list[tuple[str, str | None]]:
        """Return the quantity of each delivered fill, with its mark."""
        return [
            (frame["data"]["qty"], frame.get("recovered"))
            for frame in self.recorder.frames
            if "qty" in frame["data"]
        ]

    def advance_to_check(self) -> None:
        """Advance to a few seconds before a check that follows the one before after minutes."""
        self.outage(lambda: None)
        self.advance(INTERVAL + FIRST_CHECK + 7)

    def test_old_order_filled_in_gap_is_delivered(self) -> None:
        """No list and no event has the order; only its fill activity names it."""

        def happens() -> None:
            self.by_id["O"] = self.order(10)
            self.fills = [self.fill(10, 10)]

        self.outage(happens)
        self.advance(5)
        self.assertEqual(self.delivered_fills(), [("10", "orders")])

    def test_orders_of_delivered_fills_are_not_requested(self) -> None:
        """Each is a request. The fills of a busy account took the whole budget of a minute."""
        self.by_id["O"] = self.order(10)
        self.fills = [self.fill(10, 10)]
        order = {"id": "O", "status": "filled", "filled_qty": "10"}
        self.alpaca.emit(
            {"event": "fill", "at": self.time(0), "execution_id": "e", "qty": "10", "order": order}
        )
        del self.by_id["O"]
        requested: list[bytes] = []

        def record(request: Request) -> bytes | None:
            requested.append(request.path)
            return self.show(request)

        self.override(record)
        self.outage(lambda: None)
        self.advance(5)
        self.assertIn(b"/v2/account/activities", requested)
        self.assertNotIn(b"/v2/orders/O", requested)

    def test_equal_fills_at_one_time_are_all_delivered(self) -> None:
        """The same quantity, price and time made later ones look like duplicates."""

        def happens() -> None:
            self.listed = [self.order(9)]
            self.fills = [self.fill(3, cum) for cum in (3, 6, 9)]

        self.outage(happens)
        self.advance(5)
        self.assertEqual(self.delivered_fills(), [("3", "orders")] * 3)

    def test_lagging_stream_event_is_delivered_once(self) -> None:
        """The stream sent the event a second after the orders showed it; it was delivered twice."""

        def happens() -> None:
            self.listed = [self.order(10)]

        self.outage(happens)
        self.advance(CLOCK_STEP + 1.9)
        order, at = self.listed[0], self.listed[0]["updated_at"]
        self.alpaca.emit(
            {"event": "fill", "at": at, "execution_id": "e", "qty": "10", "order": order}
        )
        self.advance(5)
        self.assertEqual(self.delivered_fills(), [("10", None)])

    def test_check_recent_fill_is_left_to_stream(self) -> None:
        """The stream lagged by some seconds, and each recent fill was delivered twice."""
        self.advance_to_check()
        self.listed = [self.order(10, age=1)]
        self.fills = [self.fill(10, 10)]
        self.advance(5)
        self.assertEqual(self.delivered_fills(), [])
        order, at = self.listed[0], self.listed[0]["updated_at"]
        self.alpaca.emit(
            {"event": "fill", "at": at, "execution_id": "e", "qty": "10", "order": order}
        )
        self.advance(2 * INTERVAL)
        self.assertEqual(self.delivered_fills(), [("10", None)])

    def test_check_order_left_to_stream_is_checked_again(self) -> None:
        """The order changed just now, but an older fill is missing: the next check finds it."""
        self.advance_to_check()
        self.by_id["O"] = self.order(6, age=800)
        self.fills = [self.fill(4, 4, ago=400), self.fill(2, 6)]
        self.advance(5)
        self.assertEqual(self.delivered_fills(), [])
        self.advance(INTERVAL + 10)
        self.assertEqual(self.delivered_fills(), [("4", "orders"), ("2", "orders")])

    def test_answer_of_another_shape_keeps_gap_open(self) -> None:
        """Such an answer counted as an account without orders, and settled the gap."""
        self.listed = {"message": "maintenance"}
        self.outage(lambda: None)
        self.advance(10)
        self.assertEqual(
            (self.gap.outcome, self.gap.reason), (GapOutcome.OPEN, "an answer of another shape")
        )
        self.listed = [self.order(10, ago=11)]
        self.advance(60)
        self.assertEqual(
            (self.gap.outcome, self.delivered_fills()), (GapOutcome.ORDERS, [("10", "orders")])
        )


class OrdersClockAheadTests(OrdersTestCase):
    """A clock that is a minute ahead, and an Alpaca that does not identify the account."""

    def new_proxy_clock(self) -> IReactorTime:
        return ClockAhead(self.clock, 60)

    def test_clock_ahead_does_not_advance_dedup_horizon(self) -> None:
        """The orders of the next minute counted as delivered."""
        self.override(
            lambda request: status(403)(request) if request.path == b"/v2/account" else None
        )
        self.outage(lambda: None)
        self.advance(5)
        self.outage(self.submit, 5)
        self.advance(5)
        self.assertEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.assert_all_is_delivered()
