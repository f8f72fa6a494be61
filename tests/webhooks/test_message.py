"""Tests for tradeproxy.webhooks.message."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import event, event_id_of, time_of
from tests.support.properties import examples
from tradeproxy.webhooks.message import (
    LATE,
    Message,
    Skipped,
    build_event_message,
    build_proxy_message,
)
from tradeproxy.wire.frame import Recovered, with_mark

ORDER = {
    "id": "o",
    "symbol": "AAPL",
    "side": "buy",
    "qty": "10",
    "filled_qty": "4",
    "client_order_id": "bot-1",
}


def build(payload: bytes, now: int = time_of(1)) -> Message:
    """Return the message of a frame."""
    return build_event_message("paper", payload, "paper-0123-7", None, now)


class EventMessageTests(SynchronousTestCase):
    """An event of the log."""

    def test_text_says_what_happened(self) -> None:
        """On a telephone's lock screen there is one line."""
        fill = event(1, event="partial_fill", qty="4", price="100.50", order=ORDER, filled_qty="4")
        self.assertEqual(
            build(fill.payload).text,
            "partial_fill: buy 4 AAPL at 100.50, filled 4 of 10, order bot-1,"
            " 2026-09-21 14:13:21 UTC",
        )

    def test_webhooks_share_what_is_read_of_a_frame(self) -> None:
        """Twenty of them read a frame of 1 MiB for seven seconds, and had twenty copies of it."""
        fill = event(1, event="fill", order=ORDER)
        self.assertIs(build(fill.payload).data, build(fill.payload).data)

    def test_id_is_alpacas(self) -> None:
        """Each attempt has it, and so has another proxy's message about the same event."""
        self.assertEqual(build(event(1).payload).id, event_id_of(1))

    def test_bust_and_correction_have_ids_of_their_own(self) -> None:
        """They may have the event_id of their fill. A receiver ignores an id that it has."""
        kinds = ("fill", "trade_bust", "trade_correct")
        ids = [build(event(1, event=kind).payload).id for kind in kinds]
        own = event_id_of(1)
        self.assertEqual(ids, [own, f"{own}-trade_bust", f"{own}-trade_correct"])

    def test_event_without_an_id_gets_its_place_in_the_log(self) -> None:
        """It is the same after a restart. A dot would end the id in the signature."""
        for identity in (None, "", "a.b", "a b", "x" * 129, "\u00e9"):
            self.assertEqual(build(event(1, event_id=identity).payload).id, "paper-0123-7")

    def test_old_recovered_event_is_late(self) -> None:
        """One that the stream brought is not, however long the receiver was down."""
        payload = event(1).payload
        marked = with_mark(payload, Recovered.ORDERS)
        now = time_of(1) + LATE
        self.assertEqual(build(marked, now).recovered, "orders")
        self.assertFalse(build(marked, now).is_late)
        self.assertTrue(build(marked, now + 1).is_late)
        self.assertFalse(build(payload, now + 1).is_late)

    def test_kind_that_is_no_word_is_other(self) -> None:
        """It becomes a part of the type."""
        for kind in (None, 7, "a b", "x" * 200):
            self.assertEqual(build(event(1, event=kind).payload).type, "trade_updates.other")

    def test_field_from_outside_stays_on_the_line_and_short(self) -> None:
        """A client_order_id may have 128 characters, and control characters."""
        order = {**ORDER, "client_order_id": "a\nb\u202e" + "x" * 100}
        text = build(event(1, order=order).payload).text
        self.assertIn("order a b x", text)
        self.assertIn("…, 2026", text)

    @examples()
    @given(
        st.dictionaries(
            st.sampled_from(("event", "event_id", "at", "qty", "price", "order", "reason")),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(("symbol", "side", "qty", "client_order_id")), inner
                    )
                ),
                max_leaves=5,
            ),
        )
    )
    def test_any_event_makes_a_message(self, data: dict[str, Any]) -> None:
        """Alpaca may change any field, and a webhook that fails would stop."""
        payload = json.dumps({"stream": "trade_updates", "data": data}).encode()
        message = build(payload)
        self.assertEqual(message.build_text(Skipped()).count("\n"), 0)
        message.build_envelope(Skipped(1, 0, None))

    def test_dropped_data_is_restored_from_the_frame(self) -> None:
        """It is on one line in both cases, and other members of the frame may look like it."""
        for frame in (
            event(1).payload,
            b'{"a": {"x": 1}, "data": {"x": 1},\r\n "data":\n{"x":\r\n "\xc3\xa9"}\n}',
            b'{"data": null, "recovered": "orders"}',
        ):
            message = build(frame)
            dropped = message.drop_data(7, frame)
            self.assertEqual(dropped.data, b"")
            assert dropped.dropped is not None
            self.assertEqual(dropped.restore_data(dropped.dropped, frame), message)
            other = frame.replace(b"}", b" }", 1)
            self.assertRaises(ValueError, dropped.restore_data, dropped.dropped, other)

    def test_unreadable_frame_makes_a_message(self) -> None:
        """A frame that the proxy relays need not be one that it can read."""
        for payload in (b"", b"{", b"[]", b"\xff", b'{"data":' + b"[" * 5000 + b"]" * 5000 + b"}"):
            self.assertEqual(json.loads(build(payload).build_envelope(Skipped()))["data"], None)


class ProxyMessageTests(SynchronousTestCase):
    """An event of the proxy itself."""

    def test_message_names_the_event_and_the_reason(self) -> None:
        """Its id has the account and the time, so it is the same for every attempt."""
        message = build_proxy_message(
            "paper", "upstream_down", 7, "connection lost", {"reason": "connection lost"}
        )
        self.assertEqual(message.id, "proxy-upstream_down-paper-7")
        self.assertEqual(message.build_text(Skipped()), "paper: upstream_down: connection lost")
        self.assertEqual(
            json.loads(message.build_envelope(Skipped()))["data"]["reason"][:4], "conn"
        )
