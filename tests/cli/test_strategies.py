"""The table of `tradeproxy strategies`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.cli.ask import AskError
from tradeproxy.cli.strategies import format_strategies

SUMS = {"realized_pl": "12.5", "realized_intraday_pl": "-2", "fees": "0", "fills": 3}


def page(**changes: Any) -> dict[str, Any]:
    """Return a page with one strategy."""
    position = SUMS | {
        "symbol": "AAPL",
        "qty": "10",
        "avg_entry_price": "5",
        "account_flat": True,
    }
    return {
        "complete": True,
        "strategies": [SUMS | {"name": "alpha", "positions": [position]}],
        "differences": [],
        "notes": [],
        "more": False,
    } | changes


class TableTests(SynchronousTestCase):
    """What a terminal shows."""

    def test_table_has_a_line_for_each_strategy_and_position(self) -> None:
        """Numbers are at the right of their columns."""
        self.assertEqual(
            list(format_strategies(page())),
            [
                "strategy  symbol  qty  avg price  day P&L   P&L  fees",
                "alpha                                  -2  12.5     0",
                "          AAPL     10          5       -2  12.5     0  account is flat",
            ],
        )

    def test_names_of_others_cannot_move_the_cursor(self) -> None:
        """A client_order_id is anybody's text; a long name is cut."""
        strategy = SUMS | {"name": "a\x1b[2J" + "b" * 100, "positions": []}
        [_, line] = format_strategies(page(strategies=[strategy]))
        self.assertNotIn("\x1b", line)
        self.assertIn("…", line)

    def test_differences_and_notes_are_below_the_table(self) -> None:
        """They are why a number may be wrong."""
        difference = {"symbol": "MSFT", "account_qty": "20", "strategies_qty": "10"}
        note = {"time": "T", "kind": "trade_bust", "order_id": "7", "message": "unknown"}
        lines = list(
            format_strategies(page(differences=[difference], notes=[note], complete=False))
        )
        self.assertEqual(
            lines[3:],
            [
                "MSFT: the account has 20, all strategies together 10",
                "T: trade_bust of order 7: unknown",
                "The proxy has not compared its positions with Alpaca's yet.",
            ],
        )

    def test_table_that_is_not_whole_says_so(self) -> None:
        """Very many positions or lots have more pages than are asked for."""
        lines = list(format_strategies(page(more=True)))
        self.assertEqual(lines[3:], ["There are more, behind 100 pages of the proxy."])

    def test_document_of_another_shape_is_an_error(self) -> None:
        """Another version may answer."""
        with self.assertRaises(AskError):
            list(format_strategies({"strategies": [{}]}))
