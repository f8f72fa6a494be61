"""Tests of orders as values."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.simulator.errors import ApiError
from tradeproxy.simulator.orders import (
    OrderRequest,
    ReplaceRequest,
    number_text,
    parse_order,
    parse_replacement,
)

MARKET: dict[str, Any] = {
    "symbol": "spy",
    "qty": "2",
    "side": "buy",
    "type": "market",
    "time_in_force": "day",
}


TRAILING = MARKET | {"type": "trailing_stop"}


class ParseOrderTests(SynchronousTestCase):
    """The body of POST /v2/orders."""

    def test_quantity_may_be_text_or_number(self) -> None:
        """A quantity may be text, an integer or a fraction."""
        for qty in ("2", 2, 2.0):
            request = parse_order(MARKET | {"qty": qty})
            self.assertEqual(
                (request.symbol, request.qty, request.notional), ("SPY", Decimal(2), None)
            )

    def test_notional_order_has_no_quantity(self) -> None:
        """An order for an amount of money has no quantity."""
        request = parse_order(MARKET | {"qty": None, "notional": "15"})
        self.assertEqual((request.qty, request.notional), (None, Decimal(15)))

    def test_invalid_order_raises_422(self) -> None:
        """The code is 40010001, and the message names the field."""
        limit = MARKET | {"type": "limit"}
        for document, word in (
            ([], "object"),
            (MARKET | {"symbol": 5}, "symbol"),
            (MARKET | {"symbol": "x" * 129}, "symbol"),
            (MARKET | {"client_order_id": "x" * 129}, "client_order_id"),
            (MARKET | {"qty": None}, "qty"),
            (MARKET | {"notional": 5}, "qty"),
            *(
                (MARKET | {"qty": qty}, "qty")
                for qty in (0, "-1", "one", True, [1], "NaN", "1e999999999")
            ),
            (MARKET | {"side": "hold"}, "side"),
            (MARKET | {"type": ["market"]}, "type"),
            (MARKET | {"type": "stop"}, "stop_price"),
            (MARKET | {"stop_price": 5}, "stop_price"),
            (MARKET | {"type": "stop_limit", "stop_price": 5}, "limit_price"),
            (MARKET | {"trail_price": 5}, "trail_price"),
            (MARKET | {"trail_price": 5, "trail_percent": 5}, "trail_price"),
            (TRAILING, "trail_price and trail_percent"),
            (TRAILING | {"trail_price": 1, "trail_percent": 1}, "one of"),
            (TRAILING | {"trail_percent": 100}, "trail_percent must be < 100"),
            (TRAILING | {"trail_percent": 1, "time_in_force": "ioc"}, "day or gtc"),
            (MARKET | {"position_intent": "hold"}, "position_intent"),
            (MARKET | {"order_class": "double"}, "order_class"),
            (MARKET | {"take_profit": {"limit_price": 5}}, "take_profit"),
            (MARKET | {"stop_loss": {"stop_price": 5}}, "stop_loss"),
            (MARKET | {"order_class": "simple", "legs": []}, "legs"),
            (MARKET | {"time_in_force": "whenever"}, "time_in_force"),
            (MARKET | {"limit_price": 5}, "limit_price"),
            (limit, "limit_price"),
            (limit | {"qty": None, "notional": 5, "limit_price": 5}, "notional"),
        ):
            refusal = self.assertRaises(ApiError, parse_order, document)
            self.assertEqual((refusal.status, refusal.code), (422, 40010001))
            self.assertIn(word, refusal.message)

    def test_order_with_legs_raises_422(self) -> None:
        """Its legs were dropped: what remained was another order, accepted with status 200."""
        legs = {"take_profit": {"limit_price": "9"}, "stop_loss": {"stop_price": "1"}}
        for name in ("bracket", "oco", "oto", "mleg"):
            refusal = self.assertRaises(
                ApiError, parse_order, MARKET | legs | {"order_class": name}
            )
            self.assertEqual((refusal.status, refusal.code), (422, 42210000))
            self.assertEqual(refusal.message, f"{name} orders are not simulated")

    def test_stop_orders_have_their_prices(self) -> None:
        """Each type keeps its own; a simple class and extended hours are accepted."""
        stop = parse_order(
            MARKET
            | {"type": "stop_limit", "stop_price": "5", "limit_price": 4, "order_class": "simple"}
        )
        self.assertEqual((stop.stop_price, stop.limit_price), (Decimal(5), Decimal(4)))
        trailing = parse_order(TRAILING | {"trail_percent": "1.5", "extended_hours": True})
        self.assertEqual((trailing.trail_percent, trailing.extended_hours), (Decimal("1.5"), True))


class ParseReplacementTests(SynchronousTestCase):
    """The body of PATCH /v2/orders/{id}."""

    def test_absent_fields_stay(self) -> None:
        """Absent and null fields stay, except the client order id."""
        request = OrderRequest(
            symbol="SPY",
            side="buy",
            type="limit",
            time_in_force="day",
            qty=Decimal(1),
            limit_price=Decimal(8),
            client_order_id="a",
        )
        change = parse_replacement({"limit_price": "9", "qty": None, "time_in_force": "gtc"})
        self.assertEqual(change, ReplaceRequest(limit_price=Decimal(9), time_in_force="gtc"))
        trailing = replace(
            request, type="trailing_stop", limit_price=None, trail_percent=Decimal(1)
        )
        trail = parse_replacement({"trail": "2"}).applied_to(trailing)
        self.assertEqual((trail.trail_percent, trail.trail_price), (Decimal(2), None))
        expected = replace(request, limit_price=Decimal(9), time_in_force="gtc", client_order_id="")
        self.assertEqual(change.applied_to(request), expected)

    def test_field_of_another_type_is_refused(self) -> None:
        """A market order would become one that has a limit price, and never fills."""
        request = parse_order(MARKET)
        for field, order in (
            ("limit_price", request),
            ("stop_price", request),
            ("trail", request),
            ("qty", replace(request, qty=None, notional=Decimal(5))),
        ):
            change = parse_replacement({field: "9"})
            error = self.assertRaises(ApiError, change.applied_to, order)
            self.assertEqual(error.status, 422)
            self.assertIn(field, error.message)

    def test_invalid_field_is_named(self) -> None:
        """The error names the field."""
        for document, word in (
            (None, "object"),
            ({"qty": 0}, "qty"),
            ({"limit_price": "x"}, "limit_price"),
            ({"time_in_force": "x"}, "time_in_force"),
        ):
            self.assertIn(word, self.assertRaises(ApiError, parse_replacement, document).message)


class MarketableTests(SynchronousTestCase):
    """Whether an order trades immediately."""

    def test_depends_on_side_and_price(self) -> None:
        """A market order trades at any price, a limit at its own or better."""
        for side, limit, marketable in (
            ("buy", None, True),
            ("buy", 10, True),
            ("buy", 9, False),
            ("sell", 10, True),
            ("sell", 11, False),
        ):
            price = None if limit is None else Decimal(limit)
            request = OrderRequest(
                symbol="SPY", side=side, type="limit", time_in_force="day", limit_price=price
            )
            self.assertEqual(request.marketable_at(Decimal(10)), marketable, (side, limit))


class NumberTextTests(SynchronousTestCase):
    """The format of numbers."""

    def test_writes_plain_digits(self) -> None:
        """Numbers have no exponent and no trailing zeros."""
        self.assertEqual(
            [number_text(Decimal(n)) for n in ("1E+3", "1.50", "0.000000001", "0")],
            ["1000", "1.5", "0.000000001", "0"],
        )
