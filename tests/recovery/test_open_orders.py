"""Orders that close without an event: the comparison of open orders with Alpaca's finds them."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs
from twisted.web.server import Request

from tests.recovery.recovery_case import OrdersTestCase, RecoveryTestCase
from tests.recovery.scripted_case import START, ScriptedCase, build_event, build_order
from tradeproxy.config.settings import RecoveryMode
from tradeproxy.recovery import open_orders
from tradeproxy.recovery.open_orders import OpenOrders
from tradeproxy.recovery.recovery import FIRST_CHECK
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.simulator.orders import Order
from tradeproxy.wire.event import OrderState

TWO_CHECKS = 3 * FIRST_CHECK + 10
"""Seconds from the start of the stream to the end of the second check."""


class OlderOrderTests(OrdersTestCase):
    """An order that is older than the log, at an Alpaca that rejects the history."""

    def setUp(self) -> None:
        self.older: Order | None = None
        super().setUp()

    def new_service(self) -> Any:
        # Before the first connection of the proxy.
        if self.older is None:
            self.older = self.submit_resting()
            self.advance(1000)
        return super().new_service()

    def test_older_order_cancelled_in_outage_is_delivered(self) -> None:
        """No list and no event of the log has such an order; it was never reported."""
        assert self.older is not None
        self.outage(lambda: self.cancel(self.older))  # type: ignore[arg-type]
        self.advance(10)
        self.assertEqual(self.select_events(self.older), [("canceled", "orders")])

    def test_older_order_cancelled_while_proxy_is_stopped_is_delivered(self) -> None:
        """The journal remembers it."""
        assert self.older is not None
        self.stop()
        self.cancel(self.older)
        self.start_new_process()
        self.advance(10)
        self.assertEqual(self.select_events(self.older), [("canceled", "orders")])

    def test_older_order_that_stays_open_gives_no_event(self) -> None:
        """It has not changed."""
        assert self.older is not None
        self.outage(lambda: None)
        self.advance(10)
        self.assertEqual(self.select_events(self.older), [])


class ClosedOrderTests(OrdersTestCase):
    """Orders that close at Alpaca without any event, with a history that works."""

    def setUp(self) -> None:
        super().setUp()
        self.inject(FaultKind.HISTORY_REFUSE, seconds=0.001)
        self.advance(0.01)
        self.requested: list[str] = []
        self.override(self.record)

    def record(self, request: Request) -> None:
        path = request.path.decode()
        if path.startswith("/v2/orders/") and not path.endswith("order%200"):
            self.requested.append(path)

    def cancel_silently(self, *orders: Order) -> None:
        self.inject(FaultKind.UNREPORTED, seconds=0.1)
        for order in orders:
            self.cancel(order)
        self.advance(1)

    def test_order_closed_without_event_is_delivered_after_two_checks(self) -> None:
        """Alpaca does not stream the cancellation of some held legs (alpaca-py, issue 198)."""
        order = self.submit_resting()
        self.advance(1)
        before = self.select_events(order)
        self.cancel_silently(order)
        self.outage(lambda: None)
        self.advance(FIRST_CHECK)
        self.assertEqual(self.select_events(order), before)
        self.advance(TWO_CHECKS - FIRST_CHECK)
        self.assertEqual(self.select_events(order), [*before, ("canceled", "orders")])
        self.advance(2000)
        self.assertEqual(self.select_events(order), [*before, ("canceled", "orders")])

    def test_order_filled_without_event_is_delivered(self) -> None:
        """The whole quantity that is missing comes as one fill."""
        order = self.submit()
        self.inject(FaultKind.UNREPORTED, seconds=2)
        self.advance(2)
        before = self.select_events(order)
        self.advance(2 * TWO_CHECKS)
        self.assertEqual(self.select_events(order), [*before, ("fill", "orders")])
        self.assert_all_is_delivered()

    def test_event_between_two_checks_is_not_repeated(self) -> None:
        """The stream was late."""
        order = self.submit_resting()
        self.outage(lambda: None)
        self.advance(15)
        self.inject(FaultKind.OMIT, count=1)
        self.cancel(order)
        self.advance(300)
        kinds = [event for event, _ in self.select_events(order)]
        self.assertEqual(kinds.count("canceled"), 1, kinds)
        self.assertEqual(self.requested, [])

    def test_history_that_is_late_repeats_nothing(self) -> None:
        """The event appears in the history after it was made of the order."""
        order = self.submit_resting()
        self.advance(1)
        self.cancel_silently(order)
        self.advance(2 * TWO_CHECKS)
        frame = self.recorder.frames[-1]
        self.assertEqual(frame["recovered"], "orders")
        self.inject(FaultKind.OMIT, count=1)
        self.alpaca.emit({**frame["data"], "event_id": "late", "at": frame["data"]["timestamp"]})
        self.advance(500)
        kinds = [event for event, _ in self.select_events(order)]
        self.assertEqual(kinds.count("canceled"), 1, kinds)

    def test_comparison_requests_few_orders_at_once(self) -> None:
        """The user's bots share Alpaca's limit. The rest follows in the next checks."""
        orders = [self.submit_resting() for _ in range(12)]
        self.advance(1)
        self.cancel_silently(*orders)
        self.outage(lambda: None)
        self.advance(TWO_CHECKS)
        self.assertEqual(len(self.requested), 10)
        self.advance(1000)
        self.assertEqual(len(self.requested), 12)
        self.assert_all_is_delivered()

    def test_list_that_is_too_long_is_not_compared(self) -> None:
        """One of 300,000 orders stopped the process for seconds."""
        self.patch(open_orders, "MAX_LISTED", 1)
        order, *_ = [self.submit_resting() for _ in range(3)]
        self.advance(1)
        before = self.select_events(order)
        self.cancel_silently(order)
        self.outage(lambda: None)
        self.advance(2000)
        self.assertEqual(self.requested, [])
        self.assertEqual(self.select_events(order), before)

    def test_orders_that_cannot_be_read_do_not_fail_check(self) -> None:
        """The history is enough; it shows no order without an event, as before."""
        self.override(lambda request: 403 if request.path == b"/v2/orders" else None)
        self.inject(FaultKind.OMIT, count=1)
        self.emit(7)
        self.advance(TWO_CHECKS)
        self.assertEqual(
            [frame["data"]["n"] for frame in self.recorder.frames if "n" in frame["data"]], [7]
        )

    def test_damaged_note_counts_as_none(self) -> None:
        """Another program may have written into the file."""
        surrogate = r'[["\ud800","new","0",5]]'
        for text in ("", "[", "7", '[["a"]]', "[" * 9999, '[["a","new","0",1e99]]', surrogate):
            self.journal.set_metadata("open orders", text)
            self.advance(2 * FIRST_CHECK)
        self.assertEqual(self.flushLoggedErrors(), [])


class OpenOrdersTests(ScriptedCase):
    """What is remembered of Alpaca's lists, and which orders are requested by their id."""

    def setUp(self) -> None:
        super().setUp()
        self.open_orders = OpenOrders(self.account, self.rest)
        self.is_usable = True

    def remember(self, *orders: dict[str, Any]) -> dict[str, str]:
        """Remember orders of which the log is complete up to START.

        Returns the filled quantity of every open order.
        """
        self.open_orders.remember(orders, START)
        states = self.open_orders.read_states()
        return {state.id: state.filled_qty for state in states.values()}

    def compare(self, since: int = START) -> list[str]:
        """Compare with Alpaca's list, and return the kinds of the events that were missed."""
        found: list[str] = []

        def take(data: dict[str, Any]) -> bool:
            found.append(data["event"])
            return self.is_usable

        self.unusable = self.outcome(self.open_orders.find_closed(since, take))
        return found

    def count_requests(self) -> int:
        return len(self.list_requests("/v2/orders/O"))

    def test_orders_that_may_have_events_to_come_are_not_remembered(self) -> None:
        """The present state of such an order must not count as known."""
        for name, document, states in (
            ("closed", build_order(0, "canceled"), {}),
            ("changed later", build_order(0, "new", START + 1), {}),
            ("changed at that time", build_order(4), {"O": "4"}),
        ):
            self.assertEqual(self.remember(document), states, name)

    def test_first_state_of_order_is_remembered(self) -> None:
        """A change since then may have been missed."""
        self.remember(build_order(0, "new"))
        self.assertEqual(self.remember(build_order(4)), {"O": "0"})
        self.log(build_event(build_order(6)))
        self.assertEqual(self.remember(build_order(4)), {"O": "6"})

    def test_last_1000_orders_are_remembered(self) -> None:
        """The metadata is rewritten with every change."""
        orders = [build_order(0, "new", id=f"{number}") for number in range(1001)]
        self.assertEqual(len(self.remember(*orders[:1000])), 1000)
        self.assertEqual(set(self.remember(*orders)), {f"{number}" for number in range(1, 1001)})

    def test_listed_orders_cost_few_queries(self) -> None:
        """One for each of 10,000 orders took half a second of one turn, at every comparison."""
        self.patch(open_orders, "MAX_REMEMBERED", 2)
        asked: list[str] = []
        find = self.journal.order

        def order(order_id: str) -> OrderState | None:
            asked.append(order_id)
            return find(order_id)

        self.patch(self.account.log, "order", order)
        self.listed = [build_order(0, "new", id=f"{number}") for number in range(10)]
        self.compare()
        self.assertEqual(set(asked), {"9", "8"})
        self.assertEqual(self.open_orders.read_states().keys(), {"9", "8"})

    def test_order_with_many_legs_costs_few_queries(self) -> None:
        """The metadata was parsed for each leg: 1,000 orders, for as many legs as 8 MiB have."""
        asked: list[str] = []
        find, find_order = self.journal.get_metadata, self.journal.order

        def get_metadata(key: str) -> str | None:
            asked.append(key)
            return find(key)

        def order(order_id: str) -> OrderState | None:
            asked.append(order_id)
            return find_order(order_id)

        self.remember(build_order(0, "new"))
        legs = [{"id": f"{number}"} for number in range(100)]
        self.by_id["O"] = build_order(0, "canceled", legs=legs)
        self.compare()
        self.patch(self.account.log, "get_metadata", get_metadata)
        self.patch(self.account.log, "order", order)
        self.assertEqual(self.compare(), ["canceled"])
        self.assertLess(len(asked), 20)

    def test_order_that_alpaca_does_not_have_is_forgotten(self) -> None:
        """It is requested once."""
        self.remember(build_order(0, "new"))
        for count in (0, 1, 1, 1):
            self.assertEqual(self.compare(), [])
            self.assertEqual(self.count_requests(), count)
        self.assertEqual(self.open_orders.read_states(), {})
        self.assertEqual(OpenOrders(self.account, self.rest).read_states(), {})

    def test_fills_of_known_state_are_not_repeated(self) -> None:
        """The order was filled in part when it was remembered."""
        self.remember(build_order(4))
        self.by_id["O"] = build_order(4, "canceled")
        self.assertEqual((self.compare(), self.compare()), ([], ["canceled"]))

    def test_order_that_closed_later_is_requested_by_next_comparison(self) -> None:
        """Its event may still come. It counts once the log is complete up to it."""
        self.remember(build_order(0, "new"))
        self.by_id["O"] = build_order(0, "canceled", START + 1)
        self.assertEqual([self.compare() for _ in range(3)], [[], [], []])
        self.assertEqual(self.count_requests(), 2)
        self.assertEqual(self.compare(START + 1), ["canceled"])

    def test_open_order_that_is_not_listed_is_requested_at_every_second_comparison(self) -> None:
        """A list may lack an order. Its changes come with the stream or the history."""
        self.remember(build_order(0, "new"))
        self.by_id["O"] = build_order(0, "held")
        for count in (0, 1, 1, 2):
            self.assertEqual(self.compare(), [])
            self.assertEqual(self.count_requests(), count)

    def test_order_with_an_unreadable_amount_is_left_out(self) -> None:
        """It is neither remembered nor requested again; the other orders are."""
        bad = {"filled_qty": "1e50000000"}
        with capturedLogs() as logs:
            states = self.remember(build_order(4, id="bad") | bad, build_order(0, "new"))
            self.assertEqual(states, {"O": "0"})
            self.by_id["O"] = build_order(0, "canceled") | bad
            for count in (0, 1, 1, 1):
                self.assertEqual(self.compare(), [])
                self.assertEqual(self.count_requests(), count)
        fields = [(each["order"], each["field"]) for each in logs if "field" in each]
        self.assertEqual(fields, [("bad", "filled_qty"), ("O", "filled_qty")])

    def test_event_that_comes_during_request_is_not_repeated(self) -> None:
        """The answer of Alpaca is as new as the event."""
        self.remember(build_order(0, "new"))
        self.by_id["O"] = build_order(0, "canceled")
        self.compare()

        def respond(request: Request) -> bytes | int:
            if request.path.endswith(b"/O"):
                self.log(build_event(build_order(0, "canceled")))
            return self.respond(request)

        self.answer = respond
        self.assertEqual((self.compare(), self.count_requests()), ([], 1))


class EventsOnlyTests(RecoveryTestCase):
    """PROXY_RECOVERY=events forbids events that are made of orders."""

    mode = RecoveryMode.EVENTS

    def test_orders_are_not_requested(self) -> None:
        """Neither at the start nor in a check."""
        paths: list[bytes] = []
        self.override(lambda request: paths.append(request.path))
        self.outage(lambda: None)
        self.advance(TWO_CHECKS)
        self.assertIn(b"/v2/events/trades", paths)
        self.assertNotIn(b"/v2/orders", paths)
