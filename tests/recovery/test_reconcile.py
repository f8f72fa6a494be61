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
    summarize_delivered,
)
from tradeproxy.recovery.reconcile import (
    FillActivity,
    expand,
    find_missed_events,
    leg_ids,
    read_fill,
    read_order_state,
    read_time,
)
from tradeproxy.wire.event import OrderState, format_time
from tradeproxy.wire.frame import Recovered, frame_event, with_mark

SECOND = 1_000_000
BEGIN = 1_790_000_000 * SECOND
"""The gap's begin."""
SINCE = BEGIN - 300 * SECOND


def order(status: str, filled: int, seconds: float = 10, **fields: Any) -> dict[str, Any]:
    """Return an order of 10 that last changed some seconds after the gap began, and is older than that."""
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


def told(
    status: str, floor: int | None, *spans: tuple[int, int], seconds: float = -60
) -> Delivered:
    """Return what was told of the order."""
    filled = max([floor or 0, *(end for _, end in spans)])
    state = OrderState("O", status, str(filled), BEGIN + round(seconds * SECOND))
    parts = tuple(QuantityRange(Decimal(start), Decimal(end)) for start, end in spans)
    return Delivered(state, None if floor is None else Decimal(floor), parts)


def seen(events: list[dict[str, Any]]) -> list[tuple[str, str | None, str | None]]:
    """Return name, quantity and price of each event."""
    return [(event["event"], event.get("qty"), event.get("price")) for event in events]


class MissedEventsTests(SynchronousTestCase):
    """What an order shows, compared with what was told of it."""

    def test_tells_what_was_not_told(self) -> None:
        """A row: what was told, what the order shows, the fills that are known; and the events of it."""
        rows: dict[
            str,
            tuple[
                Delivered,
                dict[str, Any],
                list[FillActivity],
                list[tuple[str, str | None, str | None]],
            ],
        ] = {
            "nothing new": (told("new", 0), order("new", 0), [], []),
            "a fill": (
                told("new", 0),
                order("filled", 10),
                [fill(0, 10)],
                [("fill", "10", "1.10")],
            ),
            "two fills": (
                told("new", 0),
                order("filled", 10),
                [fill(0, 4), fill(4, 10)],
                [("partial_fill", "4", "1.4"), ("fill", "6", "1.10")],
            ),
            "the second of two": (
                told("partially_filled", 4),
                order("filled", 10),
                [fill(0, 4), fill(4, 10)],
                [("fill", "6", "1.10")],
            ),
            "a fill, and the end": (
                told("new", 0),
                order("canceled", 4),
                [fill(0, 4)],
                [("partial_fill", "4", "1.4"), ("canceled", None, None)],
            ),
            "the end only": (told("new", 0), order("expired", 0), [], [("expired", None, None)]),
            "a fill missed, the next one live": (
                told("filled", 0, (4, 10)),
                order("filled", 10),
                [fill(0, 4), fill(4, 10)],
                [("partial_fill", "4", "1.4")],
            ),
            "the same fill live": (
                told("filled", 0, (0, 10)),
                order("filled", 10),
                [fill(0, 10)],
                [],
            ),
            "the live fill is newer than the answer": (
                told("filled", 0, (4, 10)),
                order("partially_filled", 4),
                [fill(0, 4), fill(4, 10)],
                [("partial_fill", "4", "1.4")],
            ),
            "the end was live, the fill before it was not": (
                told("canceled", 0, seconds=20),
                order("canceled", 4),
                [fill(0, 4)],
                [("partial_fill", "4", "1.4")],
            ),
            "no fills to be had, nothing filled before": (
                told("new", 0),
                order("filled", 10),
                [],
                [("fill", "10", "5.5")],
            ),
            "no fills to be had, something filled before": (
                told("partially_filled", 4),
                order("filled", 10),
                [],
                [("fill", "6", None)],
            ),
            "no fills to be had, the last one live": (
                told("filled", 0, (4, 10)),
                order("filled", 10),
                [],
                [("partial_fill", "4", None)],
            ),
            "fills that don't explain all": (
                told("new", 0),
                order("filled", 10),
                [fill(0, 4)],
                [("partial_fill", "4", "1.4"), ("fill", "6", None)],
            ),
            "a state that is newer than the answer": (
                told("pending_cancel", 0, seconds=20),
                order("new", 0, seconds=10),
                [],
                [],
            ),
            "a state that is older": (
                told("new", 0, seconds=5),
                order("pending_cancel", 0, seconds=10),
                [],
                [("pending_cancel", None, None)],
            ),
            "an end that is told is the end": (
                told("replaced", 0, seconds=5),
                order("pending_replace", 0, seconds=10),
                [],
                [],
            ),
            "told of after the gap only": (
                told("filled", None, (4, 10)),
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
                seen(find_missed_events(document, before, fills, SINCE, None)), events, name
            )

    def test_an_unknown_order_before_the_horizon_is_known(self) -> None:
        """What lies before it has been told in one way or another."""
        self.assertEqual(
            find_missed_events(
                order("new", 0, 10), NOTHING_DELIVERED, [], SINCE, BEGIN + 10 * SECOND
            ),
            [],
        )
        self.assertEqual(
            len(find_missed_events(order("new", 0, 10), NOTHING_DELIVERED, [], SINCE, BEGIN)), 1
        )

    def test_has_alpacas_shape(self) -> None:
        """The order is the real one, the time that of the fill or of the change; no id is made up."""
        document = order("canceled", 4)
        first, second = find_missed_events(document, told("new", 0), [fill(0, 4, 5)], SINCE, None)
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


class ReadingTests(SynchronousTestCase):
    """Orders and activities as they come."""

    def test_legs_are_orders_but_for_those_of_a_multi_leg_order(self) -> None:
        """A bracket's legs live on their own; what is no order is passed over."""
        leg = {"id": "L", "legs": None}
        for order_class, ids in (("bracket", ["P", "L"]), ("oco", ["P", "L"]), ("mleg", ["P"])):
            parent = {"id": "P", "order_class": order_class, "legs": [leg]}
            self.assertEqual(
                [each["id"] for each in expand([parent, None, {}, "x"])], ids, order_class
            )

    def test_ids_that_can_be_none_are_passed_over(self) -> None:
        """They would end up in the journal, and in a URL."""
        ids = ("", "é", "\ud800", "x" * 129, 7, None)
        self.assertEqual(list(expand([{"id": each} for each in ids])), [])
        self.assertEqual(len(list(expand([{"id": "x" * 128}]))), 1)

    def test_legs_of_a_multi_leg_order_are_known_by_their_ids(self) -> None:
        """Their fills are told of the whole, and no other order's legs are meant."""
        legs = [{"id": "L"}, {"id": 7}, None]
        classes = {"mleg": {"L"}, "bracket": set[str]()}
        for order_class, ids in classes.items():
            self.assertEqual(leg_ids([{"id": "P", "order_class": order_class, "legs": legs}]), ids)
        self.assertEqual(leg_ids([{"id": "P", "order_class": "mleg", "legs": None}]), set())

    def test_fills_that_cannot_be_used_are_passed_over(self) -> None:
        """One without numbers, a time or an order would only be guessed at."""
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

    def test_an_order_without_numbers_is_one_that_has_not_moved(self) -> None:
        """Nothing in a document raises."""
        self.assertEqual(read_order_state({"id": "O"}), OrderState("O", "None", "0", 0))
        self.assertEqual(
            read_order_state({"id": "O", "filled_qty": "x", "updated_at": 7}).filled_qty, "0"
        )
        self.assertEqual(read_time("0000"), 0)


def notice(
    event: str, filled: str, qty: str | None, time: int, made: Recovered | None = None
) -> DeliveredEvent:
    """Return what a frame tells of the order."""
    status = {"fill": "filled", "partial_fill": "partially_filled"}.get(event, event)
    data = {
        "event": event,
        "timestamp": format_time(time),
        "order": {"id": "O", "status": status, "filled_qty": filled},
    }
    fields = data if qty is None else data | {"qty": qty}
    frame = frame_event(json.dumps(fields).encode())
    read = read_delivered_event(frame if made is None else with_mark(frame, made))
    assert read is not None
    return read


class ToldTests(SynchronousTestCase):
    """What clients have been told of an order."""

    def test_an_untouched_order_is_known_as_far_as_the_log_goes(self) -> None:
        """All fills up to its state were told."""
        state = OrderState("O", "partially_filled", "4", BEGIN - SECOND)
        self.assertEqual(summarize_delivered(state, (), (), BEGIN), Delivered(state, Decimal(4)))
        self.assertEqual(summarize_delivered(None, (), (), BEGIN), NOTHING_DELIVERED)

    def test_fills_behind_the_gaps_begin_stand_for_themselves(self) -> None:
        """What came before them may have been missed, be they delivered or held."""
        before = notice("partial_fill", "2", "2", BEGIN)
        after = notice("partial_fill", "6", "3", BEGIN + SECOND)
        held = notice("fill", "10", "4", BEGIN + 2 * SECOND)
        spans = (QuantityRange(Decimal(3), Decimal(6)), QuantityRange(Decimal(6), Decimal(10)))
        self.assertEqual(
            summarize_delivered(after.state, (before, after), (held,), BEGIN),
            Delivered(held.state, Decimal(2), spans),
        )
        self.assertEqual(
            summarize_delivered(after.state, (after,), (), BEGIN),
            Delivered(after.state, None, spans[:1]),
        )

    def test_an_event_that_was_made_of_an_order_tells_all_that_the_order_shows(self) -> None:
        """Its order is of a later time than the fill."""
        made = notice("partial_fill", "10", "4", BEGIN + SECOND, Recovered.ORDERS)
        self.assertEqual(
            summarize_delivered(made.state, (made,), (), BEGIN), Delivered(made.state, Decimal(10))
        )

    def test_reads_what_tells_of_an_order(self) -> None:
        """An event without an order tells of none, and a fill without a quantity of no part."""
        self.assertIsNone(read_delivered_event(frame_event(b'{"event":"new"}')))
        self.assertIsNone(read_delivered_event(b"nonsense"))
        for qty in (None, "x", "0", "-1"):
            self.assertIsNone(notice("fill", "10", qty, BEGIN).fill, qty)


class EveryInterleavingTests(SynchronousTestCase):
    """However fills fall before, into and behind the gap: all of the quantity is told, none of it twice."""

    @settings(deadline=None, derandomize=True, max_examples=400)
    @given(st.data())
    def test_every_fill_is_told_once(self, data: st.DataObject) -> None:
        """Whichever fills were held or delivered late, wherever the answer was cut off, whatever it lacks."""
        marks = data.draw(st.lists(st.integers(1, 9), unique=True, max_size=6).map(sorted))
        cuts = [Decimal(mark) for mark in (0, *marks, 10)]
        spans = [QuantityRange(start, end) for start, end in pairwise(cuts)]
        first_missed = data.draw(st.integers(0, len(spans)))
        first_live = data.draw(st.integers(first_missed, len(spans)))
        first_unseen = data.draw(st.integers(first_missed, len(spans)))
        delivered = data.draw(st.integers(first_live, len(spans)))
        times = [BEGIN + (index - first_missed) * SECOND for index in range(len(spans))]
        notices = [
            notice(
                "fill",
                f"{span.end}",
                f"{span.end - span.start}",
                time - (SECOND if time == BEGIN else 0),
            )
            for span, time in zip(spans, times, strict=True)
        ]
        # Live events were delivered (the deadline had passed) up to one, and are held from there on.
        late, held = notices[first_live:delivered], notices[delivered:]
        filled = spans[first_missed - 1].end if first_missed else Decimal(0)
        before = OrderState("O", "new", str(filled), BEGIN - 60 * SECOND)
        newest = late[-1].state if late else before
        quiet = data.draw(st.booleans(), label="nothing happened to the order for long")
        if quiet:
            told_so_far = summarize_delivered(newest, late, held, BEGIN, before)
        else:
            told_so_far = summarize_delivered(newest, [*notices[:first_missed], *late], held, BEGIN)
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
        made = find_missed_events(document, told_so_far, known, SINCE, None)
        fills = [Decimal(event["qty"]) for event in made if "qty" in event]
        missed = sum((span.end - span.start for span in spans[first_missed:first_live]), Decimal(0))
        # What the answer does not show yet comes by the stream, or with the next answer.
        unseen = sum(
            (span.end - span.start for span in spans[first_unseen : max(first_live, first_unseen)]),
            Decimal(0),
        )
        self.assertEqual(sum(fills, Decimal(0)), missed - unseen)
        self.assertTrue(all(qty > 0 for qty in fills))
