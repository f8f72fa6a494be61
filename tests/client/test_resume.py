"""Tests for tradeproxy.client.resume: what each message means to a client's position."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTHENTICATED, FILL, LISTENING, NEW, NOT_JSON
from tradeproxy.client.resume import MAX_UNCURSORED, PositionLostError, ResumeState, Update
from tradeproxy.wire.frame import Recovered, frame_event, with_cursor, with_mark

HERE, THERE = "paper.0123456789abcdef.1.00000001", "paper.0123456789abcdef.9.00000009"


def status(event: str, **fields: Any) -> bytes:
    """Return a frame of the status stream."""
    return json.dumps({"stream": "proxy_status", "data": {"event": event, **fields}}).encode()


class PlaceTests(SynchronousTestCase):
    """One client's place."""

    def test_an_event_moves_it(self) -> None:
        """Its data is byte for byte Alpaca's, and the next connection begins behind it."""
        place = ResumeState({"replay": "3"})
        self.assertEqual(place.next_query(), {"replay": "3"})
        update = place.receive(
            with_cursor(with_mark(frame_event(b'{"qty": 1.10}'), Recovered.EVENTS), HERE)
        )
        self.assertEqual(update, Update(b'{"qty": 1.10}', HERE, "events"))
        self.assertEqual(place.next_query(), {"since_id": HERE})

    def test_what_is_no_news_moves_nothing(self) -> None:
        """Acks, other streams, and what is no JSON at all."""
        place = ResumeState({"since_id": HERE})
        for message in (
            AUTHENTICATED,
            LISTENING,
            b'{"stream":"trade_updates","data":null}',
            *NOT_JSON.values(),
        ):
            self.assertIsNone(place.receive(message), message[:40])
        self.assertEqual(place.cursor, HERE)

    def test_without_a_position_it_begins_where_the_hello_stands(self) -> None:
        """So what happens between a first connection and its early end is not missed."""
        place = ResumeState({})
        self.assertEqual(place.next_query(), {})
        place.receive(status("hello", cursor=HERE))
        self.assertEqual(place.next_query(), {"since_id": HERE})

    def test_a_hello_before_a_replay_moves_nothing(self) -> None:
        """It stands at the newest event where the position is lost, which the client has yet to be told."""
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

    def test_a_hello_in_the_stream_moves_it(self) -> None:
        """The log begins anew, and the old cursors mean nothing."""
        place = ResumeState({"since_id": HERE})
        place.next_query()
        for message in (
            status("replay", state="begun", cursor=HERE),
            status("hello", cursor=THERE),
        ):
            place.receive(message)
        self.assertEqual(place.cursor, THERE)

    def test_a_place_among_what_is_held_back_moves_it(self) -> None:
        """As a filtered stream has, so that the cursor does not grow old."""
        place = ResumeState({})
        place.next_query()
        self.assertEqual(
            place.receive(status("position", cursor=HERE)), {"event": "position", "cursor": HERE}
        )
        self.assertEqual(place.cursor, HERE)

    def test_a_place_without_a_cursor_is_none(self) -> None:
        """While the proxy's disk is full: then where it stood before is where it goes on."""
        place = ResumeState({"since_id": HERE})
        place.next_query()
        place.receive(status("replay", state="begun", cursor=None))
        self.assertIsInstance(place.receive(FILL), Update)
        self.assertEqual(place.cursor, HERE)

    def test_an_event_that_came_without_a_cursor_comes_once(self) -> None:
        """The proxy crashed before it wrote it down: with a cursor it comes again, and moves the place."""
        place = ResumeState({"since_id": HERE})
        self.assertIsInstance(place.receive(FILL), Update)
        self.assertIsNone(place.receive(with_cursor(FILL, THERE)))
        self.assertEqual(place.cursor, THERE)
        self.assertIsInstance(place.receive(with_cursor(NEW, THERE)), Update)

    def test_it_remembers_so_many_of_them_only(self) -> None:
        """As many as the proxy keeps in memory."""
        place = ResumeState({})
        events = [
            frame_event(b'{"event_id":"%d"}' % number) for number in range(MAX_UNCURSORED + 1)
        ]
        for event in events:
            self.assertIsInstance(place.receive(event), Update)
        self.assertIsNone(place.receive(events[1]))
        self.assertIsInstance(place.receive(events[0]), Update)

    def test_a_number_of_any_length_is_handed_on(self) -> None:
        """Python itself would not read it; who needs `data` is told so then, and the stream goes on."""
        update = ResumeState({}).receive(frame_event(b'{"n":' + b"1" * 10_000 + b"}"))
        assert isinstance(update, Update)
        self.assertEqual(len(update.raw), 10_006)
        self.assertRaises(ValueError, lambda: update.data)
