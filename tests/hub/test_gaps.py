"""Tests for tradeproxy.hub.gaps."""

from __future__ import annotations

import json

from tests.support.journals import DAY, NOW, MemoryCase, events, time_of
from tests.support.redisjournals import RedisJournalCase
from tradeproxy.hub.completeness import Completeness
from tradeproxy.hub.gaps import FOUND_AGAIN, Gaps
from tradeproxy.journal.base import Journal
from tradeproxy.journal.metadata import OPEN_SINCE, UNKNOWN
from tradeproxy.runtime.dates import Dates
from tradeproxy.wire.event import parse_time
from tradeproxy.wire.proxy_status import Gap, GapOutcome, encode_gap

BACK = time_of(100)
"""When the stream returns (microseconds since 1970)."""


class GapsTests(MemoryCase):
    """A gap begins where the log was last complete, and ends with an outcome."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open()
        self.frames: list[bytes] = []
        self.gaps = self.restart()

    def restart(self) -> Gaps:
        """Return the gaps that another process reads from the same journal."""
        return Gaps(self.journal, Completeness(self.journal), self.frames.append)

    def announced(self) -> list[tuple[int, int | None, str, int]]:
        """Return and clear the announced gaps: beginning, end, outcome and number of events."""
        announced = []
        for frame in self.frames:
            data = json.loads(frame)["data"]
            end = None if data["end"] is None else parse_time(data["end"])
            announced.append((parse_time(data["begin"]), end, data["outcome"], data["events"]))
        self.frames.clear()
        return announced

    def test_begin_gap_before_first_stream_has_no_effect(self) -> None:
        """Nothing can be missed before the first stream; afterwards it can."""
        self.gaps.begin_gap()
        self.gaps.settle(GapOutcome.LOST)
        self.gaps.count_found(1)
        self.assertIsNone(self.gaps.current)
        self.clock.advance(100)
        self.gaps.end_gap(BACK)
        self.assertEqual((list(self.gaps), self.frames), ([], []))
        self.gaps.begin_gap()
        self.assertEqual(self.gaps.current, Gap(BACK))

    def test_declare_lost_adds_a_gap_and_makes_it_longer(self) -> None:
        """A healthy stream may omit an event that nothing brings. Checks find it repeatedly."""
        self.gaps.declare_lost(BACK, BACK + 5, "too large")
        self.gaps.declare_lost(BACK + 4, BACK + 9, "too large")
        self.assertEqual(
            self.announced(), [(BACK, BACK + 5, "lost", 0), (BACK, BACK + 9, "lost", 0)]
        )
        self.gaps.declare_lost(BACK + 9, BACK + 3, "nested too deeply")
        self.assertEqual(self.announced(), [(BACK + 9, BACK + 9, "lost", 0)])
        self.assertEqual(len(list(self.gaps)), 2)
        self.assertEqual(
            (self.gaps.outcomes[GapOutcome.PENDING], self.gaps.outcomes[GapOutcome.LOST]), (2, 2)
        )
        self.assertIsNone(self.gaps.current)

    def test_declare_lost_later_adds_a_gap(self) -> None:
        """The gap of Monday was declared again on Friday, as one of five days."""
        self.gaps.declare_lost(BACK, BACK + 5, "too large")
        later = BACK + 5 + FOUND_AGAIN
        self.gaps.declare_lost(later, later + 1, "too large")
        self.assertEqual(len(list(self.gaps)), 1)
        later += FOUND_AGAIN + 2
        self.gaps.declare_lost(later, later + 3, "too large")
        self.assertEqual(self.announced()[2:], [(later, later + 3, "lost", 0)])

    def test_declare_lost_from_an_earlier_time_moves_the_begin(self) -> None:
        """The change of another order is older. No gap had its time."""
        self.gaps.declare_lost(BACK, BACK + 5, "too large")
        self.gaps.declare_lost(BACK - 7, BACK + 6, "too large")
        self.assertEqual(self.announced()[1:], [(BACK - 7, BACK + 6, "lost", 0)])
        self.gaps.declare_lost(None, BACK + 6, "too large")
        gap = Gap(None, BACK + 6, GapOutcome.LOST, reason="too large")
        self.assertEqual(list(self.gaps), [gap])

    def test_declare_lost_while_a_gap_is_open_has_no_effect(self) -> None:
        """The open gap has its own outcome."""
        self.gaps.end_gap(BACK)
        self.gaps.begin_gap()
        before = list(self.gaps)
        self.gaps.declare_lost(BACK, BACK + 5, "too large")
        self.assertEqual(list(self.gaps), before)

    def test_end_gap_second_stream_keeps_start_of_first(self) -> None:
        """A later return without a gap does not move the time from which the log is complete."""
        self.gaps.end_gap(BACK)
        self.gaps.end_gap(BACK + 5)
        again = self.restart()
        again.begin_gap()
        self.assertEqual(again.current, Gap(BACK))

    def test_begin_gap_begins_at_latest_complete_time(self) -> None:
        """It is the latest of first stream, newest event and dedup horizon."""
        self.gaps.end_gap(time_of(0))
        for advance, begin in (
            (lambda: None, time_of(0)),
            (lambda: self.journal.append(events(5, 3)), time_of(5)),
            (lambda: self.journal.advance_dedup_horizon(time_of(9)), time_of(9)),
            (lambda: self.journal.append(events(7)), time_of(9)),
        ):
            advance()
            self.gaps.begin_gap()
            self.assertEqual(self.gaps.current, Gap(begin))
            self.gaps.settle(GapOutcome.RECOVERED)

    def test_gap_every_change_is_announced(self) -> None:
        """Beginning, end and outcome are announced; an unchanged outcome is not."""
        self.journal.append(events(1))
        self.gaps.begin_gap()
        self.gaps.end_gap(BACK)
        self.gaps.count_found(2)
        self.gaps.settle(GapOutcome.OPEN, "HTTP 500")
        self.gaps.settle(GapOutcome.OPEN, "HTTP 500")
        self.gaps.settle(GapOutcome.OPEN, "HTTP 502")
        self.gaps.count_found(1)
        self.gaps.settle(GapOutcome.RECOVERED)
        begin = time_of(1)
        expected = [
            (begin, None, "pending", 0),
            (begin, BACK, "pending", 0),
            (begin, BACK, "open", 2),
            (begin, BACK, "open", 2),
            (begin, BACK, "recovered", 3),
        ]
        self.assertEqual(self.announced(), expected)
        self.assertIsNone(self.gaps.current)
        self.assertEqual(list(self.gaps), [Gap(begin, BACK, GapOutcome.RECOVERED, 3)])

    def test_counts_of_gaps_and_events_are_by_outcome(self) -> None:
        """Another reason is not another outcome. /metrics has these counts since the start."""
        self.assertEqual((self.gaps.found["gap"], self.gaps.found["check"]), (0, 0))
        self.journal.append(events(1))
        for outcome in (GapOutcome.LOST, GapOutcome.RECOVERED):
            self.gaps.begin_gap()
            self.gaps.begin_gap()
            self.gaps.settle(GapOutcome.OPEN, "HTTP 500")
            self.gaps.settle(GapOutcome.OPEN, "HTTP 502")
            self.gaps.count_found(2)
            self.gaps.settle(outcome)
        self.gaps.count_found(3)
        self.assertEqual(
            self.gaps.outcomes,
            {
                GapOutcome.PENDING: 2,
                GapOutcome.OPEN: 2,
                GapOutcome.LOST: 1,
                GapOutcome.RECOVERED: 1,
            },
        )
        self.assertEqual((self.gaps.found["gap"], self.gaps.found["check"]), (4, 3))
        self.assertEqual([gap.events for gap in self.gaps], [2, 2])

    def test_begin_gap_while_open_extends_it(self) -> None:
        """Until all missed events are found it is one gap, with its first beginning."""
        self.journal.append(events(1))
        self.gaps.begin_gap()
        self.gaps.end_gap(BACK)
        self.journal.append(events(50))
        self.gaps.begin_gap()
        self.assertEqual(self.gaps.current, Gap(time_of(1)))
        self.gaps.end_gap(BACK + 1)
        self.assertEqual(list(self.gaps), [Gap(time_of(1), BACK + 1)])

    def test_end_gap_before_its_beginning_ends_at_beginning(self) -> None:
        """Alpaca's clock and ours may differ."""
        self.journal.append(events(200))
        self.gaps.begin_gap()
        self.gaps.end_gap(BACK)
        self.assertEqual(self.gaps.current, Gap(time_of(200), time_of(200)))

    def test_begin_gap_after_restart_continues_open_gap(self) -> None:
        """Several restarts and newer events do not move its beginning."""
        self.journal.append(events(1))
        self.gaps.begin_gap()
        self.gaps.end_gap(BACK)
        self.gaps.settle(GapOutcome.OPEN)
        self.journal.append(events(50))
        for _ in range(2):
            again = self.restart()
            self.assertIsNone(again.current)
            again.begin_gap()
            self.assertEqual(again.current, Gap(time_of(1)))

    def test_begin_gap_after_closed_gap_begins_at_last_event(self) -> None:
        """After a restart the next gap begins where the log is complete."""
        self.journal.append(events(1))
        for outcome in (GapOutcome.RECOVERED, GapOutcome.ORDERS, GapOutcome.LOST):
            self.gaps.begin_gap()
            self.gaps.settle(outcome)
        self.journal.append(events(2))
        again = self.restart()
        again.begin_gap()
        self.assertEqual(again.current, Gap(time_of(2)))

    def test_gaps_more_than_limit_keeps_the_last(self) -> None:
        """The number of gaps in a hello frame is bounded."""
        for n in range(25):
            self.journal.append(events(n))
            self.gaps.begin_gap()
            self.gaps.settle(GapOutcome.LOST)
        kept = [gap.begin for gap in self.gaps]
        self.assertEqual(kept, [time_of(n) for n in range(5, 25)])


class UnknownBeginTests(MemoryCase):
    """The gap after a journal that is lost with its bookmark has no known beginning."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open()
        self.journal.set_metadata(OPEN_SINCE, UNKNOWN)
        self.frames: list[bytes] = []
        self.gaps = Gaps(self.journal, Completeness(self.journal), self.frames.append)

    def test_begin_gap_begin_is_unknown(self) -> None:
        """It is announced as null. The backfill starts where the new journal begins."""
        self.gaps.begin_gap()
        self.gaps.correct_times()
        self.assertEqual(self.gaps.completeness.backfill_from, self.journal.complete_from)
        self.clock.advance(100)
        self.gaps.end_gap(BACK)
        self.assertEqual(self.gaps.current, Gap(None, BACK))
        data = json.loads(self.frames[-1])["data"]
        self.assertEqual((data["begin"], data["outcome"]), (None, "pending"))
        self.assertEqual(self.gaps.completeness.backfill_from, self.journal.complete_from)

    def test_gap_of_unknown_begin_survives_restart_until_settled(self) -> None:
        """Then the next gap begins at the stream or at the last event, as ever."""
        self.gaps.begin_gap()
        self.gaps.end_gap(BACK)
        again = Gaps(self.journal, Completeness(self.journal), self.frames.append)
        again.begin_gap()
        self.assertEqual(again.current, Gap(None))
        self.clock.advance(100)
        again.end_gap(BACK)
        again.settle(GapOutcome.LOST)
        again.begin_gap()
        self.assertEqual(again.current, Gap(BACK))
        self.journal.append(events(101))
        again.settle(GapOutcome.LOST)
        again.begin_gap()
        self.assertEqual(again.current, Gap(time_of(101)))


class DamagedNotesTests(MemoryCase):
    """Another program or a damaged disk has written texts that are no times."""

    def test_times_that_are_no_numbers_count_as_none(self) -> None:
        """An error here would end every attempt to connect."""
        journal = self.open()
        for text in ("abc", "", "1.5", "9" * 30, "9" * 5000):
            for key in (OPEN_SINCE, "complete from", "checked through"):
                journal.set_metadata(key, text)
            gaps = Gaps(journal, Completeness(journal), lambda _: None)
            gaps.begin_gap()
            self.assertEqual(
                (gaps.completeness.complete_through, gaps.completeness.backfill_from, gaps.current),
                (None,) * 3,
            )
            gaps.end_gap(time_of(0))
            self.assertEqual(gaps.completeness.complete_through, time_of(0))


class WrongClockTests(MemoryCase):
    """Gaps on a machine whose clock is wrong until Alpaca's clock is known."""

    now = 1000.0  # in 1970

    def test_first_stream_before_alpacas_clock_is_known_is_corrected(self) -> None:
        """The first gap would otherwise begin in 1970, and its backfill would read 50 years."""
        journal = self.open()
        gaps = Gaps(journal, Completeness(journal), lambda _: None)
        gaps.end_gap(round(self.now * 1_000_000))
        self.assertEqual(gaps.completeness.complete_through, round(self.now * 1_000_000))
        self.clock.advance(10)
        journal.dates.observe(NOW)
        self.clock.advance(40)
        self.assertTrue(journal.dates.observe(NOW + 40))
        self.assertEqual(gaps.completeness.complete_through, round((NOW - 10) * 1_000_000))

    def learn_date(self, journal: Journal) -> None:
        """Learn Alpaca's clock, which shows NOW + 40 then."""
        journal.dates.observe(NOW)
        self.clock.advance(40)
        self.assertTrue(journal.dates.observe(NOW + 40))

    def open_ahead(self) -> Journal:
        """Return a journal on a machine whose clock is 90 days ahead."""
        self.clock.advance(NOW + 90 * DAY - self.now)
        return self.open(dates=Dates(self.clock.seconds, self.clock.seconds))

    def test_gap_in_the_future_begins_at_last_known_time(self) -> None:
        """A wrong clock began it. Its end moves too, so that it does not end before it begins."""
        journal = self.open_ahead()
        journal.set_metadata(OPEN_SINCE, str(round(self.clock.seconds() * 1_000_000)))
        gaps = Gaps(journal, Completeness(journal), lambda _: None)
        gaps.begin_gap()
        self.learn_date(journal)
        gaps.correct_times()
        corrected = Gap(round((NOW + 40) * 1_000_000))
        self.assertEqual(gaps.current, corrected)
        gaps.correct_times()
        self.assertEqual(list(gaps), [corrected])

    def test_begin_is_unknown_after_a_stream_in_the_future(self) -> None:
        """Another process had a stream, whose begin its clock has put into the future.

        No gap was declared once Alpaca's clock was known. If it became known later, the gap began
        only then, and ended as recovered.
        """
        journal = self.open_ahead()
        began = round(self.clock.seconds() * 1_000_000)
        Gaps(journal, Completeness(journal), lambda _: None).end_gap(began)
        gaps = Gaps(journal, Completeness(journal), lambda _: None)
        gaps.begin_gap()
        gaps.end_gap(began)
        self.learn_date(journal)
        gaps.correct_times()
        self.assertEqual(gaps.current, Gap(None, began))
        gaps.settle(GapOutcome.LOST)
        gaps = Gaps(journal, Completeness(journal), lambda _: None)
        gaps.begin_gap()
        self.assertEqual(gaps.current, Gap(None))


class ReplicatedGapsTests(MemoryCase):
    """A node that does not lead copies the gaps of the leader."""

    def setUp(self) -> None:
        super().setUp()
        self.frames: list[bytes] = []
        journal = self.open()
        self.gaps = Gaps(journal, Completeness(journal), self.frames.append)

    def test_replicate_announces_only_changed_gaps(self) -> None:
        """The leader sends complete lists."""
        first, second = Gap(1), Gap(5)
        closed = Gap(1, 2, GapOutcome.RECOVERED, 3)
        for gaps, changed in (
            ((first,), [first]),
            ((first,), []),
            ((closed,), [closed]),
            ((closed, second), [second]),
            ((), []),
        ):
            self.gaps.replicate(gaps)
            self.assertEqual(tuple(self.gaps), gaps)
            self.assertEqual(self.frames, [encode_gap(gap) for gap in changed])
            self.frames.clear()

    def test_begin_gap_after_replicate_continues_open_gap(self) -> None:
        """It keeps its beginning, is saved, and is not counted a second time."""
        self.gaps.replicate([Gap(7, 9, GapOutcome.OPEN, 2, "HTTP 500")])
        self.assertEqual(self.gaps.outcomes[GapOutcome.PENDING], 0)
        self.gaps.begin_gap()
        self.assertEqual(self.gaps.current, Gap(7, None, GapOutcome.OPEN, 2, "HTTP 500"))
        self.assertEqual(self.gaps.completeness.complete_through, 7)

    def test_replicate_saves_beginning_of_open_gap(self) -> None:
        """This node may have to start the next log from its own state."""
        self.gaps.replicate([Gap(3, 4, GapOutcome.LOST), Gap(7)])
        self.assertEqual(self.gaps.completeness.complete_through, 7)
        self.gaps.replicate([Gap(3, 4, GapOutcome.LOST), Gap(7, 9, GapOutcome.RECOVERED)])
        self.assertIsNone(self.gaps.completeness.complete_through)

    def test_replicate_more_than_limit_keeps_the_last(self) -> None:
        """Only the last 20 gaps are kept, as on the leader."""
        self.gaps.replicate([Gap(n) for n in range(23)])
        self.assertEqual([gap.begin for gap in self.gaps], list(range(3, 23)))


class GapsInRedisTests(RedisJournalCase, GapsTests):
    """The same with a journal in Redis; a restart is one of the leading node."""
