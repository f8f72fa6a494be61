"""Tests for tradeproxy.recovery.reconcile and tradeproxy.recovery.delivered."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.recovery.delivered import (
    NOTHING_DELIVERED,
    Delivered,
    DeliveredEvent,
    QuantityRange,
    read_delivered_event,
    read_time,
    summarize_delivered,
)
from tradeproxy.recovery.reconcile import (
    FillActivity,
    expand,
    find_missed_events,
    leg_ids,
    read_fill,
    read_order_state,
)
from tradeproxy.wire.event import OrderState, format_time
from tradeproxy.wire.frame import Recovered, frame_event, with_mark

SECOND = 1_000_000
BEGIN = 1_790_000_000 * SECOND
"""The start of the gap."""
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
            self.assertEqual(leg_ids([{"id": "P", "order_class": order_class, "legs": legs}]), ids)
        self.assertEqual(leg_ids([{"id": "P", "order_class": "mleg", "legs": None}]), set())

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


def build_event(
    event: str, filled: str, qty: str | None, time: int, synthetic: Recovered | None = None
) -> DeliveredEvent:
    """Return the event of the order that a frame with these fields holds."""
    status = {"fill": "filled", "partial_fill": "partially_filled"}.get(event, event)
    data = {
        "event": event,
        "timestamp": format_time(time),
        "order": {"id": "O", "status": status, "filled_qty": filled},
    }
    fields = data if qty is None else data | {"qty": qty}
    frame = frame_event(json.dumps(fields).encode())
    read = read_delivered_event(frame if synthetic is None else with_mark(frame, synthetic))
    assert read is not None
    return read


class DeliveredTests(SynchronousTestCase):
    """What clients got about an order."""

    def test_summarize_without_events_uses_last_state(self) -> None:
        """All fills up to the last logged state were delivered."""
        state = OrderState("O", "partially_filled", "4", BEGIN - SECOND)
        self.assertEqual(summarize_delivered(state, (), (), BEGIN), Delivered(state, Decimal(4)))
        self.assertEqual(summarize_delivered(None, (), (), BEGIN), NOTHING_DELIVERED)

    def test_summarize_fills_after_gap_are_spans(self) -> None:
        """Fills before them may be missing, whether they are delivered or buffered."""
        before = build_event("partial_fill", "2", "2", BEGIN)
        after = build_event("partial_fill", "6", "3", BEGIN + SECOND)
        buffered = build_event("fill", "10", "4", BEGIN + 2 * SECOND)
        spans = (QuantityRange(Decimal(3), Decimal(6)), QuantityRange(Decimal(6), Decimal(10)))
        self.assertEqual(
            summarize_delivered(after.state, (before, after), (buffered,), BEGIN),
            Delivered(buffered.state, Decimal(2), spans),
        )
        self.assertEqual(
            summarize_delivered(after.state, (after,), (), BEGIN),
            Delivered(after.state, None, spans[:1]),
        )

    def test_summarize_synthetic_event_raises_floor(self) -> None:
        """Its order shows a later state than the fill."""
        synthetic = build_event("partial_fill", "10", "4", BEGIN + SECOND, Recovered.ORDERS)
        self.assertEqual(
            summarize_delivered(synthetic.state, (synthetic,), (), BEGIN),
            Delivered(synthetic.state, Decimal(10)),
        )

    def test_read_delivered_event_without_order_or_quantity(self) -> None:
        """Without an order there is no event; without a valid quantity there is no fill."""
        self.assertIsNone(read_delivered_event(frame_event(b'{"event":"new"}')))
        self.assertIsNone(read_delivered_event(b"nonsense"))
        for qty in (None, "x", "0", "-1"):
            self.assertIsNone(build_event("fill", "10", qty, BEGIN).fill, qty)


class EveryInterleavingTests(SynchronousTestCase):
    """Fills before, in and after the gap: the whole quantity is delivered once."""

    @settings(deadline=None, derandomize=True, max_examples=400)
    @given(st.data())
    def test_every_fill_is_delivered_once(self, data: st.DataObject) -> None:
        """Fills may be buffered, late, unlisted, or missing in a truncated answer."""
        marks = data.draw(st.lists(st.integers(1, 9), unique=True, max_size=6).map(sorted))
        cuts = [Decimal(mark) for mark in (0, *marks, 10)]
        spans = [QuantityRange(start, end) for start, end in pairwise(cuts)]
        first_missed = data.draw(st.integers(0, len(spans)))
        first_live = data.draw(st.integers(first_missed, len(spans)))
        first_unseen = data.draw(st.integers(first_missed, len(spans)))
        first_buffered = data.draw(st.integers(first_live, len(spans)))
        times = [BEGIN + (index - first_missed) * SECOND for index in range(len(spans))]
        events_of_fills = [
            build_event(
                "fill",
                f"{span.end}",
                f"{span.end - span.start}",
                time - (SECOND if time == BEGIN else 0),
            )
            for span, time in zip(spans, times, strict=True)
        ]
        # The first live events were released at a deadline; the others are buffered.
        late, buffered = (
            events_of_fills[first_live:first_buffered],
            events_of_fills[first_buffered:],
        )
        filled = spans[first_missed - 1].end if first_missed else Decimal(0)
        before = OrderState("O", "new", str(filled), BEGIN - 60 * SECOND)
        newest = late[-1].state if late else before
        quiet = data.draw(st.booleans(), label="the order's last change is long ago")
        if quiet:
            summary = summarize_delivered(newest, late, buffered, BEGIN, before)
        else:
            summary = summarize_delivered(
                newest, [*events_of_fills[:first_missed], *late], buffered, BEGIN
            )
        created = SINCE - SECOND if quiet or first_missed else BEGIN - SECOND
        known = [
            FillActivity("O", span, "partial_fill", "1", format_time(time))
            for index, (span, time) in enumerate(zip(spans, times, strict=True))
            if index >= first_missed and data.draw(st.booleans(), label=f"fill {index} is listed")
        ]
        total = spans[first_unseen - 1].end if first_unseen else Decimal(0)
        status = (
            "filled"
            if total == 10
            else "canceled"
            if first_unseen == first_live
            else "partially_filled"
        )
        document = order(status, int(total), created_at=format_time(created))
        synthetic = find_missed_events(document, summary, known, SINCE, None)
        fills = [Decimal(event["qty"]) for event in synthetic if "qty" in event]
        missed = sum((span.end - span.start for span in spans[first_missed:first_live]), Decimal(0))
        # The stream or the next answer brings the fills that this answer does not show yet.
        unseen = sum(
            (span.end - span.start for span in spans[first_unseen : max(first_live, first_unseen)]),
            Decimal(0),
        )
        self.assertEqual(sum(fills, Decimal(0)), missed - unseen)
        self.assertTrue(all(qty > 0 for qty in fills))
