"""Tests for tradeproxy.wire.event: what is read of an event, and which events are the same one."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tradeproxy.wire.event import Event, OrderState, format_time, parse_time
from tradeproxy.wire.messages import TradeUpdate, parse_server


def read(payload: bytes) -> Event:
    """Return the event in a frame."""
    message = parse_server(payload)
    assert isinstance(message, TradeUpdate), payload
    return message.event


def event(data: bytes) -> Event:
    """Return the event with this `data`."""
    return read(b'{"stream":"trade_updates","data":' + data + b"}")


class IdentityTests(SynchronousTestCase):
    """Two frames are the same event, or they are not."""

    def assert_same(self, one: bytes, other: bytes, same: bool = True) -> None:
        first, second = event(one), event(other)
        self.assertEqual(
            (first.identity, first.digest) == (second.identity, second.digest), same, (one, other)
        )

    def test_an_event_id_identifies_whatever_else_the_frame_says(self) -> None:
        """Found again in another place, an event may be written differently; it must not come twice."""
        self.assertEqual(read(frames.FILL).identity, "01KYA98EMMAHZ1EAE2B7SQVP4M")
        self.assert_same(b'{"event_id":"A","qty":"1"}', b'{"event_id":"A","qty":"2"}')
        self.assert_same(b'{"event_id":"A"}', b'{"event_id":"B"}', same=False)

    def test_without_one_order_kind_and_execution_do(self) -> None:
        """The execution tells two fills apart, the timestamp two events that are none."""
        table = (
            b'{"event":"fill","execution_id":"1","order":{"id":"a"}}',
            b'{"event":"fill","execution_id":"2","order":{"id":"a"}}',
            b'{"event":"fill","execution_id":"1","order":{"id":"b"}}',
            b'{"event":"new","execution_id":"1","order":{"id":"a"}}',
            b'{"event":"new","timestamp":"t1","order":{"id":"a"}}',
            b'{"event":"new","timestamp":"t2","order":{"id":"a"}}',
            b'{"event":"fill","order":{"id":"a","legs":[{"execution_id":"3"}]}}',
            b'{"event":"fill","order":{"id":"a","legs":[{"execution_id":"4"}]}}',
        )
        self.assertEqual(len({event(data).identity for data in table}), len(table))

    def test_the_order_of_a_fills_legs_does_not_matter(self) -> None:
        """Their executions are sorted before they are compared."""
        one, other = (
            b'{"event":"fill","order":{"legs":[{"execution_id":"%s"},{"execution_id":"%s"},7]}}'
            % pair
            for pair in ((b"3", b"4"), (b"4", b"3"))
        )
        self.assertEqual(event(one).identity, event(other).identity)

    def test_a_correction_is_another_event_and_white_space_is_not(self) -> None:
        """What counts is the parsed data: numbers as they are written, keys in any order."""
        self.assert_same(b'{"a":1,"b":[2]}', b' { "b" : [ 2 ],\n"a" : 1 } ')
        for changed in (b'{"a":1.0}', b'{"a":"1"}', b'{"a":[1]}', b'{"a":2}', b'{"a":1,"b":null}'):
            self.assert_same(b'{"a":1}', changed, same=False)

    def test_ids_that_are_none_fall_back(self) -> None:
        """Something else than a short ASCII text in the place of an id identifies nothing."""
        for bad in (b"7", b"null", b'""', b'"\\ud800"', '"é"'.encode(), b'"' + b"x" * 129 + b'"'):
            found = event(b'{"event_id":' + bad + b',"event":"new"}')
            self.assertTrue(found.identity.startswith("["), bad)
            self.assertEqual(len(found.digest), 16)

    @profile(deadline=None, derandomize=True)
    @given(st.text(st.characters(exclude_categories=())))
    def test_every_identity_can_be_stored(self, text: str) -> None:
        """It is ASCII, whatever Alpaca sends."""
        written = json.dumps(
            {"event_id": text, "event": text, "order": {"id": text, "status": text}}
        )
        found = event(written.encode())
        self.assertTrue(found.identity.isascii())
        if found.order is not None:
            self.assertTrue((found.order.id + found.order.status).isascii())


class FieldTests(SynchronousTestCase):
    """What else the hub needs to know of an event."""

    def test_its_time_is_at_else_timestamp(self) -> None:
        """In microseconds; a part of one counts as a whole."""
        table = {
            b'{"at":"1970-01-01T00:00:01.000002Z","timestamp":"2026-01-01T00:00:00Z"}': 1_000_002,
            b'{"timestamp":"1970-01-01T00:00:01.123456789Z"}': 1_123_457,
            b'{"timestamp":"1970-01-01T00:00:01.123456000Z"}': 1_123_456,
            b'{"at":"1970-01-01T01:00:00.5+01:00"}': 500_000,
            b'{"at":"soon","timestamp":"1970-01-01T00:00:03Z"}': 3_000_000,
            b'{"at":7}': None,
            b'{"at":"2026-01-01T00:00:00"}': None,
        }
        for data, time in table.items():
            self.assertEqual(event(data).time, time, data)

    def test_the_state_of_its_order(self) -> None:
        """What recovery compares with what Alpaca says later."""
        self.assertEqual(
            read(frames.PARTIAL_FILL).order,
            OrderState(
                "00000000-0000-0000-0000-000000000099",
                "partially_filled",
                "1",
                1_784_904_180_005_000,
            ),
        )
        self.assertEqual(
            event(b'{"order":{"id":"a","status":"new","filled_qty":1.50}}').order,
            OrderState("a", "new", "1.50", 0),
        )
        self.assertEqual(event(b'{"order":{"id":"a"}}').order, OrderState("a", "", "0", 0))
        for none in (b"{}", b'{"order":null}', b'{"order":[]}', b'{"order":{"id":7}}'):
            self.assertIsNone(event(none).order)

    def test_open_orders_are_those_to_which_something_may_happen(self) -> None:
        """An unknown state is open: to ask for it once more does no harm."""
        states = {
            "new": True,
            "held": True,
            "done_for_day": True,
            "": True,
            "filled": False,
            "replaced": False,
        }
        self.assertEqual({name: OrderState("a", name, "0", 0).is_open for name in states}, states)


class TimeTests(SynchronousTestCase):
    """Times in and out."""

    def test_only_a_time_with_its_offset_is_one(self) -> None:
        """Otherwise it would mean another moment on another machine."""
        for text in ("2026-07-24T14:42:49", "2026-07-24", "yesterday", ""):
            with self.assertRaises(ValueError):
                parse_time(text)

    @profile(deadline=None, derandomize=True)
    @given(st.integers(0, 4_000_000_000_000_000))
    def test_they_survive_the_way_there_and_back(self, time: int) -> None:
        """To the microsecond."""
        self.assertEqual(parse_time(format_time(time)), time)
