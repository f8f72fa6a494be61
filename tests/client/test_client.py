"""Tests for the Twisted client, against the proxy's own site in memory and in fake time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from tests.support.frames import FILL, NEW, PARTIAL_FILL, TRADE_UPDATES
from tests.support.journals import event, events
from tests.support.memory import CLIENT
from tests.support.proxy import NarrowTransport, ProxyTestCase
from tradeproxy.client import Client, PositionLostError, RefusedError, Update
from tradeproxy.client.base import CLOSE_TIMEOUT, read_http_rejection
from tradeproxy.client.tx import MAX_UNREAD
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.frame import extract_data

URL = "ws://localhost:8099/trade-updates-paper"


@implementer(IStreamClientEndpoint)
class SiteEndpoint:
    """Connects to the proxy's site, unless it is refusing or hanging."""

    def __init__(self, case: ClientTestBase) -> None:
        self.refusing = self.hanging = False
        self.attempts: list[float] = []
        self.cancelled = 0
        self._case = case

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.attempts.append(self._case.clock.seconds())
        if self.hanging:
            return Deferred(self._cancel)
        if self.refusing:
            return fail(error.ConnectionRefusedError())
        client = protocolFactory.buildProtocol(None)
        self._case.wires.join(self._case.site.buildProtocol(CLIENT), client)
        return succeed(client)

    def _cancel(self, _: Deferred[Any]) -> None:
        self.cancelled += 1


class ClientTestBase(ProxyTestCase):
    """Clients of one proxy in memory."""

    def setUp(self) -> None:
        super().setUp()
        self.endpoint = SiteEndpoint(self)
        self.statuses: list[dict[str, Any]] = []

    def follow(self, url: str = URL, **options: Any) -> Client:
        """Return a client with the maximum delay between attempts."""
        defaults = {"on_status": self.statuses.append, "random": lambda: 1.0}
        return Client(url, reactor=self.clock, endpoint=self.endpoint, **(defaults | options))

    def next(self, client: Client) -> Deferred[Update]:
        """Request the next event."""
        asked: Deferred[Any] = Deferred.fromCoroutine(client.__anext__())
        self.wires.flush()
        return asked

    def take(self, client: Client, count: int) -> list[bytes]:
        """Return the data of `count` events that are already available."""
        return [self.successResultOf(self.next(client)).raw for _ in range(count)]

    def close_all(self, code: CloseCode) -> None:
        """Close every connection from the proxy."""
        for each in list(self.factory.clients):
            each.close(code)
        self.wires.flush()

    def close_and_disappear(self) -> None:
        """Send the first client a close frame, then read and send nothing more."""
        transport = self.server_transport(0)
        transport.protocol = Protocol()
        transport.write(b"\x88\x02\x03\xf4")  # 1012
        self.wires.flush()


def raw(*frames: bytes) -> list[bytes]:
    """Return the `data` of events."""
    return [extract_data(frame)[0] for frame in frames]


class FrameLimitTests(ClientTestBase):
    """Frames that have no bytes to count do not fill the memory."""

    def test_message_with_too_many_bytes_or_fragments_raises_refused(self) -> None:
        """A retry would get it again, without end."""
        too_long = b"\x82\x7f" + (16 * 1024 * 1024 + 1).to_bytes(8)
        for frames in ([too_long], [b"\x02\x00", *[b"\x00\x00" * 4096] * 16]):
            coming = self.next(self.follow())
            transport = self.server_transport(0)
            for data in frames:
                transport.write(data)
                self.wires.flush()
            self.wires.advance(3)
            error = self.failureResultOf(coming, RefusedError).value
            self.assertEqual(error.code, 1009)


class ResumeTests(ClientTestBase):
    """The client yields each event once and in order across reconnects."""

    def test_reconnect_after_missed_events_yields_them_first(self) -> None:
        """After a reconnect, missed events come before new ones."""
        client = self.follow()
        first = self.next(client)
        self.publish(self.paper, NEW, FILL)
        self.assertEqual([self.successResultOf(first).raw, *self.take(client, 1)], raw(NEW, FILL))
        self.close_all(CloseCode.RESTARTING)
        self.publish(self.paper, *TRADE_UPDATES[3:5])
        coming = self.next(client)
        self.assertNoResult(coming)
        self.wires.advance(0.5)
        self.publish(self.paper, PARTIAL_FILL)
        expected = raw(*TRADE_UPDATES[3:5], PARTIAL_FILL)
        self.assertEqual([self.successResultOf(coming).raw, *self.take(client, 2)], expected)
        self.assertNoResult(self.next(client))

    def test_disconnect_before_first_event_loses_nothing(self) -> None:
        """A disconnect right after the hello loses no event."""
        client = self.follow()
        coming = self.next(client)
        self.close_all(CloseCode.RESTARTING)
        self.publish(self.paper, NEW)
        self.wires.advance(0.5)
        self.assertEqual(self.successResultOf(coming).raw, raw(NEW)[0])

    def test_disconnect_after_first_event_without_cursor_loses_nothing(self) -> None:
        """The client connected while the proxy could not write, and missed events of its outage."""
        self.disk.refuse_writing()
        self.publish(self.paper, NEW)
        client = self.follow()
        coming = self.next(client)
        self.publish(self.paper, FILL)
        self.assertEqual(self.successResultOf(coming).raw, raw(FILL)[0])
        self.assertIsNone(client.cursor)
        self.close_all(CloseCode.RESTARTING)
        coming = self.next(client)
        self.publish(self.paper, *TRADE_UPDATES[3:5])
        self.wires.advance(0.5)
        expected = raw(*TRADE_UPDATES[3:5])
        self.assertEqual([self.successResultOf(coming).raw, *self.take(client, 1)], expected)
        self.assertNoResult(self.next(client))

    def test_cursor_in_second_client_resumes_after_last_yielded_event(self) -> None:
        """The cursor is the position of the last yielded event, not of the last received one."""
        self.publish(self.paper, *TRADE_UPDATES[:3])
        first = self.follow(replay=3)
        self.take(first, 1)
        second = self.follow(since_id=first.cursor)
        self.assertEqual(self.take(second, 2), raw(*TRADE_UPDATES[1:3]))

    def test_since_as_text_or_datetime_includes_that_time(self) -> None:
        """`since` as text or datetime includes the first event of that time."""
        begin = datetime.fromtimestamp(self.clock.seconds(), UTC)
        moments = [begin + timedelta(seconds=n) for n in range(3)]
        frames = [event(n, at=moment.isoformat()).payload for n, moment in enumerate(moments)]
        self.publish(self.paper, *frames)
        self.clock.advance(3)
        elsewhere = moments[1].astimezone(timezone(timedelta(hours=-4)))
        for since in (moments[1], elsewhere, elsewhere.isoformat()):
            self.assertEqual(self.take(self.follow(since=since), 2), raw(*frames[1:]))

    def test_event_without_cursor_after_reconnect_comes_once(self) -> None:
        """The proxy resends such an event with a cursor; the client drops the repeat."""
        client = self.follow()
        coming = self.next(client)
        self.disk.refuse_writing()
        self.publish(self.paper, NEW)
        self.assertIsNone(self.successResultOf(coming).cursor)
        self.close_all(CloseCode.RESTARTING)
        self.disk.refuse_writing(False)
        self.publish(self.paper, FILL)
        coming = self.next(client)
        self.wires.advance(0.5)
        self.assertEqual(self.successResultOf(coming).raw, raw(FILL)[0])
        self.assertEqual(str(client.cursor).split(".")[2], "2")

    def test_slow_reader_gets_every_event(self) -> None:
        """Unread events stay in the journal, and the client's memory is bounded."""
        self.wires.transport = NarrowTransport
        count = 20 * MAX_UNREAD
        client = self.follow()
        coming = self.next(client)
        frames = [each.payload for each in events(*range(count))]
        for begin in range(0, count, 100):
            self.publish(self.paper, *frames[begin : begin + 100])
        taken = [self.successResultOf(coming).raw]
        connection: Any = client._connection  # noqa: SLF001  # the buffer is private
        self.assertLess(len(connection._unread), 2 * MAX_UNREAD)  # noqa: SLF001
        self.assertEqual(taken + self.take(client, count - 1), raw(*frames))

    def test_filter_after_reconnect_resumes_after_dropped_events(self) -> None:
        """A filtered client resumes after the events that its filter dropped."""
        client = self.follow(events=["fill"])
        coming = self.next(client)
        self.publish(self.paper, NEW, FILL)
        self.assertEqual(self.successResultOf(coming).raw, raw(FILL)[0])


class PositionLostTests(ClientTestBase):
    """Lost events always raise PositionLostError."""

    def test_replay_impossible_raises_then_yields_new_events(self) -> None:
        """After the error, the caller can iterate again."""
        client = self.follow(since_id="nonsense")
        lost = self.failureResultOf(self.next(client), PositionLostError)
        self.assertIn("no such event", lost.getErrorMessage())
        coming = self.next(client)
        self.publish(self.paper, NEW)
        self.assertEqual(self.successResultOf(coming).raw, raw(NEW)[0])

    def test_replay_impossible_without_cursor_raises_again_after_disconnect(self) -> None:
        """The proxy cannot write, so the client gets no new position. Later losses raise, too."""
        self.publish(self.paper, NEW)
        self.disk.refuse_writing()
        self.publish(self.paper, FILL)
        client = self.follow(since_id="paper.0123456789abcdef.1.00000001")
        self.failureResultOf(self.next(client), PositionLostError)
        coming = self.next(client)
        self.close_all(CloseCode.RESTARTING)
        self.publish(self.paper, PARTIAL_FILL)
        self.wires.advance(0.5)
        self.failureResultOf(coming, PositionLostError)

    def test_close_4010_raises_and_forgets_position(self) -> None:
        """After 4010 the client does not request that position again."""
        self.publish(self.paper, NEW)
        client = self.follow(replay=1)
        self.take(client, 1)
        coming = self.next(client)
        self.close_all(CloseCode.POSITION_LOST)
        self.failureResultOf(coming, PositionLostError)
        self.assertIsNone(client.cursor)


class ReconnectTests(ClientTestBase):
    """When the client reconnects, and when it does not."""

    def test_repeated_failures_double_the_delay(self) -> None:
        """The delay doubles up to 30 s, and restarts after a stable connection."""
        self.endpoint.refusing = True
        client = self.follow()
        self.next(client)
        self.wires.advance(100)
        attempts = self.endpoint.attempts
        waits = [round(after - before, 1) for before, after in pairwise(attempts)]
        self.assertEqual(waits, [0.5, 1, 2, 4, 8, 16, 30, 30])
        self.assertEqual({status["state"] for status in self.statuses}, {"down"})
        self.assertIn("cannot connect", self.statuses[0]["reason"])
        self.endpoint.refusing = False
        self.wires.advance(30)
        self.assertEqual(self.statuses[-2], {"event": "connection", "state": "up"})
        self.wires.advance(10)
        self.close_all(CloseCode.RESTARTING)
        self.assertEqual(self.statuses[-1]["retry_in"], 0.5)

    def test_immediate_disconnects_double_the_delay(self) -> None:
        """An accepted connection is not stable yet, so the delay still grows."""
        client = self.follow()
        self.next(client)
        for _ in range(3):
            self.close_all(CloseCode.UNREADABLE)
            self.wires.advance(self.statuses[-1]["retry_in"])
        waits = [status["retry_in"] for status in self.statuses if status.get("state") == "down"]
        self.assertEqual(waits, [0.5, 1, 2])

    def test_close_frame_without_end_of_tcp_reconnects(self) -> None:
        """The proxy's machine may disappear right after the frame: no end of TCP ever comes."""
        coming = self.next(self.follow())
        self.close_and_disappear()
        self.wires.advance(CLOSE_TIMEOUT + 0.5)
        self.assertEqual(len(self.endpoint.attempts), 2)
        self.publish(self.paper, NEW)
        self.assertEqual(self.successResultOf(coming).raw, raw(NEW)[0])

    def test_close_after_a_close_frame_without_end_of_tcp_ends(self) -> None:
        """`close` waits for TCP no longer than the limit."""
        client = self.follow()
        coming = self.next(client)
        self.close_and_disappear()
        closing = Deferred.fromCoroutine(client.close())
        self.wires.advance(CLOSE_TIMEOUT)
        self.successResultOf(closing)
        self.failureResultOf(coming, StopAsyncIteration)

    def test_unknown_account_raises_refused_error(self) -> None:
        """The error contains the proxy's reason."""
        client = self.follow("ws://localhost:8099/trade-updates-desk")
        refused = self.failureResultOf(self.next(client), RefusedError)
        self.assertEqual(refused.value.code, 404)
        self.assertIn("ALPACA_DESK_API_KEY", refused.getErrorMessage())
        self.wires.advance(100)
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_rejection_of_another_server_has_its_first_line(self) -> None:
        """Something between the client and the proxy may send any body."""
        for body, reason in (
            (b'{"code": 1, "message": "tradeproxy: full"}\n', "full"),
            (b"<html>\nx", "<html>"),
            (b"[" * 100_000, "[" * 300),
            (b'{"message": "' + b"x" * 2000 + b'"}', '{"message": "' + "x" * 287),
            (b'["message"]', '["message"]'),
            (b"\xff", "\ufffd"),
            (b" \n", "HTTP 502"),
        ):
            self.assertEqual(read_http_rejection(502, body).reason, reason)

    def test_close_while_waiting_ends_the_iteration(self) -> None:
        """close() sends a close frame and ends a pending iteration."""
        client = self.follow()
        coming = self.next(client)
        closing = Deferred.fromCoroutine(client.close())
        self.wires.flush()
        self.successResultOf(closing)
        self.failureResultOf(coming, StopAsyncIteration)
        self.failureResultOf(self.next(client), StopAsyncIteration)
        self.assertEqual(len(list(self.factory.clients)), 0)

    def test_cancel_in_any_state_allows_another_request(self) -> None:
        """A cancel works while connecting, between attempts, and while waiting for an event."""
        client = self.follow()
        self.endpoint.hanging = True
        for state in ("dialling", "waiting", "reading"):
            coming = self.next(client)
            coming.cancel()
            self.failureResultOf(coming, CancelledError)
            self.endpoint.hanging, self.endpoint.refusing = False, state == "dialling"
        self.assertEqual(self.endpoint.cancelled, 1)
        coming = self.next(client)
        self.publish(self.paper, NEW)
        self.assertEqual(self.successResultOf(coming).raw, raw(NEW)[0])

    def test_cancel_while_a_real_endpoint_connects_ends_the_request(self) -> None:
        """Twisted's endpoints report a cancel as a failed attempt. It is no reason to retry."""
        client = Client(URL.replace("localhost", "127.0.0.1"), reactor=MemoryReactorClock())
        coming = self.next(client)
        coming.cancel()
        self.failureResultOf(coming, CancelledError)


class TokenTests(ClientTestBase):
    """A proxy with PROXY_TOKENS."""

    tokens = ("a-token-of-some-length",)

    def test_valid_token_as_key_or_secret_is_accepted(self) -> None:
        """Neither the URL nor any printed value contains the token."""
        for name in ("key", "secret"):
            client = self.follow(**{name: self.tokens[0]})
            coming = self.next(client)
            self.publish(self.paper, NEW if name == "key" else FILL)
            self.successResultOf(coming)
            self.assertNotIn(self.tokens[0], f"{client!r} {vars(client)} {self.statuses}")

    def test_invalid_token_raises_refused_error(self) -> None:
        """The error does not contain the token."""
        client = self.follow(key="a-wrong-token", secret="a-wrong-token")
        refused = self.failureResultOf(self.next(client), RefusedError)
        self.assertEqual(refused.value.code, 4001)
        self.assertNotIn("a-wrong-token", refused.getErrorMessage())
        self.assertEqual(self.statuses, [], "it was never connected")
        self.assertEqual(len(self.endpoint.attempts), 1)


class ArgumentTests(ClientTestBase):
    """Invalid arguments raise before any connection."""

    def test_invalid_url_raises_without_quoting_it(self) -> None:
        """A URL may contain a password, so no error quotes it."""
        for url in (
            "localhost:8099",
            "http://localhost/paper",
            "ws://me:hush@localhost/",
            f"{URL}?key=hush",
            "ws://[hush",
        ):
            error = self.assertRaises(ValueError, self.follow, url)
            self.assertTrue(str(error).startswith("url: "), error)
            self.assertNotIn("hush", str(error))

    def test_two_start_options_raise_value_error(self) -> None:
        """Two start options are ambiguous, and so is a datetime without an offset."""
        error = self.assertRaises(ValueError, self.follow, since_id="1", replay=0)
        self.assertEqual(str(error), "since_id, replay: at most one may be set")
        error = self.assertRaises(ValueError, self.follow, since=datetime(2026, 7, 24))
        self.assertEqual(str(error), "since: has no offset from UTC")
