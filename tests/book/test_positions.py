"""Tests for tradeproxy.book.positions."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.book import positions
from tradeproxy.book.fields import read_event
from tradeproxy.book.positions import SLACK, Positions, list_moves

TIME = 1_790_000_000_000_000


def answer(qty: str, **fields: Any) -> bytes:
    """Return Alpaca's position object."""
    document = {"symbol": "BTCUSD", "qty": qty, "side": "long", "avg_entry_price": "100"}
    return json.dumps({**document, "market_value": "1", **fields}).encode()


class PositionsCase(SynchronousTestCase):
    """A base class with the positions of one account."""

    def setUp(self) -> None:
        self.positions = Positions()
        self.seq = 0

    def fill(
        self,
        qty: str,
        position: str | None,
        *,
        side: str = "buy",
        time: int = TIME,
        recovered: bool = False,
        **data: Any,
    ) -> None:
        """Apply a fill of bitcoin."""
        order = {"id": "o", "symbol": "BTC/USD", "side": side, "asset_class": "crypto"}
        frame = {
            "stream": "trade_updates",
            **({"recovered": "events"} if recovered else {}),
            "data": {
                "event": "fill",
                "qty": qty,
                "price": "200",
                "position_qty": position,
                "order": order,
                **data,
            },
        }
        event = read_event(json.dumps(frame).encode())
        assert event is not None
        assert event.order is not None
        self.seq += 1
        for move in list_moves(event, event.order):
            self.positions.apply(move, self.seq, time, is_recovered=event.is_recovered)

    def position(self) -> dict[str, Any]:
        """Return the only position."""
        [found] = self.positions.list_open()
        document: dict[str, Any] = json.loads(found.render())
        return document

    def quantities(self) -> list[str]:
        """Return the quantity of each position."""
        return [each.qty for each in self.positions.list_open()]


class MoveTests(PositionsCase):
    """A fill moves a position to what the event says, or by what was filled."""

    def test_position_of_the_event_counts(self) -> None:
        """A fee in crypto is part of it, and not of the quantity."""
        self.fill("0.000000009", "0.000000008")
        self.assertEqual(self.position()["qty"], "0.000000008")
        self.assertEqual(self.position()["symbol"], "BTCUSD")
        self.assertEqual(self.position()["exchange"], "CRYPTO")

    def test_parent_of_a_bracket_moves_its_own_symbol(self) -> None:
        """Alpaca's REST answers list its legs, which wait. Only a multi-leg order fills legs."""
        legs = [{"id": "leg", "symbol": "BTC/USD", "side": "sell", "status": "new"}]
        order = {"id": "o", "symbol": "BTC/USD", "side": "buy", "legs": legs}
        self.fill("2", None, order=order)
        self.fill("1", "5", order=order)
        self.assertEqual(self.quantities(), ["5"])

    def test_quantity_is_added_without_a_position(self) -> None:
        """Frames of earlier years, and events made of orders, have none."""
        self.fill("0.1", None)
        self.fill("0.2", None)
        self.assertEqual(self.quantities(), ["0.3"])
        self.fill("0.3", None, side="sell")
        self.assertEqual(self.quantities(), [])

    def test_average_price_and_side(self) -> None:
        """A purchase changes the average, a sale does not, and a turn begins with its price."""
        self.positions.seed({"BTCUSD": answer("1")}, 0, TIME)
        self.fill("1", "2")
        document = self.position()
        self.assertEqual((document["avg_entry_price"], document["cost_basis"]), ("150", "300"))
        self.assertIsNone(document["market_value"])
        self.fill("1", "1", side="sell")
        self.assertEqual(self.position()["avg_entry_price"], "150")
        self.fill("3", "-2", side="sell_short")
        document = self.position()
        self.assertEqual((document["side"], document["avg_entry_price"]), ("short", "200"))

    def test_late_fill_is_part_of_a_newer_position(self) -> None:
        """Events that a check found come behind newer ones, and have a mark."""
        self.fill("1", "5", time=TIME + 1)
        self.fill("1", "4", time=TIME, recovered=True)
        self.assertEqual(self.quantities(), ["5"])

    def test_order_of_the_stream_counts_and_not_the_times(self) -> None:
        """One wrong time must not make all later events late."""
        self.fill("1", "5", time=TIME + 60_000_000)
        self.fill("1", "6", time=TIME)
        self.assertEqual(self.quantities(), ["6"])

    def test_recovered_fill_from_before_an_answer_is_part_of_it(self) -> None:
        """A fill of shortly before it may not be: clocks differ."""
        self.positions.seed({"BTCUSD": answer("5")}, 0, TIME)
        self.fill("1", "4", time=TIME - SLACK - 1, recovered=True)
        self.fill("1", None, time=TIME - SLACK - 1)
        self.assertEqual(self.quantities(), ["5"])
        self.fill("1", "6", time=TIME - SLACK + 1, recovered=True)
        self.assertEqual(self.quantities(), ["6"])

    def test_bust_or_correction_moves_nothing_without_a_position(self) -> None:
        """Its amounts are those of a trade that was counted before."""
        self.fill("5", "5")
        for kind in ("trade_bust", "trade_correct"):
            self.fill("5", None, event=kind)
            self.assertEqual(self.quantities(), ["5"])
        self.fill("5", "0", event="trade_bust")
        self.assertEqual(self.quantities(), [])

    def test_amounts_that_are_no_numbers_move_nothing(self) -> None:
        """Alpaca may write anything: nothing is computed with a number beyond the bounds."""
        self.fill("5", "5")
        for text in ("1e999999999", "NaN", "x", "", "9" * 200):
            self.fill(text, text)
            self.fill(text, None)
        self.assertEqual(self.quantities(), ["5"])


class AnswerTests(PositionsCase):
    """Alpaca's answers, in a race with the stream."""

    def test_answer_does_not_undo_an_event_behind_the_request(self) -> None:
        """It may have been made before the fill."""
        self.fill("1", "1")
        self.positions.seed({"BTCUSD": answer("0.5")}, 0, TIME)
        self.assertEqual(self.quantities(), ["1"])
        self.positions.seed({"BTCUSD": answer("0.5")}, 1, TIME)
        self.assertEqual(self.quantities(), ["0.5"])

    def test_short_position_has_a_sign(self) -> None:
        """Alpaca's `qty` may lack it."""
        self.positions.seed({"BTCUSD": answer("3", side="short")}, 0, TIME)
        self.assertEqual(self.quantities(), ["-3"])

    def test_comparison_needs_two_answers_without_an_event_between(self) -> None:
        """The first one is remembered; an event of the symbol makes it invalid."""
        self.fill("1", "1")
        self.assertEqual(self.positions.compare({"BTCUSD": answer("2")}, 1, TIME), 0)
        self.fill("1", "3", time=TIME + 1)
        self.assertEqual(self.positions.compare({"BTCUSD": answer("2")}, 2, TIME), 0)
        self.assertEqual(self.quantities(), ["3"])
        self.assertEqual(self.positions.compare({"BTCUSD": answer("2")}, 2, TIME), 1)
        self.assertEqual(self.quantities(), ["2"])

    def test_two_different_answers_are_no_difference(self) -> None:
        """Something is under way at Alpaca."""
        self.fill("1", "1")
        for qty in ("2", "3", "4"):
            self.assertEqual(self.positions.compare({"BTCUSD": answer(qty)}, 1, TIME), 0)
        self.assertEqual(self.quantities(), ["1"])

    def test_answers_add_no_position_beyond_the_bound(self) -> None:
        """The bound was that of events only."""
        self.patch(positions, "MAX_POSITIONS", 3)
        for number in range(3):
            names = [f"{number}{each}" for each in "ABCDE"]
            documents = {name: b'{"symbol":"%s","qty":"1"}' % name.encode() for name in names}
            if number == 0:
                self.positions.seed(documents, 0, 0)
            else:
                known = {each.symbol: each.document for each in self.positions.list_open()}
                for _ in range(3):
                    self.positions.compare(known | documents, 0, 0)
            self.assertEqual(self.quantities(), ["1"] * 3)

    def test_equal_answer_replaces_the_object(self) -> None:
        """It has the values of the market."""
        self.fill("1", "1")
        self.assertIsNone(self.position()["market_value"])
        self.positions.compare({"BTCUSD": answer("1.0")}, 1, TIME)
        self.assertEqual(self.position()["market_value"], "1")
