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
