"""Tests for tradeproxy.wire.event: the parsed fields and the identity of an event."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tests.support.properties import examples
from tradeproxy.wire.event import OTHER_KIND, Event, OrderState, format_time, parse_time
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
    """Whether two frames are the same event."""

    def assert_same(self, one: bytes, other: bytes, same: bool = True) -> None:
        self.assertEqual(event(one).key == event(other).key, same, (one, other))

    def test_equal_event_id_is_same_event(self) -> None:
        """A backfilled event may differ in other fields, and must not be a duplicate."""
        self.assertEqual(read(frames.FILL).identity, "01KYA98EMMAHZ1EAE2B7SQVP4M")
        self.assert_same(b'{"event_id":"A","qty":"1"}', b'{"event_id":"A","qty":"2"}')
        self.assert_same(b'{"event_id":"A"}', b'{"event_id":"B"}', same=False)

    def test_missing_event_id_uses_order_kind_and_execution(self) -> None:
        """The execution distinguishes fills, the timestamp other events."""
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

    def test_order_of_legs_is_ignored(self) -> None:
        """Execution ids are sorted before the comparison."""
        one, other = (
            b'{"event":"fill","order":{"legs":[{"execution_id":"%s"},{"execution_id":"%s"},7]}}'
            % pair
            for pair in ((b"3", b"4"), (b"4", b"3"))
        )
        self.assertEqual(event(one).identity, event(other).identity)

    def test_changed_data_is_another_event(self) -> None:
        """The digest covers parsed data: numbers as written, keys in any order."""
        self.assert_same(b'{"a":1,"b":[2]}', b' { "b" : [ 2 ],\n"a" : 1 } ')
        for changed in (b'{"a":1.0}', b'{"a":"1"}', b'{"a":[1]}', b'{"a":2}', b'{"a":1,"b":null}'):
            self.assert_same(b'{"a":1}', changed, same=False)

    def test_invalid_event_id_falls_back(self) -> None:
        """An id must be a short ASCII text."""
        for bad in (b"7", b"null", b'""', b'"\\ud800"', '"é"'.encode(), b'"' + b"x" * 129 + b'"'):
            found = event(b'{"event_id":' + bad + b',"event":"new"}')
            self.assertTrue(found.identity.startswith("["), bad)
            self.assertEqual(len(found.digest), 16)
        self.assertEqual(event(b'{"event_id":"' + b"x" * 128 + b'"}').identity, "x" * 128)

    def test_hash_of_key_stays_the_same(self) -> None:
        """Journals store it for events that the disk did not take, and later versions read it."""
        self.assertEqual(
            event(b'{"event_id":"A"}').key_hash.hex(), "037f2f724f75fd9d7e743fa8110b72e5"
        )
        self.assertEqual(event(fill()).key_hash.hex(), "580d9b57e350f9280d72e61a3d8d33c0")

    @examples()
    @given(st.text(st.characters(exclude_categories=())))
    def test_every_identity_is_ascii(self, text: str) -> None:
        """It is ASCII for any input from Alpaca."""
        written = json.dumps(
            {"event_id": text, "event": text, "order": {"id": text, "status": text}}
        )
        found = event(written.encode())
        self.assertTrue(found.identity.isascii())
        if found.order is not None:
            self.assertTrue((found.order.id + found.order.status).isascii())


def fill(order: str = '"id":"a"', **fields: str | None) -> bytes:
    """Return the data of a fill; each field is JSON text, and None omits it."""
    execution = {"event": '"fill"', "execution_id": '"1"', "qty": '"10"', "price": '"2.5"'}
    given = {**execution, **fields, "order": "{" + order + "}"}
    members = [f'"{name}":{text}' for name, text in given.items() if text is not None]
    return ("{" + ",".join(members) + "}").encode()


class ExecutionTests(SynchronousTestCase):
    """An execution comes once, although Alpaca has several copies of it."""

    def assert_same(self, one: bytes, other: bytes, same: bool = True) -> None:
        self.assertEqual(event(one).key == event(other).key, same, (one, other))

    def test_copy_with_more_fields_is_same_execution(self) -> None:
        """The history has ids, a time and the account, which the stream's copy may lack."""
        stream = fill()
        at = '"2026-07-24T14:42:50.132734Z"'
        for more in (
            {"event_id": '"A"', "at": at},
            {"account_id": '"x"'},
            {"event_id": '"A"', "timestamp": at, "position_qty": '"10"'},
        ):
            self.assert_same(stream, fill(**more))
        self.assert_same(fill(event_id='"A"'), fill(event_id='"B"'))

    def test_equal_amounts_in_another_form_are_same_execution(self) -> None:
        """Alpaca writes numbers as texts; not every source does."""
        for qty in ("10", '"10.0"', "1e1", '"10"'):
            self.assert_same(fill(), fill(qty=qty))
        self.assert_same(fill(qty=None), fill(qty=None))

    def test_other_amount_is_a_correction(self) -> None:
        """It must reach clients, even under the same event_id."""
        for changed in ({"qty": '"11"'}, {"price": '"2.51"'}, {"price": "null"}, {"qty": '"x"'}):
            self.assert_same(fill(), fill(**changed), same=False)
            self.assert_same(fill(event_id='"A"'), fill(event_id='"A"', **changed), same=False)

    def test_other_order_kind_or_execution_is_another_one(self) -> None:
        """One order can have many executions of one size and price."""
        self.assert_same(fill(), fill(order='"id":"b"'), same=False)
        self.assert_same(fill(), fill(event='"partial_fill"'), same=False)
        self.assert_same(fill(), fill(execution_id='"2"'), same=False)

    def test_legs_stand_for_the_execution_of_a_multi_leg_order(self) -> None:
        """Their execution ids are sorted. They are in the data, or in the order."""
        legs = '"legs":[{"execution_id":"%s"},{"execution_id":"%s"}]'
        for where in ("data", "order"):

            def build(one: str, two: str, where: str = where, **more: str) -> bytes:
                text = legs % (one, two)
                if where == "order":
                    return fill(order='"id":"a",' + text, execution_id=None, **more)
                return fill(execution_id=None, legs=text.removeprefix('"legs":'), **more)

            self.assert_same(build("1", "2"), build("2", "1", event_id='"A"'))
            self.assert_same(build("1", "2"), build("1", "3"), same=False)

    def test_without_execution_or_order_the_former_rule_holds(self) -> None:
        """Then the event_id or all the data decide."""
        bare: dict[str, Any] = {"execution_id": None}
        self.assert_same(fill(**bare), fill(account_id='"x"', **bare), same=False)
        self.assert_same(fill(event_id='"A"', **bare), fill(event_id='"A"', qty='"1"', **bare))
        self.assert_same(fill(order=""), fill(order="", account_id='"x"'), same=False)

    def test_bust_and_correction_with_one_event_id_are_two_events(self) -> None:
        """Alpaca's documentation shows both under one id. A second copy of each is a repeat."""
        bust, correction = (
            fill(event=f'"{kind}"', event_id='"A"') for kind in ("trade_bust", "trade_correct")
        )
        self.assert_same(bust, correction, same=False)
        copy = fill(event='"trade_bust"', event_id='"A"', account_id='"x"')
        self.assert_same(bust, copy)
        self.assertEqual(event(bust).identity, "A")

    def test_amount_that_is_no_number_is_compared_as_text(self) -> None:
        """Two unknown texts are not one execution."""
        self.assert_same(fill(qty='"x"'), fill(qty='"x"'))
        self.assert_same(fill(qty='"x"'), fill(qty='"y"'), same=False)

    def test_amendments_with_other_ids_are_two_events(self) -> None:
        """One execution can be corrected twice. Without an id all the data decide."""
        for kind in ('"trade_bust"', '"trade_correct"'):
            one = fill(event=kind, event_id='"A"', previous_execution_id='"0"')
            self.assertEqual(len(event(one).execution), 16)
            for changed in ({"event_id": '"B"'}, {"previous_execution_id": '"1"'}):
                fields = {"event_id": '"A"', "previous_execution_id": '"0"', **changed}
                self.assert_same(one, fill(event=kind, **fields), same=False)
            self.assertEqual(event(fill(event=kind)).execution, b"")

    def test_other_kind_with_execution_is_no_execution(self) -> None:
        """Only fills and their amendments change a position."""
        for more in ({}, {"event_id": '"A"'}):
            self.assertEqual(event(fill(event='"new"', **more)).execution, b"")

    @examples()
    @given(st.text(st.characters(exclude_categories=())), st.text())
    def test_any_amount_and_id_is_accepted(self, amount: str, execution: str) -> None:
        """Nothing from Alpaca may raise here."""
        found = event(fill(qty=json.dumps(amount), execution_id=json.dumps(execution)))
        self.assertIn(len(found.execution), (0, 16))


class FieldTests(SynchronousTestCase):
    """The other fields that the hub needs."""

    def test_time_is_at_else_timestamp(self) -> None:
        """In microseconds, rounded up."""
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

    def test_unknown_kind_is_other(self) -> None:
        """A label of a metric must not take any text that Alpaca sends."""
        for kind in (b'"held_by_martians"', b"7", b"[]", b"null"):
            self.assertEqual(event(b'{"event":' + kind + b"}").kind, OTHER_KIND)
        self.assertEqual(event(b'{"event":"fill"}').kind, "fill")

    def test_with_time_changes_event_and_order(self) -> None:
        """The payload stays: clients get Alpaca's bytes."""
        found = read(frames.FILL)
        assert found.order is not None
        changed = found.with_time(5)
        self.assertEqual(changed, replace(found, time=5, order=replace(found.order, time=5)))
        self.assertIs(changed.payload, found.payload)
        self.assertEqual(event(b"{}").with_time(5).order, None)

    def test_order_state_is_parsed(self) -> None:
        """Recovery compares it with Alpaca's later answer."""
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

    def test_unknown_status_is_open(self) -> None:
        """An unknown status is open: another request does no harm."""
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
    """Parsing and formatting of times."""

    def test_time_without_offset_is_invalid(self) -> None:
        """Its meaning would depend on the machine's time zone."""
        for text in ("2026-07-24T14:42:49", "2026-07-24", "yesterday", ""):
            with self.assertRaises(ValueError):
                parse_time(text)

    @examples()
    @given(st.integers(0, 4_000_000_000_000_000))
    def test_parse_of_formatted_time_is_equal(self, time: int) -> None:
        """To the microsecond."""
        self.assertEqual(parse_time(format_time(time)), time)
