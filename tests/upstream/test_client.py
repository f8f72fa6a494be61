"""Tests for the upstream client and service, against the simulator in memory and fake time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from twisted.logger import LogLevel, capturedLogs, formatEvent

from tests.support.journals import event
from tests.support.memory import LingeringTransport
from tests.upstream.client_case import EVENT, KEYS, UpstreamTestCase
from tradeproxy.hub import buffer
from tradeproxy.hub.account import INTERNAL_ERROR
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.upstream.client import CLOSE_TIMEOUT
from tradeproxy.wire.credentials import KeyPair, Secret
from tradeproxy.wire.messages import Dialect


class StreamingTests(UpstreamTestCase):
    """A session that reaches the stream."""

    def test_start_connects_and_starts_stream(self) -> None:
        """The service logs in and listens, and the account is marked up."""
        self.assertTrue(self.alpaca.listening)
        self.assertTrue(self.account.upstream.streaming)

    def test_event_is_published_byte_for_byte(self) -> None:
        """Subscribers get Alpaca's bytes, also for unknown events and unusual white space."""
        odd = b'{ "stream" : "trade_updates",\n "data": {"event":"held_by_martians", "x": 1e2} }'
        first = self.alpaca.emit(EVENT)
        self.alpaca.send_payload(odd)
        self.advance(0)
        self.assertEqual(self.subscriber.events, [first, odd])

    def test_event_latency_includes_buffered_time(self) -> None:
        """The latency counts from the read, so it includes the wait for older events."""
        self.account.start_buffering()
        self.alpaca.emit(EVENT)
        self.advance(3)
        self.account.stop_buffering()
        self.advance(0)
        self.assertEqual(len(self.subscriber.events), 1)
        self.assertAlmostEqual(self.account.latency.total, 3, places=3)

    def test_junk_frames_are_counted_and_logged_once_per_kind(self) -> None:
        """Junk does not close the connection, and later events arrive."""
        with capturedLogs() as logs:
            self.inject(FaultKind.GARBAGE, count=10)
        event = self.alpaca.emit(EVENT)
        self.advance(0)
        self.assertEqual(self.subscriber.events, [event])
        self.assertEqual(self.account.dropped_frames.total(), 10)
        dropped = [log for log in logs if "dropped a frame" in log["log_format"]]
        self.assertEqual(len(dropped), len(self.account.dropped_frames))

    def test_many_events_at_once_keep_their_order(self) -> None:
        """Events that arrive together are all published, in order."""
        events = [self.alpaca.emit(EVENT | {"n": n}) for n in range(100)]
        self.advance(0)
        self.assertEqual(self.subscriber.events, events)


class TextFramesTests(StreamingTests):
    """The same tests with text frames, which Alpaca may send."""

    options = {"binary": False}


class DocumentedDialectTests(StreamingTests):
    """The same tests in the dialect of Alpaca's documentation."""

    dialect = Dialect.AUTH
    options = {"credentials": KEYS}


class WrongKeyTests(UpstreamTestCase):
    """An account whose key Alpaca rejects."""

    options = {"credentials": KeyPair(Secret("another"), Secret("key"))}

    def test_rejected_key_waits_60_s_and_logs_variable(self) -> None:
        """The log names the variable of the rejected key, and never the key."""
        self.advance(1)
        self.assertIn("ALPACA_LIVE_API_KEY", self.account.upstream.reason)
        with capturedLogs() as logs:
            self.advance(130)
        self.assertEqual(self.delays, [60.5, 61.0, 62.0])
        lines = [formatEvent(event) for event in logs]
        self.assertTrue(any("ALPACA_LIVE_API_KEY is not accepted" in line for line in lines), lines)
        self.assertFalse(
            [line for line in lines if "PKUPSTREAM" in line or "upstream-secret" in line]
        )


class OutageTests(UpstreamTestCase):
    """Each way to lose the upstream, and the reconnect."""

    def assert_recovers(self) -> None:
        self.assertTrue(self.account.upstream.streaming)
        event = self.alpaca.emit(EVENT | {"after": "the outage"})
        self.advance(0)
        self.assertEqual(self.subscriber.events[-1:], [event])

    def test_dropped_connection_reconnects_within_1_s(self) -> None:
        """The first delay is full jitter below one second."""
        self.inject(FaultKind.DROP)
        self.assertFalse(self.account.upstream.streaming)
        self.advance(1)
        self.assertEqual(self.delays, [0.5])
        self.assert_recovers()

    def test_reset_connection_reconnects(self) -> None:
        """A TCP reset is handled like a close."""
        self.inject(FaultKind.RESET)
        self.advance(1)
        self.assert_recovers()

    def test_repeated_clean_closes_back_off(self) -> None:
        """Repeated clean closes also grow the delay."""
        for _ in range(9):
            self.inject(FaultKind.CLOSE)
            while not self.alpaca.listening:
                self.advance(0.5)
        self.assertEqual(self.delays, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0])
        self.assert_recovers()

    def test_unreachable_host_backs_off_and_logs_reason(self) -> None:
        """The ceiling doubles from 1 s to 60 s; the jitter halves it here."""
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        with capturedLogs() as logs:
            self.advance(180)
        attempts = self.wire.attempts
        waits = [round(after - before, 3) for before, after in pairwise(attempts)]
        self.assertEqual(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0])
        self.assertIn("refused", self.account.upstream.reason)
        line = formatEvent(logs[0])
        self.assertIn("next attempt in 1.0 s", line)
        self.assertIs(logs[0]["log_level"], LogLevel.warn)
        self.wire.refusing = False
        self.advance(30)
        self.assert_recovers()

    def test_next_attempt_is_known_while_it_is_planned(self) -> None:
        """Only the log had it. An attempt that runs, and a stream that is up, have none."""
        self.assertIsNone(self.account.next_attempt)
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        began = self.account.dates.own()
        self.assertEqual(self.account.next_attempt, began + 0.5)
        self.advance(0.5)
        self.assertEqual(self.account.next_attempt, began + 1.5)
        self.wire.refusing = False
        self.advance(1)
        self.assertIsNone(self.account.next_attempt)
        self.assert_recovers()

    def test_next_attempt_is_none_after_stop(self) -> None:
        """No attempt follows a stop."""
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.service.stopService()
        self.assertIsNone(self.account.next_attempt)

    def test_stable_session_resets_backoff(self) -> None:
        """A session of a few seconds does not reset the backoff; one of over a minute does."""
        for seconds in (10, 10, 10, 65, 10):
            self.advance(seconds)
            self.inject(FaultKind.DROP)
        self.assertEqual(self.delays, [0.5, 1.0, 2.0, 0.5, 1.0])

    def test_stable_session_closed_by_us_resets_backoff(self) -> None:
        """The reset also applies if the proxy closes, because Alpaca no longer lists the stream."""
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.advance(10)
        self.wire.refusing = False
        self.advance(100)
        self.delays.clear()
        self.alpaca.send_payload(b'{"stream":"listening","data":{"streams":[]}}')
        self.advance(2)
        self.assertEqual(self.delays, [0.5])
        self.assert_recovers()

    def test_silent_connection_is_dropped_within_30_s(self) -> None:
        """A connection without data and without a pong is dropped and reconnected."""
        self.inject(FaultKind.SILENCE)
        started = self.clock.seconds()
        while self.account.upstream.streaming:
            self.advance(0.5)
        self.assertLess(self.clock.seconds() - started, 30)
        self.assertIn("pong", self.account.upstream.reason)
        self.advance(2)
        self.assert_recovers()

    def test_http_429_waits_90_s(self) -> None:
        """HTTP 429 means that the slot is taken: wait at least 90 s."""
        self.inject(FaultKind.THROTTLE, count=1)
        self.inject(FaultKind.DROP)
        self.advance(95)
        self.assertEqual(self.delays, [0.5, 91.0])
        self.assert_recovers()

    def test_limit_at_login_or_close_waits_90_s(self) -> None:
        """The frames of another wording were no login, or a rejected one: 1 s, or 60 s."""
        text = "Your connection is rejected while another connection is open"
        for fault in (
            Fault(FaultKind.LIMIT, message=text, code=406),
            Fault(FaultKind.REFUSE, message=text),
            Fault(FaultKind.REFUSE, message="a text that nobody has seen"),
        ):
            self.delays.clear()
            self.alpaca.inject(fault)
            self.inject(FaultKind.DROP)
            self.advance(150)
            self.assertTrue(90 < self.delays[1] < 150, (fault, self.delays))
            self.assert_recovers()
        self.delays.clear()
        connection: Any = self.alpaca._connection  # noqa: SLF001
        connection.sendClose(4406, text)
        self.advance(150)
        self.assertTrue(90 < self.delays[0] < 150, self.delays)

    def test_http_429_with_retry_after_waits_that_long(self) -> None:
        """Alpaca's Retry-After is the floor of the delay."""
        self.inject(FaultKind.THROTTLE, count=1, retry_after=7)
        self.inject(FaultKind.DROP)
        self.advance(20)
        self.assertEqual(self.delays, [0.5, 8.0])
        self.assert_recovers()

    def test_close_without_tcp_close_is_aborted(self) -> None:
        """If Alpaca closes but keeps TCP open, the close timeout aborts the connection."""
        self.wire.transport = LingeringTransport
        self.inject(FaultKind.RESET)
        self.advance(1)
        self.inject(FaultKind.CLOSE)
        self.advance(CLOSE_TIMEOUT + 1)
        self.assert_recovers()

    def test_temporary_login_rejection_is_retried(self) -> None:
        """A login that is rejected now may be accepted a minute later."""
        self.inject(FaultKind.REFUSE, count=1)
        self.inject(FaultKind.DROP)
        self.advance(70)
        self.assert_recovers()


class ListenerTests(UpstreamTestCase):
    """The recovery listens to the stream, and may reopen it."""

    def take_calls(self) -> list[str]:
        """Return and clear the listener's calls."""
        calls, self.listener.calls = self.listener.calls, []
        return calls

    def test_listener_gets_each_change_of_the_stream(self) -> None:
        """Recovery buffers events between `opened` and the end of the backfill."""
        self.assertEqual(self.take_calls(), ["opened", "up"])
        self.inject(FaultKind.DROP)
        self.assertEqual(self.take_calls(), ["closed"])
        self.advance(1)
        self.assertEqual(self.take_calls(), ["opened", "up"])
        self.service.stopService()
        self.advance(1)
        self.assertEqual(self.take_calls(), ["closed", "stop"])
        self.assertEqual(self.account.upstream.reason, "stopped")

    def test_reopen_connects_again_at_once(self) -> None:
        """It counts as `mute`, and Alpaca gets a close frame."""
        self.listener.reopen("no events")
        self.advance(0)
        self.assertEqual(self.alpaca.last_close, (1000, None))
        self.assertEqual(self.delays, [0.0])
        self.advance(0)
        self.assertTrue(self.account.upstream.streaming)
        self.assertEqual(self.account.reconnects, 1)
        self.assertEqual(+self.account.reconnect_reasons, {"mute": 1})
        self.assertEqual(self.take_calls(), ["opened", "up", "closed", "opened", "up"])

    def test_reopen_while_stream_is_down_has_no_effect(self) -> None:
        """The next attempt follows its own delay."""
        self.advance(5)
        self.inject(FaultKind.DROP)
        self.listener.reopen("no events")
        self.assertEqual(self.delays, [0.5])
        self.advance(1)
        self.assertEqual(+self.account.reconnect_reasons, {"lost": 1})

    def test_reconnect_reasons_count_each_cause(self) -> None:
        """An attempt that fails counts as well as a stream that ends."""
        self.advance(5)
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.advance(1)
        self.assertEqual(+self.account.reconnect_reasons, {"lost": 1, "unreachable": 1})

    def test_error_of_listener_at_start_closes_stream(self) -> None:
        """Alpaca gets a close frame, and the next attempt follows."""
        self.listener.failing = "up"
        self.inject(FaultKind.DROP)
        self.advance(0.5)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.alpaca.last_close, (1000, None))
        self.assertFalse(self.account.upstream.streaming)
        self.listener.failing = ""
        self.advance(2)
        self.assertTrue(self.account.upstream.streaming)

    def test_error_of_an_event_closes_stream(self) -> None:
        """Nobody knows whether it is delivered. After another login the recovery asks for it."""

        def fail() -> None:
            raise ZeroDivisionError

        self.patch(buffer, "MAX_BUFFERED", 1)
        self.account.on_buffer_full = fail
        self.account.start_buffering()
        for number, payload in enumerate((event(1).payload, event(2, qty=1).payload), 1):
            self.alpaca.send_payload(payload)
            self.advance(0)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertFalse(self.account.upstream.streaming)
            self.advance(5)
            self.assertTrue(self.account.upstream.streaming)
            self.assertEqual(self.account.reconnects, number)

    def test_error_of_listener_at_end_does_not_stop_attempts(self) -> None:
        """The reason of the disconnect is lost by it."""
        self.listener.failing = "closed"
        self.inject(FaultKind.DROP)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.account.upstream.reason, INTERNAL_ERROR)
        self.listener.failing = ""
        self.advance(1)
        self.assertTrue(self.account.upstream.streaming)


class FailedServiceTests(UpstreamTestCase):
    """A bug in the service itself."""

    def draw_jitter(self) -> float:
        raise ZeroDivisionError

    def test_failed_service_is_reported(self) -> None:
        """Only a restart helps, so /healthz has to answer 503."""
        self.assertFalse(self.account.has_failed)
        self.inject(FaultKind.DROP)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.account.has_failed)
        self.assertEqual(self.account.upstream.reason, INTERNAL_ERROR)
        self.assertEqual(self.listener.calls[-1], "stop")


class UpstreamStopTests(UpstreamTestCase):
    """The stop of the service, in each state."""

    def test_stop_sends_close_frame(self) -> None:
        """A half-closed connection would occupy the account's only slot for about 90 s."""
        stopped = self.service.stopService()
        self.advance(0.5)
        self.assertEqual(self.alpaca.last_close, (1000, None))
        assert stopped is not None
        self.successResultOf(stopped)

    def test_stop_of_half_closed_connection_ends_in_close_timeout(self) -> None:
        """The stop ends in time although Alpaca keeps TCP open."""
        self.wire.transport = LingeringTransport
        self.inject(FaultKind.RESET)
        self.advance(1)
        self.inject(FaultKind.CLOSE)
        stopped = self.service.stopService()
        assert stopped is not None
        self.advance(CLOSE_TIMEOUT)
        self.successResultOf(stopped)

    def test_stop_of_silent_connection_ends_in_close_timeout(self) -> None:
        """The connection is dropped if Alpaca does not answer the close frame."""
        self.inject(FaultKind.SILENCE)
        stopped = self.service.stopService()
        assert stopped is not None
        self.assertNoResult(stopped)
        self.advance(2.5)
        self.successResultOf(stopped)

    def test_stop_between_attempts_cancels_delay(self) -> None:
        """No attempt follows, and no timer is left."""
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        stopped = self.service.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        attempts = len(self.wire.attempts)
        self.advance(300)
        self.assertEqual(len(self.wire.attempts), attempts)

    def test_stop_before_start_has_no_effect(self) -> None:
        """Twisted stops every service if the start of another one fails."""
        service = self.build_service()
        self.listener.reopen("no events")
        self.assertIsNone(service.stopService())
        self.assertEqual(len(self.wire.attempts), 1)

    def test_stop_during_connect_cancels_it(self) -> None:
        """A host that does not answer does not delay the stop."""
        self.wire.hanging = True
        self.inject(FaultKind.DROP)
        self.advance(1)
        stopped = self.service.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        self.assertEqual(self.wire.canceled, 1)

    def test_shortened_stop_does_not_wait_for_the_close_frame(self) -> None:
        """A second signal comes while it waits."""
        self.inject(FaultKind.SILENCE)
        stopped = self.service.stopService()
        assert stopped is not None
        self.assertNoResult(stopped)
        self.service.shorten_stop()
        self.advance(0)
        self.successResultOf(stopped)

    def test_stop_that_is_shortened_before_it_begins_does_not_wait(self) -> None:
        """A second signal comes while the clients are closed, which is earlier."""
        self.inject(FaultKind.SILENCE)
        self.service.shorten_stop()
        self.assertTrue(self.account.upstream.streaming)
        stopped = self.service.stopService()
        self.advance(0)
        assert stopped is not None
        self.successResultOf(stopped)
