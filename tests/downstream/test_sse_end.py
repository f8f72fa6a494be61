"""Server-sent events: when a response ends, and what is left of it then."""

from __future__ import annotations

from twisted.internet.address import IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.support.journals import event, event_id_of, time_of
from tests.support.memory import CLIENT
from tests.support.sse import PATH, ClosingTransport, NarrowSseCase, SseReader, SseTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.clients import ClientStats
from tradeproxy.journal.base import Batch
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.event import format_time


class DirectSseCase(SseTestCase):
    """Requests that are handled without a turn of the reactor."""

    def get_directly(self, query: str = "", peer: IAddress = CLIENT) -> StringTransport:
        """Return the proxy's end of a connection with this request."""
        transport = StringTransport(peerAddress=peer)
        channel = self.site.buildProtocol(peer)
        channel.makeConnection(transport)
        channel.dataReceived(f"GET {PATH}?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return transport


class SseUntilTests(DirectSseCase):
    """A range ends two seconds after its `until`: so long may an event take from Alpaca."""

    def range_until(self, seconds: float) -> str:
        """Return the query of a range from the beginning to some seconds from now."""
        begin, end = self.paper.journal.complete_from, self.clock.seconds() + seconds
        return f"since={format_time(begin)}&until={format_time(round(end * 1_000_000))}"

    def test_until_two_seconds_ago_ends_at_once(self) -> None:
        """A client that downloads old events does not wait. A later end is waited for."""
        self.wires.advance(10)
        for seconds, ends_at_once in ((-2.5, True), (-2, True), (-1.5, False)):
            transport = self.get_directly(self.range_until(seconds))
            self.assertIs(transport.value().endswith(b"\r\n0\r\n\r\n"), ends_at_once, seconds)
        self.wires.advance(0.5)
        self.assertTrue(transport.value().endswith(b"\r\n0\r\n\r\n"))

    def get_between(self, begin: int, end: int) -> SseReader:
        """Request the events between two times (microseconds since 1970), and wait."""
        self.paper.journal.complete_from = time_of(0)
        reader = self.get(f"since={format_time(begin)}&until={format_time(end)}")
        self.wires.advance(30)
        return reader

    def test_until_waits_for_gaps_that_begin_in_the_range(self) -> None:
        """A gap begins with the last known event: more events may have its time."""
        self.paper.mark_upstream_up()
        self.paper.mark_upstream_down("lost")
        gap = self.paper.gaps.current
        assert gap is not None
        self.assertEqual(gap.begin, time_of(9))
        for until, ends in ((time_of(9) - 1, True), (time_of(9), False)):
            self.assertIs(self.get_between(time_of(7), until).has_ended, ends)

    def test_until_includes_events_without_a_time(self) -> None:
        """They may be of any time, so they are in every range."""
        self.publish(self.paper, event(500, at=None).payload)
        row = self.paper.journal.row(11)
        assert row is not None
        self.assertIsNone(row.time)
        reader = self.get_between(time_of(7), time_of(8))
        self.assertEqual(reader.ids(), [*self.ids[7:9], event_id_of(500)])
        self.assertTrue(reader.has_ended)


class SseReadTests(SseTestCase):
    """What a response reads of the log."""

    def test_until_id_reads_nothing_behind_the_end(self) -> None:
        """A log may have a million events behind it. One step has 128."""
        small = b'{"stream":"trade_updates","data":{"event_id":"%d"}}'
        self.publish(self.paper, *[small % n for n in range(400)])
        steps = self.record_steps()
        for begin, end, expected in ((11, 15, [11]), (12, 140, [12]), (13, 142, [13, 141])):
            steps.clear()
            reader = self.get(f"since_id={self.cursor(begin)}&until_id={self.cursor(end)}")
            self.assertEqual((len(reader.ids()), reader.has_ended), (end - begin, True))
            self.assertEqual(steps, expected)


class SseStatsTests(DirectSseCase, NarrowSseCase):
    """What the operator sees of a response."""

    def read_stats(self) -> ClientStats:
        [stats] = self.factory.clients.list_stats()
        return stats

    def test_stats_have_the_address_in_the_form_of_websockets(self) -> None:
        """The clients of both protocols are in one list."""
        for peer, text in (
            (CLIENT, "127.0.0.1:50000"),
            (IPv6Address("TCP", "::1", 50_000), "[::1]:50000"),
            (UNIXAddress("/run/client"), "a UNIX socket"),
        ):
            self.setUp()
            self.get_directly(peer=peer)
            self.assertEqual(self.read_stats().info.address, text)

    def test_stats_lag_counts_events_that_are_not_written(self) -> None:
        """A client that reads has none, even while a log is replaced by a shorter one."""
        _, transport = self.get_blocked()
        self.assertEqual((self.read_stats().is_slow, self.read_stats().lag), (False, 0))
        self.publish_many()
        stats = self.read_stats()
        self.assertTrue(stats.is_slow)
        self.assertTrue(0 < stats.lag < 200, stats.lag)
        transport.blocked = False
        self.wires.flush()
        self.assertEqual((self.read_stats().is_slow, self.read_stats().lag), (False, 0))
        self.paper.journal.last = 5
        self.assertEqual(self.read_stats().lag, 0)


class SseCloseTimeTests(NarrowSseCase):
    """A close by a reload, whose client reads nothing more."""

    transport_type = ClosingTransport

    def test_close_waits_for_the_stall_timeout(self) -> None:
        """Then the connection is dropped. It was held, with its place, for as long as it liked."""
        reader, _ = self.get_blocked()
        self.publish_many()
        [client] = self.factory.clients
        client.close(CloseCode.TOKEN_REMOVED)
        self.wires.advance(29)
        client.close(CloseCode.TOKEN_REMOVED)  # another reload gives it no more time
        self.assertFalse(reader.raw.gone)
        self.wires.advance(1.1)
        self.assertTrue(reader.raw.gone)
        self.assertEqual(len(self.factory.clients), 0)


class SseClosedTests(DirectSseCase):
    """A connection that the proxy has closed, while its transport is still there."""

    def test_closed_response_sends_nothing(self) -> None:
        """No events and no heartbeats follow, whether a step of a replay is due or not.

        After `drop_all` the log is another one, in which the client's position means nothing.
        """
        for query in ("", "replay=9"):
            for number in range(2):
                self.setUp()
                transport = self.get_directly(query)
                before = transport.value()
                (self.service.stopService, self.paper.broadcaster.drop_all)[number]()
                self.publish(self.paper, self.events[10])
                self.wires.advance(20)
                self.assertEqual((transport.value(), transport.disconnecting), (before, True))


class SseLeftoverTests(NarrowSseCase):
    """An ended response leaves no timer and no client, and a dropped one its reason."""

    limits = Limits(max_clients=2)

    def setUp(self) -> None:
        super().setUp()
        self.timers = len(self.clock.getDelayedCalls())

    def assert_nothing_left(self) -> None:
        self.assertEqual(len(self.clock.getDelayedCalls()), self.timers)
        self.assertEqual((len(self.factory.clients), len(self.paper.broadcaster)), (0, 0))

    def test_lost_connection_leaves_no_timer(self) -> None:
        """The client may be slow, or in the middle of a range."""
        now = round(self.clock.seconds() * 1_000_000)
        until = f"since={format_time(now)}&until={format_time(now + 60_000_000)}"
        for query in ("", until):
            for count in (0, 200):
                self.setUp()
                reader, transport = self.get_blocked(query)
                self.assertEqual(reader.raw.status, 200)
                self.publish_many(count)
                transport.protocol.connectionLost(Failure(ConnectionLost()))
                self.assert_nothing_left()

    def test_clean_end_frees_the_place_of_the_client(self) -> None:
        """The connection stays open for other requests, but follows no stream."""
        query = f"since_id={self.ids[0]}&until_id={self.ids[1]}"
        for _ in range(4):
            reader = self.get(query)
            self.assertEqual((reader.ids(), reader.raw.gone), ([self.ids[1]], False))
        self.wires.advance(self.limits.handshake_timeout + 60)
        self.assert_nothing_left()

    def test_dropped_response_is_counted_by_its_reason(self) -> None:
        """The operator sees why clients reconnect. None of these responses ends cleanly."""

        def stall() -> None:
            self.wires.advance(30)

        def trim() -> None:
            self.paper.journal.first = self.paper.journal.last

        def fail() -> None:
            self.disk.refuse_everything()

        for act, reason in (
            (stall, "read too slowly for 30 s"),
            (trim, "what a client wanted to read is no longer kept"),
            (fail, CloseCode.UNREADABLE.reason),
        ):
            self.setUp()
            reader, transport = self.get_blocked()
            self.publish_many()
            act()
            transport.blocked = False
            self.wires.flush()
            self.disk.refuse_everything(False)
            self.wires.advance(1)  # the journal tries again
            self.assertEqual((reader.raw.gone, reader.has_ended), (True, False))
            self.assertEqual(self.factory.clients.rejections.counts, {reason: 1})
            self.assert_nothing_left()


class SseSharingTests(SseTestCase):
    """Responses with the same events share their bytes."""

    def test_event_is_encoded_once_for_all_responses(self) -> None:
        """An end that is far away makes no difference."""
        batches: list[Batch] = []
        publish = self.paper.journal.on_committed

        def record(batch: Batch) -> None:
            batches.append(batch)
            publish(batch)

        self.paper.journal.on_committed = record
        now = round(self.clock.seconds() * 1_000_000)
        until = f"since={format_time(now)}&until={format_time(now + 60_000_000)}"
        readers = [self.get(), self.get(), self.get(until)]
        for reader in readers:
            reader.taken()
        self.publish(self.paper, self.events[10])
        [batch] = batches
        [encoded] = batch.encoded.values()
        self.assertEqual([reader.taken().encode() for reader in readers], [encoded] * 3)
