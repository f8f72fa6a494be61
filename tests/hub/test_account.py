"""Tests for tradeproxy.hub.account."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import (
    Connections,
    MemoryCase,
    event,
    journal_at,
    memory_journal,
    time_of,
)
from tests.support.redisjournals import InRedis
from tradeproxy.hub.account import ANOTHER_ACCOUNT, Account
from tradeproxy.hub.replication import StreamState
from tradeproxy.wire.position import Cursor
from tradeproxy.wire.proxy_status import Gap, GapOutcome, UpstreamStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.journal.base import Batch


BEGIN = time_of(0) // 1_000_000
"""When the tests begin (Unix time): just before their first event."""


class Reader:
    """A subscriber that keeps what it is handed, and then does `on_delivery`."""

    size = 1

    def __init__(self, on_delivery: Callable[[], object] = lambda: None) -> None:
        self.bursts: list[list[bytes | None]] = []
        self.statuses: list[dict[str, Any]] = []
        self.last: Batch | None = None
        self._on_delivery = on_delivery

    def deliver(self, burst: Batch) -> None:
        """Keep the payloads."""
        self.last = burst
        self.bursts.append([row.payload for row in burst.rows])
        self._on_delivery()

    def announce(self, status: bytes) -> None:
        """Keep what it says."""
        self.statuses.append(json.loads(status)["data"])

    def abort(self) -> None:
        """Do nothing: nothing here fails."""


class AccountTestCase(MemoryCase):
    """An account, and a reader."""

    now = BEGIN

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open()
        self.account = Account("paper", self.journal, self.clock)
        self.reader = Reader()
        self.account.broadcaster.register(self.reader)

    def assert_delivered(self, *bursts: list[int]) -> None:
        """Assert that these numbers of events came, and in which bursts."""
        self.assertEqual(
            self.reader.bursts, [[event(n).payload for n in burst] for burst in bursts]
        )

    def publish(self, *numbers: int) -> None:
        for n in numbers:
            self.account.publish(event(n))


class PublishTests(AccountTestCase):
    """Events go in one by one and come out as bursts, by way of the journal."""

    def test_hands_on_the_events_of_one_turn_as_one_burst(self) -> None:
        """What one turn of the reactor brings is delivered at its end, in order, at once."""
        self.publish(3, 1, 2)
        self.assert_delivered()
        self.clock.advance(0)
        self.assert_delivered([3, 1, 2])

    def test_hands_on_the_payload_itself(self) -> None:
        """The bytes that go out are the object that came in."""
        published = event(1)
        self.account.publish(published)
        self.clock.advance(0)
        self.assertIs(self.reader.bursts[0][0], published.payload)

    def test_an_event_is_in_the_journal_when_anybody_gets_it(self) -> None:
        """Promise 1: read at the moment of the delivery."""
        found: list[int | None] = []
        other = Reader(lambda: found.append(self.journal.find(event(1).identity)))
        self.account.broadcaster.register(other)
        self.publish(1)
        self.clock.advance(0)
        self.assertEqual(found, [1])

    def test_hands_on_the_events_of_a_later_turn_as_another_burst(self) -> None:
        """A turn's events don't wait for the next turn's."""
        self.publish(1)
        self.clock.advance(0)
        self.publish(2, 3)
        self.clock.advance(0)
        self.assert_delivered([1], [2, 3])

    def test_what_was_there_before_is_dropped_and_counted(self) -> None:
        """Alpaca repeats itself; a burst of nothing new is no burst."""
        self.publish(1, 1)
        self.clock.advance(0)
        self.publish(1)
        self.clock.advance(0)
        self.assert_delivered([1])
        self.assertEqual(self.journal.duplicates, 2)

    def test_hands_on_what_is_published_during_a_delivery_in_the_turn_after(self) -> None:
        """An event that a delivery brings about comes after the burst at hand, to everybody."""
        again = [2]
        echo = Reader(lambda: self.publish(again.pop()) if again else None)
        self.account.broadcaster.register(echo)
        last = Reader()
        self.account.broadcaster.register(last)
        self.publish(1)
        self.clock.advance(0)  # a Clock runs the turn after at once
        for reader in (self.reader, echo, last):
            self.assertEqual(reader.bursts, [[event(1).payload], [event(2).payload]])

    def test_leaves_nothing_scheduled_behind(self) -> None:
        """After a burst no timer remains but those that were there before."""
        before = len(self.clock.getDelayedCalls())
        self.publish(1, 2)
        self.assertEqual(len(self.clock.getDelayedCalls()), before + 1)
        self.clock.advance(0)
        self.assertEqual(len(self.clock.getDelayedCalls()), before)

    def test_keeps_accounts_apart(self) -> None:
        """No event of one account reaches a subscriber of another."""
        other, listener = Account("live", memory_journal(self.clock, "live"), self.clock), Reader()
        other.broadcaster.register(listener)
        self.publish(1)
        other.publish(event(2))
        self.clock.advance(0)
        self.assert_delivered([1])
        self.assertEqual(listener.bursts, [[event(2).payload]])


class CloseTests(AccountTestCase):
    """When the proxy stops, nothing that came is left behind."""

    def test_what_has_come_is_committed_before_the_journal_closes(self) -> None:
        """Also what was held; a timer that is still to come then finds nothing to do."""
        self.account.start_buffering()
        self.publish(2)
        self.account.publish_recovered(event(1))
        self.account.close()
        self.assert_delivered([1, 2])
        self.clock.advance(60)
        self.assert_delivered([1, 2])


class HoldTests(AccountTestCase):
    """While something older is sought, newer events wait."""

    def test_recovered_events_go_before_those_that_are_held(self) -> None:
        """In the order: recovered, held, live."""
        self.account.start_buffering()
        self.publish(3, 4)
        self.clock.advance(0)
        self.account.publish_recovered(event(1))
        self.clock.advance(0)
        self.account.publish_recovered(event(2))
        self.account.stop_buffering()
        self.publish(5)
        self.clock.advance(0)
        self.assert_delivered([1], [2, 3, 4, 5])

    def test_what_is_held_can_be_looked_at(self) -> None:
        """Recovery compares with it; after the release there is nothing."""
        self.assertFalse(self.account.is_buffering)
        self.account.start_buffering()
        self.publish(1)
        self.account.start_buffering()  # again: nothing is lost by it
        self.assertFalse(self.account.is_settled)
        self.assertTrue(self.account.is_buffering)
        self.assertEqual(self.account.buffered, (event(1),))
        self.account.stop_buffering()
        self.assertEqual((self.account.buffered, self.account.is_buffering), ((), False))
        self.account.stop_buffering()
        self.assertFalse(self.account.is_settled, "it is on its way")
        self.clock.advance(0)
        self.assert_delivered([1])
        self.assertTrue(self.account.is_settled)

    def test_an_event_that_was_recovered_and_held_comes_once(self) -> None:
        """The history may have what the stream has brought meanwhile."""
        self.account.start_buffering()
        self.publish(1, 2)
        self.account.publish_recovered(event(1))
        self.account.stop_buffering()
        self.clock.advance(0)
        self.assert_delivered([1, 2])


class FlushTests(AccountTestCase):
    """Nobody has to wait for the end of a turn."""

    def test_what_has_come_is_handed_on_at_once(self) -> None:
        """Recovery looks at the log in between; the turn's end has nothing left to do."""
        self.publish(1, 2)
        self.assert_delivered()
        self.account.flush()
        self.assert_delivered([1, 2])
        self.clock.advance(0)
        self.assert_delivered([1, 2])


class CursorTests(AccountTestCase):
    """Positions that outlive this process."""

    def test_every_place_has_one(self) -> None:
        """Before the first event, behind each, and where the events have been trimmed."""
        self.publish(1, 2)
        self.clock.advance(0)
        assert self.reader.last is not None
        cursors = [self.account.cursor_at(seq) for seq in range(3)]
        self.assertEqual(
            cursors[1:], [self.account.cursor_after(row) for row in self.reader.last.rows]
        )
        parsed = [Cursor.parse(str(cursor)) for cursor in cursors]
        self.assertEqual([cursor and cursor.seq for cursor in parsed], [0, 1, 2])
        self.assertEqual({cursor and cursor.epoch for cursor in parsed}, {self.journal.epoch})
        self.assertIsNone(self.account.cursor_at(3))

    def test_hello_has_the_whole_state(self) -> None:
        """Cursor, upstream, journal, gaps."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.account.mark_upstream_down("lost")
        data = json.loads(self.account.hello(1))["data"]
        self.assertEqual((data["event"], data["account"]), ("hello", "paper"))
        self.assertEqual(data["cursor"], self.account.cursor_at(1))
        self.assertEqual((data["upstream"]["state"], data["upstream"]["reason"]), ("down", "lost"))
        self.assertEqual(data["journal"]["state"], "durable")
        self.assertEqual([gap["outcome"] for gap in data["gaps"]], ["pending"])


class DropTests(SynchronousTestCase):
    """Frames of no use are counted."""

    def test_counts_each_kind_and_logs_only_its_first(self) -> None:
        """A stream of garbage costs one line a kind, however long it lasts."""
        clock = Clock()
        account = Account("paper", memory_journal(clock), clock)
        with capturedLogs() as events:
            for problem in ("not JSON", "an error frame", "not JSON", "not JSON", "an error frame"):
                account.drop_frame(problem)
        self.assertEqual(account.dropped_frames, {"not JSON": 3, "an error frame": 2})
        self.assertEqual(
            [(event["log_level"], event["account"], event["problem"]) for event in events],
            [(LogLevel.warn, "paper", "not JSON"), (LogLevel.warn, "paper", "an error frame")],
        )
        for logged in events:
            self.assertIn(logged["problem"], formatEvent(logged))


class UpstreamStatusTests(SynchronousTestCase):
    """The account knows how its upstream is, and since when."""

    def test_follows_the_upstream(self) -> None:
        """`since` is where the present state began: a further failed attempt does not move an outage."""
        clock = Clock()
        clock.advance(1000)
        account = Account("paper", memory_journal(clock), clock)
        up, down = account.mark_upstream_up, account.mark_upstream_down
        self.assertEqual(account.upstream, UpstreamStatus(False, "not connected yet", 1000.0))
        steps: list[tuple[str, Callable[[], None], UpstreamStatus]] = [
            (
                "the first attempt fails",
                lambda: down("refused"),
                UpstreamStatus(False, "refused", 1000.0),
            ),
            ("it comes up", up, UpstreamStatus(True, "streaming", 1020.0)),
            ("it is lost", lambda: down("lost"), UpstreamStatus(False, "lost", 1030.0)),
            (
                "an attempt fails",
                lambda: down("HTTP 429"),
                UpstreamStatus(False, "HTTP 429", 1030.0),
            ),
            ("it comes up again", up, UpstreamStatus(True, "streaming", 1050.0)),
            ("it is lost again", lambda: down("lost"), UpstreamStatus(False, "lost", 1060.0)),
        ]
        for name, step, status in steps:
            clock.advance(10)
            step()
            self.assertEqual(account.upstream, status, name)


class GapTests(AccountTestCase):
    """An outage is a gap, from the last event to the stream's return."""

    def outage(self) -> None:
        self.account.mark_upstream_down("lost")
        self.clock.advance(10)
        self.account.mark_upstream_up()

    def test_before_the_very_first_stream_nothing_can_have_been_missed(self) -> None:
        """A new journal begins with its first stream."""
        self.account.mark_upstream_up()
        self.assertIsNone(self.account.gaps.current)

    def test_an_outage_begins_at_the_last_event(self) -> None:
        """That is the last moment which is known to be complete."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.outage()
        gap = self.account.gaps.current
        assert gap is not None
        self.assertEqual(gap.begin, event(1).time)
        self.assertEqual(gap.end, (BEGIN + 10) * 1_000_000)

    def test_a_journal_that_was_there_before_makes_a_gap_of_the_start(self) -> None:
        """What happened while no proxy ran was missed too; a failed attempt changes nothing."""
        self.journal.append([event(1)])
        self.account.mark_upstream_down("refused")
        self.assertIsNone(self.account.gaps.current)
        self.account.mark_upstream_up()
        gap = self.account.gaps.current
        assert gap is not None
        self.assertEqual(gap.begin, event(1).time)

    def test_those_who_ask_are_told_of_every_change(self) -> None:
        """Begin, end and outcome; and that the upstream is up or down."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.reader.statuses.clear()
        self.outage()
        self.account.gaps.count_found(3)
        self.account.gaps.settle(GapOutcome.RECOVERED)
        told = [
            (status["event"], status.get("outcome", status.get("state")))
            for status in self.reader.statuses
        ]
        self.assertEqual(
            told,
            [
                ("upstream", "down"),
                ("gap", "pending"),
                ("upstream", "up"),
                ("gap", "pending"),
                ("gap", "recovered"),
            ],
        )
        self.assertEqual(self.reader.statuses[-1]["events"], 3)

    def test_another_account_ends_the_gap_and_begins_a_log(self) -> None:
        """What was missed of the other one is lost; who asks is told, with a cursor of the new log."""
        self.account.identify("one")
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.account.mark_upstream_down("lost")
        self.reader.statuses.clear()
        epoch = self.journal.epoch
        self.account.identify("one")
        self.assertEqual(self.reader.statuses, [])
        self.account.identify("two")
        hello, gap = self.reader.statuses
        self.assertEqual((gap["outcome"], gap["reason"]), ("lost", ANOTHER_ACCOUNT))
        self.assertEqual(hello["event"], "hello")
        self.assertNotIn(epoch, hello["cursor"])

    def test_the_same_state_is_told_once(self) -> None:
        """However many attempts fail in the same way."""
        for reason in ("refused", "refused", "HTTP 429"):
            self.account.mark_upstream_down(reason)
        self.assertEqual(
            [status["reason"] for status in self.reader.statuses], ["refused", "HTTP 429"]
        )


class ReplacedTests(MemoryCase):
    """What befalls a file is not the account's affair."""

    now = BEGIN

    def test_a_journal_that_is_replaced_meanwhile_is_no_other_account(self) -> None:
        """A damaged file begins a new epoch too; what was missed is still sought."""
        disk = Connections()
        journal = journal_at(Path(self.mktemp()) / "paper.sqlite3", self.clock, connect=disk)
        account = Account("paper", journal, self.clock)
        account.open()
        self.addCleanup(account.close)
        account.mark_upstream_up()
        account.publish(event(1))
        self.clock.advance(0)
        account.mark_upstream_down("lost")
        epoch = journal.epoch
        disk.execute("DROP TABLE meta")
        account.identify("one")
        self.assertNotEqual(journal.epoch, epoch)
        gap = account.gaps.current
        assert gap is not None
        self.assertEqual(gap.outcome, GapOutcome.PENDING)


class StandingTests(AccountTestCase):
    """Where several processes share an account, one holds its upstream, and the others follow."""

    def setUp(self) -> None:
        super().setUp()
        self.standings: list[StreamState] = []
        self.account.on_stream_state = self.standings.append

    def test_every_change_is_told_whole(self) -> None:
        """The upstream's status, and all the gaps that a client is told of."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.account.flush()
        self.account.mark_upstream_down("lost")
        self.account.gaps.settle(GapOutcome.OPEN, "HTTP 500")
        self.assertEqual([len(standing.gaps) for standing in self.standings], [0, 0, 1, 1])
        self.assertEqual(
            self.standings[-1], StreamState(self.account.upstream, tuple(self.account.gaps))
        )

    def test_follows_what_another_process_tells(self) -> None:
        """Its clients are told what is new, once."""
        up = UpstreamStatus(streaming=True, reason="streaming", since=BEGIN + 1.5)
        gap = Gap(1, 2, GapOutcome.RECOVERED, 3)
        for _ in range(2):
            self.account.apply_stream_state(StreamState(up, (gap,)))
        self.assertEqual((self.account.upstream, list(self.account.gaps)), (up, [gap]))
        self.assertEqual([status["event"] for status in self.reader.statuses], ["gap", "upstream"])
        self.assertEqual(self.account.reconnects, 0)

    def test_takes_over_from_another_process(self) -> None:
        """What came between the two may have been missed: its first stream ends a gap."""
        self.journal.append([event(1)])
        self.account.apply_stream_state(
            StreamState(UpstreamStatus(streaming=True, reason="streaming", since=BEGIN), ())
        )
        self.clock.advance(5)
        self.account.take_over()
        self.assertEqual(self.account.upstream, UpstreamStatus(False, "connecting", BEGIN + 5))
        self.clock.advance(1)
        self.account.mark_upstream_up()
        self.assertEqual(
            list(self.account.gaps), [Gap(time_of(1), max((BEGIN + 6) * 1_000_000, time_of(1)))]
        )
        self.assertEqual(self.account.reconnects, 0)

    def test_takes_over_a_second_time(self) -> None:
        """Another process led meanwhile, whatever this one has streamed before."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.account.flush()
        self.account.mark_upstream_down("the lease was lost")
        self.account.apply_stream_state(
            StreamState(UpstreamStatus(streaming=True, reason="streaming", since=BEGIN), ())
        )
        self.account.take_over()
        self.account.mark_upstream_up()
        [gap] = self.account.gaps
        self.assertEqual((gap.begin, gap.outcome), (time_of(1), GapOutcome.PENDING))

    def test_a_log_that_is_another_one_ends_every_client(self) -> None:
        """No position of theirs leads on from there."""
        self.journal.on_replaced()
        self.assertEqual(len(self.account.broadcaster), 0)


class PublishInRedisTests(InRedis, PublishTests):
    """The same for an account whose journal is shared, as the others below."""

    def test_hands_on_the_payload_itself(self) -> None:
        """The bytes that go out are those that came in, and have been read back."""
        self.publish(1)
        self.clock.advance(0)
        self.assert_delivered([1])


class CloseInRedisTests(InRedis, CloseTests):
    """The same where the journal is shared."""


class HoldInRedisTests(InRedis, HoldTests):
    """The same where the journal is shared."""


class FlushInRedisTests(InRedis, FlushTests):
    """The same where the journal is shared."""


class CursorInRedisTests(InRedis, CursorTests):
    """The same where the journal is shared."""


class GapInRedisTests(InRedis, GapTests):
    """The same where the journal is shared."""


class StandingInRedisTests(InRedis, StandingTests):
    """The same where the journal is shared."""
