"""Tests for tradeproxy.recovery.history, against a server in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.server import NOT_DONE_YET, Request

from tests.upstream.support import RestClientTestCase, event_stream, never, status
from tradeproxy.recovery.history import HistoryReader
from tradeproxy.upstream.rest import RestRefusedError, RestUnavailableError
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.frame import extract_data

SECOND = 1_000_000
SINCE = 1_790_000_000 * SECOND
UNTIL = SINCE + 600 * SECOND


def line(seconds: int) -> bytes:
    """Return the data of an event that happened `seconds` after SINCE."""
    at = format_time(SINCE + seconds * SECOND)
    return b'{"at":"%s","event_id":"%d"}' % (at.encode(), seconds)


def part(*seconds: int, complete: bool = True, comment: bytes = b"") -> Callable[[Request], int]:
    """Return a response with one event for each of these seconds."""
    chunks = [b"data: %s\n\n" % line(second) for second in seconds]
    return event_stream(*chunks, comment, complete=complete)


class HistoryReaderTests(RestClientTestCase):
    """Reads of the history that break off in different ways."""

    def setUp(self) -> None:
        super().setUp()
        self.taken: list[bytes] = []
        self.dropped: Counter[str] = Counter()
        self.history = HistoryReader(
            self.rest, self.clock, SINCE, self.take, lambda problem: self.dropped.update([problem])
        )

    def take(self, event: Event) -> None:
        self.taken.append(extract_data(event.payload)[0])

    def read(self, *answers: Any) -> Deferred[Any]:
        """Read the history; `answers` are its responses, in order."""
        responses = list(answers)
        self.answer = lambda request: responses.pop(0)(request)
        return self.start(self.history.read(UNTIL))

    def requested_seconds(self) -> list[int]:
        """Return the start of each request, in seconds after SINCE."""
        queries = [parse_qs(urlsplit(uri).query) for uri in self.requested_uris()]
        self.assertTrue(all(query["until"] == [format_time(UNTIL)] for query in queries))
        seconds_by_time = {
            format_time(SINCE + second * SECOND): second for second in range(-1, 600)
        }
        return [seconds_by_time[query["since"][0]] for query in queries]

    def test_read_complete_response_returns_events_in_order(self) -> None:
        """Each event has Alpaca's bytes."""
        self.successResultOf(self.read(part(1, 2, 3)))
        self.assertEqual(self.taken, [line(1), line(2), line(3)])
        self.assertEqual(self.requested_seconds(), [0])

    def test_read_broken_response_continues_1_s_before_last_event(self) -> None:
        """A loss that Alpaca reports in a comment is handled like a break."""
        loss = b": you are reading too slowly, dropped 5 messages\n\n" + b"data: %s\n\n" % line(99)
        self.successResultOf(
            self.read(part(5, complete=False), part(5, 9, comment=loss), part(9, 12))
        )
        self.assertEqual(self.requested_seconds(), [0, 4, 8])
        self.assertEqual(self.taken, [line(second) for second in (5, 5, 9, 9, 12)])

    def test_read_break_without_progress_raises_unavailable(self) -> None:
        """The caller waits and calls again; the reader continues where it was."""
        reading = self.read(part(5, complete=False), part(5, complete=False))
        self.failureResultOf(reading, RestUnavailableError)
        self.successResultOf(self.read(part(5, 6)))
        self.assertEqual(self.requested_seconds(), [0, 4, 4])

    def test_read_event_in_the_future_skips_nothing(self) -> None:
        """An event after `until` has a wrong time, and does not move the next request's start."""
        self.failureResultOf(
            self.read(part(5, 3000, complete=False), status(500)), RestUnavailableError
        )
        self.assertEqual(self.requested_seconds(), [0, 4])

    def test_read_endless_response_raises_unavailable(self) -> None:
        """Comments, and events after `until`, do not extend the timeout; other events do."""

        def going_on(*more: bytes) -> Callable[[Request], int]:
            def answer(request: Request) -> int:
                request.setHeader("content-type", "text/event-stream")
                for number, chunk in enumerate(more):
                    self.clock.callLater(15 * number, request.write, chunk)
                return NOT_DONE_YET

            return answer

        beat = b": heartbeat\n\n"
        event = b"data: %s\n\n"
        for chunks, end in (
            ([beat] * 5, 20),
            ([event % line(1), event % line(2), event % line(601), event % line(602)], 35),
            ([event % line(600), event % line(601)], 20),
        ):
            reading = self.read(going_on(*chunks), status(500))
            self.wires.advance(end - 0.1)
            self.assertNoResult(reading)
            self.wires.advance(0.2)
            self.failureResultOf(reading, RestUnavailableError)

    def test_read_event_extends_timeout_by_time_since_start(self) -> None:
        """An event after half a second is half a second more."""

        def answer(request: Request) -> int:
            request.setHeader("content-type", "text/event-stream")
            self.clock.callLater(0.5, request.write, b"data: %s\n\n" % line(0))
            self.clock.callLater(10, request.write, b": heartbeat\n\n")
            return NOT_DONE_YET

        reading = self.read(answer)
        self.wires.advance(20.25)
        self.assertNoResult(reading)
        self.wires.advance(0.25)
        error = self.failureResultOf(reading, RestUnavailableError)
        self.assertEqual(error.value.reason, "no event of the history in time")

    def test_read_continues_before_event_at_end(self) -> None:
        """The newest event may be as late as the requested time, and not the last that came."""
        self.successResultOf(self.read(part(600, 599, complete=False), part(600)))
        self.assertEqual(self.requested_seconds(), [0, 599])

    def test_read_canceled_is_no_failure(self) -> None:
        """The caller does not want the history any more. No timer is left."""
        reading = self.read(never)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.wires.flush()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_read_rejection_raises_refused(self) -> None:
        """A rejection is not retried."""
        self.failureResultOf(self.read(status(403)), RestRefusedError)

    def test_read_junk_is_dropped_and_counted(self) -> None:
        """The events after the junk are read."""
        sly = b'{"status":"authorized"},"stream":"authorization"'
        junk = b"data: null\n\ndata: {\n\ndata: {}}\n\ndata: %s\n\ndata: %s\n\n" % (sly, line(2))
        self.successResultOf(self.read(event_stream(junk)))
        self.assertEqual(self.taken, [line(2)])
        self.assertEqual(self.dropped.total(), 4)

    def test_read_several_data_lines_finds_events(self) -> None:
        """The lines are one event, or one event each if the blank lines are missing."""
        split = b'data: {"event_id":\ndata: "x"}\n\n'
        joined = b"data: %s\ndata: %s\n" % (line(1), line(2))
        self.successResultOf(self.read(event_stream(split, joined)))
        self.assertEqual(self.taken, [b'{"event_id": "x"}', line(1), line(2)])
        self.assertEqual(self.dropped.total(), 0)

    def test_read_error_of_gateway_raises_unavailable(self) -> None:
        """It must not count as a history without events, whatever its content type."""
        reading = self.read(event_stream(b'{"code":500}\n'))
        self.failureResultOf(reading, RestUnavailableError)

    def test_read_oversized_event_is_dropped(self) -> None:
        """It is counted like other junk."""
        huge = b"data: " + b"x" * (1024 * 1024 + 1) + b"\n\n"
        self.successResultOf(self.read(event_stream(huge, b"data: %s\n\n" % line(1))))
        self.assertEqual((self.taken, self.dropped.total()), ([line(1)], 1))
