"""Tests for tradeproxy.wire.frame."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tests.support.properties import examples
from tradeproxy.wire.frame import (
    Recovered,
    build_mark,
    extract_data,
    frame_event,
    is_frame,
    with_cursor,
    with_mark,
)

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
    """Frames are built and split; Alpaca's bytes stay unchanged."""

    def test_marked_frame_contains_its_mark(self) -> None:
        """So a frame's mark is found without parsing."""
        for recovered in Recovered:
            self.assertIn(build_mark(recovered), with_mark(frames.NEW, recovered))
            self.assertNotIn(build_mark(recovered), frames.NEW)

    def test_captured_frame_round_trips(self) -> None:
        """A frame built from history data equals the stream's frame, byte for byte."""
        for payload in frames.TRADE_UPDATES:
            data, recovered = extract_data(payload)
            self.assertIsNone(recovered)
            self.assertEqual(frame_event(data), payload)

    def test_frame_that_alpaca_may_send_is_one(self) -> None:
        """Whatever JSON allows, and NaN, which Python's parser accepts, was stored."""
        for payload in (
            *frames.TRADE_UPDATES,
            b'\r\n {"data":{"x":"\xc3\xa4"}} ',
            b'{"data":{"x":NaN,"y":1e999,"z":' + b"9" * 5000 + b"}}",
            b'{"data":' + b"[" * 5000 + b"]" * 5000 + b"}",
        ):
            self.assertTrue(is_frame(payload), payload[:99])

    def test_anything_else_is_no_frame(self) -> None:
        """Clients could not parse it."""
        for payload in (b"", b"{", b"[]", b"{}x", b"{}\n\n{}", b'{"x":"\xff"}', b"\0{}", "{}", 5):
            self.assertFalse(is_frame(payload), payload)

    def test_mark_is_beside_data(self) -> None:
        """extract_data returns it, and it is not part of the data."""
        frame = with_mark(frame_event(b'{"event":"fill"}'), Recovered.EVENTS)
        self.assertEqual(
            frame, b'{"stream":"trade_updates","data":{"event":"fill"},"recovered":"events"}'
        )
        self.assertEqual(extract_data(frame), (b'{"event":"fill"}', "events"))

    def test_other_member_of_that_name_is_no_mark(self) -> None:
        """Alpaca may send one. An object in its place would stop whoever compares it."""
        for value in ('"x"', "{}", "[]", "1", "null"):
            frame = b'{"stream":"trade_updates","data":{},"recovered":%b}' % value.encode()
            self.assertEqual(extract_data(frame), (b"{}", None), value)

    def test_cursor_is_last_member(self) -> None:
        """White space after the frame is ignored."""
        self.assertEqual(
            with_cursor(b'{"stream":"trade_updates","data":{}}\r\n ', "paper.e.1.c"),
            b'{"stream":"trade_updates","data":{},"cursor":"paper.e.1.c"}',
        )

    def test_data_is_on_one_line(self) -> None:
        """Line breaks become spaces; JSON already escapes those inside a text."""
        payload = b'{ "data" :\r\n { "a" : "x\\ny" ,\n "b" : [ 1 ] } , "stream":"trade_updates" }'
        self.assertEqual(extract_data(payload), (b'{ "a" : "x\\ny" ,  "b" : [ 1 ] }', None))

    def test_number_of_any_length_is_kept(self) -> None:
        """Python's limit on digits does not apply to JSON."""
        data = b'{"qty":' + b"9" * 5000 + b"}"
        self.assertEqual(extract_data(frame_event(data))[0], data)

    @examples()
    @given(st.dictionaries(texts, documents, max_size=3), documents, st.sampled_from([None, 1]))
    def test_data_is_found_among_other_members(
        self, others: dict[str, Any], data: Any, indent: int | None
    ) -> None:
        """The last `data` counts, as in other JSON parsers."""
        payload = json.dumps(others | {"data": data}, indent=indent).encode()
        found, _ = extract_data(payload)
        self.assertEqual(json.loads(found), json.loads(json.dumps(data)))
        self.assertNotIn(b"\n", found)
