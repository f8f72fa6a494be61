"""Tests for tradeproxy.wire.event: an event is the same as with the full parser."""

from __future__ import annotations

import inspect
import itertools
import json
import sys
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import FRAMES, TRADE_UPDATES
from tests.support.journals import event
from tests.support.properties import examples
from tradeproxy.wire import messages
from tradeproxy.wire.event import MAX_OPENED, parse_event
from tradeproxy.wire.messages import NOT_JSON, Malformed, ServerMessage, TradeUpdate, parse_server

FILL = event(
    1,
    event="fill",
    execution_id="e1",
    previous_execution_id="e0",
    qty="10.0",
    price="1.50",
    timestamp="2026-07-24T14:42:49.354133121Z",
    legs=[{"execution_id": "e2", "symbol": "SPY"}],
).payload
"""An event with every field that is parsed."""

FIELDS = (
    *("event_id", "event", "execution_id", "previous_execution_id", "at", "timestamp", "qty"),
    *("price", "order", "legs", "id", "status", "filled_qty", "stream", "data", "symbol", "x"),
)
TEXTS = (
    *("", "fill", "new", "trade_bust", "trade_correct", "filled", "trade_updates", "a", "1", "1.0"),
    *("2026-07-24T14:42:49Z", "2026-07-24T14:42:49.1234567Z", "9999-12-31T23:59:59-23:59"),
    *("x" * 128, "x" * 129, "NaN", "1e9999999999"),
)
LITERALS = (
    *("null", "true", "false", "0", "-0", "1", "1.0", "1e5", "1e999", "-1E-999", "9" * 400),
    *("9" * 5000, "NaN", "-Infinity", "01", "1.", '"\\ud800"', '"\\u0000"', '"\u00e4"', "[]", "{}"),
    *(f'"{"x" * 128}"', f'"{"x" * 129}"', '"\\u00e4"', '"\\ud83d\\ude00"', '"\\q"'),
    *('"\x7f"', '"\x1f"', '"a\\"b"', "nul", "'a'", "\ufeff1", "\xa01", "[" * 50 + "]" * 50),
)
HOSTILE = (
    *(b"", b" ", b"{}", b"[]", b"null", b"1", b'"x"', b"{", FILL[:-1], FILL + b"}", FILL + b" 1"),
    *(FILL + b"\x00", b"\xef\xbb\xbf" + FILL, FILL.decode().encode("utf-16"), b"\n\t\r " + FILL),
    *(FILL + b"\n", FILL + b"\x0b", b"\x0c" + FILL, FILL.replace(b",", b", ")),
    FILL.replace(b'"data":{', b'"data":{"event_id":"first",'),
    FILL.replace(b'"data":{', b'"data":{"event_id":1,'),
    FILL.replace(b'"data":{', b'"data":[],"data":{'),
    FILL.replace(b'"order":{', b'"order":{"id":"first","id":7},"order":{'),
    FILL[:-1] + b',"stream":"listening"}',
    FILL[:-1] + b',"data":{"event_id":"last"}}',
    FILL[:-1] + b',"data":null}',
    b'{"stream":"trade_updates"}',
    b'{"stream":"trade_updates","data":{}}',
    b'{"data":{"event_id":"a"},"stream":"trade_updates"}',
    b'{"stream":"trade_updates","data":{"\\u0065vent_id":"a"}}',
    b'{"stream":"trade_updates","data":{"Event_id":"a"}}',
    b'{"stream":"trade\\u005fupdates","data":{"event_id":"a"}}',
    b'{"stream":"trade_updates","data":{"event_id":"a","event":"fill","order":{"id":"o"},'
    b'"legs":[{"execution_id":""},{"execution_id":null},{},{"execution_id":"x"},null]}}',
    b'{"stream":"trade_updates","data":{"event_id":"a","event":"fill","order":{"id":"o","legs":'
    b'[{"execution_id":"y"},{"execution_id":"x"},{"execution_id":""},{"execution_id":null}]}}}',
    *(FILL[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}" for depth in (90, 300, 2000, 9000)),
    *(FILL[:-1] + b',"x":"' + bytes([each]) + b'"}' for each in range(256)),
    *(FILL[:-1] + b',"x' + bytes([each]) + b'":1}' for each in range(256)),
)
"""Frames that are no usual trade update."""


def parse_fully(payload: bytes) -> ServerMessage:
    """Return the message that the full parser finds."""
    with mock.patch.object(messages, "parse_event", return_value=None):
        return parse_server(payload)


@st.composite
def values(draw: st.DrawFn, depth: int = 3) -> str:
    """Return the text of a JSON value, or of what looks like one, with known names."""
    kind = draw(st.integers(0, 9))
    if kind < 5 or depth == 0:
        return json.dumps(draw(st.sampled_from(TEXTS)))
    if kind < 7:
        return draw(st.sampled_from(LITERALS))
    if kind == 7:
        return f"[{','.join(draw(st.lists(values(depth - 1), max_size=3)))}]"
    names = draw(st.lists(st.sampled_from(FIELDS), max_size=6))
    return "{" + ",".join(f'"{name}":{draw(values(depth - 1))}' for name in names) + "}"


@st.composite
def updates(draw: st.DrawFn) -> bytes:
    """Return a frame that is nearly a trade update: with strange or repeated members."""
    members = {"order": [], "data": [f'"event_id":"{draw(st.sampled_from("ab"))}"']}
    for place, chosen in members.items():
        for name in draw(st.lists(st.sampled_from(FIELDS), max_size=6)):
            chosen.append(f'"{name}":{draw(values())}')
        if place == "order":
            members["data"].append(f'"order":{{{",".join(chosen)}}}')
    data = ",".join(draw(st.permutations(members["data"])))
    extra = draw(st.sampled_from(["", "", ',"x":1', ',"data":{}', ',"recovered":"events"']))
    return f'{{"stream":"trade_updates","data":{{{data}}}{extra}}}'.encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a frame of Alpaca's in which some bytes are removed, replaced or added."""
    frame = bytearray(draw(st.sampled_from([*FRAMES, FILL])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(frame)))
        added = draw(st.one_of(st.binary(max_size=2), st.sampled_from([b'"', b",", b"}", b"\\"])))
        frame[at : at + draw(st.integers(0, 2))] = added
    return bytes(frame)


class EventFieldsTests(SynchronousTestCase):
    """The event of its fields equals the event that the full parser finds."""

    maxDiff = 2000

    def assert_same(self, payload: bytes) -> None:
        self.assertEqual(parse_server(payload), parse_fully(payload))

    def test_usual_events_need_no_full_parser(self) -> None:
        """So most events cost a microsecond, also those with legs and null fields."""
        with_id = [frame for frame in TRADE_UPDATES if b'"event_id":"' in frame]
        self.assertGreater(len(with_id), 3)
        for payload in (*with_id, FILL):
            with self.subTest(payload=payload):
                self.assertIsNotNone(parse_event(payload))
                self.assert_same(payload)

    def test_other_frames_need_the_full_parser(self) -> None:
        """Messages of other kinds, and events that only their data identifies."""
        for payload in FRAMES:
            if b'"event_id":"' not in payload:
                self.assertIsNone(parse_event(payload))
            self.assert_same(payload)

    def test_hostile_documents_are_parsed_as_by_the_full_parser(self) -> None:
        """Duplicate names, numbers, text that is not UTF-8, nesting, white space and types."""
        for payload in HOSTILE:
            with self.subTest(payload=payload[-80:]):
                self.assert_same(payload)

    def test_every_field_with_every_value_is_parsed_as_by_the_full_parser(self) -> None:
        """A value of an unusual type, in the place of each field."""
        for kind in ("fill", "trade_correct"):
            document = json.loads(FILL.replace(b'"fill"', f'"{kind}"'.encode()))
            data = document["data"]
            parents: list[dict[str, Any]] = [document, data, data["order"]]
            for parent, literal in itertools.product(parents, LITERALS):
                for name in tuple(parent):
                    kept, parent[name] = parent[name], "?"
                    payload = json.dumps(document).replace('"?"', literal).encode()
                    parent[name] = kept
                    self.assert_same(payload)

    def test_no_invalid_value_is_accepted_in_a_skipped_field(self) -> None:
        """Numbers and punctuation that only resemble JSON: every short combination of them."""
        begin = '{"stream":"trade_updates","data":{"event_id":"a","x":'
        for alphabet, size in (("01-+.eE", 5), ('{}[],:"1', 5)):
            for length in range(size + 1):
                for value in itertools.product(alphabet, repeat=length):
                    payload = f"{begin}{''.join(value)}}}}}".encode()
                    if parse_event(payload) is not None:
                        self.assertIsInstance(parse_fully(payload), TradeUpdate, payload)

    def test_usual_limits_are_accepted(self) -> None:
        """An id of one character, and as many brackets as are allowed."""
        begin, end = b'{"stream":"trade_updates","data":{"event_id":"a","x":[', b"]}}"
        self.assertIsNotNone(parse_event(begin + b",".join([b"{}"] * (MAX_OPENED - 3)) + end))
        self.assertIsNone(parse_event(begin + b",".join([b"{}"] * (MAX_OPENED - 2)) + end))

    def test_deep_document_is_left_to_the_full_parser(self) -> None:
        """The depth that a parser accepts depends on the stack at that moment."""
        for opened, closed in (("[", "]"), ('{"x":', "}")):
            inner = f"{opened * MAX_OPENED}1{closed * MAX_OPENED}".encode()
            self.assertIsNone(parse_event(FILL[:-1] + b',"x":' + inner + b"}"))
        self.assertEqual(parse_server(b"[" * 100_000), NOT_JSON)

    @examples(120)
    @given(updates())
    @example(b'{"stream":"trade_updates","data":{"event_id":"' + b"x" * 129 + b'"}}')
    def test_any_members_are_parsed_as_by_the_full_parser(self, payload: bytes) -> None:
        """Known names with any values, repeated and in any order."""
        self.assert_same(payload)

    @examples(120)
    @given(damaged())
    def test_damaged_frames_are_parsed_as_by_the_full_parser(self, payload: bytes) -> None:
        """A few wrong bytes, anywhere."""
        self.assert_same(payload)


class StackTests(SynchronousTestCase):
    """A caller may have used most of the stack."""

    def test_frame_too_deep_for_the_rest_of_the_stack_is_malformed(self) -> None:
        """It is dropped and counted, as a frame that is too deep for the whole stack."""
        nested = b"[" * 100 + b"]" * 100
        payload = b'{"stream":"trade_updates","data":{"event_id":"a","x":%b}}' % nested
        used = len(inspect.stack())

        def parse_at(depth: int) -> ServerMessage:
            return parse_server(payload) if depth == 0 else parse_at(depth - 1)

        found = {type(parse_at(sys.getrecursionlimit() - used - free)) for free in range(20, 200)}
        self.assertEqual(found | {Malformed}, {TradeUpdate, Malformed})
        if sys.version_info < (3, 12):  # later versions count no C calls in the recursion limit
            self.assertIn(Malformed, found)
