"""Tests for tradeproxy.wire.frame."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tradeproxy.wire.frame import Recovered, extract_data, frame_event, with_cursor, with_mark

texts = st.text(st.characters(exclude_categories=()), max_size=5)
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


class FrameTests(SynchronousTestCase):
    """Frames are put together and taken apart; Alpaca's bytes stay as they are."""

    def test_a_captured_frame_comes_apart_and_together_again(self) -> None:
        """Byte for byte: what the history tells is framed as the stream would have."""
        for payload in frames.TRADE_UPDATES:
            data, recovered = extract_data(payload)
            self.assertIsNone(recovered)
            self.assertEqual(frame_event(data), payload)

    def test_a_mark_stands_beside_the_data(self) -> None:
        """It is found again, and is no part of the data."""
        frame = with_mark(frame_event(b'{"event":"fill"}'), Recovered.EVENTS)
        self.assertEqual(
            frame, b'{"stream":"trade_updates","data":{"event":"fill"},"recovered":"events"}'
        )
        self.assertEqual(extract_data(frame), (b'{"event":"fill"}', "events"))

    def test_a_cursor_stands_at_the_end(self) -> None:
        """White space behind the frame does not matter."""
        self.assertEqual(
            with_cursor(b'{"stream":"trade_updates","data":{}}\r\n ', "paper.e.1.c"),
            b'{"stream":"trade_updates","data":{},"cursor":"paper.e.1.c"}',
        )

    def test_data_goes_on_one_line(self) -> None:
        """A line end is white space there; one inside a text is escaped by JSON already."""
        payload = b'{ "data" :\r\n { "a" : "x\\ny" ,\n "b" : [ 1 ] } , "stream":"trade_updates" }'
        self.assertEqual(extract_data(payload), (b'{ "a" : "x\\ny" ,  "b" : [ 1 ] }', None))

    def test_a_number_of_any_length_is_no_obstacle(self) -> None:
        """Python's limit on digits is not JSON's."""
        data = b'{"qty":' + b"9" * 5000 + b"}"
        self.assertEqual(extract_data(frame_event(data))[0], data)

    @profile(deadline=None, derandomize=True)
    @given(st.dictionaries(texts, documents, max_size=3), documents, st.sampled_from([None, 1]))
    def test_whatever_surrounds_it_the_data_is_found(
        self, others: dict[str, Any], data: Any, indent: int | None
    ) -> None:
        """The last `data` counts, as it does for every JSON parser."""
        payload = json.dumps(others | {"data": data}, indent=indent).encode()
        found, _ = extract_data(payload)
        self.assertEqual(json.loads(found), json.loads(json.dumps(data)))
        self.assertNotIn(b"\n", found)
