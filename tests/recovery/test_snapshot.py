"""Tests for tradeproxy.recovery.snapshot, against a page in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.web.server import Request

from tests.upstream.support import RestTestCase
from tradeproxy.recovery.snapshot import FILLS_A_PAGE, ORDERS_A_PAGE, take_snapshot
from tradeproxy.upstream.rest import RestRefusedError, RestUnavailableError
from tradeproxy.wire.event import format_time, parse_time

SECOND = 1_000_000
SINCE = 1_790_000_000 * SECOND


def order(number: int, status: str = "filled") -> dict[str, Any]:
    """Return an order; two are submitted in any one second."""
    return {
        "id": f"order/{number}",
        "submitted_at": format_time(SINCE + number // 2 * SECOND),
        "status": status,
    }


def activity(number: int) -> dict[str, Any]:
    """Return a fill of one order."""
    return {
        "id": f"activity {number:05}",
        "order_id": "order/0",
        "transaction_time": format_time(SINCE + number * SECOND),
        "qty": "1",
        "cum_qty": str(number + 1),
        "type": "fill",
    }


class SnapshotTests(RestTestCase):
    """Orders and fills, page by page."""

    def setUp(self) -> None:
        super().setUp()
        self.orders = [order(number) for number in range(1200)]
        self.old = {"order/old": order(-9000, "canceled") | {"id": "order/old"}}
        self.activities = [activity(number) for number in range(250)]
        self.refused = ""
        self.counted = 1
        self.answer = self.respond

    def respond(self, request: Request) -> bytes:
        path = request.path.decode()
        given = {name.decode(): values[0].decode() for name, values in request.args.items()}
        if self.refused and path.startswith(self.refused):
            request.setResponseCode(403)
            return b""
        if path == "/v2/orders":
            self.assertEqual((given["direction"], given["nested"]), ("asc", "true"))
            after = parse_time(given["after"]) if "after" in given else 0
            known = [each for each in self.orders if parse_time(each["submitted_at"]) > after]
            found = [each for each in known if given["status"] == "all" or each["status"] == "new"]
            return json.dumps(found[: int(given["limit"]) // self.counted]).encode()
        if path == "/v2/account/activities":
            ids = [each["id"] for each in self.activities]
            first = ids.index(given["page_token"]) + 1 if "page_token" in given else 0
            return json.dumps(self.activities[first : first + int(given["page_size"])]).encode()
        found_order = self.old.get(path.removeprefix("/v2/orders/").replace("%2F", "/"))
        if found_order is None:
            request.setResponseCode(404)
            return b""
        return json.dumps(found_order).encode()

    def test_finds_all_of_it(self) -> None:
        """All pages, and by their ids those that are known to have been open; one that is gone is skipped.

        A short page is no end: the limit may count legs.
        """
        names = ("order/3", "order/old", "order/gone")
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, names, set()))
        self.assertEqual(set(snapshot.orders), {*(each["id"] for each in self.orders), "order/old"})
        self.assertEqual(len(snapshot.select_fills("order/0")), len(self.activities))
        self.assertEqual(snapshot.select_fills("order/1"), [])
        asked = self.asked()
        self.assertIn("/v2/orders/order%2Fold?nested=true", asked)
        self.assertEqual(sum("status=all" in uri for uri in asked), 4)
        self.assertEqual(sum("activities" in uri for uri in asked), 3)

    def test_a_limit_that_counts_legs_hides_nothing(self) -> None:
        """Of 500 orders with two legs each, Alpaca may list 166 and call that a page."""
        for each in self.orders:
            each["legs"] = [{"id": f"{each['id']} {leg}"} for leg in (1, 2)]
        self.counted = 3
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual(len(snapshot.orders), 3 * 1200)

    def test_more_orders_of_one_moment_than_a_page_has_cannot_be_had(self) -> None:
        """They are no reason to ask for ever, nor to take the page for all of them."""
        self.orders = [order(0) | {"id": str(number)} for number in range(ORDERS_A_PAGE + 1)]
        started = self.start(take_snapshot(self.rest, SINCE, (), set()))
        self.failureResultOf(started, RestUnavailableError)
        self.assertEqual(len(self.asked()), 2)

    def test_pages_of_fills_end_where_they_bring_nothing_new(self) -> None:
        """They are not asked for again and again."""
        self.activities = [activity(0)] * FILLS_A_PAGE
        self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual(sum("activities" in uri for uri in self.asked()), 2)

    def test_orders_of_fills_are_asked_for_by_their_ids(self) -> None:
        """One from before the proxy's time is in no list; a leg is told of with its multi-leg order."""
        parent = order(0) | {
            "id": "parent",
            "order_class": "mleg",
            "legs": [{"id": "leg"}, {"id": None}],
        }
        self.orders = [parent]
        ids = ("order/old", "leg", "order/gone", "order/old", "parent", "")
        self.activities = [
            activity(number) | {"order_id": order_id} for number, order_id in enumerate(ids)
        ]
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual(set(snapshot.orders), {"parent", "order/old"})
        by_id = [uri for uri in self.asked() if uri.startswith("/v2/orders/")]
        self.assertEqual(
            by_id, [f"/v2/orders/order%2F{name}?nested=true" for name in ("old", "gone")]
        )

    def test_an_order_that_alpaca_does_not_know_is_asked_for_once(self) -> None:
        """Its end was never told, so that it looks open for ever."""
        unknown: set[str] = set()
        for _ in range(2):
            self.outcome(take_snapshot(self.rest, SINCE, ["order/gone"], unknown))
        self.assertEqual(sum("gone" in uri for uri in self.asked()), 1)
        self.assertEqual(unknown, {"order/gone"})

    def test_does_without_fills_that_are_refused(self) -> None:
        """The orders tell how much was filled."""
        self.refused = "/v2/account/activities"
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual((len(snapshot.orders), snapshot.fills), (1200, []))

    def test_orders_that_are_refused_are_a_refusal(self) -> None:
        """In the list, or by id."""
        for path in ("/v2/orders", "/v2/orders/"):
            self.refused = path
            started = self.start(take_snapshot(self.rest, SINCE, ["order/old"], set()))
            self.failureResultOf(started, RestRefusedError)

    def test_documents_of_another_shape_are_no_answer(self) -> None:
        """Maintenance does not mean that there are no orders, no fills, or not this order."""
        for path in ("/v2/orders", "/v2/account/activities", "/v2/orders/order%2Fold"):
            for document in ({"message": "hello"}, None, [None]):

                def respond(request: Request, path: str = path, document: Any = document) -> bytes:
                    asked = request.path.decode() == path
                    return json.dumps(document).encode() if asked else self.respond(request)

                self.answer = respond
                started = self.start(take_snapshot(self.rest, SINCE, ["order/old"], set()))
                self.failureResultOf(started, RestUnavailableError)
                self.wires.advance(60)  # or the requests would be too many
