"""Tests for the clients of the chaos runs: what they may miss or repeat after a lost position."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.system.chaos.checker import Truth, Verdict, judge
from tests.system.chaos.clients import (
    ResumingSseClient,
    ResumingWebSocketClient,
    SinceSseClient,
    SseConnection,
)
from tradeproxy.wire.event import format_time

START = 1_700_000_000_000_000
"""The time of event 0, in microseconds since 1970; event n is n seconds later."""


def at(number: int) -> str:
    """Return the time of an event."""
    return format_time(START + number * 1_000_000)


class SseClient(ResumingSseClient):
    """Has received what a test says; connects to nothing."""

    def __init__(self) -> None:
        super().__init__("sse", lambda: 0, START)

    @property
    def query(self) -> dict[str, str]:
        """The query of its next request."""
        return self._query()

    def take(self, *numbers: int) -> None:
        """Receive events on a new connection."""
        self.connects += 1
        for number in numbers:
            self.receive([f'data: {{"n": {number}, "at": "{at(number)}"}}', f"id: {number}"])

    def judge(self, emitted: int, lost_from_log: Sequence[int] = ()) -> Verdict:
        """Return the verdict on what it has received of so many events."""
        times = {number: float(number) for number in range(1, emitted + 1)}
        return judge(self.log, Truth(times, lost_from_log=lost_from_log))


class SinceClient(SinceSseClient):
    """Has received what a test says; connects to nothing."""

    def __init__(self) -> None:
        super().__init__("since", lambda: 0, START)

    @property
    def query(self) -> dict[str, str]:
        """The query of its next request."""
        return self._query()

    def take(self, number: int, time: str) -> None:
        """Receive one event."""
        self.receive([f'data: {{"n": {number}, "at": "{time}"}}'])


class CursorClient(ResumingWebSocketClient):
    """Connects to nothing."""

    @property
    def query(self) -> dict[str, str]:
        """The query of its next request."""
        return self._query()


class LostPositionTests(SynchronousTestCase):
    """A client that is rejected resumes from a time; that is a position like others."""

    def setUp(self) -> None:
        self.client = SseClient()
        self.client.take(1, 2, 3, 4)

    def test_resume_from_time_after_410_must_miss_nothing(self) -> None:
        """Every event missed after a 410 once counted as declared."""
        self.client.status_received(410)
        self.assertEqual(self.client.query, {"since": at(4)})
        self.client.take(4, 6)
        self.assertEqual((self.client.judge(6).lost, self.client.judge(6).declared), (1, 0))

    def test_resume_from_time_after_410_repeats_only_events_since_then(self) -> None:
        """A client that got all events again after a rollback was not noticed."""
        self.client.status_received(410)
        self.client.take(1, 2, 3, 4, 5)
        self.assertEqual(self.client.judge(5).duplicates, 3)
        self.assertEqual(self.client.judge(5, lost_from_log=(3,)).duplicates, 2)

    def test_resume_after_late_event_uses_newest_time(self) -> None:
        """With the time of the late event, all events since then could come again."""
        self.client.take(6, 5)
        self.client.status_received(410)
        self.assertEqual(self.client.query, {"since": at(6)})
        self.client.take(6, 5, 7)
        self.assertEqual(self.client.judge(7).duplicates, 0)

    def test_second_410_declares_loss_up_to_next_event(self) -> None:
        """The client continues with live events."""
        self.client.status_received(410)
        self.client.status_received(410)
        self.assertEqual(self.client.query, {})
        self.client.take(7, 9)
        verdict = self.client.judge(9)
        self.assertEqual((verdict.declared, verdict.lost), (2, 1))

    def test_cursor_rejected_before_first_event_declares_loss(self) -> None:
        """After a loss a client had only the cursor of `hello`; the next loss was not recorded."""
        client = CursorClient("cursor", lambda: 0, START, by_cursor=True)
        client.connection_closed(4010)
        hello = {"event": "hello", "cursor": "a-cursor", "gaps": []}
        client.receive({"stream": "proxy_status", "data": hello})
        client.connection_closed(4010)
        self.assertEqual((client.query, client.log.positions_lost), ({"proxy_status": "1"}, [0, 0]))

    def test_time_that_lies_in_the_future_is_replaced_by_an_earlier_one(self) -> None:
        """The client repeated a request that was refused, and all later events counted as lost."""
        for status in (400, 410):
            client = SinceClient()
            client.take(1, at(1))
            client.take(2, "2999-01-01T00:00:00.000000Z")
            self.assertEqual(client.query, {"since": "2999-01-01T00:00:00.000000001Z"})
            client.status_received(status)
            self.assertEqual(client.query, {"since": at(1)})
            verdict = judge(client.log, Truth({1: 1.0, 2: 2.0, 3: 3.0}))
            self.assertEqual((verdict.declared, verdict.lost), (0, 1), "no loss is declared yet")

    def test_rejected_time_declares_a_loss(self) -> None:
        """The client that resumes by time has no other position left then."""
        client = SinceClient()
        client.take(1, at(1))
        client.status_received(410)
        client.status_received(410)
        self.assertEqual((client.query, client.log.positions_lost), ({}, [1]))

    def test_connection_ends_after_a_rejection(self) -> None:
        """The proxy keeps it open, so the client waited on it, and later events counted as lost."""
        for status, is_open in (("200 OK", True), ("400 Bad Request", False), ("410 Gone", False)):
            transport = StringTransport()
            connection = SseConnection(SinceClient(), b"GET")
            connection.makeConnection(transport)
            connection.dataReceived(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n".encode())
            self.assertEqual(transport.connected and not transport.disconnecting, is_open, status)
