"""Tests of the event history."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.simulator.support import at
from tests.support.frames import FILL
from tradeproxy.simulator.history import EventHistory, event_payload, event_record

NOW = 1_800_000_000_000_000_000


class RecordTests(SynchronousTestCase):
    """The record of one event."""

    def test_record_keeps_the_bytes(self) -> None:
        """The payload is the frame, and the data is a part of it, byte for byte."""
        record = event_record({"event": "new", "n": "é"}, NOW)
        self.assertEqual(
            record.payload, b'{"stream":"trade_updates","data":{"event":"new","n":"\\u00e9"}}'
        )
        self.assertEqual(record.data, b'{"event":"new","n":"\\u00e9"}')

    def test_differing_copy_is_the_historys(self) -> None:
        """Its id and time count; the payload is the stream's frame."""
        record = event_record({"event_id": "x", "event": "new"}, NOW, {"event": "new"})
        self.assertEqual(record.payload, b'{"stream":"trade_updates","data":{"event":"new"}}')
        self.assertEqual(record.data, b'{"event_id":"x","event":"new"}')
        self.assertEqual((record.event_id, record.time), ("x", NOW))
        self.assertEqual(record.size, len(record.payload) + len(record.data))

    def test_time_is_at_timestamp_or_now(self) -> None:
        """The time of emission counts if both are invalid."""
        early, late = "2026-07-24T14:42:49.354133Z", "2026-07-24T14:42:49.354133999Z"
        for data, expected in (
            ({"at": late, "timestamp": early}, at(late)),
            ({"timestamp": early}, at(early)),
            ({"at": 5, "timestamp": early}, at(early)),
            ({"at": "soon"}, NOW),
            ({}, NOW),
        ):
            self.assertEqual(event_record(data, NOW).time, expected, data)

    def test_id_is_the_events_or_none(self) -> None:
        """An id that is not text is ignored."""
        for data, expected in (({"event_id": "x"}, "x"), ({"event_id": 5}, None), ({}, None)):
            self.assertEqual(event_record(data, NOW).event_id, expected, data)

    def test_fill_has_an_activity_id(self) -> None:
        """The id has the fill's time and execution; other events have none."""
        data = json.loads(FILL)["data"]
        record = event_record(data, NOW)
        assert record.fill is not None
        self.assertEqual(record.fill.time, at(data["timestamp"]))
        self.assertRegex(record.fill.id, r"\A[0-9]{17}::" + data["execution_id"] + r"\Z")
        for other in (data | {"event": "new"}, data | {"order": None}):
            self.assertIsNone(event_record(other, NOW).fill)

    def test_fill_without_execution_has_a_stable_id(self) -> None:
        """Equal fills have equal ids."""
        first, again, second = (
            event_record({"event": "fill", "order": {}, "qty": qty}, NOW).fill
            for qty in ("1", "1", "2")
        )
        self.assertEqual(first, again)
        self.assertNotEqual(first, second)


class HistoryTests(SynchronousTestCase):
    """The history as a whole."""

    def numbered(self, history: EventHistory, count: int) -> EventHistory:
        for number in range(history.end, history.end + count):
            history.append(event_record({"event_id": str(number)}, NOW))
        return history

    def test_events_keep_their_order(self) -> None:
        """Events are available by position, by id and from the end."""
        history = self.numbered(EventHistory(), 5)
        self.assertEqual([record.event_id for record in history], ["0", "1", "2", "3", "4"])
        self.assertEqual((history[3].event_id, history.position_of("3")), ("3", 3))
        self.assertIsNone(history.position_of("9"))
        self.assertEqual([record.event_id for record in history.last(2)], ["3", "4"])
        self.assertEqual(len(history.last(99)), 5)

    def test_repeated_id_has_its_last_position(self) -> None:
        """A resume after it does not repeat events."""
        history = self.numbered(EventHistory(), 2)
        history.append(history[0])
        self.assertEqual(history.position_of("0"), 2)

    def test_last_fills_are_oldest_first(self) -> None:
        """Other events are skipped."""
        history = EventHistory()
        for number, kind in enumerate(("fill", "new", "partial_fill", "fill", "canceled")):
            history.append(event_record({"event": kind, "event_id": str(number), "order": {}}, NOW))
        self.assertEqual([record.event_id for record in history.last_fills(2)], ["2", "3"])
        self.assertEqual([record.event_id for record in history.last_fills(9)], ["0", "2", "3"])

    def test_number_of_events_is_bounded(self) -> None:
        """The oldest events are dropped, and positions do not change."""
        history = self.numbered(EventHistory(events_kept=3), 10)
        self.assertEqual((history.first, history.end), (7, 10))
        self.assertEqual([record.event_id for record in history], ["7", "8", "9"])
        self.assertEqual(len(history.last(5)), 3)

    def test_bytes_are_bounded(self) -> None:
        """The newest event always stays."""
        size = len(event_payload({"event_id": "0"}))
        history = self.numbered(EventHistory(bytes_kept=2 * size), 5)
        self.assertEqual(len(list(history)), 2)
        history.append(event_record({"event_id": "large", "x": "x" * size * 2}, NOW))
        self.assertEqual([record.event_id for record in history], ["large"])
