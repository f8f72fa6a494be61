"""Tests for the fields that the dashboard shows of an event: dashboard/event.js in Node.js."""

from __future__ import annotations

import json
from typing import Any

from tests.support.scripts import ScriptTestCase


class EventScriptTests(ScriptTestCase):
    """What a row of the feed shows."""

    def read_events(self, *events: dict[str, Any]) -> list[dict[str, Any]]:
        messages = [{"stream": "trade_updates", "data": event} for event in events]
        result: list[dict[str, Any]] = self.run_script(
            'import { read } from "./event.js";\n'
            f"const messages = {json.dumps(messages)};\n"
            'const result = messages.map((message) => read("paper", message, ""));'
        )
        return result

    def test_status_is_dropped_where_it_repeats_the_event(self) -> None:
        """The texts "fill, filled" took the room that symbols and prices need on a telephone."""
        cases = {
            ("new", "new"): "",
            ("fill", "filled"): "",
            ("partial_fill", "partially_filled"): "",
            ("canceled", "canceled"): "",
            ("partial_fill", "filled"): "filled",
            ("order_cancel_rejected", "filled"): "filled",
            ("new", "accepted"): "accepted",
            ("toString", "filled"): "filled",
        }
        events = [{"event": event, "order": {"status": status}} for event, status in cases]
        shown = [entry["status"] for entry in self.read_events(*events)]
        self.assertEqual(shown, list(cases.values()))

    def test_multi_leg_order_shows_underlying_and_sides(self) -> None:
        """Such an order has no symbol and no side: the row had "2 legs" and nothing else."""

        def order(*legs: tuple[str, str]) -> dict[str, Any]:
            described = [
                {"symbol": symbol, "side": side, "ratio_qty": "1"} for symbol, side in legs
            ]
            return {"symbol": "", "side": "", "order_class": "mleg", "legs": described}

        spread = order(("AAPL260116C00250000", "buy"), ("AAPL260116C00260000", "sell"))
        condor = order(
            ("SPY260116P00600000", "buy"),
            ("SPY260116P00610000", "sell"),
            ("SPY260116C00690000", "sell"),
            ("SPY260116C00700000", "buy"),
        )
        straddle = order(("QQQ1260116C00600000", "buy"), ("QQQ1260116P00600000", "buy"))
        covered = order(("F", "buy"), ("BRK.B", "sell"))
        bracket = {"symbol": "SPY", "side": "buy", "legs": [{"symbol": "SPY", "side": "sell"}] * 2}
        hostile = {"symbol": ["x"], "legs": ["x", None, {"symbol": {}, "side": []}]}
        orders = [spread, condor, straddle, covered, bracket, hostile, {"legs": {}}, {"legs": []}]
        shown = self.read_events(*({"event": "new", "order": one} for one in orders))
        self.assertEqual(
            [(entry["symbol"], entry["side"]) for entry in shown],
            [
                ("AAPL 2 legs", "buy, sell"),
                ("SPY 4 legs", "2\u00a0buy, 2\u00a0sell"),
                ("QQQ1 2 legs", "2\u00a0buy"),
                ("F BRK.B 2 legs", "buy, sell"),
                ("SPY", "buy"),
                ("3 legs", ""),
                ("", ""),
                ("", ""),
            ],
        )
