"""Tests for tradeproxy.client.resume: what each message means to a client's position."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTHENTICATED, FILL, LISTENING, NEW, NOT_JSON
from tradeproxy.client.resume import MAX_UNCURSORED, PositionLostError, ResumeState, Update
from tradeproxy.journal.backlog import MAX_EVENTS
from tradeproxy.wire.frame import Recovered, frame_event, with_cursor, with_mark

HERE, THERE = "paper.0123456789abcdef.1.00000001", "paper.0123456789abcdef.9.00000009"
LAST = "paper.0123456789abcdef.10002.00000000"


def status(event: str, **fields: Any) -> bytes:
    """Return a frame of the status stream."""
    return json.dumps({"stream": "proxy_status", "data": {"event": event, **fields}}).encode()


class ResumeStateTests(SynchronousTestCase):
    """The position of one client."""

    def test_event_with_cursor_moves_position(self) -> None:
        """Its data is byte for byte Alpaca's, and the next connection starts after it."""
        place = ResumeState({"replay": "3"})
        self.assertEqual(place.next_query(), {"replay": "3"})
        update = place.receive(
            with_cursor(with_mark(frame_event(b'{"qty": 1.10}'), Recovered.EVENTS), HERE)
        )
        self.assertEqual(update, Update(b'{"qty": 1.10}', HERE, "events"))
        self.assertEqual(place.next_query(), {"since_id": HERE})

    def test_nan_and_infinity_are_read(self) -> None:
        """They are no JSON, but the proxy forwards what Alpaca sends, byte for byte."""
        data = b'{"qty":NaN,"price":-Infinity}'
        update = ResumeState({}).receive(with_cursor(frame_event(data), HERE))
        assert isinstance(update, Update)
        self.assertEqual(update.raw, data)
        self.assertEqual(str(update.data), "{'qty': nan, 'price': -inf}")

    def test_other_messages_keep_position(self) -> None:
        """Acks, other streams and invalid JSON do not change the position."""
        place = ResumeState({"since_id": HERE})
        for message in (
            AUTHENTICATED,
            LISTENING,
            b'{"stream":"trade_updates","data":null}',
            *NOT_JSON.values(),
        ):
            self.assertIsNone(place.receive(message), message[:40])
        self.assertEqual(place.cursor, HERE)

    def test_hello_without_position_sets_position(self) -> None:
        """A first connection that closes early loses no event."""
        place = ResumeState({})
        self.assertEqual(place.next_query(), {})
        place.receive(status("hello", cursor=HERE))
        self.assertEqual(place.next_query(), {"since_id": HERE})

    def test_hello_before_replay_keeps_position(self) -> None:
        """Its cursor is the newest event, and the replay may still be impossible."""
        place = ResumeState({"since_id": HERE})
        place.next_query()
        place.receive(status("hello", cursor=THERE))
        self.assertEqual(place.cursor, HERE)
        lost = place.receive(
            status("replay", state="impossible", cursor=THERE, reason="it is trimmed")
        )
        self.assertIsInstance(lost, PositionLostError)
        self.assertEqual(str(lost), "it is trimmed")
        self.assertEqual(place.cursor, THERE)

    def test_hello_before_counted_replay_sets_position(self) -> None:
        """After an early disconnect, the last n events may be later ones; some would be missed."""
        place = ResumeState({"replay": "3"})
        place.next_query()
        place.receive(status("hello", cursor=HERE))
        self.assertEqual(place.next_query(), {"since_id": HERE})

    def test_hello_before_replay_from_time_keeps_start(self) -> None:
        """A time stays the same position, and the replay may be impossible."""
        place = ResumeState({"since": "2026-07-24T09:30:00Z"})
        place.next_query()
        place.receive(status("hello", cursor=THERE))
        self.assertEqual(place.next_query(), {"since": "2026-07-24T09:30:00Z"})

    def test_lost_position_without_new_cursor_is_requested_again(self) -> None:
        """Otherwise the next connection would silently miss what follows."""
        for start in ({"since_id": HERE}, {"since": "2026-07-24T09:30:00Z"}):
            place = ResumeState(start)
            place.next_query()
            lost = place.receive(status("replay", state="impossible", cursor=None))
            self.assertIsInstance(lost, PositionLostError)
            self.assertEqual(place.next_query(), start)

    def test_event_without_cursor_is_the_position_if_there_is_no_other(self) -> None:
        """The first events of a client may come while the proxy cannot write to its journal.

        A cursor takes precedence: a crash of the proxy may lose such an event. An event without an
        id is no position.
        """
        place = ResumeState({})
        place.receive(frame_event(b'{"event_id":"1"}'))
        place.receive(frame_event(b'{"event":"new"}'))
        self.assertEqual(place.next_query(), {"since_id": "1"})
        self.assertIsNone(place.cursor)
        place.receive(status("replay", state="complete", cursor=HERE))
        place.receive(frame_event(b'{"event_id":"2"}'))
        self.assertEqual(place.next_query(), {"since_id": HERE})
        place.reset()
        self.assertEqual(place.next_query(), {})

    def test_hello_in_stream_moves_position(self) -> None:
        """A new log makes the old cursors invalid."""
        place = ResumeState({"since_id": HERE})
        place.next_query()
        for message in (
            status("replay", state="begun", cursor=HERE),
            status("hello", cursor=THERE),
        ):
            place.receive(message)
        self.assertEqual(place.cursor, THERE)

    def test_position_of_filtered_stream_moves_position(self) -> None:
        """The cursor of a filtered stream stays recent."""
        place = ResumeState({})
        place.next_query()
        self.assertEqual(
            place.receive(status("position", cursor=HERE)), {"event": "position", "cursor": HERE}
        )
        self.assertEqual(place.cursor, HERE)

    def test_status_without_cursor_keeps_position(self) -> None:
        """While the proxy cannot write to its disk, the old position stays valid."""
        place = ResumeState({"since_id": HERE})
        place.next_query()
        place.receive(status("replay", state="begun", cursor=None))
        self.assertIsInstance(place.receive(FILL), Update)
        self.assertEqual(place.cursor, HERE)

    def test_repeat_of_event_without_cursor_only_moves_position(self) -> None:
        """After a crash, the proxy resends the event with a cursor; the client drops the repeat."""
        place = ResumeState({"since_id": HERE})
        self.assertIsInstance(place.receive(FILL), Update)
        self.assertIsNone(place.receive(with_cursor(FILL, THERE)))
        self.assertEqual(place.cursor, THERE)
        self.assertIsInstance(place.receive(with_cursor(NEW, THERE)), Update)

    def test_bust_and_correction_without_cursor_are_two_events(self) -> None:
        """Alpaca gives both the `event_id` of the fill that they are about."""
        place = ResumeState({})
        for kind in ("trade_bust", "trade_correct"):
            data = {"event": kind, "event_id": "1", "execution_id": "2", "order": {"id": "3"}}
            frame = frame_event(json.dumps(data).encode())
            self.assertIsInstance(place.receive(frame), Update)
            self.assertIsNone(place.receive(frame))

    def test_events_without_cursor_are_bounded(self) -> None:
        """The client remembers as many as the proxy buffers."""
        place = ResumeState({})
        events = [
            frame_event(b'{"event_id":"%d"}' % number) for number in range(MAX_UNCURSORED + 1)
        ]
        for event in events:
            self.assertIsInstance(place.receive(event), Update)
        self.assertIsNone(place.receive(events[1]))
        self.assertIsInstance(place.receive(events[0]), Update)

    def test_replay_of_backlog_after_overflow_events_repeats_none(self) -> None:
        """The proxy kept 10,000 events for its disk, and delivered more that it could not keep.

        The client forgot the first ones. It yielded them again when it resumed from its cursor.
        """
        place = ResumeState({"since_id": HERE})
        backlog, overflow = (
            [frame_event(b'{"event_id":"%d"}' % number) for number in numbers]
            for numbers in (range(MAX_EVENTS), range(MAX_EVENTS, MAX_EVENTS + 600))
        )
        for event in (*backlog, *overflow):
            self.assertIsInstance(place.receive(event), Update)
        self.assertEqual(place.next_query(), {"since_id": HERE})
        for event in backlog:
            self.assertIsNone(place.receive(with_cursor(event, THERE)))
        lost = place.receive(status("replay", state="impossible", cursor=LAST, reason="lost"))
        self.assertIsInstance(lost, PositionLostError)
        self.assertEqual(place.next_query(), {"since_id": LAST})

    def test_number_of_any_length_is_yielded(self) -> None:
        """Only `data` raises ValueError for it; the stream continues."""
        update = ResumeState({}).receive(frame_event(b'{"n":' + b"1" * 10_000 + b"}"))
        assert isinstance(update, Update)
        self.assertEqual(len(update.raw), 10_006)
        self.assertRaises(ValueError, lambda: update.data)

    def test_status_with_a_number_of_any_length_is_no_error(self) -> None:
        """The client would end with a traceback, for something that a later version may send."""
        frame = b'{"stream":"proxy_status","data":{"event":"later","n":%b}}' % (b"1" * 10_000)
        self.assertEqual(ResumeState({}).receive(frame), {"event": "later", "n": "1" * 10_000})
