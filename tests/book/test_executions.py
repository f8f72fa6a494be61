"""What the book per strategy reads of Alpaca's events and activities."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.book.strategy_frames import START, frame, order, read, report_fill
from tests.support.properties import examples
from tradeproxy.book.executions import Kind, OrderLinks, read_activity, read_order_links

LEGS = [
    order("leg-1", "", symbol="AAPL250321P00200000", asset_class="us_option", filled_qty="2"),
    order("leg-2", "", symbol="AAPL250321C00380000", asset_class="us_option", side="sell"),
]
MULTI_LEG = order("parent", symbol="", asset_class="", order_class="mleg", legs=LEGS)
ACTIVITY = {
    "id": "20261130150000123::11111111-0000-4000-8000-000000000001",
    "activity_type": "FILL",
    "transaction_time": "2026-11-30T15:00:00.123456Z",
    "type": "partial_fill",
    "price": "1.6",
    "qty": "2",
    "side": "sell",
    "symbol": "AAPL250321P00200000",
    "leaves_qty": "1",
    "order_id": "order",
    "cum_qty": "2.0",
    "order_status": "partially_filled",
}


def read_fills(payload: bytes) -> list[tuple[str, str, str, str]]:
    """Return order, symbol, quantity and price of the executions in a frame."""
    return [
        (each.order_id, each.symbol, f"{each.qty:f}", f"{each.price:f}")
        for each in read(payload).executions
        if not each.problem
    ]


class ExecutionTests(SynchronousTestCase):
    """Fills, by leg where there are legs."""

    def test_sale_of_crypto_is_negative_and_has_the_symbol_of_positions(self) -> None:
        """Alpaca's orders have BTC/USD, its positions BTCUSD."""
        about = order("1", symbol="BTC/USD", asset_class="crypto", side="sell")
        found = read_fills(report_fill(about, "e", "0.000175822", "83643.107"))
        self.assertEqual(found, [("1", "BTCUSD", "-0.000175822", "83643.107")])

    def test_time_is_that_of_the_execution(self) -> None:
        """Alpaca's activities have this time; `at` is some milliseconds later."""
        payload = report_fill(order("1"), "e", "1", "2", at="2026-11-30T15:00:07Z")
        self.assertEqual(read(payload).executions[0].time, START)

    def test_multi_leg_fill_is_booked_by_leg(self) -> None:
        """The report of each leg has quantity and price, the leg of the order the side."""
        reports = [
            {"execution_id": "a", "qty": "2", "price": "1.6", "order_id": "leg-1"},
            {"execution_id": "b", "qty": "2", "price": "0.02", "order_id": "leg-2"},
        ]
        payload = report_fill(MULTI_LEG, "", "2", "1.58", legs=reports)
        event = read(payload)
        self.assertEqual(
            read_fills(payload),
            [
                ("leg-1", "AAPL250321P00200000", "2", "1.6"),
                ("leg-2", "AAPL250321C00380000", "-2", "0.02"),
            ],
        )
        self.assertEqual({each.multiplier for each in event.executions}, {Decimal(100)})
        self.assertEqual([links.parent_id for links in event.orders], ["", "parent", "parent"])

    def test_multi_leg_fill_without_reports_is_derived_from_the_legs(self) -> None:
        """An event that is made of an order has its legs only: their averages count."""
        legs = [
            LEGS[0] | {"ratio_qty": "1", "filled_avg_price": "1.6"},
            LEGS[1] | {"ratio_qty": "2", "filled_avg_price": "0.02"},
        ]
        payload = report_fill(MULTI_LEG | {"legs": legs}, "", "3", "1", cum_qty="3")
        self.assertEqual(
            read_fills(payload),
            [
                ("leg-1", "AAPL250321P00200000", "3", "1.6"),
                ("leg-2", "AAPL250321C00380000", "-6", "0.02"),
            ],
        )

    def test_parent_of_a_bracket_is_filled_as_a_whole(self) -> None:
        """Its legs are orders that fill later."""
        about = order("1", order_class="bracket", legs=[order("2", ""), order("3", "")])
        self.assertEqual(read_fills(report_fill(about, "e", "1", "2")), [("1", "AAPL", "1", "2")])

    def test_fill_without_a_price_has_the_average_of_the_order(self) -> None:
        """An event that is made of an order may have no price of its own."""
        about = order("1", filled_avg_price="2.5")
        payload = report_fill(about, "e", "1", "")
        payload = payload.replace(b'"price": ""', b'"price": null')
        self.assertEqual(read_fills(payload), [("1", "AAPL", "1", "2.5")])

    def test_amounts_that_are_no_numbers_are_a_problem(self) -> None:
        """Nothing is computed with them."""
        for changes in ({"qty": "1e999"}, {"qty": "0"}, {"qty": "-1"}, {"price": "NaN"}):
            payload = report_fill(order("1"), "e", **({"qty": "1", "price": "2"} | changes))
            [execution] = read(payload).executions
            self.assertIn("no number", execution.problem)
        [execution] = read(report_fill(order("1", side="hold"), "e", "1", "2")).executions
        self.assertIn("side", execution.problem)

    def test_option_has_a_multiplier_of_its_own_if_alpaca_gives_one(self) -> None:
        """Else it is a hundred, also where only the symbol shows that it is an option."""
        symbol = "AAPL250321P00200000"
        for fields, multiplier in (
            ({"asset_class": "us_option"}, 100),
            ({"asset_class": ""}, 100),
            ({"multiplier": "10"}, 10),
            ({"multiplier": 0}, 100),
        ):
            about = order("1", symbol=symbol, **({"asset_class": "us_option"} | fields))
            [execution] = read(report_fill(about, "e", "1", "2")).executions
            self.assertEqual(execution.multiplier, multiplier)

    def test_fee_is_read_where_there_is_one(self) -> None:
        """Alpaca's fills have none today."""
        payload = report_fill(order("1"), "e", "1", "2", commission="0.35")
        self.assertEqual(read(payload).executions[0].fee, Decimal("0.35"))

    def test_amendment_names_an_execution(self) -> None:
        """A bust has the id of what it undoes, and needs no amounts."""
        payload = frame(
            "trade_bust", order("1"), previous_execution_id="e", execution_id="f", event_id="x"
        )
        [execution] = read(payload).executions
        self.assertEqual(
            (execution.kind, execution.previous, execution.execution, execution.problem),
            (Kind.BUST, "e", "f", ""),
        )

    def test_order_without_links_and_fills_is_left_out(self) -> None:
        """Only orders that decide something are stored."""
        self.assertEqual(read(frame("new", order("1"))).orders, ())
        self.assertEqual(
            read(frame("new", order("1", replaces="0"))).orders,
            (OrderLinks("1", "alpha-1", replaces="0"),),
        )

    def test_frame_with_nan_is_read(self) -> None:
        """Python's parser accepts it, so it is in the log."""
        payload = report_fill(order("1", hwm=float("nan")), "e", "1", "2")
        self.assertEqual(read_fills(payload), [("1", "AAPL", "1", "2")])

    @examples(30)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["id", "legs", "qty", "side", "symbol", "order_id", "price"]),
                    inner,
                    max_size=5,
                )
            ),
            max_leaves=20,
        ),
        st.sampled_from(["order", "legs", "qty", "timestamp", "execution_id"]),
    )
    def test_no_value_of_alpacas_raises(self, value: Any, name: str) -> None:
        """A field of another type counts as absent."""
        payload = report_fill(order("1"), "e", "1", "2")
        data = json.loads(payload)["data"] | {name: value}
        for event in ("fill", "trade_correct"):
            frame_of_it = {"stream": "trade_updates", "data": data | {"event": event}}
            read(json.dumps(frame_of_it).encode())
        read_activity(ACTIVITY | {name: value})
        list(read_order_links(order("1") | {name: value}))


class ActivityTests(SynchronousTestCase):
    """What GET /v2/account/activities/FILL lists."""

    def test_activity_is_a_fill_without_an_execution_id(self) -> None:
        """The quantity that is filled with it identifies it."""
        found = read_activity(ACTIVITY)
        assert found is not None
        self.assertEqual((found.execution, found.filled), ("", "2"))
        self.assertEqual((found.qty, found.price, found.multiplier), (-2, Decimal("1.6"), 100))
        self.assertEqual(found.time, START + 123_456)

    def test_short_sale_has_a_side_of_its_own(self) -> None:
        """Orders say `sell`. Without it, an import would leave out every short sale."""
        for side, sign in (("sell_short", -1), ("sell_plus", -1), ("buy_minus", 1)):
            found = read_activity(ACTIVITY | {"side": side})
            assert found is not None
            self.assertEqual((found.problem, found.qty), ("", 2 * sign), side)

    def test_other_activities_are_left_out(self) -> None:
        """So is what has no time or no order."""
        for changes in ({"type": "DIV"}, {"transaction_time": None}, {"order_id": 5}):
            self.assertIsNone(read_activity(ACTIVITY | changes))
        self.assertIsNone(read_activity([]))

    def test_nested_orders_are_linked_to_their_parent(self) -> None:
        """GET /v2/orders?nested=true has the legs in `legs`."""
        parent = order("1", legs=[order("2", "x"), order("3", "y")], replaces="0")
        self.assertEqual(
            list(read_order_links(parent)),
            [
                OrderLinks("1", "alpha-1", "", "0"),
                OrderLinks("2", "x", "1"),
                OrderLinks("3", "y", "1"),
            ],
        )
