"""Tests of the exchange."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.simulator.support import milliseconds_of
from tests.support.frames import FILL, NEW
from tradeproxy.simulator.errors import ApiError
from tradeproxy.simulator.exchange import Exchange, ExchangeResult
from tradeproxy.simulator.orders import Document, Order, OrderRequest, OrderStatus, ReplaceRequest
from tradeproxy.simulator.portfolio import MOST_INSTRUMENTS, Portfolio

NOW = datetime(2026, 7, 24, 14, 42, 49, 354133, UTC)


def market(**changes: Any) -> OrderRequest:
    """Return a small market order with changes."""
    common: dict[str, Any] = {
        "symbol": "SPY",
        "side": "buy",
        "type": "market",
        "time_in_force": "day",
    }
    return OrderRequest(**common | {"qty": Decimal(1)} | changes)


def limit(price: str, **changes: Any) -> OrderRequest:
    """Return a small limit order with changes."""
    return market(type="limit", limit_price=Decimal(price), **changes)


def names(outcome: ExchangeResult) -> list[str]:
    """Return the names of events."""
    return [event["event"] for event in outcome.events]


class ExchangeTestCase(SynchronousTestCase):
    """An exchange with a stopped clock."""

    def setUp(self) -> None:
        self.seconds = NOW.timestamp()
        self.exchange = Exchange(lambda: self.seconds, Random(3))

    def submit(self, wanted: OrderRequest) -> Order:
        (order,) = self.exchange.submit(wanted).orders
        return order

    def run_out(self, order: Order) -> list[Document]:
        """Run every next step of an order."""
        events: list[Document] = []
        while self.exchange.has_next_step(order.id):
            self.seconds += 0.05
            events.extend(self.exchange.step(order.id).events)
        return events

    def assert_refused(self, status: int, word: str, operation: Any, *arguments: Any) -> None:
        """Assert that an operation raises a status and a message with a word."""
        refusal = self.assertRaises(ApiError, operation, *arguments)
        self.assertEqual(refusal.status, status)
        self.assertIn(word, refusal.message)


class EventTests(ExchangeTestCase):
    """The form of events."""

    def test_event_has_alpacas_keys(self) -> None:
        """Keys and their order equal those of captured events."""
        outcome = self.exchange.submit(market())
        (new,) = outcome.events
        (fill,) = self.run_out(outcome.orders[0])
        for event, frame in ((new, NEW), (fill, FILL)):
            capture = json.loads(frame)["data"]
            self.assertEqual(list(event), list(capture))
            self.assertEqual(list(event["order"]), list(capture["order"]))

    def test_numbers_are_text(self) -> None:
        """No number is a JSON number."""
        events = self.run_out(self.submit(market(qty=Decimal("2.50"))))
        self.assertEqual(events[-1]["order"]["filled_qty"], "2.5")
        for event in events:
            values = [*event.values(), *event["order"].values()]
            self.assertFalse(
                [v for v in values if isinstance(v, int | float | Decimal) and v is not False]
            )

    def test_ids_ascend_and_contain_the_time(self) -> None:
        """They contain the millisecond of `at`, even if the clock goes back."""
        events = [*self.exchange.burst(3).events]
        self.seconds -= 5
        events += self.exchange.burst(2).events
        ids = [event["event_id"] for event in events]
        self.assertEqual(ids, sorted(set(ids)))
        for event in events:
            at = datetime.fromisoformat(event["at"]) - datetime(1970, 1, 1, tzinfo=UTC)
            self.assertEqual(milliseconds_of(event["event_id"]), at // timedelta(milliseconds=1))

    def test_times_have_nine_decimals(self) -> None:
        """`timestamp` ends with Z."""
        (new,) = self.exchange.submit(market()).events
        self.assertRegex(new["timestamp"], r"\A2026-07-24T14:42:49\.354133\d{3}Z\Z")
        self.assertEqual(new["at"], "2026-07-24T14:42:49.354133Z")

    def test_order_expires_at_the_close_or_after_90_days(self) -> None:
        """A day order expired 24 hours after its submission, in the middle of the next session."""
        for time_in_force, expires in (
            ("day", "2026-07-25T03:59:00Z"),
            ("gtc", "2026-10-23T03:59:00Z"),
        ):
            (new,) = self.exchange.submit(market(time_in_force=time_in_force)).events
            self.assertEqual(new["order"]["expires_at"], expires)

    def test_position_intent_is_that_of_the_position(self) -> None:
        """An order that reduced a long position was "to open". A request may name it itself."""
        intents = []
        for side, qty in (("buy", 2), ("sell", 2), ("sell", 1), ("buy", 1)):
            order = self.submit(market(side=side, qty=Decimal(qty)))
            intents.append(order.document()["position_intent"])
            self.run_out(order)
        self.assertEqual(intents, ["buy_to_open", "sell_to_close", "sell_to_open", "buy_to_close"])
        named = self.submit(market(position_intent="buy_to_close"))
        self.assertEqual(named.document()["position_intent"], "buy_to_close")


class LifecycleTests(ExchangeTestCase):
    """The life of orders."""

    def test_market_orders_fill(self) -> None:
        """A market order is new, then filled completely."""
        order = self.submit(market())
        self.assertEqual(order.status, OrderStatus.NEW)
        (fill,) = self.run_out(order)
        self.assertEqual((fill["event"], fill["qty"], fill["position_qty"]), ("fill", "1", "1"))
        self.assertEqual(fill["order"]["filled_avg_price"], fill["price"])
        self.assertEqual(fill["order"]["status"], "filled")

    def test_some_orders_fill_in_two_parts(self) -> None:
        """Some orders get one partial fill, and the parts add up."""
        seen = set()
        for _ in range(20):
            events = self.run_out(self.submit(market(qty=Decimal(5))))
            seen.add(tuple(event["event"] for event in events))
            self.assertEqual(sum(Decimal(event["qty"]) for event in events), 5)
        self.assertEqual(seen, {("fill",), ("partial_fill", "fill")})

    def test_notional_order_fills_for_its_amount(self) -> None:
        """The quantity follows from the amount."""
        (fill,) = self.run_out(self.submit(market(qty=None, notional=Decimal(15))))
        self.assertAlmostEqual(Decimal(fill["qty"]) * Decimal(fill["price"]), Decimal(15), 5)
        self.assertEqual((fill["order"]["qty"], fill["order"]["notional"]), (None, "15"))

    def test_marketable_limit_fills_within_its_price(self) -> None:
        """A limit at or beyond the market fills, never beyond its price."""
        (bought,) = self.run_out(self.submit(limit("100000")))
        (sold,) = self.run_out(self.submit(limit("0.01", side="sell")))
        self.assertLess(Decimal(bought["price"]), 100_000)
        self.assertGreater(Decimal(sold["price"]), 1)
        price = Decimal(sold["price"])
        for _ in range(10):
            fills = self.run_out(self.submit(limit(str(price))))
            self.assertLessEqual(
                max((Decimal(fill["price"]) for fill in fills), default=price), price
            )

    def test_unmarketable_order_depends_on_time_in_force(self) -> None:
        """It rests, is canceled, or expires."""
        for time_in_force, event, ended_at in (
            ("ioc", "canceled", "canceled_at"),
            ("fok", "canceled", "canceled_at"),
            ("opg", "expired", "expired_at"),
            ("cls", "expired", "expired_at"),
        ):
            (last,) = self.run_out(self.submit(limit("0.01", time_in_force=time_in_force)))
            self.assertEqual((last["event"], last["order"]["status"]), (event, event))
            self.assertEqual(last["order"][ended_at], last["timestamp"])
            self.assertIsNone(last["order"]["cancel_requested_at"])
        resting = [
            self.submit(limit("0.01", time_in_force=time_in_force))
            for time_in_force in ("day", "gtc")
        ]
        self.assertFalse(any(self.exchange.has_next_step(order.id) for order in resting))
        self.assertEqual(self.exchange.orders(), resting)

    def test_stop_fills_once_the_market_reaches_it(self) -> None:
        """Before that it rests; a stop limit then keeps to its limit."""
        for side, stop, far, reached in (("sell", "90", "91", "90"), ("buy", "110", "109", "110")):
            self.exchange.set_price("SPY", Decimal(100))
            order = self.submit(market(type="stop", side=side, stop_price=Decimal(stop)))
            self.assertEqual(self.exchange.set_price("SPY", Decimal(far)).orders, ())
            (triggered,) = self.exchange.set_price("SPY", Decimal(reached)).orders
            self.assertEqual((triggered.id, triggered.triggered), (order.id, True))
            self.assertEqual([event["event"] for event in self.run_out(order)], ["fill"])

    def test_stop_limit_waits_for_its_limit(self) -> None:
        """The stop stays reached even if the price returns beyond it."""
        self.exchange.set_price("SPY", Decimal(100))
        prices = {"stop_price": Decimal(90), "limit_price": Decimal(89)}
        order = self.submit(market(type="stop_limit", side="sell", **prices))
        self.assertEqual(self.exchange.set_price("SPY", Decimal(80)).orders, ())
        self.assertTrue(self.exchange.order(order.id).triggered)
        (reached,) = self.exchange.set_price("SPY", Decimal(95)).orders
        (fill,) = self.run_out(reached)
        self.assertGreaterEqual(Decimal(fill["price"]), 89)

    def test_trailing_stop_follows_the_best_price(self) -> None:
        """`hwm` and `stop_price` move with the market, in one direction only."""
        for side, trail, prices, stops in (
            ("sell", {"trail_percent": Decimal(10)}, (100, 120, 110), ("90", "108", "108")),
            ("buy", {"trail_price": Decimal(5)}, (100, 80, 82), ("105", "85", "85")),
        ):
            self.exchange.set_price("SPY", Decimal(prices[0]))
            order = self.submit(market(type="trailing_stop", side=side, **trail))
            seen = []
            for price in prices:
                self.assertEqual(self.exchange.set_price("SPY", Decimal(price)).orders, ())
                seen.append(self.exchange.order(order.id).document()["stop_price"])
            self.assertEqual(tuple(seen), stops)
            self.assertEqual(self.exchange.order(order.id).document()["hwm"], str(prices[1]))
            (reached,) = self.exchange.set_price("SPY", Decimal(stops[-1])).orders
            self.assertEqual(reached.id, order.id)
            self.run_out(reached)

    def test_price_fills_resting_limits(self) -> None:
        """A trade that moves the market does so too; a canceled order stays canceled."""
        self.exchange.set_price("SPY", Decimal(100))
        order, canceled = self.submit(limit("99")), self.submit(limit("99"))
        self.exchange.cancel(canceled.id)
        (reached,) = self.exchange.set_price("SPY", Decimal(99)).orders
        self.assertEqual(reached.id, order.id)
        self.run_out(order)
        self.exchange.set_price("SPY", Decimal(99))
        near = {self.submit(limit("98.99")).id, self.submit(limit("99.01", side="sell")).id}
        trades = [self.exchange.step(self.submit(market()).id) for _ in range(20)]
        moved = {order.id for result in trades for order in result.orders}
        self.assertTrue(near & moved)

    def test_reject_symbol_is_rejected(self) -> None:
        """An order for REJECT is accepted without an event, then rejected."""
        outcome = self.exchange.submit(market(symbol="REJECT"))
        self.assertEqual((outcome.events, outcome.orders[0].status), ((), OrderStatus.PENDING_NEW))
        (event,) = self.run_out(outcome.orders[0])
        self.assertEqual((event["event"], event["order"]["status"]), ("rejected", "rejected"))
        self.assertIsNotNone(event["order"]["failed_at"])

    def test_equal_seed_gives_equal_events(self) -> None:
        """Two exchanges with equal randomness emit equal events."""
        first, second = (Exchange(lambda: self.seconds, Random(9)) for _ in range(2))
        self.assertEqual(first.burst(4), second.burst(4))


class OperationTests(ExchangeTestCase):
    """The operations of a client."""

    def test_cancel_is_final(self) -> None:
        """A canceled order never fills; another cancel and an unknown order raise."""
        order = self.submit(market())
        (event,) = self.exchange.cancel(order.id).events
        self.assertEqual(event["event"], "canceled")
        self.assertIsNotNone(event["order"]["cancel_requested_at"])
        self.assertFalse(self.exchange.has_next_step(order.id))
        self.assert_refused(422, "not open", self.exchange.cancel, order.id)
        self.assert_refused(404, "not found", self.exchange.cancel, "unknown")

    def test_cancel_all_cancels_oldest_first(self) -> None:
        """Each open order is canceled."""
        orders = [self.submit(limit("0.01")) for _ in range(3)]
        outcome = self.exchange.cancel_all()
        self.assertEqual([order.id for order in outcome.orders], [order.id for order in orders])
        self.assertEqual(names(outcome), ["canceled"] * 3)
        self.assertEqual(self.exchange.orders(), [])

    def test_replace_links_old_and_new_order(self) -> None:
        """The orders refer to each other, and ids ascend."""
        old = self.submit(limit("0.01"))
        outcome = self.exchange.replace(old.id, ReplaceRequest(qty=Decimal(2)))
        replaced, new = outcome.events
        self.assertEqual(names(outcome), ["replaced", "new"])
        self.assertEqual(replaced["order"]["replaced_by"], new["order"]["id"])
        self.assertEqual(new["order"]["replaces"], old.id)
        self.assertEqual((new["order"]["qty"], new["order"]["limit_price"]), ("2", "0.01"))
        self.assertLess(replaced["event_id"], new["event_id"])
        self.assertEqual(self.exchange.orders(), list(outcome.orders))

    def test_invalid_replace_raises(self) -> None:
        """An unknown order, a finished one, and an id in use raise."""
        order = self.submit(limit("0.01", client_order_id="taken"))
        replace = self.exchange.replace
        self.assert_refused(
            422, "unique", replace, order.id, ReplaceRequest(client_order_id="taken")
        )
        self.exchange.cancel(order.id)
        self.assert_refused(422, "not open", replace, order.id, ReplaceRequest())
        self.assert_refused(404, "not found", replace, "unknown", ReplaceRequest())

    def test_client_order_ids_are_unique(self) -> None:
        """A second order with the same id raises."""
        self.submit(market(client_order_id="mine"))
        self.assert_refused(422, "unique", self.exchange.submit, market(client_order_id="mine"))

    def test_lists_orders_by_status_and_direction(self) -> None:
        """Orders are listed by status, in either direction."""
        first, second = self.submit(limit("0.01")), self.submit(limit("0.01"))
        (first,) = self.exchange.cancel(first.id).orders
        self.assertEqual(self.exchange.orders(), [second])
        self.assertEqual(self.exchange.orders("closed"), [first])
        self.assertEqual(self.exchange.orders("all", newest_first=True), [second, first])

    def test_finished_orders_are_bounded(self) -> None:
        """The oldest are dropped; open orders stay."""
        self.exchange = Exchange(lambda: self.seconds, Random(3), keep=2)
        resting = self.submit(limit("0.01"))
        done = [self.submit(limit("0.01", client_order_id=str(number))) for number in range(3)]
        for order in done:
            self.exchange.cancel(order.id)
        self.assertEqual(self.exchange.order(resting.id), resting)
        self.assertEqual(len(self.exchange.orders("closed")), 2)
        self.assert_refused(404, "not found", self.exchange.order, done[0].id)
        self.submit(market(client_order_id="0"))

    def test_open_orders_are_bounded(self) -> None:
        """Replace and cancel stay possible."""
        self.exchange = Exchange(lambda: self.seconds, Random(3), most_open=2)
        first, _ = self.submit(limit("0.01")), self.submit(limit("0.01"))
        self.assert_refused(403, "too many", self.exchange.submit, limit("0.01"))
        self.exchange.replace(first.id, ReplaceRequest(qty=Decimal(2)))
        self.exchange.cancel_all()
        self.submit(limit("0.01"))

    def test_symbols_are_bounded(self) -> None:
        """Known symbols stay tradable."""
        portfolio = Portfolio(Random(3))
        for number in range(MOST_INSTRUMENTS):
            portfolio.instrument(str(number))
        self.assert_refused(422, "symbol", portfolio.instrument, "one too many")
        self.assertIs(portfolio.instrument("0"), portfolio.instrument("0"))

    def test_finds_order_by_client_order_id(self) -> None:
        """A bot that lost the response looks its order up by its own id."""
        order = self.submit(market(client_order_id="mine"))
        self.assertEqual(self.exchange.order_by_client_id("mine"), order)
        for name in ("", "other"):
            self.assert_refused(404, "not found", self.exchange.order_by_client_id, name)

    def test_any_order_can_be_rejected(self) -> None:
        """The demo's rejects need no made-up symbol."""
        (order,) = self.exchange.submit(market(), reject=True).orders
        self.assertEqual([event["event"] for event in self.run_out(order)], ["rejected"])

    def test_position_has_its_entry_price(self) -> None:
        """It averages what opened the position, and begins again when the side turns."""
        spy = self.exchange.portfolio.instrument("SPY")
        for qty, price, expected in (
            ("2", "10", "10"),
            ("2", "20", "15"),
            ("-1", "50", "15"),
            ("-5", "30", "30"),
            ("-2", "60", "45"),
        ):
            spy.trade(Decimal(qty), Decimal(price))
            self.assertEqual(spy.entry_price, Decimal(expected))
        self.exchange.set_price("SPY", Decimal(40))
        shown = spy.open_position()
        self.assertEqual(
            [shown[name] for name in ("side", "qty", "cost_basis", "market_value")],
            ["short", "-4", "-180", "-160"],
        )
        self.assertEqual((shown["unrealized_pl"], shown["unrealized_plpc"]), ("20", "0.111111111"))

    def test_largest_position_is_shown(self) -> None:
        """Its value has more digits than Python's decimals keep by default."""
        self.exchange.set_price("SPY", Decimal(10**12))
        self.run_out(self.submit(market(qty=Decimal(10**12))))
        self.assertIn("market_value", self.exchange.portfolio.instrument("SPY").open_position())

    def test_close_position_sells_what_is_held(self) -> None:
        """A short position is bought back; a part may be closed, but no more than is held."""
        for side, closing in (("buy", "sell"), ("sell", "buy")):
            self.run_out(self.submit(market(symbol="BTC/USD", side=side, qty=Decimal(4))))
            self.assert_refused(
                403, "available: 4", self.exchange.close_position, "BTCUSD", Decimal(5)
            )
            (half,) = self.exchange.close_position("BTC/USD", Decimal(2)).orders
            self.run_out(half)
            (rest,) = self.exchange.close_position("BTCUSD").orders
            self.assertEqual((rest.request.side, rest.request.qty), (closing, Decimal(2)))
            self.run_out(rest)
            self.assertEqual(self.exchange.portfolio.positions(), [])
            self.assert_refused(404, "position", self.exchange.close_position, "BTCUSD")

    def test_account_reflects_fills(self) -> None:
        """Cash decreases by purchases; equity stays close to its start."""
        self.run_out(self.submit(market(qty=Decimal(10))))
        account = self.exchange.portfolio.document()
        self.assertLess(Decimal(account["cash"]), 100_000)
        self.assertAlmostEqual(Decimal(account["equity"]), Decimal(100_000), -2)

    def test_burst_has_count_events(self) -> None:
        """Orders are accepted and canceled until the count is reached."""
        for count in (1, 2, 5):
            self.assertEqual(names(self.exchange.burst(count)), (["new", "canceled"] * 3)[:count])
