"""The recovery by orders: what it tells is certain, and nothing else counts as told."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from tests.recovery.recovery_case import INTERVAL, OrdersTestCase
from tests.support.journals import Connections, memory_journal
from tests.upstream.support import Ahead, status
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.recovery.backfill import CLOCK_STEP, SECOND, SETTLE
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.event import format_time
from tradeproxy.wire.proxy_status import GapOutcome


class CertaintyTests(OrdersTestCase):
    """Streams that die, lag or are released at the worst moment."""

    def test_a_stream_that_dies_silently_during_the_recovery_takes_nothing_along(self) -> None:
        """All up to the comparison's end counted as known, though a dead stream had brought nothing of it."""
        for seconds in (0.2, CLOCK_STEP + 0.5, CLOCK_STEP + SETTLE - 0.2):
            self.outage(lambda: None)
            self.advance(seconds)
            self.inject(FaultKind.SILENCE)
            self.submit()
            self.advance(100)
            self.assert_all_is_told()

    def test_what_the_deadline_releases_is_told(self) -> None:
        """It was handed on in the very turn in which the orders were compared, and was not in the log yet."""
        self.inject(FaultKind.REST_REFUSE, status=503, retry_after=2, count=2)
        self.outage(lambda: None, 0.5)
        self.submit()
        self.advance(20)
        self.assert_all_is_told()

    def test_a_journal_that_cannot_be_read_for_a_moment_is_waited_for(self) -> None:
        """It was taken for a mistake of the proxy's own, and the recovery ended there."""
        old = self.rest_order()
        self.outage(lambda: self.cancel(old))
        self.connections.refuse_everything()
        self.advance(4)
        self.assertNotEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.connections.refuse_everything(False)
        self.advance(10)
        self.assertEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.assert_all_is_told()

    def new_journal(self) -> SqliteJournal:
        self.connections = Connections()
        return memory_journal(self.clock, connect=self.connections)


class ShownTests(OrdersTestCase):
    """An Alpaca that shows just the orders and fills of the test."""

    def setUp(self) -> None:
        super().setUp()
        self.advance(2)
        self.listed: Any = []
        self.by_id: dict[str, Any] = {}
        self.fills: list[Any] = []
        self.detour(self.show)

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
        """Return an order of 10 that changed some seconds ago, and is so old."""
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

    def fills_told(self) -> list[tuple[str, str | None]]:
        """Return the quantity of each fill that was told, with its mark."""
        return [
            (frame["data"]["qty"], frame.get("recovered"))
            for frame in self.reader.frames
            if "qty" in frame["data"]
        ]

    def test_an_order_from_before_the_proxy_that_is_filled_in_the_gap_is_told(self) -> None:
        """No list has it and no event told of it; only its fill does."""

        def happens() -> None:
            self.by_id["O"] = self.order(10)
            self.fills = [self.fill(10, 10)]

        self.outage(happens)
        self.advance(5)
        self.assertEqual(self.fills_told(), [("10", "orders")])

    def test_equal_fills_of_one_moment_are_as_many_as_they_are(self) -> None:
        """Quantity, price and time were the same, so the second was dropped for a repetition."""

        def happens() -> None:
            self.listed = [self.order(9)]
            self.fills = [self.fill(3, cum) for cum in (3, 6, 9)]

        self.outage(happens)
        self.advance(5)
        self.assertEqual(self.fills_told(), [("3", "orders")] * 3)

    def test_a_stream_that_lags_a_little_is_waited_for(self) -> None:
        """It brought a second later what the orders showed already, and that was told twice."""

        def happens() -> None:
            self.listed = [self.order(10)]

        self.outage(happens)
        self.advance(CLOCK_STEP + 1.9)
        order, at = self.listed[0], self.listed[0]["updated_at"]
        self.alpaca.emit(
            {"event": "fill", "at": at, "execution_id": "e", "qty": "10", "order": order}
        )
        self.advance(5)
        self.assertEqual(self.fills_told(), [("10", None)])

    def test_a_check_leaves_what_happened_just_now_to_the_stream(self) -> None:
        """The stream lagged by some seconds, and every fill of that time was told twice."""
        self.outage(lambda: None)
        self.advance(INTERVAL)
        self.listed = [self.order(10, age=1)]
        self.fills = [self.fill(10, 10)]
        self.advance(5)
        self.assertEqual(self.fills_told(), [])
        order, at = self.listed[0], self.listed[0]["updated_at"]
        self.alpaca.emit(
            {"event": "fill", "at": at, "execution_id": "e", "qty": "10", "order": order}
        )
        self.advance(2 * INTERVAL)
        self.assertEqual(self.fills_told(), [("10", None)])

    def test_a_check_that_left_an_order_to_the_stream_looks_again(self) -> None:
        """It moved just now, but an older fill of it was missing: that stays to be found."""
        self.outage(lambda: None)
        self.advance(INTERVAL)
        self.by_id["O"] = self.order(6, age=800)
        self.fills = [self.fill(4, 4, ago=500), self.fill(2, 6)]
        self.advance(5)
        self.assertEqual(self.fills_told(), [])
        self.advance(INTERVAL + 5)
        self.assertEqual(self.fills_told(), [("4", "orders"), ("2", "orders")])

    def test_maintenance_is_not_an_account_without_orders(self) -> None:
        """Its document was of another shape, and the gap counted as settled."""
        self.listed = {"message": "maintenance"}
        self.outage(lambda: None)
        self.advance(10)
        self.assertEqual(
            (self.gap.outcome, self.gap.reason), (GapOutcome.OPEN, "an answer of another shape")
        )
        self.listed = [self.order(10, ago=11)]
        self.advance(60)
        self.assertEqual(
            (self.gap.outcome, self.fills_told()), (GapOutcome.ORDERS, [("10", "orders")])
        )


class AheadTests(OrdersTestCase):
    """A proxy whose clock is a minute ahead of an Alpaca that does not say whose account it is."""

    def our_clock(self) -> IReactorTime:
        return Ahead(self.clock, 60)

    def test_our_clock_moves_no_horizon(self) -> None:
        """A minute of orders to come counted as told of."""
        self.detour(
            lambda request: status(403)(request) if request.path == b"/v2/account" else None
        )
        self.outage(lambda: None)
        self.advance(5)
        self.outage(self.submit, 5)
        self.advance(5)
        self.assertEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.assert_all_is_told()
