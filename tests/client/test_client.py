"""Tests for the Twisted client, against the proxy's own site in memory and in fake time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from tests.support.frames import FILL, NEW, PARTIAL_FILL, TRADE_UPDATES
from tests.support.journals import event, events
from tests.support.memory import CLIENT
from tests.support.proxy import NarrowTransport, ProxyTestCase
from tradeproxy.client import Client, PositionLostError, RefusedError, Update
from tradeproxy.client.tx import MAX_UNREAD
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.frame import extract_data

URL = "ws://localhost:8099/trade-updates-paper"


@implementer(IStreamClientEndpoint)
class SiteEndpoint:
    """Leads to the proxy's site, unless its host is down (`refusing`) or does not answer (`hanging`)."""

    def __init__(self, case: ClientCase) -> None:
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


class ClientCase(ProxyTestCase):
    """Clients of ours."""

    def setUp(self) -> None:
        super().setUp()
        self.endpoint = SiteEndpoint(self)
        self.told: list[dict[str, Any]] = []

    def follow(self, url: str = URL, **options: Any) -> Client:
        """Return a client that waits as long as it may between attempts."""
        defaults = {"on_status": self.told.append, "random": lambda: 1.0}
        return Client(url, reactor=self.clock, endpoint=self.endpoint, **(defaults | options))

    def next(self, client: Client) -> Deferred[Update]:
        """Ask for the next event."""
        asked = Deferred.fromCoroutine(client.__anext__())
        self.wires.flush()
        return asked

    def take(self, client: Client, count: int) -> list[bytes]:
        """Return the data of so many events, which have to be there already."""
        return [self.successResultOf(self.next(client)).raw for _ in range(count)]

    def end_all(self, code: CloseCode) -> None:
        """Let the proxy end every connection."""
        for each in list(self.factory.clients):
            each.close(code)
        self.wires.flush()


def raw(*frames: bytes) -> list[bytes]:
    """Return the data of events."""
    return [extract_data(frame)[0] for frame in frames]


class ResumeTests(ClientCase):
    """Each event once, in order, whatever happens to the connection."""

    def test_goes_on_where_it_stood(self) -> None:
        """What happened while it was away comes first, then what is new."""
        client = self.follow()
        first = self.next(client)
        self.publish(self.paper, NEW, FILL)
        self.assertEqual([self.successResultOf(first).raw, *self.take(client, 1)], raw(NEW, FILL))
        self.end_all(CloseCode.RESTARTING)
        self.publish(self.paper, *TRADE_UPDATES[3:5])
        coming = self.next(client)
        self.assertNoResult(coming)
        self.wires.advance(0.5)
        self.publish(self.paper, PARTIAL_FILL)
        expected = raw(*TRADE_UPDATES[3:5], PARTIAL_FILL)
        self.assertEqual([self.successResultOf(coming).raw, *self.take(client, 2)], expected)
        self.assertNoResult(self.next(client))

    def test_misses_nothing_before_its_first_event(self) -> None:
        """It was cut off when it had only been greeted."""
        client = self.follow()
        coming = self.next(client)
        self.end_all(CloseCode.RESTARTING)
        self.publish(self.paper, NEW)
        self.wires.advance(0.5)
        self.assertEqual(self.successResultOf(coming).raw, raw(NEW)[0])

    def test_another_one_goes_on_at_its_cursor(self) -> None:
        """Which is behind the last event that was handed over, not the last one that came."""
        self.publish(self.paper, *TRADE_UPDATES[:3])
        first = self.follow(replay=3)
        self.take(first, 1)
        second = self.follow(since_id=first.cursor)
        self.assertEqual(self.take(second, 2), raw(*TRADE_UPDATES[1:3]))

    def test_can_begin_at_a_time(self) -> None:
        """In words or as a value; the first event of that moment is among what comes."""
        begin = datetime.fromtimestamp(self.clock.seconds(), UTC)
        moments = [begin + timedelta(seconds=n) for n in range(3)]
        frames = [event(n, at=moment.isoformat()).payload for n, moment in enumerate(moments)]
        self.publish(self.paper, *frames)
        self.clock.advance(3)
        elsewhere = moments[1].astimezone(timezone(timedelta(hours=-4)))
        for since in (moments[1], elsewhere, elsewhere.isoformat()):
            self.assertEqual(self.take(self.follow(since=since), 2), raw(*frames[1:]))

    def test_what_the_disk_did_not_take_comes_once(self) -> None:
        """Such an event has no cursor; after a reconnect the proxy sends it again, with one."""
        client = self.follow()
        coming = self.next(client)
        self.disk.refuse_writing()
        self.publish(self.paper, NEW)
        self.assertIsNone(self.successResultOf(coming).cursor)
        self.end_all(CloseCode.RESTARTING)
        self.disk.refuse_writing(False)
        self.publish(self.paper, FILL)
        coming = self.next(client)
        self.wires.advance(0.5)
        self.assertEqual(self.successResultOf(coming).raw, raw(FILL)[0])
        self.assertEqual(str(client.cursor).split(".")[2], "2")

    def test_a_slow_reader_gets_all_of_it(self) -> None:
        """What it has not asked for stays in the proxy's journal, and costs it a bounded amount."""
        self.wires.transport = NarrowTransport
        count = 20 * MAX_UNREAD
        client = self.follow()
        coming = self.next(client)
        frames = [each.payload for each in events(*range(count))]
        for begin in range(0, count, 100):
            self.publish(self.paper, *frames[begin : begin + 100])
        taken = [self.successResultOf(coming).raw]
        connection: Any = client._connection  # what it holds is not to be seen from outside
        self.assertLess(len(connection._unread), 2 * MAX_UNREAD)
        self.assertEqual(taken + self.take(client, count - 1), raw(*frames))

    def test_filters_pass_over_the_rest(self) -> None:
        """And come back behind it."""
        client = self.follow(events=["fill"])
        coming = self.next(client)
        self.publish(self.paper, NEW, FILL)
        self.assertEqual(self.successResultOf(coming).raw, raw(FILL)[0])


class LostPositionTests(ClientCase):
    """Events that are not to be had are never passed over in silence."""

    def test_is_raised_and_what_comes_now_follows(self) -> None:
        """Who catches it can iterate on."""
        client = self.follow(since_id="nonsense")
        lost = self.failureResultOf(self.next(client), PositionLostError)
        self.assertIn("no such event", lost.getErrorMessage())
        coming = self.next(client)
        self.publish(self.paper, NEW)
        self.assertEqual(self.successResultOf(coming).raw, raw(NEW)[0])

    def test_is_raised_where_the_proxy_ends_the_connection_for_it(self) -> None:
        """With 4010, upon which that position is not asked for again."""
        self.publish(self.paper, NEW)
        client = self.follow(replay=1)
        self.take(client, 1)
        coming = self.next(client)
        self.end_all(CloseCode.POSITION_LOST)
        self.failureResultOf(coming, PositionLostError)
        self.assertIsNone(client.cursor)


class ReconnectTests(ClientCase):
    """When it tries again, and when it does not."""

    def test_waits_longer_and_longer(self) -> None:
        """Up to half a minute, and from the beginning again once a connection has lasted."""
        self.endpoint.refusing = True
        client = self.follow()
        self.next(client)
        self.wires.advance(100)
        attempts = self.endpoint.attempts
        waits = [round(after - before, 1) for before, after in pairwise(attempts)]
        self.assertEqual(waits, [0.5, 1, 2, 4, 8, 16, 30, 30])
        self.assertEqual({told["state"] for told in self.told}, {"down"})
        self.assertIn("cannot connect", self.told[0]["reason"])
        self.endpoint.refusing = False
        self.wires.advance(30)
        self.assertEqual(self.told[-2], {"event": "connection", "state": "up"})
        self.wires.advance(10)
        self.end_all(CloseCode.RESTARTING)
        self.assertEqual(self.told[-1]["retry_in"], 0.5)

    def test_a_proxy_that_ends_every_connection_is_not_pestered(self) -> None:
        """It took the connection, but that is not yet success."""
        client = self.follow()
        self.next(client)
        for _ in range(3):
            self.end_all(CloseCode.UNREADABLE)
            self.wires.advance(self.told[-1]["retry_in"])
        waits = [told["retry_in"] for told in self.told if told.get("state") == "down"]
        self.assertEqual(waits, [0.5, 1, 2])

    def test_an_account_that_is_not_there_is_final(self) -> None:
        """The error says what the proxy says of it."""
        client = self.follow("ws://localhost:8099/trade-updates-desk")
        refused = self.failureResultOf(self.next(client), RefusedError)
        self.assertEqual(refused.value.code, 404)
        self.assertIn("ALPACA_DESK_API_KEY", refused.getErrorMessage())
        self.wires.advance(100)
        self.assertEqual(len(self.endpoint.attempts), 1)

    def test_closing_ends_the_iteration(self) -> None:
        """With a close frame, and for whoever waits for an event."""
        client = self.follow()
        coming = self.next(client)
        closing = Deferred.fromCoroutine(client.close())
        self.wires.flush()
        self.successResultOf(closing)
        self.failureResultOf(coming, StopAsyncIteration)
        self.failureResultOf(self.next(client), StopAsyncIteration)
        self.assertEqual(len(list(self.factory.clients)), 0)

    def test_who_waits_can_be_cancelled(self) -> None:
        """While it dials, between two attempts, and for an event; then it can be asked again."""
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


class TokenTests(ClientCase):
    """A proxy that has tokens."""

    tokens = ("a-token-of-some-length",)

    def test_lets_in_who_has_one(self) -> None:
        """As the key or as the secret; the URL does not have it, nor does anything that is printed."""
        for name in ("key", "secret"):
            client = self.follow(**{name: self.tokens[0]})
            coming = self.next(client)
            self.publish(self.paper, NEW if name == "key" else FILL)
            self.successResultOf(coming)
            self.assertNotIn(self.tokens[0], f"{client!r} {vars(client)} {self.told}")

    def test_refuses_others_for_good(self) -> None:
        """What was tried is not repeated in the error."""
        client = self.follow(key="a-wrong-token", secret="a-wrong-token")
        refused = self.failureResultOf(self.next(client), RefusedError)
        self.assertEqual(refused.value.code, 4001)
        self.assertNotIn("a-wrong-token", refused.getErrorMessage())
        self.assertEqual(self.told, [], "it was never connected")
        self.assertEqual(len(self.endpoint.attempts), 1)


class ArgumentTests(ClientCase):
    """What is said at once, without a connection."""

    def test_a_url_that_is_none_is_named_but_not_quoted(self) -> None:
        """It might have a password, which belongs into the arguments."""
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

    def test_two_beginnings_are_named(self) -> None:
        """Only one can be meant; and a time that may be anybody's is none."""
        error = self.assertRaises(ValueError, self.follow, since_id="1", replay=0)
        self.assertEqual(str(error), "since_id, replay: at most one may be set")
        error = self.assertRaises(ValueError, self.follow, since=datetime(2026, 7, 24))
        self.assertEqual(str(error), "since: has no offset from UTC")
