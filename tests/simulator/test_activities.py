"""Tests of the account's activities, over HTTP in memory."""

from __future__ import annotations

from typing import Any

from tests.simulator.support import HttpTestCase
from tests.simulator.test_exchange import market


class ActivitiesTests(HttpTestCase):
    """GET /v2/account/activities."""

    def fill(self, number: int, event: str = "fill", **data: Any) -> None:
        """Emit a fill in a given second."""
        order = {"id": f"o{number}", "symbol": "SPY", "side": "buy", "qty": "5", "filled_qty": "2"}
        self.simulator.emit(
            {
                "at": f"2026-07-24T14:42:{number:02}.5Z",
                "event": event,
                "timestamp": f"2026-07-24T14:42:{number:02}.123456789Z",
                "order": order | {"status": "partially_filled"},
                "price": "1.5",
                "qty": "2",
                "execution_id": f"e{number}",
                **data,
            }
        )

    def listed(self, path: str = "/v2/account/activities", **parameters: str) -> list[Any]:
        response = self.get(path, **parameters)
        self.assertEqual(response.status, 200, response.text)
        return [activity["order_id"] for activity in response.json]

    def test_fill_has_alpacas_fields(self) -> None:
        """A fill has its id, its numbers as text, and its order's fields."""
        self.fill(7, "partial_fill")
        expected = {
            "id": "20260724144207123::e7",
            "activity_type": "FILL",
            "transaction_time": "2026-07-24T14:42:07.123456789Z",
            "type": "partial_fill",
            "price": "1.5",
            "qty": "2",
            "side": "buy",
            "symbol": "SPY",
            "leaves_qty": "3",
            "cum_qty": "2",
            "order_id": "o7",
            "order_status": "partially_filled",
        }
        self.assertEqual(self.get("/v2/account/activities").json, [expected])

    def test_complete_fill_leaves_zero(self) -> None:
        """A complete fill has leaves_qty 0; for a notional order it is null."""
        self.fill(1)
        self.fill(2, "partial_fill", order={"id": "o2", "qty": None, "filled_qty": "2"})
        activities = self.get("/v2/account/activities", direction="asc").json
        self.assertEqual([activity["leaves_qty"] for activity in activities], ["0", None])

    def test_exchange_fill_is_listed(self) -> None:
        """A fill is an activity even if no client listens."""
        self.simulator.apply(self.simulator.exchange.submit(market()))
        self.advance(1)
        [activity] = self.get("/v2/account/activities/FILL").json
        self.assertEqual(
            (activity["qty"], activity["cum_qty"], activity["leaves_qty"]), ("1", "1", "0")
        )

    def test_lists_each_fill_once(self) -> None:
        """Other events and types have no activities, and a repeated fill is one."""
        self.emit("x", order={"id": "other"})
        self.fill(1)
        self.fill(1)
        self.assertEqual(self.listed(), ["o1"])
        for path, parameters in (
            ("/v2/account/activities/FILL", {}),
            ("/v2/account/activities", {"activity_types": "DIV,FILL"}),
        ):
            self.assertEqual(self.listed(path, **parameters), ["o1"])
        self.assertEqual(self.listed("/v2/account/activities/DIV"), [])
        self.assertEqual(self.listed(activity_types="DIV"), [])

    def test_sort_is_newest_first_by_default(self) -> None:
        """Fills with equal times keep their order."""
        for number in (3, 1, 2):
            self.fill(number)
        self.fill(2, execution_id="e0", order={"id": "o4"})
        self.assertEqual(self.listed(direction="asc"), ["o1", "o2", "o4", "o3"])
        self.assertEqual(self.listed(), ["o3", "o4", "o2", "o1"])

    def test_after_and_until_are_exclusive(self) -> None:
        """They compare the transaction time, to the nanosecond."""
        for number in range(1, 5):
            self.fill(number)
        after, until = "2026-07-24T14:42:01.123456789Z", "2026-07-24T14:42:04.123456789Z"
        self.assertEqual(self.listed(direction="asc", after=after), ["o2", "o3", "o4"])
        self.assertEqual(self.listed(direction="asc", after=after, until=until), ["o2", "o3"])

    def test_pages_continue_after_token(self) -> None:
        """A page has up to 100 fills, and its last id starts the next one."""
        for number in range(250):
            self.fill(number % 60, execution_id=str(number), order={"id": str(number)})
        for direction in ("asc", "desc"):
            seen: list[Any] = []
            token: dict[str, str] = {}
            for expected in (100, 100, 50, 0):
                page = self.get("/v2/account/activities", direction=direction, **token).json
                self.assertEqual(len(page), expected)
                seen += [activity["id"] for activity in page]
                token = {"page_token": seen[-1]}
            self.assertEqual(len(set(seen)), 250)
            times = [activity_id[:17] for activity_id in seen]
            self.assertEqual(times, sorted(times, reverse=direction == "desc"))
        self.assertEqual(len(self.listed(page_size="7")), 7)

    def test_invalid_parameter_is_named(self) -> None:
        """An invalid request is rejected with the name of the parameter."""
        for name, value in (
            ("direction", "up"),
            ("page_size", "0"),
            ("page_size", "101"),
            ("after", "yesterday"),
            ("until", ""),
            ("page_token", "x"),
        ):
            response = self.get("/v2/account/activities", **{name: value})
            self.assertEqual(response.status, 422)
            self.assertIn(name, response.json["message"])
