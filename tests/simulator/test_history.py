"""Tests of the event log."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tests.simulator.support import at
from tests.support.frames import FILL
from tradeproxy.simulator.history import EventHistory, event_payload, event_record, payload_record

NOW = 1_800_000_000_000_000_000


class RecordTests(SynchronousTestCase):
    """What is remembered of one event."""

    def test_keeps_the_bytes(self) -> None:
        """The payload is the frame, and the data is the part of it, byte for byte."""
        record = event_record({"event": "new", "n": "é"}, NOW)
        self.assertEqual(
            record.payload, b'{"stream":"trade_updates","data":{"event":"new","n":"\\u00e9"}}'
        )
        self.assertEqual(record.data, b'{"event":"new","n":"\\u00e9"}')
        self.assertEqual(payload_record(record.payload, NOW), record)

    def test_finds_the_data_in_any_frame(self) -> None:
        """However a frame is laid out, the data is what stands there, on one line."""
        for frame, data in (
            ('{"stream":"trade_updates","data":{}}', "{}"),
            ('{ "data" : {"a" : "é}"} , "stream":"trade_updates","é":1 }', '{"a" : "é}"}'),
            ('\n{"x":[{"data":1}],"stream":"trade_updates",\n"data":{"a":\n1}\n}\n', '{"a": 1}'),
            ('{"data":1,"stream":"trade_updates","data":{"a":2}}', '{"a":2}'),
        ):
            record = payload_record(frame.encode(), NOW)
            assert record is not None, frame
            self.assertEqual((record.payload, record.data), (frame.encode(), data.encode()))

    def test_other_frames_are_no_events(self) -> None:
        """What is not an event with a data object leaves no record."""
        for frame in (
            b"",
            b"\xff",
            b"[" * 100_000,
            b"[]",
            b'{"stream":"trade_updates","data":null}',
            b'{"stream":"trade_updates"}',
            b'{"stream":"listening","data":{}}',
            b'{"stream":"trade_updates","data":{}',
        ):
            self.assertIsNone(payload_record(frame, NOW), frame[:50])

    def test_its_time_is_at_or_timestamp_or_now(self) -> None:
        """`at` counts before `timestamp`, and the moment of telling when neither is a time."""
        early, late = "2026-07-24T14:42:49.354133Z", "2026-07-24T14:42:49.354133999Z"
        for data, expected in (
            ({"at": late, "timestamp": early}, at(late)),
            ({"timestamp": early}, at(early)),
            ({"at": 5, "timestamp": early}, at(early)),
            ({"at": "soon"}, NOW),
            ({}, NOW),
        ):
            self.assertEqual(event_record(data, NOW).time, expected, data)

    def test_has_an_id_if_the_event_has_one(self) -> None:
        """An id that is no text is none, and none is made up."""
        for data, expected in (({"event_id": "x"}, "x"), ({"event_id": 5}, None), ({}, None)):
            self.assertEqual(event_record(data, NOW).event_id, expected, data)

    def test_fills_have_a_place_among_activities(self) -> None:
        """A captured fill has the id made of its time and execution; other events have none."""
        record = payload_record(FILL, NOW)
        assert record is not None
        assert record.fill is not None
        data = json.loads(FILL)["data"]
        self.assertEqual(record.fill.time, at(data["timestamp"]))
        self.assertRegex(record.fill.id, r"\A[0-9]{17}::" + data["execution_id"] + r"\Z")
        for other in (data | {"event": "new"}, data | {"order": None}):
            self.assertIsNone(event_record(other, NOW).fill)

    def test_fills_without_an_execution_have_ids_too(self) -> None:
        """The same fill has the same id, and another fill another one."""
        first, again, second = (
            event_record({"event": "fill", "order": {}, "qty": qty}, NOW).fill
            for qty in ("1", "1", "2")
        )
        self.assertEqual(first, again)
        self.assertNotEqual(first, second)


class HistoryTests(SynchronousTestCase):
    """The log as a whole."""

    def numbered(self, history: EventHistory, count: int) -> EventHistory:
        for number in range(history.end, history.end + count):
            history.append(event_record({"event_id": str(number)}, NOW))
        return history

    def test_keeps_the_order(self) -> None:
        """Events are found by their position, by their id, and from the end."""
        history = self.numbered(EventHistory(), 5)
        self.assertEqual([record.event_id for record in history], ["0", "1", "2", "3", "4"])
        self.assertEqual((history[3].event_id, history.position_of("3")), ("3", 3))
        self.assertIsNone(history.position_of("9"))
        self.assertEqual([record.event_id for record in history.last(2)], ["3", "4"])
        self.assertEqual(len(history.last(99)), 5)

    def test_an_id_told_twice_is_found_where_it_was_last(self) -> None:
        """Whoever resumes after it is not told the rest of it again."""
        history = self.numbered(EventHistory(), 2)
        history.append(history[0])
        self.assertEqual(history.position_of("0"), 2)

    def test_is_bounded_by_number(self) -> None:
        """The oldest events go, and positions stay what they were."""
        history = self.numbered(EventHistory(events_kept=3), 10)
        self.assertEqual((history.first, history.end), (7, 10))
        self.assertEqual([record.event_id for record in history], ["7", "8", "9"])
        self.assertEqual(len(history.last(5)), 3)

    def test_is_bounded_by_size(self) -> None:
        """Bytes count as well, but the newest event is always there."""
        size = len(event_payload({"event_id": "0"}))
        history = self.numbered(EventHistory(bytes_kept=2 * size), 5)
        self.assertEqual(len(list(history)), 2)
        history.append(event_record({"event_id": "large", "x": "x" * size * 2}, NOW))
        self.assertEqual([record.event_id for record in history], ["large"])
