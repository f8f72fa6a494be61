"""Every order of missed, delivered and buffered fills: each fill is delivered once."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.recovery.test_delivered import BEGIN, SECOND, build_event
from tests.recovery.test_reconcile import SINCE, order
from tests.support.properties import examples
from tradeproxy.recovery.delivered import QuantityRange, summarize_delivered
from tradeproxy.recovery.reconcile import FillActivity, find_missed_events
from tradeproxy.wire.event import OrderState, format_time


class EveryInterleavingTests(SynchronousTestCase):
    """Fills before, in and after the gap: the whole quantity is delivered once."""

    @examples(100)
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
