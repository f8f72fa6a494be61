"""Tests for tradeproxy.downstream.clients: the counts, the statistics and the User-Agent."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTH, AUTHENTICATE, FILL
from tests.support.proxy import ProxyTestCase
from tradeproxy.downstream.client_log import user_agent
from tradeproxy.downstream.clients import ClientLabels, DownstreamService, RejectionCounter
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.credentials import Secret


class UserAgentTests(SynchronousTestCase):
    """What the operator sees of a client's program."""

    def test_user_agent_of_80_characters_is_kept(self) -> None:
        """A longer one keeps both ends, since they tell browsers apart."""
        self.assertEqual(user_agent(b"a" * 40 + b"b" * 40), "a" * 40 + "b" * 40)
        self.assertEqual(user_agent(b"a" * 40 + b"b" * 41), "a" * 39 + "…" + "b" * 40)
        self.assertEqual(user_agent(b"a" * 40 + b"b" * 10_000), "a" * 39 + "…" + "b" * 40)

    def test_user_agent_is_printable(self) -> None:
        """It is shown in a terminal, which would obey an escape sequence."""
        self.assertEqual(user_agent(None), "")
        self.assertEqual(user_agent(b"a\x1b[31mb\xff"), "a\ufffd[31mb\ufffd")

    def test_equal_user_agents_are_one_object(self) -> None:
        """Thousands of clients may send the same header."""
        self.assertIs(user_agent(b"bot/" + b"1"), user_agent(b"bot/1"))


class RejectionCounterTests(SynchronousTestCase):
    """A web page may retry all day."""

    def test_rejections_are_counted_by_reason_and_logged_at_powers_of_ten(self) -> None:
        """The counts of two reasons are apart."""
        rejections = RejectionCounter()
        with capturedLogs() as logs:
            for _ in range(10):
                rejections.record("10.0.0.1", "full")
            rejections.record("10.0.0.2", "wrong token")
        self.assertEqual(rejections.counts, {"full": 10, "wrong token": 1})
        self.assertEqual(
            [(event["peer"], event["reason"], event["count"]) for event in logs],
            [("10.0.0.1", "full", 1), ("10.0.0.1", "full", 10), ("10.0.0.2", "wrong token", 1)],
        )


class ShortRequest:
    """A client that follows no stream, such as a REST request."""

    grant = None

    def __init__(self) -> None:
        self.is_closed: Deferred[None] = Deferred()
        self.is_aborted = False

    def close(self, code: CloseCode) -> None:
        """Ignore it: a response cannot carry a code."""

    def abort(self) -> None:
        self.is_aborted = True

    def stats(self) -> None:
        return None


class ConnectedClientsTests(ProxyTestCase):
    """The clients that are connected, through the site."""

    def setUp(self) -> None:
        super().setUp()
        self.clients = self.factory.clients

    def test_clients_are_counted_by_account_and_protocol(self) -> None:
        """`connected` goes up and down, `accepted` only up."""
        first = self.open_client()
        self.open_client()
        self.open_client("/trade-updates-live/stream")
        self.request("/trade-updates-live/v2/events/trades")
        paper = ClientLabels("paper", "WebSocket")
        counts = {
            paper: 2,
            ClientLabels("live", "WebSocket, as Alpaca's"): 1,
            ClientLabels("live", "server-sent events"): 1,
        }
        self.assertEqual(self.clients.connected, counts)
        self.assertEqual(self.clients.accepted, counts)
        first.sendClose(1000)
        self.wires.advance(1)
        self.assertEqual(self.clients.connected, counts | {paper: 1})
        self.assertEqual(self.clients.accepted, counts)
        self.assertEqual(len(self.clients), 3)

    def test_only_accepted_clients_count(self) -> None:
        """A loop with a wrong token was 20 clients, up to date, while its answers waited."""
        self.accepted_tokens.replace((Secret("a-token-of-some-length"),))
        strangers = [self.connect() for _ in range(15)]
        for stranger in strangers:
            self.say(stranger, AUTH)
        self.connect()
        self.assertGreater(len(self.clients), 1)
        self.assertEqual(self.clients.list_stats(), [])
        self.assertEqual((dict(self.clients.connected), dict(self.clients.accepted)), ({}, {}))

    def test_client_that_is_being_closed_is_no_slow_one(self) -> None:
        """One that does not read has half a minute to answer the close frame."""
        client = self.connect()
        self.say(client, AUTH)
        served: Any = next(iter(self.clients))
        self.server_transport(0).loseConnection = lambda: None
        self.publish(self.paper, FILL)
        served.subscriber.feed.pauseProducing()
        self.assertTrue(self.clients.list_stats()[0].is_slow)
        served.close(CloseCode.TOO_SLOW)
        [stats] = self.clients.list_stats()
        self.assertEqual((stats.is_slow, stats.is_closing), (False, True))

    def test_short_request_counts_as_no_client_of_a_stream(self) -> None:
        """It is closed at a stop as the others are."""
        request = ShortRequest()
        self.clients.add(request)
        self.assertEqual((len(self.clients), self.clients.list_stats()), (1, []))
        self.assertEqual((dict(self.clients.connected), dict(self.clients.accepted)), ({}, {}))
        self.clients.discard(request)
        self.clients.discard(request)
        self.assertEqual((len(self.clients), dict(self.clients.connected)), (0, {}))

    def test_stats_of_each_client_of_a_stream_are_listed(self) -> None:
        """They have its account and its program, and whether it lags."""
        client = self.connect(User_Agent="bot/1")
        self.say(client, AUTH)
        self.publish(self.paper, FILL)
        [stats] = self.clients.list_stats()
        self.assertEqual(
            (stats.account, stats.info.address, stats.info.user_agent, stats.is_slow, stats.lag),
            ("paper", "127.0.0.1:50000", "bot/1", False, 0),
        )

    def test_client_is_one_of_its_account(self) -> None:
        """The broadcaster serves so many in a turn. Here is one of each kind of stream."""
        self.say(self.connect(), AUTH)
        self.request("/paper/v2/events/trades")
        self.assertEqual(len(self.paper.broadcaster), 2)

    def test_client_that_listens_to_nothing_does_not_lag(self) -> None:
        """It waits for no event."""
        self.say(self.connect("/trade-updates-paper/stream"), AUTHENTICATE)
        self.publish(self.paper, FILL)
        [stats] = self.clients.list_stats()
        self.assertEqual(stats.lag, 0)

    def test_clients_that_tokens_no_longer_accept_are_closed(self) -> None:
        """And counted; a short request has no token."""
        self.clients.add(ShortRequest())
        first, second = Secret("first-token"), Secret("second-token")
        self.accepted_tokens.replace((first, second))
        removed, kept = (
            self.connect(Authorization=f"Bearer {token.reveal()}") for token in (first, second)
        )
        self.accepted_tokens.replace((second,))
        self.assertEqual(self.clients.close_unaccepted(), 1)
        self.wires.flush()
        assert removed.closed is not None
        self.assertEqual((removed.closed[0], kept.closed), (4001, None))

    def test_stop_aborts_what_is_open_after_two_seconds_and_ends_the_service(self) -> None:
        """Nothing may delay the end of the process."""
        request = ShortRequest()
        self.clients.add(request)
        stopped = self.service.stopService()
        self.assertFalse(self.service.running)
        self.wires.advance(1.9)
        self.assertNoResult(stopped)
        self.assertFalse(request.is_aborted)
        self.wires.advance(0.1)
        self.successResultOf(stopped)
        self.assertTrue(request.is_aborted)

    def test_shortened_stop_aborts_what_is_open_at_once(self) -> None:
        """A second signal may come while it waits, or before its turn in the stop."""
        for shorten_first in (False, True):
            service = DownstreamService(self.clients, self.clock)
            service.startService()
            request = ShortRequest()
            self.clients.add(request)
            if shorten_first:
                service.shorten_stop()
            stopped = service.stopService()
            service.shorten_stop()
            self.successResultOf(stopped)
            self.assertTrue(request.is_aborted)
            self.clients.discard(request)
