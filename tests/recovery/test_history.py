"""Tests for tradeproxy.recovery.history, against a page in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET, Request

from tests.upstream.support import RestTestCase, event_stream, status
from tradeproxy.recovery.history import HistoryReader
from tradeproxy.upstream.rest import RestRefusedError, RestUnavailableError
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.frame import extract_data

SECOND = 1_000_000
SINCE = 1_790_000_000 * SECOND
UNTIL = SINCE + 600 * SECOND


def line(seconds: int) -> bytes:
    """Return the data of an event that happened some seconds after SINCE."""
    at = format_time(SINCE + seconds * SECOND)
    return b'{"at":"%s","event_id":"%d"}' % (at.encode(), seconds)


def part(*seconds: int, complete: bool = True, comment: bytes = b"") -> Callable[[Request], int]:
    """Return a response with events of these seconds."""
    chunks = [b"data: %s\n\n" % line(second) for second in seconds]
    return event_stream(*chunks, comment, complete=complete)


class HistoryTests(RestTestCase):
    """Readings that break off in every way."""

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
        """Read the history, of which these are the responses."""
        waiting = list(answers)
        self.answer = lambda request: waiting.pop(0)(request)
        return self.start(self.history.read(UNTIL))

    def asked_since(self) -> list[int]:
        """Return the seconds after SINCE from which on each request asked."""
        queries = [parse_qs(urlsplit(uri).query) for uri in self.asked()]
        self.assertTrue(all(query["until"] == [format_time(UNTIL)] for query in queries))
        moments = {format_time(SINCE + second * SECOND): second for second in range(-1, 600)}
        return [moments[query["since"][0]] for query in queries]

    def test_reads_events_in_their_order(self) -> None:
        """Byte for byte, up to the clean end."""
        self.successResultOf(self.read(part(1, 2, 3)))
        self.assertEqual(self.taken, [line(1), line(2), line(3)])
        self.assertEqual(self.asked_since(), [0])

    def test_goes_on_a_second_before_the_last_event(self) -> None:
        """After a cut, and after a loss that Alpaca admits."""
        loss = b": you are reading too slowly, dropped 5 messages\n\n" + b"data: %s\n\n" % line(99)
        self.successResultOf(
            self.read(part(5, complete=False), part(5, 9, comment=loss), part(9, 12))
        )
        self.assertEqual(self.asked_since(), [0, 4, 8])
        self.assertEqual(self.taken, [line(second) for second in (5, 5, 9, 9, 12)])

    def test_a_break_without_progress_is_left_to_the_caller(self) -> None:
        """Who waits a little, and asks again: from where it was."""
        reading = self.read(part(5, complete=False), part(5, complete=False))
        self.failureResultOf(reading, RestUnavailableError)
        self.successResultOf(self.read(part(5, 6)))
        self.assertEqual(self.asked_since(), [0, 4, 4])

    def test_an_event_of_a_time_to_come_leads_nowhere(self) -> None:
        """Nothing of the span is skipped for its sake."""
        self.failureResultOf(
            self.read(part(5, 3000, complete=False), status(500)), RestUnavailableError
        )
        self.assertEqual(self.asked_since(), [0, 599])

    def test_a_response_that_does_not_end_is_given_up(self) -> None:
        """Neither comments nor events of a later time are what was asked for; events of that time are."""

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
            ([beat] * 5, 30),
            ([event % line(1), event % line(2), event % line(601), event % line(602)], 45),
        ):
            reading = self.read(going_on(*chunks), status(500))
            self.wires.advance(end - 0.1)
            self.assertNoResult(reading)
            self.wires.advance(0.2)
            self.failureResultOf(reading, RestUnavailableError)

    def test_a_refusal_is_the_callers_affair(self) -> None:
        """It is no break."""
        self.failureResultOf(self.read(status(403)), RestRefusedError)

    def test_counts_what_is_no_event(self) -> None:
        """And goes on behind it."""
        sly = b'{"status":"authorized"},"stream":"authorization"'
        junk = b"data: null\n\ndata: {\n\ndata: {}}\n\ndata: %s\n\ndata: %s\n\n" % (sly, line(2))
        self.successResultOf(self.read(event_stream(junk)))
        self.assertEqual(self.taken, [line(2)])
        self.assertEqual(self.dropped.total(), 4)

    def test_reads_data_on_several_lines(self) -> None:
        """One event of several lines, or several whose blank lines are missing."""
        split = b'data: {"event_id":\ndata: "x"}\n\n'
        joined = b"data: %s\ndata: %s\n" % (line(1), line(2))
        self.successResultOf(self.read(event_stream(split, joined)))
        self.assertEqual(self.taken, [b'{"event_id": "x"}', line(1), line(2)])

    def test_an_event_without_an_end_is_passed_over(self) -> None:
        """It is counted like other junk."""
        huge = b"data: " + b"x" * (1024 * 1024 + 1) + b"\n\n"
        self.successResultOf(self.read(event_stream(huge, b"data: %s\n\n" % line(1))))
        self.assertEqual((self.taken, self.dropped.total()), ([line(1)], 1))
