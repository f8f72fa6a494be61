"""Tests for what the dashboard's tabs compute: its modules in Node.js."""

from __future__ import annotations

import json
from typing import Any

from tests.support.scripts import ScriptTestCase


def entry(time: str | None, event: str, filled: str = "0", **fields: Any) -> dict[str, Any]:
    """Return an entry of a timeline."""
    return {"time": time, "event": event, "filled_qty": filled, "qty": None, "price": None} | fields


class PictureTests(ScriptTestCase):
    """The life of an order: picture.js."""

    def place(self, *times: float | None) -> list[float]:
        places: list[float] = self.run_script(
            'import { place } from "./picture.js";\n'
            f"const times = {json.dumps(times)}.map((time) => time ?? NaN);\n"
            "const result = place(times, 100, 10);"
        )
        return places

    def test_events_are_in_proportion_to_time_and_apart(self) -> None:
        """Two events of one millisecond are two marks. All of them are inside of the picture."""
        self.assertEqual(self.place(0, 50, 100), [0, 50, 100])
        first, second, third, last = self.place(0, 1, 2, 100)
        self.assertEqual((first, second, third, last), (0, 10, 20, 100))
        self.assertEqual(max(self.place(0, 100, 100, 100)), 100)
        self.assertEqual(len(self.place(*range(2000))), 2000)
        self.assertLessEqual(max(self.place(*range(2000))), 100)

    def test_event_without_time_is_behind_the_one_before(self) -> None:
        """Alpaca's stream has events without one, and a single event has no span."""
        self.assertEqual(self.place(None, 0, None, 100), [0, 10, 20, 100])
        self.assertEqual(self.place(None), [0])
        self.assertEqual(self.place(), [])

    def test_bars_grow_with_the_filled_quantity(self) -> None:
        """Of the order's quantity; without one, of the most that was filled."""
        timeline = [
            entry("2026-07-24T14:00:00Z", "new"),
            entry("2026-07-24T14:00:01Z", "partial_fill", "4", qty="4", price="5.1"),
            entry("2026-07-24T14:00:02Z", "fill", "10", qty="6", price="5.2"),
        ]
        for whole in ("10", ""):
            steps = self.run_script(
                'import { measure } from "./picture.js";\n'
                f"const result = measure({json.dumps(timeline)}, {json.dumps(whole)}, 0);"
            )
            self.assertEqual([step["height"] for step in steps], [0, 0.4, 1])
        self.assertEqual([step["tone"] for step in steps], ["fresh", "part", "good"])
        self.assertEqual(steps[1]["says"], "4 at 5.1 · filled 4")

    def test_line_begins_at_zero_and_has_steps(self) -> None:
        """A P&L does not change between two fills."""
        line = self.run_script(
            'import { measureLine } from "./line.js";\n'
            'const points = [["2026-07-24T14:00:00Z", "-5"], ["2026-07-24T15:00:00Z", "5"]];\n'
            "const result = measureLine(points);"
        )
        highs = [high for _, high in line["corners"]]
        self.assertEqual(line["zero"], 30)
        self.assertEqual(highs, [30, 30, 57, 57, 3, 3])
        single = self.run_script(
            'import { measureLine } from "./line.js"; const result = measureLine([["", "0"]]);'
        )
        self.assertTrue(
            all(number is not None for corner in single["corners"] for number in corner)
        )


class StrategiesTests(ScriptTestCase):
    """The tab of the strategies: strategies.js."""

    def test_summary_says_how_much_is_shown(self) -> None:
        """A strategy with many positions or lots ends on a further page, which is not shown."""
        two: list[Any] = [{"positions": [{}]}, {"positions": [{}, {}]}]
        for more, following, said in (
            (False, None, ""),
            (True, "beta", "the first 2, "),
            (True, "beta\tTSLA", "the first 2, of the last one 2 positions, "),
        ):
            page = json.dumps({"strategies": two, "more": more, "next": following})
            said_of_page = self.run_script(
                'import { describeExtent } from "./strategies.js";\n'
                f"const result = describeExtent({page});"
            )
            self.assertEqual(said_of_page, said)


class TextTests(ScriptTestCase):
    """Sentences, days and amounts."""

    def test_answers_that_are_no_page_are_one_sentence(self) -> None:
        """Whoever reads it knows whether to wait."""
        said = self.run_script(
            'import { explain } from "./pages.js";\n'
            'const result = [explain(404, "PROXY_BOOK=0 turns this off"), explain(503, "not ready")'
            ', explain(0), explain(400, "tradeproxy: symbols: is empty"), explain(502)];'
        )
        self.assertEqual(
            said,
            [
                "This proxy keeps no orders and positions: PROXY_BOOK=0.",
                "Not ready. This page asks again.",
                "The proxy does not answer. This page asks again.",
                "symbols: is empty.",
                "HTTP 502.",
            ],
        )

    def test_day_is_one_of_the_chosen_zone(self) -> None:
        """The last moment counts; a day with a clock change has 23 or 25 hours."""
        cases = {
            ("UTC", "2026-07-24"): ("2026-07-24T00:00:00.000Z", "2026-07-24T23:59:59.999999Z"),
            ("America/New_York", "2026-07-24"): (
                *("2026-07-24T04:00:00.000Z", "2026-07-25T03:59:59.999999Z"),
            ),
            ("America/New_York", "2026-03-08"): (
                *("2026-03-08T05:00:00.000Z", "2026-03-09T03:59:59.999999Z"),
            ),
            ("America/New_York", "2026-11-01"): (
                *("2026-11-01T04:00:00.000Z", "2026-11-02T04:59:59.999999Z"),
            ),
        }
        for (zone, day), (since, until) in cases.items():
            bounds = self.run_script(
                'import { dayBounds, setZone } from "./text.js";\n'
                f'setZone("{zone}"); const result = dayBounds("{day}");'
            )
            self.assertEqual(bounds, {"since": since, "until": until}, (zone, day))

    def test_computed_amounts_are_rounded_for_the_eye(self) -> None:
        """An average has nine decimals. Small prices of coins keep their digits."""
        cases = {
            "438.283265306": "438.2833",
            "-21475.879999994": "-21475.88",
            "0.000012345678": "0.00001235",
            "105158.17": "105158.17",
            "105158.177778": "105158.18",
            "0.000000000001": "0.000000000001",
            "5.000001": "5",
            "": "",
            "x" * 9: "x" * 9,
        }
        shown = self.run_script(
            'import { rounded } from "./text.js";\n'
            f"const result = {json.dumps(list(cases))}.map(rounded);"
        )
        self.assertEqual(shown, list(cases.values()))

    def test_order_is_a_row_with_its_status_as_the_event(self) -> None:
        """A part is "4 of 10", and the tone that of the status."""
        order = {"id": "1", "qty": "10", "filled_qty": "4", "status": "partially_filled"}
        rows = self.run_script(
            'import { readOrder } from "./event.js";\n'
            f'const result = [{json.dumps(order)}, {{"status": "toString", "qty": {{}}}}, null]'
            '.map((order) => readOrder("paper", order));'
        )
        self.assertEqual(
            [(row["event"], row["tone"], row["quantity"], row["id"]) for row in rows],
            [
                ("partially_filled", "part", "4 of 10", "1"),
                ("toString", "fresh", "", ""),
                ("", "fresh", "", ""),
            ],
        )
