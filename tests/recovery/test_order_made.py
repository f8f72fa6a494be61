"""Events made of orders beside those of the stream and the history: each change comes once."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from twisted.web.server import Request

from tests.recovery.recovery_case import FOREVER, OrdersTestCase
from tests.recovery.test_failing_history import FailingHistoryTestCase
from tradeproxy.hub.buffer import EventBuffer
from tradeproxy.recovery.recovery import FIRST_CHECK
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.history import event_record
from tradeproxy.simulator.orders import Order, OrderStatus
from tradeproxy.web.health import readyz
from tradeproxy.wire.proxy_status import GapOutcome

LONG = 400
"""Seconds in which several checks run."""


class OrderMadeTestCase(FailingHistoryTestCase):
    """An account at which the test fills orders."""

    def change(self, order: Order, filled: int, status: OrderStatus, event: str, qty: int) -> Any:
        """Change an order, and return the event, which is not sent yet."""
        exchange = self.alpaca.exchange
        changed = exchange._change(  # noqa: SLF001
            exchange.order(order.id),
            status,
            filled_qty=Decimal(filled),
            filled_avg_price=Decimal("0.01"),
        )
        execution = f"{event} {filled} {self.clock.seconds()}"
        return exchange._event(  # noqa: SLF001
            event, changed, price="0.01", qty=str(qty), execution_id=execution
        )

    def fill(self, order: Order, qty: int, filled: int) -> Any:
        if filled == 10:
            return self.change(order, filled, OrderStatus.FILLED, "fill", qty)
        return self.change(order, filled, OrderStatus.PARTIALLY_FILLED, "partial_fill", qty)

    def open_order(self) -> Order:
        order = self.submit_resting()
        self.advance(60)
        return order

    def quantities(self) -> list[tuple[str, str | None]]:
        """Return the quantity of each delivered fill, with its mark."""
        return [
            (frame["data"]["qty"], frame.get("recovered"))
            for frame in self.recorder.frames
            if frame["data"]["event"] in ("fill", "partial_fill")
        ]

    def break_quickly(self) -> None:
        self.break_history(kind=FaultKind.HISTORY_REFUSE, status=500)


class CoveredTests(OrderMadeTestCase):
    """Only what was made of an order is dropped from the history."""

    def test_fill_that_no_order_reported_is_delivered(self) -> None:
        """The order object showed it, but no event did: it was dropped for ever."""
        order = self.open_order()
        late = self.fill(order, 3, 3)
        self.alpaca.emit(self.fill(order, 2, 5))
        self.advance(60)
        self.break_quickly()
        self.alpaca.history.append(event_record(late, 0))
        self.outage(lambda: self.alpaca.emit(self.fill(order, 5, 10)))
        self.advance(15)
        self.assertEqual(self.quantities(), [("2", None), ("5", "orders")])
        self.mend()
        self.advance(LONG)
        self.assertEqual(self.quantities(), [("2", None), ("5", "orders"), ("3", "events")])

    def test_busted_quantity_that_is_filled_again_is_delivered(self) -> None:
        """The second fill covers the same part of the quantity as the one made of the order."""
        order = self.open_order()
        self.break_quickly()
        self.outage(lambda: self.alpaca.emit(self.fill(order, 4, 4)))
        self.advance(15)
        self.mend()
        self.advance(LONG)
        self.assertEqual(self.quantities(), [("4", "orders")])

        def happens() -> None:
            self.alpaca.emit(self.change(order, 0, OrderStatus.NEW, "trade_bust", 4))
            self.advance(0.1)
            self.alpaca.emit(self.fill(order, 4, 4))

        self.outage(happens)
        self.advance(LONG)
        self.assertEqual(self.quantities(), [("4", "orders"), ("4", None)])

    def test_close_with_late_time_of_its_own_is_not_repeated(self) -> None:
        """The history reports it minutes later, with the time of the report."""
        order = self.open_order()
        self.inject(FaultKind.UNREPORTED, seconds=0.1)
        self.cancel(order)
        self.advance(LONG)
        made = self.recorder.frames[-1]
        self.assertEqual((made["data"]["event"], made["recovered"]), ("canceled", "orders"))
        self.inject(FaultKind.OMIT, count=1)
        self.alpaca.emit({"event": "canceled", "event_id": "late", "order": made["data"]["order"]})
        self.advance(2 * LONG)
        kinds = [event for event, _ in self.select_events(order)]
        self.assertEqual(kinds.count("canceled"), 1)

    def test_crash_right_after_event_is_made_repeats_nothing(self) -> None:
        """The note that the log has such an event is saved before the event."""
        order = self.open_order()
        self.inject(FaultKind.UNREPORTED, seconds=0.1)
        self.cancel(order)
        saved: dict[str, str | None] = {}

        class Recorder:
            size = 1

            def deliver(self, batch: object) -> None:
                saved.update(journal.encode())

            def announce(self, status: bytes) -> None: ...
            def abort(self) -> None: ...

        journal = self.journal
        self.account.broadcaster.register(Recorder())
        self.advance(LONG)
        self.assertEqual(self.select_events(order)[-1], ("canceled", "orders"))
        self.assertIsNotNone(saved["remembered synthetic until"])


class BufferedTests(OrderMadeTestCase):
    """A deadline so long that events of the stream wait while orders are used."""

    deadline = 60.0

    def test_kill_while_fill_is_buffered_loses_nothing(self) -> None:
        """The made event counted it as delivered, and the history did not bring it again."""
        order = self.open_order()
        self.break_quickly()
        self.outage(lambda: self.alpaca.emit(self.fill(order, 3, 3)))
        self.advance(1)
        self.alpaca.emit(self.fill(order, 7, 10))
        self.advance(8)
        self.assertEqual(self.quantities(), [("3", "orders")])
        self.account._buffer = EventBuffer()  # noqa: SLF001  # as a SIGKILL does
        self.stop()
        self.mend()
        self.start_new_process()
        self.advance(LONG)
        self.assertEqual([qty for qty, _ in self.quantities()], ["3", "7"])


class ComparedTests(OrderMadeTestCase):
    """Orders that are open in the log and not at Alpaca."""

    def test_fills_with_older_times_are_not_repeated(self) -> None:
        """Each event was a little older than the one before: the log kept the order open."""
        order = self.open_order()
        for qty, filled in ((5, 5), (5, 10)):
            self.inject(FaultKind.OLDER_TIME, count=1)
            self.alpaca.emit(self.fill(order, qty, filled))
        self.advance(LONG)
        self.assertEqual(self.quantities(), [("5", None), ("5", None)])

    def test_closed_leg_of_listed_order_is_delivered(self) -> None:
        """The list of open orders has it, nested in its open parent."""
        parent, leg = self.open_order(), self.open_order()
        self.inject(FaultKind.UNREPORTED, seconds=0.1)
        self.cancel(leg)
        exchange = self.alpaca.exchange

        def answer(request: Request) -> bytes | None:
            if request.path != b"/v2/orders":
                return None
            nested = [exchange.order(leg.id).document()]
            return json.dumps([exchange.order(parent.id).document() | {"legs": nested}]).encode()

        self.override(answer)
        self.advance(LONG)
        self.assertEqual(self.select_events(leg)[-1], ("canceled", "orders"))

    def test_close_before_dedup_horizon_is_delivered(self) -> None:
        """An order may have closed before the newest event that was trimmed."""
        order = self.open_order()
        self.inject(FaultKind.UNREPORTED, seconds=0.1)
        self.cancel(order)
        self.advance(1)
        self.journal.advance_dedup_horizon(round(self.clock.seconds() * 1_000_000))
        self.advance(LONG)
        self.assertEqual(self.select_events(order)[-1], ("canceled", "orders"))


class RequestTests(OrderMadeTestCase):
    """Our own limit of requests."""

    def test_wait_for_own_limit_is_no_failure(self) -> None:
        """The history works: events are not made of orders instead."""
        for _ in range(59):
            self.rate_limiter.count_request(self.clock.seconds())
        order = self.fill_in_outage()
        self.advance(120)
        self.assertEqual({mark for _, mark in self.select_events(order)} & {"orders"}, set())


class MuteWithFailingHistoryTests(OrderMadeTestCase):
    """A mute stream, then a history that fails."""

    def test_mute_stream_that_works_again_is_ready(self) -> None:
        """A check by orders that finds nothing is enough; /readyz was 503 for ever."""
        self.inject(FaultKind.MUTE)
        self.emit(1)
        self.advance(FIRST_CHECK)
        self.assertEqual(readyz([self.account])[0], 503)
        self.alpaca.inject(Fault(FaultKind.HISTORY_REFUSE, status=501, seconds=FOREVER))
        self.emit(2)
        self.advance(LONG)
        self.assertEqual(readyz([self.account])[1]["reasons"], [])


class RefusedHistoryTests(OrdersTestCase):
    """A history that is rejected."""

    def test_date_ahead_does_not_move_horizon_ahead(self) -> None:
        """Until the time of the horizon, what a history brings would be dropped."""
        self.inject(FaultKind.DATE_SHIFT, offset=90, seconds=20)
        self.outage(lambda: self.submit(), 3)
        self.advance(10)
        self.assertEqual(self.gap.outcome, GapOutcome.ORDERS)
        assert self.journal.dedup_horizon is not None
        self.assertLessEqual(self.journal.dedup_horizon, self.clock.seconds() * 1_000_000)

    def test_fills_of_two_parts_have_ranges(self) -> None:
        """Each made fill shows by `cum_qty` which part of the quantity it reports."""
        self.outage(lambda: self.submit(), 3)
        self.advance(10)
        fills = [f["data"] for f in self.recorder.frames if f["data"]["event"].endswith("fill")]
        self.assertEqual(fills[-1]["cum_qty"], "10")
        self.assertEqual(sum(Decimal(fill["qty"]) for fill in fills), 10)
