"""Tests of the exchange."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.simulator.exchange import NOT_FOUND, NOT_OPEN, Exchange, Outcome
from tradeproxy.simulator.orders import Amendment, Document, Order, Refusal, Status, Terms
from tradeproxy.simulator.ulid import milliseconds_of

KEYS = """
    id client_order_id created_at updated_at submitted_at filled_at expired_at cancel_requested_at
    canceled_at failed_at replaced_at replaced_by replaces asset_id symbol asset_class notional qty
    filled_qty filled_avg_price order_class order_type type side position_intent time_in_force
    limit_price stop_price status extended_hours legs trail_percent trail_price hwm expires_at
""".split()  # noqa: SIM905  # a list this long reads better as text
"""The keys of an order in Alpaca's captures of 2026, in order."""


def terms(**changes: Any) -> Terms:
    """Return the terms of a small market order, with some of them changed."""
    common: dict[str, Any] = {"symbol": "SPY", "side": "buy", "type": "market", "time_in_force": "day"}
    return Terms(**common | {"qty": Decimal(1)} | changes)


def limit(price: str, **changes: Any) -> Terms:
    """Return the terms of a small limit order, with some of them changed."""
    return terms(type="limit", limit_price=Decimal(price), **changes)


def names(events: tuple[Document, ...]) -> list[str]:
    """Return what the events are called."""
    return [event["event"] for event in events]


class ExchangeTestCase(SynchronousTestCase):
    """An exchange with a clock that stands still."""

    def setUp(self) -> None:
        self.time = datetime(2026, 7, 24, 14, 42, 49, 354133, UTC)
        self.exchange = Exchange(lambda: self.time, Random(3))

    def ok(self, outcome: Outcome | Refusal) -> Outcome:
        assert isinstance(outcome, Outcome), outcome
        return outcome

    def run_out(self, order: Order) -> list[Document]:
        """Let everything happen to an order that happens by itself."""
        events: list[Document] = []
        while self.exchange.due(order.id):
            self.time += timedelta(milliseconds=50)
            events.extend(self.ok(self.exchange.proceed(order.id)).events)
        return events

    def submit(self, wanted: Terms) -> Order:
        return self.ok(self.exchange.submit(wanted)).orders[0]


class EventTests(ExchangeTestCase):
    """The form of events."""

    def test_has_the_shape_of_alpacas(self) -> None:
        """The keys of an event and of its order are those of the captures, in their order."""
        outcome = self.ok(self.exchange.submit(terms()))
        (new,) = outcome.events
        (fill,) = self.run_out(outcome.orders[0])
        self.assertEqual(list(new), ["at", "event_id", "event", "timestamp", "order", "execution_id"])
        self.assertEqual(
            list(fill),
            ["at", "event_id", "event", "timestamp", "order", "price", "qty", "position_qty", "execution_id"],
        )
        self.assertEqual(list(new["order"]), KEYS)

    def test_numbers_are_text(self) -> None:
        """No number travels as a JSON number."""
        order = self.submit(terms(qty=Decimal("2.50")))
        events = self.run_out(order)
        self.assertEqual(events[-1]["order"]["filled_qty"], "2.5")
        for event in events:
            values = [*event.values(), *event["order"].values()]
            self.assertFalse([v for v in values if isinstance(v, int | float | Decimal) and v is not False])

    def test_ids_sort_and_tell_the_time(self) -> None:
        """Event ids ascend strictly, and hold the millisecond of `at`, even when the clock goes back."""
        events = list(self.exchange.churn(3).events)
        self.time -= timedelta(seconds=5)
        events += self.exchange.churn(2).events
        ids = [event["event_id"] for event in events]
        self.assertEqual(ids, sorted(set(ids)))
        for event in events:
            at = datetime.fromisoformat(event["at"])
            self.assertEqual(
                milliseconds_of(event["event_id"]),
                (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(0, 0, 1000),
            )

    def test_times_are_of_nanoseconds_in_utc(self) -> None:
        """`timestamp` has nine digits of a second and a Z."""
        (new,) = self.ok(self.exchange.submit(terms())).events
        self.assertRegex(new["timestamp"], r"\A2026-07-24T14:42:49\.354133\d{3}Z\Z")
        self.assertEqual(new["at"], "2026-07-24T14:42:49.354133Z")


class LifecycleTests(ExchangeTestCase):
    """What becomes of orders."""

    def test_market_orders_fill(self) -> None:
        """A market order is new, and then filled, for the whole quantity."""
        order = self.submit(terms())
        self.assertEqual(order.status, Status.NEW)
        (fill,) = self.run_out(order)
        self.assertEqual((fill["event"], fill["qty"], fill["position_qty"]), ("fill", "1", "1"))
        self.assertEqual(fill["order"]["filled_avg_price"], fill["price"])
        self.assertEqual(fill["order"]["status"], "filled")

    def test_some_orders_fill_in_two_parts(self) -> None:
        """Of many orders some fill in part first, never more than once, and the parts add up."""
        seen = set()
        for _ in range(20):
            events = self.run_out(self.submit(terms(qty=Decimal(5))))
            seen.add(tuple(names(tuple(events))))
            self.assertEqual(sum(Decimal(event["qty"]) for event in events), 5)
        self.assertEqual(seen, {("fill",), ("partial_fill", "fill")})

    def test_notional_orders_fill_for_their_worth(self) -> None:
        """A notional order buys as much as the money is worth."""
        (fill,) = self.run_out(self.submit(terms(qty=None, notional=Decimal(15))))
        worth = Decimal(fill["qty"]) * Decimal(fill["price"])
        self.assertAlmostEqual(worth, Decimal(15), 5)
        self.assertEqual((fill["order"]["qty"], fill["order"]["notional"]), (None, "15"))

    def test_marketable_limits_fill_no_worse_than_asked(self) -> None:
        """A limit at or past the market fills, and never beyond its price."""
        (bought,) = self.run_out(self.submit(limit("100000")))
        (sold,) = self.run_out(self.submit(limit("0.01", side="sell")))
        self.assertLess(Decimal(bought["price"]), 100_000)
        self.assertGreater(Decimal(sold["price"]), 1)
        price = Decimal(sold["price"])
        for _ in range(10):
            order = self.submit(limit(str(price)))
            self.assertLessEqual(
                max((Decimal(e["price"]) for e in self.run_out(order)), default=price), price
            )

    def test_resting_limits_stay_open(self) -> None:
        """A limit away from the market is new, and nothing happens to it by itself."""
        order = self.submit(limit("0.01"))
        self.assertFalse(self.exchange.due(order.id))
        self.assertEqual(self.exchange.proceed(order.id), NOT_FOUND)
        self.assertEqual(self.exchange.orders(), [order])

    def test_immediate_orders_that_cannot_trade_are_canceled(self) -> None:
        """IOC and FOK away from the market are new and then canceled."""
        for time_in_force in ("ioc", "fok"):
            (event,) = self.run_out(self.submit(limit("0.01", time_in_force=time_in_force)))
            self.assertEqual((event["event"], event["order"]["cancel_requested_at"]), ("canceled", None))

    def test_rejects_a_certain_symbol(self) -> None:
        """An order for REJECT is accepted without an event, and rejected afterwards."""
        outcome = self.ok(self.exchange.submit(terms(symbol="REJECT")))
        self.assertEqual((outcome.events, outcome.orders[0].status), ((), Status.PENDING_NEW))
        (event,) = self.run_out(outcome.orders[0])
        self.assertEqual((event["event"], event["order"]["status"]), ("rejected", "rejected"))
        self.assertIsNotNone(event["order"]["failed_at"])

    def test_expires_when_told(self) -> None:
        """An open order ends by expiry only when that is asked for."""
        order = self.submit(limit("0.01"))
        (event,) = self.ok(self.exchange.expire(order.id)).events
        self.assertEqual((event["event"], event["order"]["status"]), ("expired", "expired"))

    def test_a_canceled_order_never_fills(self) -> None:
        """Cancelling wins over what was about to happen."""
        order = self.submit(terms())
        self.exchange.cancel(order.id)
        self.assertFalse(self.exchange.due(order.id))

    def test_orders_end_with_the_market_or_after_90_days(self) -> None:
        """A day order is good until the next close at 20:00 UTC, a gtc order for 90 days more."""
        self.assertEqual(self.submit(limit("0.01")).expires_at, "2026-07-24T20:00:00.000000Z")
        self.time = self.time.replace(hour=20)
        self.assertEqual(self.submit(limit("0.01")).expires_at, "2026-07-25T20:00:00.000000Z")
        gtc = self.submit(limit("0.01", time_in_force="gtc"))
        self.assertEqual(gtc.expires_at, "2026-10-23T20:00:00.000000Z")

    def test_says_what_an_order_does_to_the_position(self) -> None:
        """The intent follows from the position, unless the client states it."""
        intents = []
        for side, qty in (("sell", 2), ("buy", 1), ("buy", 3), ("sell", 1)):
            order = self.submit(terms(side=side, qty=Decimal(qty)))
            intents.append(order.terms.position_intent)
            self.run_out(order)
        self.assertEqual(intents, ["sell_to_open", "buy_to_close", "buy_to_close", "sell_to_close"])
        self.assertEqual(self.submit(terms(position_intent="x")).terms.position_intent, "x")

    def test_is_the_same_for_the_same_random(self) -> None:
        """Two exchanges with equal randomness tell the same story."""
        first, second = (Exchange(lambda: self.time, Random(9)) for _ in range(2))
        self.assertEqual(first.churn(4), second.churn(4))


class RequestTests(ExchangeTestCase):
    """What a client may ask for."""

    def test_cancel_ends_an_order_once(self) -> None:
        """A second cancel is refused, and so is one of an order that never was."""
        order = self.submit(limit("0.01"))
        (event,) = self.ok(self.exchange.cancel(order.id)).events
        self.assertEqual(event["event"], "canceled")
        self.assertIsNotNone(event["order"]["cancel_requested_at"])
        self.assertEqual(self.exchange.cancel(order.id), NOT_OPEN)
        self.assertEqual(self.exchange.cancel("nobody"), NOT_FOUND)

    def test_cancel_all_ends_every_open_order(self) -> None:
        """Each open order is canceled, in the order of their coming."""
        orders = [self.submit(limit("0.01")) for _ in range(3)]
        outcome = self.exchange.cancel_all()
        self.assertEqual([order.id for order in outcome.orders], [order.id for order in orders])
        self.assertEqual(names(outcome.events), ["canceled"] * 3)
        self.assertEqual(self.exchange.orders(), [])

    def test_replace_ends_the_old_and_begins_the_new(self) -> None:
        """The old order is replaced, the new one is new, each names the other, and ids ascend."""
        old = self.submit(limit("0.01"))
        outcome = self.ok(self.exchange.replace(old.id, Amendment(qty=Decimal(2), client_order_id="mine")))
        replaced, new = outcome.events
        self.assertEqual(names(outcome.events), ["replaced", "new"])
        self.assertEqual(replaced["order"]["replaced_by"], new["order"]["id"])
        self.assertEqual(new["order"]["replaces"], old.id)
        self.assertEqual((new["order"]["qty"], new["order"]["limit_price"]), ("2", "0.01"))
        self.assertLess(replaced["event_id"], new["event_id"])
        self.assertEqual(self.exchange.order_by_client_id("mine"), outcome.orders[0])

    def test_replace_refuses_what_it_cannot_do(self) -> None:
        """An unknown order, a finished one, and an id in use are refused."""
        order = self.submit(limit("0.01", client_order_id="taken"))
        refusal = self.exchange.replace(order.id, Amendment(client_order_id="taken"))
        assert isinstance(refusal, Refusal)
        self.assertIn("unique", refusal.message)
        self.exchange.cancel(order.id)
        self.assertEqual(self.exchange.replace(order.id, Amendment()), NOT_OPEN)
        self.assertEqual(self.exchange.replace("nobody", Amendment()), NOT_FOUND)

    def test_client_order_ids_are_unique(self) -> None:
        """The second order with an id is refused."""
        self.submit(terms(client_order_id="mine"))
        refusal = self.exchange.submit(terms(client_order_id="mine"))
        self.assertEqual(refusal, Refusal(422, 40010001, "client_order_id must be unique"))

    def test_lists_orders_by_status_symbol_and_direction(self) -> None:
        """Orders are found by where they stand and by symbol, in either direction."""
        first = self.submit(limit("0.01"))
        second = self.submit(limit("0.01", symbol="AAPL"))
        self.exchange.cancel(first.id)
        self.assertEqual([o.id for o in self.exchange.orders()], [second.id])
        self.assertEqual([o.id for o in self.exchange.orders("closed")], [first.id])
        self.assertEqual(
            [o.id for o in self.exchange.orders("all", newest_first=True)], [second.id, first.id]
        )
        self.assertEqual([o.id for o in self.exchange.orders("all", ["SPY"])], [first.id])

    def test_forgets_the_oldest_finished_orders(self) -> None:
        """What a long demonstration leaves behind is bounded; open orders stay."""
        self.exchange = Exchange(lambda: self.time, Random(3), keep=2)
        resting = self.submit(limit("0.01"))
        for number in range(3):
            self.exchange.cancel(self.submit(limit("0.01", client_order_id=str(number))).id)
        self.assertEqual(self.exchange.order(resting.id), resting)
        self.assertEqual(self.exchange.order_by_client_id("0"), NOT_FOUND)
        self.assertIsInstance(self.exchange.order_by_client_id("1"), Order)
        self.assertEqual(len(self.exchange.orders("all")), 3)

    def test_the_account_follows_the_fills(self) -> None:
        """Cash goes down by what was bought; money and goods together stay close to the start."""
        self.run_out(self.submit(terms(qty=Decimal(10))))
        account = self.exchange.account()
        self.assertLess(Decimal(account["cash"]), 100_000)
        self.assertGreater(Decimal(account["long_market_value"]), 0)
        self.assertEqual(account["short_market_value"], "0")
        self.assertAlmostEqual(Decimal(account["equity"]), Decimal(100_000), -2)


class ChurnTests(ExchangeTestCase):
    """Events in any number."""

    def test_makes_the_number_of_events_asked_for(self) -> None:
        """Orders come and go until there are that many events."""
        for count in (1, 2, 5):
            self.assertEqual(names(self.exchange.churn(count).events), (["new", "canceled"] * 3)[:count])
