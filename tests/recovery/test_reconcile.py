"""Tests for tradeproxy.recovery.reconcile."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.recovery.test_delivered import BEGIN, NOTHING_DELIVERED, SECOND
from tradeproxy.recovery.delivered import Delivered, QuantityRange, read_time
from tradeproxy.recovery.reconcile import (
    FillActivity,
    UnusableError,
    expand,
    find_missed_events,
    last_change,
    leg_ids,
    read_fill,
    read_order_state,
    read_synthetic,
)
from tradeproxy.recovery.sse_parser import MAX_EVENT_SIZE
from tradeproxy.wire.event import OrderState, format_time

SINCE = BEGIN - 300 * SECOND


def order(status: str, filled: int, seconds: float = 10, **fields: Any) -> dict[str, Any]:
    """Return an order of 10, older than SINCE, that changed `seconds` after the gap began."""
    document = {
        "id": "O",
        "created_at": format_time(SINCE - SECOND),
        "updated_at": format_time(BEGIN + round(seconds * SECOND)),
        "qty": "10",
        "filled_qty": str(filled),
        "filled_avg_price": "5.5" if filled else None,
        "status": status,
    }
    return document | fields


def fill(start: int, end: int, seconds: float = 5) -> FillActivity:
    """Return a fill of the order."""
    time = format_time(BEGIN + round(seconds * SECOND))
    event = "fill" if end == 10 else "partial_fill"
    return FillActivity("O", QuantityRange(Decimal(start), Decimal(end)), event, f"1.{end}", time)


def build_delivered(
    status: str, floor: int | None, *spans: tuple[int, int], seconds: float = -60
) -> Delivered:
    """Return what clients got about the order."""
    filled = max([floor or 0, *(end for _, end in spans)])
    state = OrderState("O", status, str(filled), BEGIN + round(seconds * SECOND))
    parts = tuple(QuantityRange(Decimal(start), Decimal(end)) for start, end in spans)
    return Delivered(state, None if floor is None else Decimal(floor), parts)


def summarize(events: list[dict[str, Any]]) -> list[tuple[str, str | None, str | None]]:
    """Return name, quantity and price of each event."""
    return [(event["event"], event.get("qty"), event.get("price")) for event in events]


class FindMissedEventsTests(SynchronousTestCase):
    """An order compared with its delivered events."""

    def test_find_missed_events_follows_table(self) -> None:
        """A row holds what was delivered, the order, the known fills and the missed events."""
        rows: dict[
            str,
            tuple[
                Delivered,
                dict[str, Any],
                list[FillActivity],
                list[tuple[str, str | None, str | None]],
            ],
        ] = {
            "nothing new": (build_delivered("new", 0), order("new", 0), [], []),
            "a fill": (
                build_delivered("new", 0),
                order("filled", 10),
                [fill(0, 10)],
                [("fill", "10", "1.10")],
            ),
            "two fills": (
                build_delivered("new", 0),
                order("filled", 10),
                [fill(0, 4), fill(4, 10)],
                [("partial_fill", "4", "1.4"), ("fill", "6", "1.10")],
            ),
            "the second of two": (
                build_delivered("partially_filled", 4),
                order("filled", 10),
                [fill(0, 4), fill(4, 10)],
                [("fill", "6", "1.10")],
            ),
            "a fill, and a cancel": (
                build_delivered("new", 0),
                order("canceled", 4),
                [fill(0, 4)],
                [("partial_fill", "4", "1.4"), ("canceled", None, None)],
            ),
            "an expiry only": (
                build_delivered("new", 0),
                order("expired", 0),
                [],
                [("expired", None, None)],
            ),
            "a fill missed, the next one live": (
                build_delivered("filled", 0, (4, 10)),
                order("filled", 10),
                [fill(0, 4), fill(4, 10)],
                [("partial_fill", "4", "1.4")],
            ),
            "the same fill live": (
                build_delivered("filled", 0, (0, 10)),
                order("filled", 10),
                [fill(0, 10)],
                [],
            ),
            "the live fill is newer than the answer": (
                build_delivered("filled", 0, (4, 10)),
                order("partially_filled", 4),
                [fill(0, 4), fill(4, 10)],
                [("partial_fill", "4", "1.4")],
            ),
            "the close was live, the fill before it was missed": (
                build_delivered("canceled", 0, seconds=20),
                order("canceled", 4),
                [fill(0, 4)],
                [("partial_fill", "4", "1.4")],
            ),
            "fills rejected, nothing filled before": (
                build_delivered("new", 0),
                order("filled", 10),
                [],
                [("fill", "10", "5.5")],
            ),
            "fills rejected, something filled before": (
                build_delivered("partially_filled", 4),
                order("filled", 10),
                [],
                [("fill", "6", None)],
            ),
            "fills rejected, the last one live": (
                build_delivered("filled", 0, (4, 10)),
                order("filled", 10),
                [],
                [("partial_fill", "4", None)],
            ),
            "fills for a part of the quantity": (
                build_delivered("new", 0),
                order("filled", 10),
                [fill(0, 4)],
                [("partial_fill", "4", "1.4"), ("fill", "6", None)],
            ),
            "a state that is newer than the answer": (
                build_delivered("pending_cancel", 0, seconds=20),
                order("new", 0, seconds=10),
                [],
                [],
            ),
            "a state that is older": (
                build_delivered("new", 0, seconds=5),
                order("pending_cancel", 0, seconds=10),
                [],
                [("pending_cancel", None, None)],
            ),
            "a closed state that was delivered": (
                build_delivered("replaced", 0, seconds=5),
                order("pending_replace", 0, seconds=10),
                [],
                [],
            ),
            "delivered after the gap only": (
                build_delivered("filled", None, (4, 10)),
                order("filled", 10),
                [fill(2, 4), fill(4, 10)],
                [("partial_fill", "2", "1.4")],
            ),
            "an order of the gap": (
                NOTHING_DELIVERED,
                order("filled", 10, created_at=format_time(BEGIN + SECOND)),
                [fill(4, 10)],
                [("fill", "6", "1.10"), ("partial_fill", "4", None)],
            ),
            "an order of the gap that rests": (
                NOTHING_DELIVERED,
                order("new", 0),
                [],
                [("new", None, None)],
            ),
            "an old order of which only the last fill is of this time": (
                NOTHING_DELIVERED,
                order("filled", 10),
                [fill(4, 10)],
                [("fill", "6", "1.10")],
            ),
            "an old order that has not moved": (
                NOTHING_DELIVERED,
                order("filled", 10, seconds=-301),
                [],
                [],
            ),
            "an old order that changed when the search starts": (
                NOTHING_DELIVERED,
                order("canceled", 0, seconds=-300),
                [],
                [("canceled", None, None)],
            ),
            "an order that was created when the search starts": (
                NOTHING_DELIVERED,
                order("filled", 10, created_at=format_time(SINCE)),
                [fill(4, 10)],
                [("fill", "6", "1.10"), ("partial_fill", "4", None)],
            ),
            "a state after the gap, of which no fill is known": (
                Delivered(OrderState("O", "partially_filled", "4", BEGIN + SECOND), None),
                order("filled", 10),
                [],
                [("fill", "6", None)],
            ),
            "another state at the same time": (
                build_delivered("new", 0, seconds=10),
                order("pending_cancel", 0, seconds=10),
                [],
                [("pending_cancel", None, None)],
            ),
        }
        for name, (before, document, fills, events) in rows.items():
            self.assertEqual(
                summarize(find_missed_events(document, before, fills, SINCE, None)), events, name
            )

    def test_find_unknown_order_before_horizon_returns_nothing(self) -> None:
        """Events up to the dedup horizon count as delivered."""
        self.assertEqual(
            find_missed_events(
                order("new", 0, 10), NOTHING_DELIVERED, [], SINCE, BEGIN + 10 * SECOND
            ),
            [],
        )
        self.assertEqual(
            len(find_missed_events(order("new", 0, 10), NOTHING_DELIVERED, [], SINCE, BEGIN)), 1
        )

    def test_find_unknown_order_unchanged_since_horizon_ignores_its_fills(self) -> None:
        """A fill may have a later time than the last change of its order."""
        document, fills = order("filled", 10, seconds=10), [fill(0, 10, seconds=10.5)]
        for seconds, count in ((9, 1), (10, 0)):
            horizon = BEGIN + seconds * SECOND
            found = find_missed_events(document, NOTHING_DELIVERED, fills, SINCE, horizon)
            self.assertEqual(len(found), count, seconds)

    def test_find_missed_events_after_horizon_of_unknown_order_only(self) -> None:
        """Its older events were trimmed. What clients got about a known order is certain."""
        document = order("filled", 10, created_at=format_time(BEGIN))
        fills = [fill(0, 4, seconds=5), fill(4, 10, seconds=10)]
        later = ("fill", "6", "1.10")
        for delivered, expected in (
            (NOTHING_DELIVERED, [later]),
            (build_delivered("new", 0), [("partial_fill", "4", "1.4"), later]),
        ):
            found = find_missed_events(document, delivered, fills, SINCE, BEGIN + 5 * SECOND)
            self.assertEqual(summarize(found), expected)

    def test_find_missed_events_have_alpacas_shape(self) -> None:
        """The order is Alpaca's, the time that of the fill or change, and no id is invented."""
        document = order("canceled", 4)
        first, second = find_missed_events(
            document, build_delivered("new", 0), [fill(0, 4, 5)], SINCE, None
        )
        time = format_time(BEGIN + 5 * SECOND)
        fields = {
            "event": "partial_fill",
            "timestamp": time,
            "order": document,
            "price": "1.4",
            "qty": "4",
        }
        self.assertEqual(first, {**fields, "cum_qty": "4"})
        self.assertEqual(
            second, {"event": "canceled", "timestamp": document["updated_at"], "order": document}
        )


class Counted(Decimal):
    """A quantity that counts how often any of its class is compared."""

    compared = 0

    def __lt__(self, other: Any) -> bool:
        Counted.compared += 1
        return super().__lt__(other)

    def __gt__(self, other: Any) -> bool:
        Counted.compared += 1
        return super().__gt__(other)

    def __le__(self, other: Any) -> bool:
        Counted.compared += 1
        return super().__le__(other)


class ManyFillsTests(SynchronousTestCase):
    """An order with many fills, of which clients got some."""

    def build_spans(self, starts: range) -> list[QuantityRange]:
        return [QuantityRange(Counted(each), Counted(each + 1)) for each in starts]

    def count_comparisons(self, delivered: range, listed: range) -> int:
        """Return how many quantities are compared for an order that is filled up to 2,000."""
        spans = tuple(self.build_spans(delivered))
        fills = [
            FillActivity("O", span, "partial_fill", "1", format_time(BEGIN))
            for span in self.build_spans(listed)
        ]
        document = order("partially_filled", 2000)
        state = OrderState("O", "partially_filled", "0", BEGIN)
        Counted.compared = 0
        events = find_missed_events(
            document, Delivered(state, Decimal(0), spans), fills, SINCE, None
        )
        missing = set(range(2000)) - set(delivered)
        self.assertEqual(sum(int(event["qty"]) for event in events), len(missing))
        return Counted.compared

    def test_comparisons_grow_with_the_number_of_fills(self) -> None:
        """Each fill was compared with each missing part: 4,000 took 17 seconds of one turn."""
        for delivered, listed in (
            (range(0, 2000, 2), range(0)),
            (range(0, 2000, 2), range(1, 2000, 2)),
            (range(0), range(0, 2000, 2)),
            (range(0), range(2000)),
        ):
            self.assertLess(self.count_comparisons(delivered, listed), 30_000, (delivered, listed))


class RestDocumentTests(SynchronousTestCase):
    """Orders and activities as Alpaca returns them."""

    def test_expand_yields_legs_except_multi_leg(self) -> None:
        """The legs of a bracket order are separate orders; invalid entries are skipped."""
        leg = {"id": "L", "legs": None}
        for order_class, ids in (("bracket", ["P", "L"]), ("oco", ["P", "L"]), ("mleg", ["P"])):
            parent = {"id": "P", "order_class": order_class, "legs": [leg]}
            self.assertEqual(
                [each["id"] for each in expand([parent, None, {}, "x"])], ids, order_class
            )

    def test_expand_legs_of_legs_are_dropped(self) -> None:
        """Each level was an order with all deeper levels: an answer of 4 MB became 200 MB."""
        order: dict[str, Any] = {"id": "0"}
        for level in range(1, 100):
            order = {"id": f"{level}", "note": "x" * 1000, "legs": [order, None]}
        found = list(expand([order]))
        self.assertEqual([each["id"] for each in found], ["99", "98"])
        self.assertEqual([each["legs"] for each in found], [[found[1], None], None])
        self.assertLess(sum(len(json.dumps(each)) for each in found), 4000)

    def test_expand_invalid_id_is_skipped(self) -> None:
        """An id is stored in the journal and used in a URL."""
        ids = ("", "é", "\ud800", "x" * 129, 7, None)
        self.assertEqual(list(expand([{"id": each} for each in ids])), [])
        self.assertEqual(len(list(expand([{"id": "x" * 128}]))), 1)

    def test_leg_ids_returns_multi_leg_legs_only(self) -> None:
        """The legs of other orders are not included."""
        legs = [{"id": "L"}, {"id": 7}, None]
        classes = {"mleg": {"L"}, "bracket": set[str]()}
        for order_class, ids in classes.items():
            self.assertEqual(leg_ids({"id": "P", "order_class": order_class, "legs": legs}), ids)
        self.assertEqual(leg_ids({"id": "P", "order_class": "mleg", "legs": None}), set())

    def test_read_fill_invalid_returns_none(self) -> None:
        """A fill needs valid quantities, a time and an order."""
        good = {
            "id": "1",
            "order_id": "O",
            "type": "fill",
            "qty": "6",
            "cum_qty": "10",
            "price": "1.5",
            "transaction_time": "2026-07-24T14:42:50Z",
        }
        span = QuantityRange(Decimal(4), Decimal(10))
        self.assertEqual(
            read_fill(good), FillActivity("O", span, "fill", "1.5", "2026-07-24T14:42:50Z")
        )
        whole = read_fill(good | {"cum_qty": "6", "price": None})
        assert whole is not None
        self.assertEqual((whole.span, whole.price), (QuantityRange(Decimal(0), Decimal(6)), None))
        for name, value in (
            ("order_id", None),
            ("order_id", "é"),
            ("qty", "0"),
            ("qty", "NaN"),
            ("qty", "11"),
            ("cum_qty", None),
            ("cum_qty", "x"),
            ("transaction_time", "today"),
        ):
            self.assertIsNone(read_fill(good | {name: value}), (name, value))
        self.assertIsNone(read_fill([]))

    def test_read_order_state_missing_fields_uses_defaults(self) -> None:
        """No document raises an error."""
        self.assertEqual(read_order_state({"id": "O"}), OrderState("O", "None", "0", 0))
        self.assertEqual(
            read_order_state({"id": "O", "filled_qty": "x", "updated_at": 7}).filled_qty, "0"
        )
        self.assertEqual(read_time("0000"), 0)

    def test_last_change_returns_newest_time(self) -> None:
        """Either the order or one of its fills changed last."""
        for seconds in (4, 6):
            document = order("filled", 10, seconds=seconds)
            newest = BEGIN + max(seconds, 5) * SECOND
            self.assertEqual(last_change(document, [fill(0, 4, 1), fill(4, 10, 5)]), newest)

    def test_read_synthetic_returns_event_of_order(self) -> None:
        """It is read as an event of the stream is."""
        document = order("canceled", 0)
        event = read_synthetic({"event": "canceled", "order": document})
        self.assertEqual((event.kind, event.order and event.order.status), ("canceled",) * 2)

    def test_read_synthetic_of_an_odd_order_raises_unusable(self) -> None:
        """One that is nested too deeply was left out without a word, or ended the recovery."""
        odd: list[Any] = ["x" * MAX_EVENT_SIZE]
        for depth in range(400, 1100, 10):
            nested: list[Any] = []
            for _ in range(depth):
                nested = [nested]
            odd.append(nested)
        results = Counter[str]()
        for each in odd:
            try:
                read_synthetic({"event": "canceled", "order": order("canceled", 0, note=each)})
                results["event"] += 1
            except UnusableError:
                results["unusable"] += 1
        self.assertGreater(results["event"], 10)
        self.assertGreater(results["unusable"], 10)
