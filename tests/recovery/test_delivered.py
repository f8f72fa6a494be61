"""Tests for tradeproxy.recovery.delivered."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.recovery.delivered import (
    Delivered,
    DeliveredEvent,
    QuantityRange,
    parse_decimal,
    read_delivered_event,
    subtract_all,
    summarize_delivered,
)
from tradeproxy.wire.event import OrderState, format_time
from tradeproxy.wire.frame import Recovered, frame_event, with_mark

SECOND = 1_000_000
BEGIN = 1_790_000_000 * SECOND
"""The start of the gap."""

NOTHING_DELIVERED = Delivered(None, None)


def build_event(
    event: str,
    filled: str,
    qty: str | None,
    time: int,
    synthetic: Recovered | None = None,
    **fields: Any,
) -> DeliveredEvent:
    """Return the event of the order that a frame with these fields holds."""
    status = {"fill": "filled", "partial_fill": "partially_filled"}.get(event, event)
    data: dict[str, Any] = {
        "event": event,
        "timestamp": format_time(time),
        "order": {"id": "O", "status": status, "filled_qty": filled},
    }
    data |= fields if qty is None else {"qty": qty, **fields}
    frame = frame_event(json.dumps(data).encode())
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

    def test_summarize_state_at_begin_is_floor(self) -> None:
        """The log has only later events of the order."""
        before = OrderState("O", "partially_filled", "3", BEGIN)
        after = build_event("partial_fill", "6", "2", BEGIN + SECOND)
        floor = summarize_delivered(after.state, (after,), (), BEGIN, before).floor
        self.assertEqual(floor, 3)

    def test_summarize_last_buffered_event_is_newest_state(self) -> None:
        """It follows the log and the other buffered events."""
        first, last = (build_event(kind, "0", None, BEGIN) for kind in ("new", "canceled"))
        state = summarize_delivered(None, (), (first, last), BEGIN).state
        self.assertEqual(state, last.state)

    def test_read_synthetic_fill_ends_at_its_cum_qty(self) -> None:
        """Its order shows the quantity that was filled when the event was made.

        Only the proxy writes `cum_qty`: in an event of Alpaca's, it is ignored.
        """
        part = QuantityRange(Decimal(0), Decimal(4))
        made = build_event("fill", "10", "4", BEGIN, Recovered.ORDERS, cum_qty="4")
        self.assertEqual((made.filled, made.fill, made.covers_all), (4, part, False))
        streamed = build_event("fill", "10", "4", BEGIN, cum_qty="4")
        self.assertEqual((streamed.filled, streamed.covers_all), (10, False))
        canceled = build_event("canceled", "10", None, BEGIN, Recovered.ORDERS, cum_qty="4")
        self.assertEqual((canceled.filled, canceled.covers_all), (10, False))

    def test_read_delivered_event_time_is_that_of_change(self) -> None:
        """`at` is the time of the report. It counts if there is no `timestamp`."""
        at = format_time(BEGIN + SECOND)
        self.assertEqual(build_event("new", "0", None, BEGIN, at=at).time, BEGIN)
        read = build_event("new", "0", None, BEGIN, at=at, timestamp=None)
        self.assertEqual(read.time, BEGIN + SECOND)

    def test_read_delivered_event_without_order_or_quantity(self) -> None:
        """Without an order there is no event; without a valid quantity there is no fill."""
        self.assertIsNone(read_delivered_event(frame_event(b'{"event":"new"}')))
        for frame in (b"nonsense", b"[]", b'{"stream":"listening","data":{}}'):
            self.assertIsNone(read_delivered_event(frame), frame)
        self.assertIsNotNone(build_event("fill", "10", "1", BEGIN).fill)
        for qty in (None, "x", "0", "-1"):
            self.assertIsNone(build_event("fill", "10", qty, BEGIN).fill, qty)

    def test_parse_decimal_has_the_bounds_of_amounts(self) -> None:
        """The sums of larger numbers overflow, and their texts have thousands of digits."""
        for text in ("1e30", "-9e30", "1e-30"):
            self.assertEqual(parse_decimal(text), Decimal(text))
        for text in ("1e31", "-1e31", "1e-31", "NaN", "Infinity"):
            self.assertIsNone(parse_decimal(text), text)

    def test_event_with_an_unreadable_amount_names_its_field(self) -> None:
        """Zero in its place would deliver fills again, or drop those of the history."""
        for filled, qty, name in (
            ("1e-999999999", "1", "filled_qty"),
            ("10", "1e50000000", "qty"),
            ("10", "1" * 41, "qty"),
            ("10", "1", None),
            ("10", None, None),
        ):
            read = build_event("fill", filled, qty, BEGIN)
            self.assertEqual(read.unreadable, name)
            self.assertEqual(read.fill is None, name is not None or qty is None)


RANGES = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(
    lambda ends: QuantityRange(Decimal(min(ends)), Decimal(max(ends)))
)


def list_units(part: QuantityRange) -> list[int]:
    """Return the whole numbers at which a unit of this part begins."""
    return list(range(int(part.start), int(part.end)))


class SubtractAllTests(SynchronousTestCase):
    """A range without others."""

    @examples(200)
    @given(RANGES, st.lists(RANGES, max_size=6))
    def test_parts_are_what_no_other_range_has(
        self, whole: QuantityRange, removed: list[QuantityRange]
    ) -> None:
        """The ranges may overlap, touch, be empty, and come in any order."""
        parts = subtract_all(whole, removed)
        gone = {unit for each in removed for unit in list_units(each)}
        rest = [unit for unit in list_units(whole) if unit not in gone]
        self.assertEqual([unit for part in parts for unit in list_units(part)], rest)
        self.assertTrue(all(list_units(part) for part in parts))
