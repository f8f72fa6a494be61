"""The output of `tradeproxy orders`, `positions` and `order`, and its repetition by `--watch`."""

from __future__ import annotations

import io
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.cli.test_tail import FakeTerminal
from tradeproxy.cli import state
from tradeproxy.cli.ask import AskError
from tradeproxy.cli.state_output import (
    format_order,
    format_orders,
    format_positions,
    list_csv_orders,
    list_csv_positions,
    list_csv_timeline,
)

HOSTILE = "\x1b[2J\x9b31m\u202e\n"


def order(**changes: Any) -> dict[str, Any]:
    """Return an order of Alpaca's."""
    return {
        "id": "1",
        "client_order_id": "bot-1",
        "submitted_at": "",
        "symbol": "AAPL",
        "side": "buy",
        "qty": "10",
        "notional": None,
        "filled_qty": "4",
        "limit_price": "5",
        "status": "partially_filled",
        "legs": None,
    } | changes


def page(*orders: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a page of orders."""
    return {"account": "paper", "complete": True, "orders": list(orders), "more": False} | changes


class TableTests(SynchronousTestCase):
    """What a terminal shows."""

    def test_orders_show_their_amounts_prices_and_legs(self) -> None:
        """A leg is below its parent. An amount of money has a "$"."""
        leg = order(id="2", client_order_id="", side="sell", limit_price=None, stop_price="4")
        bracket = order(legs=[leg], type="limit")
        money = order(qty=None, notional="50", filled_qty="0", limit_price=None, type="market")
        self.assertEqual(
            list(format_orders(page(bracket, money))),
            [
                "submitted  side    qty  filled  symbol    price  status            order",
                "           buy      10       4  AAPL    limit 5  partially_filled  bot-1",
                "           - sell   10       4  AAPL     stop 4  partially_filled  2",
                "           buy     $50       0  AAPL     market  partially_filled  bot-1",
            ],
        )

    def test_page_says_what_it_leaves_out(self) -> None:
        """An empty or short list must not pass for all that there is."""
        [empty, more, incomplete] = format_orders(page(more=True, complete=False))
        self.assertEqual(empty, "no orders")
        self.assertIn("--limit", more)
        self.assertIn("not compared", incomplete)

    def test_empty_list_names_the_status_that_was_asked_for(self) -> None:
        """Without arguments the command lists open orders: there may be closed ones."""
        self.assertEqual(list(format_orders(page(), "open")), ["no open orders"])
        self.assertEqual(list(format_orders(page(), "all")), ["no orders"])

    def test_position_shows_its_difference(self) -> None:
        """Alpaca's answer and the fills differ: a person has to look."""
        position = {
            "symbol": "AAPL",
            "side": "long",
            "qty": "10",
            "avg_entry_price": "5",
            "cost_basis": "50",
            "difference": "the fills lead to 4",
        }
        document = {"complete": True, "positions": [position]}
        [_, line] = format_positions(document)
        self.assertEqual(line, "AAPL    long   10          5          50  the fills lead to 4")
        [_, line] = list_csv_positions(document)
        self.assertEqual(line, "AAPL,,long,10,5,50,the fills lead to 4")

    def test_order_shows_its_timeline(self) -> None:
        """Each event has its line; without one, the journal is older or younger than the order."""
        entry = {
            "seq": 7,
            "time": None,
            "event": "partial_fill",
            "qty": "4",
            "price": "5.1",
            "filled_qty": "4",
            "status": "partially_filled",
        }
        lines = list(format_order(order(timeline=[entry])))
        self.assertEqual(lines[2], "id 1")
        self.assertEqual(lines[-1].split(), ["partial_fill", "4", "5.1", "4", "partially_filled"])
        self.assertIn("no event", list(format_order(order(timeline=[])))[-1])
        [_, line] = list_csv_timeline({"timeline": [entry]})
        self.assertEqual(line, "7,,partial_fill,4,5.1,4,partially_filled")

    def test_hostile_text_cannot_move_the_cursor(self) -> None:
        """Names of orders are anybody's text, also in CSV."""
        hostile = order(client_order_id=HOSTILE * 40, symbol=HOSTILE, side=HOSTILE, qty=HOSTILE)
        document = page(hostile | {"timeline": [], "status": [HOSTILE], "submitted_at": HOSTILE})
        lines = [
            *format_orders(document),
            *format_order(document["orders"][0]),
            *list_csv_orders(document),
        ]
        self.assertTrue(all(line.isprintable() for line in lines), lines)

    def test_csv_has_no_formula(self) -> None:
        """A spreadsheet would run it."""
        document = page(order(client_order_id='=cmd|"/c calc"!A1', legs=[order(id="2")]))
        [head, first, leg] = list_csv_orders(document)
        self.assertTrue(head.startswith("id,parent_id,client_order_id,"))
        self.assertIn("\"'=cmd", first)
        self.assertTrue(leg.startswith("2,1,"))


class WatchTests(SynchronousTestCase):
    """`--watch`."""

    def watch(self, out: io.StringIO, *texts: str | AskError) -> str:
        """Return what is written for these answers, of which the first is at hand."""
        [first, *rest] = texts
        answers = iter(rest)

        def make() -> str:
            answer = next(answers)
            if isinstance(answer, AskError):
                raise answer
            return answer

        def sleep(seconds: float) -> None:
            self.assertEqual(seconds, state.WATCH_EVERY)

        assert isinstance(first, str)
        with self.assertRaises(StopIteration):
            state.watch(make, first, out, sleep)
        return out.getvalue()

    def test_pipe_gets_changes_only(self) -> None:
        """A program gets a line for each change, and nothing while there is no answer."""
        self.assertEqual(
            self.watch(io.StringIO(), "a", "a", AskError("no proxy"), "a", "b"), "a\nb\n"
        )

    def test_terminal_shows_what_is_not_current(self) -> None:
        """The last text stays, with the reason below it, until there is an answer again."""
        refused = AskError(f"no proxy{HOSTILE}")
        shown = self.watch(FakeTerminal(), "a", refused, refused, "a").split("\x1b[H\x1b[2J")[1:]
        self.assertEqual(len(shown), 3)
        self.assertTrue(shown[1].startswith("a\n\nnot current: no proxy\\u001b"))
        self.assertEqual((shown[0], shown[2]), ("a\n", "a\n"))
