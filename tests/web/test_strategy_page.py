"""The page about an account's strategies, over HTTP, and the strategies in the state."""

from __future__ import annotations

import json
from typing import Any

from tests.support.journals import time_of
from tests.support.state import StateTestCase, parts
from tradeproxy.web import strategy_page
from tradeproxy.wire.event import format_time


class StrategyPageTests(StateTestCase):
    """What the page has."""

    def fetch_strategies(self, query: str = "") -> dict[str, Any]:
        """Return the page."""
        document = self.fetch(f"/strategies{query}")
        assert isinstance(document, dict)
        return document

    def names(self, query: str = "") -> list[str]:
        """Return the names of the strategies on the page."""
        return [each["name"] for each in self.fetch_strategies(query)["strategies"]]

    def test_page_has_positions_with_lots_and_the_line_of_the_day(self) -> None:
        """All amounts are text, as in Alpaca's positions."""
        self.trade("1", "fill", client_order_id="alpha-1")
        document = self.fetch_strategies()
        self.assertEqual(
            list(document),
            [
                *("account", "cursor", "complete", "date", "strategies", "differences", "notes"),
                *("more", "next"),
            ],
        )
        self.assertEqual(document["cursor"], self.paper.cursor_at(1))
        self.assertEqual(document["date"], "2027-01-15")
        self.assertEqual(
            document["strategies"],
            [
                {
                    "name": "alpha",
                    "realized_pl": "0",
                    "realized_intraday_pl": "0",
                    "fees": "0",
                    "fills": 1,
                    "line": [],
                    "positions": [
                        {
                            "symbol": "AAPL",
                            "asset_class": "us_equity",
                            "qty": "10",
                            "side": "long",
                            "avg_entry_price": "5",
                            "cost_basis": "50",
                            "multiplier": "1",
                            "realized_pl": "0",
                            "realized_intraday_pl": "0",
                            "fees": "0",
                            "fills": 1,
                            "account_flat": False,
                            "lots": [{"time": format_time(time_of(0)), "qty": "10", "price": "5"}],
                            "lots_total": 1,
                        }
                    ],
                }
            ],
        )
        self.assertEqual((document["differences"], document["notes"]), ([], []))

    def test_strategies_can_be_selected_and_paged(self) -> None:
        """`(none)` is the last one, whatever its name's place in the alphabet."""
        for number, name in enumerate(("beta-1", "Alpha-1", "zeta-1", "none", "gamma-1")):
            self.trade(f"{number}", "fill", client_order_id=name)
        everything = ["Alpha", "beta", "gamma", "zeta", "(none)"]
        self.assertEqual(self.names(), everything)
        self.assertEqual(self.names("?strategy=beta,(none)"), ["beta", "(none)"])
        found, query = [], "?limit=2"
        while True:
            page = self.fetch_strategies(query)
            found += [each["name"] for each in page["strategies"]]
            if not page["more"]:
                break
            query = f"?limit=2&cursor={page['next']}"
        self.assertEqual((found, page["next"]), (everything, None))

    def test_symbols_and_lots_restrict_what_is_listed(self) -> None:
        """The sums of the strategy are of all its symbols."""
        self.trade("1", "fill", client_order_id="alpha-1")
        self.trade("2", "fill", client_order_id="alpha-2", symbol="BTC/USD")
        [strategy] = self.fetch_strategies("?symbols=btc/usd&lots=0")["strategies"]
        self.assertEqual([each["symbol"] for each in strategy["positions"]], ["BTCUSD"])
        self.assertEqual((strategy["fills"], "line" in strategy), (2, False))
        self.assertNotIn("lots", strategy["positions"][0])

    def test_large_page_ends_early(self) -> None:
        """An answer is bounded in memory."""
        self.patch(strategy_page, "MAX_BYTES", 1000)
        for number in range(10):
            self.trade(f"{number}", "fill", client_order_id=f"s{number}-1")
        page = self.fetch_strategies()
        self.assertTrue(page["more"])
        self.assertLess(len(page["strategies"]), 5)

    def test_wrong_parameters_are_named(self) -> None:
        """With the nearest name."""
        for query, reason in {
            "?symbol=a": "the nearest is symbols",
            "?limit=0": "limit: is not a number from 1 to 1000",
            "?limit=1001": "limit: is not a number from 1 to 1000",
            "?lots=yes": "lots: is neither 1 nor 0",
            "?cursor=%0a": "cursor: is not the cursor of a page of strategies",
        }.items():
            answer = self.ask(f"/strategies{query}")
            self.assertEqual(answer.status, 400, query)
            self.assertIn(reason, answer.reason)

    def test_state_and_snapshot_have_the_strategies(self) -> None:
        """Those with an open position or a fill of the day, without lots."""
        self.trade("1", "fill", client_order_id="alpha-1")
        [strategy] = self.fetch("/state")["strategies"]
        self.assertEqual(
            (strategy["name"], strategy["positions"][0]["qty"], "line" in strategy),
            ("alpha", "10", False),
        )
        [part] = parts(self.join().taken())
        self.assertEqual(part["strategies"], [strategy])
        json.dumps(part)
