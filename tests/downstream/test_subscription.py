"""Tests for tradeproxy.downstream.subscription: what one client gets."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import Connections, event, events, memory_journal
from tests.support.memory import StrictClock
from tradeproxy.downstream.encoder import FrameEncoder, add_cursor
from tradeproxy.downstream.log_reader import LogReader
from tradeproxy.downstream.subscription import SharedEncoders, Subscription
from tradeproxy.hub.account import Account
from tradeproxy.query.filters import Filter
from tradeproxy.query.stream import SubscribeOptions
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.position import AfterId, LastEvents, Position


class RecordingTransport:
    """A client's connection that records what the subscription does with it."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.closed: tuple[CloseCode, str] | None = None
        self.is_reading = True

    def write(self, frames: bytes) -> None:
        self.frames += frames.splitlines()

    def close(self, code: CloseCode, reason: str = "") -> None:
        self.closed = (code, reason)

    def abort(self) -> None: ...

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True


class SubscriptionTestCase(SynchronousTestCase):
    """An account with three events, and one subscription, without tests."""

    name = "paper"

    def setUp(self) -> None:
        self.clock = StrictClock()
        self.clock.advance(1_800_000_000)
        self.disk = Connections()
        self.account = Account(self.name, memory_journal(self.clock, connect=self.disk), self.clock)
        self.account.journal.append(events(1, 2, 3))
        self.transport = RecordingTransport()

    def subscribe(
        self,
        position: Position | None = None,
        *,
        status: bool = False,
        wanted: Filter | None = None,
    ) -> Subscription:
        """Return a subscription that has sent nothing."""

        def frame(payload: bytes) -> bytes:
            return payload + b"\n"

        log_reader = LogReader(self.clock, 30)
        encoders = SharedEncoders(
            frame, FrameEncoder(frame), FrameEncoder(frame, add_cursor), log_reader
        )
        options = SubscribeOptions(position, wanted, status=status)
        self.subscription = Subscription(self.account, options, self.transport, encoders)
        self.account.broadcaster.register(self.subscription)
        if status:
            self.subscription.set_status(True)
        return self.subscription

    def take(self) -> list[bytes]:
        """Return the frames since the last call."""
        frames, self.transport.frames = self.transport.frames, []
        return frames

    def take_cursors(self) -> list[tuple[str, Any]]:
        """Return kind and cursor of each status frame since the last call."""
        documents = [json.loads(frame)["data"] for frame in self.take()]
        return [(document["event"], document.get("cursor")) for document in documents]


class HelloTests(SubscriptionTestCase):
    """A `hello` has the position from which the client's stream continues."""

    def test_hello_of_live_client_has_the_last_event_that_it_got(self) -> None:
        """The next event is on its way. A client that resumed behind it would miss it."""
        subscription = self.subscribe()
        subscription.set_events(True)
        self.account.journal.on_committed = lambda _: None
        self.account.journal.append(events(4))
        subscription.set_status(True)
        self.assertEqual(self.take_cursors(), [("hello", self.account.cursor_at(3))])

    def test_hello_of_client_without_events_has_its_position_or_the_end(self) -> None:
        """Its stream will begin there. While the log cannot be read there is no cursor."""
        begin, end = self.account.cursor_at(1), self.account.cursor_at(3)
        for position, cursor in (
            (None, end),
            (LastEvents(2), begin),
            (AfterId(str(begin)), begin),
            (AfterId("unknown"), end),
        ):
            self.subscribe(position, status=True)
            self.assertEqual(self.take_cursors(), [("hello", cursor)], position)
        self.disk.refuse_everything()
        self.subscribe(AfterId("unknown"), status=True)
        self.assertEqual(self.take_cursors()[-1], ("hello", None))

    def test_hello_that_is_due_is_not_sent_after_unlisten(self) -> None:
        """The client has not read, and no longer wants the status."""
        subscription = self.subscribe(status=True)
        subscription.set_events(True)
        self.take()
        subscription.feed.pauseProducing()
        self.account.mark_upstream_up()
        subscription.set_status(False)
        subscription.feed.resumeProducing()
        self.assertEqual(self.take(), [])

    def test_status_frame_for_all_becomes_a_hello_with_the_own_position(self) -> None:
        """A `hello` for all has the end of the log, which is behind this client's position."""
        cursor = self.account.cursor_at(1)
        subscription = self.subscribe(LastEvents(2), status=True)
        self.take()
        subscription.announce(b"for all")
        self.assertEqual(self.take_cursors(), [("hello", cursor)])
        subscription.set_events(True)
        self.clock.advance(0)
        self.take()
        subscription.announce(b"for all")
        self.assertEqual(self.take(), [b"for all"])


class EventsTests(SubscriptionTestCase):
    """Events begin and end with the client's `listen` and `unlisten`."""

    def test_complete_is_sent_once(self) -> None:
        """A client that is caught up again after a pause has no replay."""
        subscription = self.subscribe(LastEvents(2), status=True)
        subscription.set_events(True)
        self.clock.advance(0)
        self.assertIn(b'"complete"', self.take()[-1])
        subscription.feed.pauseProducing()
        subscription.feed.resumeProducing()
        self.assertEqual(self.take(), [])

    def test_unlisten_ends_the_events_and_sends_the_hello_that_is_due(self) -> None:
        """No event has to come first any more."""
        subscription = self.subscribe(LastEvents(2), status=True)
        subscription.set_events(True)
        self.take()
        self.account.mark_upstream_up()
        self.assertEqual(self.take(), [])
        subscription.set_events(False)
        self.assertEqual(self.take_cursors(), [("hello", self.account.cursor_at(3))])
        self.account.publish(event(4))
        self.account.flush()
        self.clock.advance(0)
        self.assertEqual(self.take(), [])


class PauseTests(SubscriptionTestCase):
    """A client that does not read."""

    def test_paused_client_is_not_read_from(self) -> None:
        """Its replies would pile up in memory."""
        feed = self.subscribe().feed
        feed.pauseProducing()
        self.assertFalse(self.transport.is_reading)
        feed.resumeProducing()
        self.assertTrue(self.transport.is_reading)

    def test_stall_reason_has_the_cursor_if_123_bytes_suffice(self) -> None:
        """A close frame has no more room, and the name of an account is part of a cursor."""
        text = "read too slowly for 30 s: reconnect with since_id={}"
        rest = len(text.format(".0123456789abcdef.3.01234567"))
        for size, fits in ((123 - rest, True), (124 - rest, False)):
            self.name = "a" * size
            self.setUp()
            subscription = self.subscribe(status=True)
            subscription.set_events(True)
            subscription.feed.pauseProducing()
            self.clock.advance(30)
            reason = text.format(self.account.cursor_at(3))
            self.assertEqual(len(reason), 123 if fits else 124)
            expected = reason if fits else CloseCode.TOO_SLOW.reason
            self.assertEqual(self.transport.closed, (CloseCode.TOO_SLOW, expected))

    def test_stall_reason_without_events_has_the_position_of_the_hello(self) -> None:
        """A client that listens to its status only got a cursor before the whole log."""
        for position, seq in ((None, 3), (LastEvents(2), 1)):
            self.setUp()
            subscription = self.subscribe(position, status=True)
            cursor = self.account.cursor_at(seq)
            self.assertEqual(self.take_cursors(), [("hello", cursor)])
            subscription.feed.pauseProducing()
            self.clock.advance(30)
            reason = f"read too slowly for 30 s: reconnect with since_id={cursor}"
            self.assertEqual(self.transport.closed, (CloseCode.TOO_SLOW, reason))


class PositionIntervalTests(SubscriptionTestCase):
    """A client with a filter and status, whose filter drops every event."""

    def test_position_is_due_15_seconds_after_the_last_frame(self) -> None:
        """It comes with an event, at 15 seconds but not before."""
        subscription = self.subscribe(status=True, wanted=Filter(frozenset({"QQQ"})))
        subscription.set_events(True)
        self.take()
        for seconds, is_due in ((14.5, False), (0.5, True), (14.5, False), (0.5, True)):
            self.clock.advance(seconds)
            number = self.account.journal.last + 1
            self.account.publish(event(number))
            self.account.flush()
            expected = [("position", self.account.cursor_at(number))] if is_due else []
            self.assertEqual(self.take_cursors(), expected)
