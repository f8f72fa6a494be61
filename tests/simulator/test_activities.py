"""Tests of the account's activities, over HTTP in memory."""

from __future__ import annotations

from typing import Any

from tests.simulator.support import HttpTestCase
from tests.simulator.test_exchange import market


class ActivitiesTests(HttpTestCase):
    """GET /v2/account/activities."""

    def fill(self, number: int, event: str = "fill", **data: Any) -> None:
        """Let a fill happen in a certain second."""
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

    def test_has_the_shape_of_alpacas(self) -> None:
        """A fill is written with its id, its numbers as text, and its order in words."""
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

    def test_what_leaves_nothing_says_so(self) -> None:
        """A complete fill leaves 0; what is left of an order of a notional is not known."""
        self.fill(1)
        self.fill(2, "partial_fill", order={"id": "o2", "qty": None, "filled_qty": "2"})
        activities = self.get("/v2/account/activities", direction="asc").json
        self.assertEqual([activity["leaves_qty"] for activity in activities], ["0", None])

    def test_tells_of_the_exchange(self) -> None:
        """An order that fills is an activity, whether or not anybody listened."""
        self.simulator.apply(self.simulator.exchange.submit(market()))
        self.advance(1)
        [activity] = self.get("/v2/account/activities/FILL").json
        self.assertEqual(
            (activity["qty"], activity["cum_qty"], activity["leaves_qty"]), ("1", "1", "0")
        )

    def test_lists_fills_only_and_each_once(self) -> None:
        """Other events are no activities, other types have none, and a repeated fill is one."""
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

    def test_sorts_by_time(self) -> None:
        """The newest comes first unless it is asked otherwise; fills of one time stay as they came."""
        for number in (3, 1, 2):
            self.fill(number)
        self.fill(2, execution_id="e0", order={"id": "o4"})
        self.assertEqual(self.listed(direction="asc"), ["o1", "o2", "o4", "o3"])
        self.assertEqual(self.listed(), ["o3", "o4", "o2", "o1"])

    def test_after_and_until_exclude_their_moment(self) -> None:
        """They compare the time of the transaction, to the nanosecond."""
        for number in range(1, 5):
            self.fill(number)
        after, until = "2026-07-24T14:42:01.123456789Z", "2026-07-24T14:42:04.123456789Z"
        self.assertEqual(self.listed(direction="asc", after=after), ["o2", "o3", "o4"])
        self.assertEqual(self.listed(direction="asc", after=after, until=until), ["o2", "o3"])

    def test_comes_in_pages(self) -> None:
        """A page has 100 at most, and its last id leads to the next one, in either direction."""
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

    def test_names_the_bad_parameter(self) -> None:
        """What makes no sense is refused by its name."""
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
