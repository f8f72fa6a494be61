"""Tests for times in tradeproxy.wire.event: whatever can be parsed can be formatted."""

from __future__ import annotations

from datetime import UTC, datetime
from json import dumps

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.hub.replication import StreamState
from tradeproxy.simulator.clock import compact, nanoseconds
from tradeproxy.wire.event import (
    MAX_TIME,
    MIN_TIME,
    format_time,
    is_time,
    parse_time,
    read_time,
)
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import Gap, GapOutcome, UpstreamStatus, encode_gap

OUTSIDE = (
    "9999-12-31T23:59:59-23:59",
    "9999-12-31T23:59:59.9999999Z",
    "0001-01-01T00:00:00+23:59",
)
"""Valid RFC 3339 times that are before year 1 or after year 9999 in UTC."""

texts = st.builds(
    lambda moment, digits, offset: f"{moment.isoformat(timespec='seconds')}{digits}{offset}",
    st.datetimes(),
    st.from_regex(r"(\.[0-9]{1,9})?", fullmatch=True),
    st.from_regex(r"Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]", fullmatch=True),
)


class TimeRoundTripTests(SynchronousTestCase):
    """A time that is accepted never makes a status, a query or a file fail later.

    One event with a time outside the calendar once ended the upstream of its account for good:
    the time was stored, and every later status raised OverflowError.
    """

    @given(
        texts | st.sampled_from([*OUTSIDE, "20260724T144250.1234567890Z", "", "Z", "x" * 26 + "Z"])
    )
    def test_time_of_an_event_is_read_as_any_other(self, text: str) -> None:
        """Times as Alpaca writes them have a shorter way."""
        try:
            expected = parse_time(text)
        except ValueError:
            expected = None
        self.assertEqual(read_time(text), expected)

    def test_last_moment_of_calendar_is_a_time(self) -> None:
        """Rounding up may reach it, but not pass it."""
        for text in ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.9999981Z"):
            self.assertEqual(parse_time(text), MAX_TIME)

    def test_time_outside_calendar_is_no_time(self) -> None:
        """The event itself is forwarded like any other."""
        for text in OUTSIDE:
            self.assertRaises(ValueError, parse_time, text)
            frame = dumps({"stream": "trade_updates", "data": {"event": "fill", "at": text}})
            message = parse_server(frame.encode())
            assert isinstance(message, TradeUpdate)
            self.assertIsNone(message.event.time)

    @examples()
    @given(texts)
    @example("9999-12-31T23:59:59.999999Z")
    @example("0001-01-01T00:00:00Z")
    def test_parsed_time_can_be_formatted_and_parsed_again(self, text: str) -> None:
        """The result is the same time."""
        try:
            time = parse_time(text)
        except ValueError:
            return
        self.assertTrue(is_time(time))
        self.assertEqual(parse_time(format_time(time)), time)

    @examples()
    @given(st.integers(-(2**80), 2**80))
    @example(MIN_TIME - 1)
    @example(MAX_TIME + 1)
    def test_any_number_can_be_formatted(self, number: int) -> None:
        """The sum of a time and a duration may leave the calendar; its text can still be parsed."""
        self.assertEqual(parse_time(format_time(number)), min(max(number, MIN_TIME), MAX_TIME))

    def test_early_year_is_padded(self) -> None:
        """A year has four digits in RFC 3339; strftime on Linux writes as few as it can."""
        first = round(datetime(1, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
        self.assertEqual(format_time(first), "0001-01-01T00:00:00.000000Z")

    def test_gap_outside_calendar_can_be_encoded(self) -> None:
        """A status frame never fails."""
        self.assertIn(b'"begin":"9999-', encode_gap(Gap(2**70, 2**71)))

    def test_gap_of_earlier_version_outside_calendar_is_left_out(self) -> None:
        """A node that follows an earlier version's leader does not take its times over."""
        status = UpstreamStatus(streaming=True, reason="streaming", since=7.0)
        good, bad, worse = Gap(1), Gap(MAX_TIME + 1), Gap(1, MAX_TIME + 1, GapOutcome.LOST)
        state = StreamState(status, (good, bad, worse))
        self.assertEqual(StreamState.parse(state.encode()), StreamState(status, (good,)))


class SimulatorTimeTests(SynchronousTestCase):
    """The embedded Alpaca has the same pair of functions."""

    @examples()
    @given(texts)
    @example("9999-12-31T23:59:59-23:59")
    @example("0001-01-01T00:00:00+23:59")
    def test_parsed_time_can_be_written_as_activity_id(self, text: str) -> None:
        """Otherwise one event would make every list of activities fail."""
        if (time := nanoseconds(text)) is not None:
            self.assertEqual(len(compact(time)), 17)
