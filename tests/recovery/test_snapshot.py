"""Tests for tradeproxy.recovery.snapshot, against a server in memory."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from twisted.web.server import Request

from tests.upstream.support import RestClientTestCase
from tradeproxy.recovery import snapshot as snapshot_module
from tradeproxy.recovery.delivered import QuantityRange
from tradeproxy.recovery.reconcile import FillActivity
from tradeproxy.recovery.snapshot import Snapshot, add_named, take_snapshot
from tradeproxy.upstream.rest import RestOversizedError, RestRefusedError, RestUnavailableError
from tradeproxy.wire.event import format_time, parse_time

SECOND = 1_000_000
SINCE = 1_790_000_000 * SECOND


def order(number: int, status: str = "filled") -> dict[str, Any]:
    """Return an order; two are submitted in each second."""
    return {
        "id": f"order/{number}",
        "submitted_at": format_time(SINCE + number // 2 * SECOND),
        "status": status,
    }


def activity(number: int) -> dict[str, Any]:
    """Return the activity of a fill of one order."""
    return {
        "id": f"activity {number:05}",
        "order_id": "order/0",
        "transaction_time": format_time(SINCE + number * SECOND),
        "qty": "1",
        "cum_qty": str(number + 1),
        "type": "fill",
    }


class SnapshotTests(RestClientTestCase):
    """Orders and fills, page by page."""

    def setUp(self) -> None:
        super().setUp()
        self.orders = [order(number) for number in range(1200)]
        self.old = {"order/old": order(-9000, "canceled") | {"id": "order/old"}}
        self.activities = [activity(number) for number in range(250)]
        self.rejected_path = ""
        self.is_second_page_rejected = False
        self.rows_per_order = 1
        self.answer = self.respond

    def respond(self, request: Request) -> bytes:
        path = request.path.decode()
        given = {name.decode(): values[0].decode() for name, values in request.args.items()}
        if self.rejected_path and path.startswith(self.rejected_path):
            request.setResponseCode(403)
            return b""
        if path == "/v2/orders":
            self.assertEqual((given["direction"], given["nested"]), ("asc", "true"))
            after = parse_time(given["after"]) if "after" in given else 0
            known = [each for each in self.orders if parse_time(each["submitted_at"]) > after]
            found = [each for each in known if given["status"] == "all" or each["status"] == "new"]
            return json.dumps(found[: int(given["limit"]) // self.rows_per_order]).encode()
        if path == "/v2/account/activities":
            if "page_token" in given and self.is_second_page_rejected:
                request.setResponseCode(403)
                return b""
            size = int(given["page_size"])
            after = parse_time(given["after"])
            found = [
                each for each in self.activities if parse_time(each["transaction_time"]) > after
            ]
            ids = [each["id"] for each in found]
            first = ids.index(given["page_token"]) + 1 if "page_token" in given else 0
            return json.dumps(found[first : first + size]).encode()
        found_order = self.old.get(path.removeprefix("/v2/orders/").replace("%2F", "/"))
        if found_order is None:
            request.setResponseCode(404)
            return b""
        return json.dumps(found_order).encode()

    def test_snapshot_reads_all_pages_and_named_orders(self) -> None:
        """A short page is not the last one: the limit may count legs. A missing id is skipped."""
        names = ("order/3", "order/old", "order/gone")
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, names, set()))
        self.assertEqual(set(snapshot.orders), {*(each["id"] for each in self.orders), "order/old"})
        self.assertEqual(len(snapshot.group_fills()["order/0"]), len(self.activities))
        self.assertNotIn("order/1", snapshot.group_fills())
        asked = self.requested_uris()
        self.assertIn("/v2/orders/order%2Fold?nested=true", asked)
        self.assertEqual(sum("status=all" in uri for uri in asked), 4)
        self.assertEqual(sum("activities" in uri for uri in asked), 3)

    def test_snapshot_limit_that_counts_legs_reads_all_orders(self) -> None:
        """Of 500 orders with two legs each, Alpaca may return 166 as a full page."""
        for each in self.orders:
            each["legs"] = [{"id": f"{each['id']} {leg}"} for leg in (1, 2)]
        self.rows_per_order = 3
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual(len(snapshot.orders), 3 * 1200)

    def test_snapshot_page_full_of_one_time_raises_unavailable(self) -> None:
        """The request is not repeated forever, and the page does not count as complete."""
        self.orders = [order(0) | {"id": str(number)} for number in range(501)]
        started = self.start(take_snapshot(self.rest, SINCE, (), set()))
        self.failureResultOf(started, RestUnavailableError)
        self.assertEqual(len(self.requested_uris()), 2)

    def test_snapshot_of_one_time_that_is_no_full_page_is_read(self) -> None:
        """Alpaca has no more of that time, or the page would be full."""
        self.orders = [order(0) | {"id": str(number)} for number in range(499)]
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual(len(snapshot.orders), 499)

    def test_forgotten_orders_are_not_compared_again(self) -> None:
        """Others are added behind them, which have the memory that the fills leave."""
        self.patch(snapshot_module, "MAX_LIST_SIZE", 5_000)
        legs = {"order_class": "mleg", "legs": [{"id": "leg"}]}
        snapshot = Snapshot()
        snapshot.fills = [
            FillActivity(name, QuantityRange(Decimal(0), Decimal(1)), "fill", None, "")
            for name in ("order/0", "leg")
        ]
        for number in (0, 1):
            snapshot.add(order(number) | legs | {"note": "x" * 1_600})
            self.assertEqual(set(snapshot.orders), {f"order/{number}"})
            snapshot.forget_orders()
            self.assertEqual(snapshot.orders, {})
            self.assertEqual(set(snapshot.group_other_fills()), {"order/0", "leg"})
        note = {"note": "x" * 2_600}
        self.assertRaises(RestOversizedError, snapshot.add, order(2) | note)

    def test_snapshot_of_more_than_its_memory_raises_oversized(self) -> None:
        """Each list had 64 MiB of its own, and the orders by id too: they took 220 MB together."""
        self.patch(snapshot_module, "MAX_LIST_SIZE", 1_000_000)
        note = {"note": "x" * 100_000}
        for listed, named, is_read in ((4, 5, True), (10, 0, False), (0, 10, False), (5, 5, False)):
            self.activities = []
            self.orders = [order(2 * n) | note for n in range(listed)]
            self.old = {f"old/{n}": order(-9000) | note | {"id": f"old/{n}"} for n in range(named)}
            started = self.start(take_snapshot(self.rest, SINCE, list(self.old), set()))
            if is_read:
                self.assertEqual(len(self.successResultOf(started).orders), 9)
            else:
                error = self.failureResultOf(started, RestOversizedError).value
                self.assertEqual(error.reason, "a list of more than 0 MiB")

    def test_snapshot_page_that_is_too_large_is_asked_for_in_parts(self) -> None:
        """Its gap stayed open for ever."""
        self.orders = [order(2 * n) | {"note": "x" * 50_000} for n in range(300)]
        self.activities = [activity(n) | {"note": "x" * 90_000} for n in range(200)]
        self.patch(snapshot_module, "MAX_LIST_SIZE", 64 * 1024 * 1024)
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual((len(snapshot.orders), len(snapshot.fills)), (300, 200))
        self.assertEqual(snapshot.left_out, set())
        asked = self.requested_uris()
        limits = [uri.partition("limit=")[2][:3] for uri in asked if "status=all" in uri]
        self.assertEqual(limits, ["500", "250", "125", "125", "125", "125"])

    def test_snapshot_smallest_page_that_is_too_large_raises_oversized(self) -> None:
        """Six entries have 8 MiB only if one is larger than any event."""
        self.orders = [order(2 * n) | {"note": "x" * 1_500_000} for n in range(20)]
        started = self.start(take_snapshot(self.rest, SINCE, (), set()))
        self.failureResultOf(started, RestOversizedError)
        self.assertEqual(len(self.requested_uris()), 7)

    def test_snapshot_leaves_out_what_it_cannot_read(self) -> None:
        """Nothing is known of such an entry or order. The others are there.

        The second page has one of the entries again.
        """
        large = {"note": "x" * 1024 * 1024}
        self.orders = [order(0) | large, order(2), order(4) | {"id": None}]
        self.old = {"order/old": order(-9000) | large}
        self.activities = [activity(0), activity(1) | large]
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, ["order/old"], set()))
        self.assertEqual((list(snapshot.orders), len(snapshot.fills)), (["order/2"], 1))
        self.assertEqual(snapshot.left_out, {"", "order/old"})

    def test_snapshot_answer_of_too_many_orders_raises_oversized(self) -> None:
        """They are read in one turn: 60,000 small legs stopped all clients for a second."""
        self.orders = [order(0) | {"legs": [{"id": f"leg/{n}"} for n in range(10_000)]}]
        started = self.start(take_snapshot(self.rest, SINCE, (), set()))
        error = self.failureResultOf(started, RestOversizedError).value
        self.assertEqual(error.reason, "an answer of more than 10,000 orders")

    def test_snapshot_endless_fills_raises_unavailable(self) -> None:
        """Two pages that name each other were requested in turn, without an end."""
        self.patch(snapshot_module, "MAX_LIST_SIZE", 1_000_000)
        pages = [[{"id": name}] * 100 for name in "ab"]
        self.answer = lambda request: (
            b"[]"
            if b"orders" in request.uri
            else json.dumps(pages[b"page_token=a" in request.uri]).encode()
        )
        started = self.start(take_snapshot(self.rest, SINCE, (), set()))
        self.wires.advance(60)
        self.failureResultOf(started, RestUnavailableError)

    def test_snapshot_repeated_fill_page_ends_reading(self) -> None:
        """The same page is not requested again and again."""
        self.activities = [activity(0)] * 300
        self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual(sum("activities" in uri for uri in self.requested_uris()), 2)

    def test_snapshot_shows_orders_of_fills_that_it_lacks(self) -> None:
        """An older order is in no list; a leg is reported with its multi-leg order."""
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
        missing = snapshot.group_other_fills()
        self.assertEqual(
            {name: len(fills) for name, fills in missing.items()}, {"order/old": 2, "order/gone": 1}
        )
        self.outcome(add_named(self.rest, snapshot, missing, set()))
        self.assertEqual(set(snapshot.orders), {"parent", "order/old"})
        by_id = [uri for uri in self.requested_uris() if uri.startswith("/v2/orders/")]
        self.assertEqual(
            by_id, [f"/v2/orders/order%2F{name}?nested=true" for name in ("old", "gone")]
        )

    def test_snapshot_unknown_order_is_requested_once(self) -> None:
        """Its last event was not delivered, so it stays open in the log."""
        unknown: set[str] = set()
        for _ in range(2):
            self.outcome(take_snapshot(self.rest, SINCE, ["order/gone"], unknown))
        self.assertEqual(sum("gone" in uri for uri in self.requested_uris()), 1)
        self.assertEqual(unknown, {"order/gone"})

    def test_snapshot_fills_rejected_returns_orders(self) -> None:
        """The orders still show how much is filled."""
        self.rejected_path = "/v2/account/activities"
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual((len(snapshot.orders), snapshot.fills), (1200, []))

    def test_snapshot_second_page_of_fills_rejected_returns_orders_only(self) -> None:
        """Half of the fills would show each price of some orders, and of others none."""
        self.is_second_page_rejected = True
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual((len(snapshot.orders), snapshot.fills), (1200, []))

    def test_snapshot_begins_at_its_start(self) -> None:
        """Alpaca's pages begin after the time that is asked for."""
        early = format_time(SINCE - 1)
        self.orders = [order(0) | {"id": "early", "submitted_at": early}, order(1)]
        self.activities = [activity(0) | {"id": "early", "transaction_time": early}, activity(1)]
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual((set(snapshot.orders), len(snapshot.fills)), ({"order/1"}, 1))

    def test_snapshot_has_open_orders_of_any_age(self) -> None:
        """An order may fill years after it was submitted."""
        self.orders = [order(-9000, "new"), order(-8000), order(1)]
        snapshot = self.outcome(take_snapshot(self.rest, SINCE, (), set()))
        self.assertEqual(set(snapshot.orders), {"order/-9000", "order/1"})

    def test_snapshot_orders_rejected_raises_refused(self) -> None:
        """This applies to the list and to one order."""
        for path in ("/v2/orders", "/v2/orders/"):
            self.rejected_path = path
            started = self.start(take_snapshot(self.rest, SINCE, ["order/old"], set()))
            self.failureResultOf(started, RestRefusedError)

    def test_snapshot_other_document_raises_unavailable(self) -> None:
        """Such an answer does not mean that there are no orders or fills."""
        for path in ("/v2/orders", "/v2/account/activities", "/v2/orders/order%2Fold"):
            for document in ({"message": "hello"}, None):

                def respond(request: Request, path: str = path, document: Any = document) -> bytes:
                    asked = request.path.decode() == path
                    return json.dumps(document).encode() if asked else self.respond(request)

                self.answer = respond
                started = self.start(take_snapshot(self.rest, SINCE, ["order/old"], set()))
                self.failureResultOf(started, RestUnavailableError)
                self.wires.advance(60)  # stay below the rate limit
