"""Each event is parsed once on every path of the recovery."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from types import FrameType

from msgspec import Raw
from msgspec.json import Decoder
from twisted.trial.unittest import SynchronousTestCase

from tests.upstream.support import RestClientTestCase, event_stream
from tradeproxy.recovery.delivered import QuantityRange, parse_decimal, read_delivered_event
from tradeproxy.recovery.history import HistoryReader
from tradeproxy.wire.event import Event, Number
from tradeproxy.wire.frame import frame_event

EVENT = b'{"event":"fill","qty":%s,"timestamp":"2026-07-24T14:42:50Z","order":{"id":"O",%s}}'

SIX_TO_TEN = QuantityRange(Decimal(6), Decimal(10))


def count_parses(function: Callable[[], object]) -> int:
    """Return how many JSON values `function` parses, as the interpreter's profiler sees it.

    A frame that msgspec rejects, and the full parser then accepts, counts once. A look whether a
    stored row is JSON at all, which makes no values, does not count.
    """
    parser = json.JSONDecoder.raw_decode.__code__
    parses = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal parses
        owner = getattr(argument, "__self__", None)
        if (event == "call" and frame.f_code is parser) or (
            event == "c_return" and isinstance(owner, Decoder) and owner.type is not Raw
        ):
            parses += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return parses


def fill_frame(qty: bytes, filled: bytes) -> bytes:
    """Return the frame of a fill of this quantity, after which the order is filled so far."""
    return frame_event(EVENT % (qty, b'"status":"filled","filled_qty":' + filled))


class ReadDeliveredEventTests(SynchronousTestCase):
    """Logged events, which a backfill from orders reads."""

    def test_read_delivered_event_parses_once(self) -> None:
        """A log may hold many events, and each is read."""
        self.assertEqual(count_parses(lambda: read_delivered_event(fill_frame(b'"4"', b'"10"'))), 1)

    def test_read_delivered_event_accepts_numbers_and_texts(self) -> None:
        """A JSON number keeps all of its digits."""
        for qty, filled in ((b'"4"', b'"10"'), (b"4", b"10"), (b"4.0", b"1e1"), (b"4", b'"10"')):
            event = read_delivered_event(fill_frame(qty, filled))
            assert event is not None
            self.assertEqual((event.filled, event.fill), (Decimal(10), SIX_TO_TEN))
        exact = read_delivered_event(fill_frame(b"0.12345678901234567890", b"1"))
        assert exact is not None
        assert exact.fill is not None
        self.assertEqual(exact.fill.start, Decimal("0.87654321098765432110"))

    def test_read_delivered_event_ignores_numbers_out_of_range(self) -> None:
        """A number that is not finite, or too large for a float, is no quantity."""
        for qty in (b"1e400", b"-1e400", b"NaN", b"Infinity", b"1" * 5000, b"1e-400", b"true"):
            event = read_delivered_event(fill_frame(qty, b"10"))
            assert event is not None
            self.assertIsNone(event.fill, qty[:20])

    def test_parse_decimal_number_equals_text(self) -> None:
        """The parser of frames keeps a number as a Number; json.loads makes a float of it."""
        for value in (Number("1.50"), 1.5, "1.5"):
            self.assertEqual(parse_decimal(value), Decimal("1.5"))


class HistoryParsesTests(RestClientTestCase):
    """Events of the history."""

    def read(self, body: bytes) -> list[Event]:
        """Return the events in a history with this body."""
        events: list[Event] = []
        self.answer = event_stream(body)
        reader = HistoryReader(self.rest, self.clock, 0, events.append, self.fail)
        self.outcome(reader.read(1))
        return events

    def test_read_history_parses_each_event_once(self) -> None:
        """That applies to an event on one line, and to one on several lines."""
        rows = {
            b'data: {"event_id":"1"}\n\ndata: {"event_id":"2"}\n\n': 2,
            b'data: {"event_id":\ndata: "1"}\n\n': 1,
        }
        for body, events in rows.items():
            self.assertEqual(count_parses(partial(self.read, body)), events, body)
            self.assertEqual(len(self.read(body)), events, body)

    def test_read_history_without_blank_lines_parses_lines_after_whole(self) -> None:
        """Lines that are no event together are parsed once more, each by itself."""
        body = b'data: {"event_id":"1"}\ndata: {"event_id":"2"}\n\n'
        self.assertEqual(count_parses(lambda: self.read(body)), 3)
        self.assertEqual(len(self.read(body)), 2)
