"""Tests of orders as values."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.simulator.orders import (
    Amendment,
    Refusal,
    Terms,
    number_text,
    parse_amendment,
    parse_terms,
)

MARKET: dict[str, Any] = {
    "symbol": "spy",
    "qty": "2",
    "side": "buy",
    "type": "market",
    "time_in_force": "day",
}


class ParseTermsTests(SynchronousTestCase):
    """The body of POST /v2/orders."""

    def test_reads_text_and_numbers_alike(self) -> None:
        """A quantity may be JSON text, an integer or a fraction."""
        for qty in ("2", 2, 2.0):
            terms = parse_terms(MARKET | {"qty": qty})
            assert isinstance(terms, Terms)
            self.assertEqual((terms.symbol, terms.qty, terms.notional), ("SPY", Decimal(2), None))

    def test_reads_a_notional_order(self) -> None:
        """An order for an amount of money has no quantity."""
        terms = parse_terms(MARKET | {"qty": None, "notional": "15"})
        assert isinstance(terms, Terms)
        self.assertEqual((terms.qty, terms.notional), (None, Decimal(15)))

    def test_refuses_bad_input(self) -> None:
        """What cannot be an order is refused with 422, code 40010001, and a sentence that names the field."""
        limit = MARKET | {"type": "limit"}
        for document, word in (
            ([], "object"),
            (MARKET | {"symbol": 5}, "symbol"),
            (MARKET | {"qty": None}, "qty"),
            (MARKET | {"notional": 5}, "qty"),
            *((MARKET | {"qty": qty}, "qty") for qty in (0, "-1", "one", True, [1], "NaN", "1e999999999")),
            (MARKET | {"side": "hold"}, "side"),
            (MARKET | {"type": "bracket"}, "type"),
            (MARKET | {"time_in_force": "whenever"}, "time_in_force"),
            (limit, "limit_price"),
            (limit | {"qty": None, "notional": 5, "limit_price": 5}, "notional"),
            (MARKET | {"type": "stop"}, "stop_price"),
        ):
            refusal = parse_terms(document)
            assert isinstance(refusal, Refusal), document
            self.assertEqual((refusal.status, refusal.code), (422, 40010001))
            self.assertIn(word, refusal.message)


class ParseAmendmentTests(SynchronousTestCase):
    """The body of PATCH /v2/orders/{id}."""

    def test_reads_what_is_to_change(self) -> None:
        """Fields that are absent or null change nothing."""
        self.assertEqual(parse_amendment({"qty": "3", "limit_price": None}), Amendment(qty=Decimal(3)))

    def test_refuses_bad_input(self) -> None:
        """A bad field is refused by its name."""
        for document, word in (
            (None, "object"),
            ({"qty": 0}, "qty"),
            ({"limit_price": "x"}, "limit_price"),
            ({"time_in_force": "x"}, "time_in_force"),
        ):
            refusal = parse_amendment(document)
            assert isinstance(refusal, Refusal)
            self.assertIn(word, refusal.message)

    def test_changes_only_what_it_names(self) -> None:
        """Applied to terms, it leaves the rest as it was, but for the client's id, which is used up."""
        terms = Terms(
            symbol="SPY", side="buy", type="limit", time_in_force="day", qty=Decimal(1), client_order_id="a"
        )
        changed = Amendment(limit_price=Decimal(9)).applied_to(terms)
        self.assertEqual(changed, replace(terms, limit_price=Decimal(9), client_order_id=""))


class MarketableTests(SynchronousTestCase):
    """When an order trades at once."""

    def test_depends_on_type_side_and_price(self) -> None:
        """A market order trades at any price, a limit at its own or a better one, a stop not at once."""
        for kind, side, limit, marketable in (
            ("market", "buy", None, True),
            ("limit", "buy", 10, True),
            ("limit", "buy", 9, False),
            ("limit", "sell", 10, True),
            ("limit", "sell", 11, False),
            ("stop", "buy", None, False),
            ("stop_limit", "buy", 11, False),
        ):
            price = None if limit is None else Decimal(limit)
            terms = Terms(symbol="SPY", side=side, type=kind, time_in_force="day", limit_price=price)
            self.assertEqual(terms.marketable_at(Decimal(10)), marketable, (kind, side, limit))


class NumberTextTests(SynchronousTestCase):
    """How numbers are written."""

    def test_writes_plain_digits(self) -> None:
        """Numbers have no exponent and no needless zeros."""
        self.assertEqual(
            [number_text(Decimal(n)) for n in ("1E+3", "1.50", "0.000000001", "0")],
            ["1000", "1.5", "0.000000001", "0"],
        )
