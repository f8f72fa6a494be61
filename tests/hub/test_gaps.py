"""Tests for tradeproxy.hub.gaps."""

from __future__ import annotations

import json

from tests.support.journals import MemoryCase, events, time_of
from tests.support.redisjournals import InRedis
from tradeproxy.hub.gaps import GAPS_KEPT, Gaps
from tradeproxy.wire.event import parse_time
from tradeproxy.wire.proxy_status import Gap, GapOutcome, encode_gap

BACK = time_of(100)
"""When the stream returns."""


class GapsTests(MemoryCase):
    """A gap begins where the log was last complete, and ends with what became of it."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open()
        self.frames: list[bytes] = []
        self.gaps = self.restart()

    def restart(self) -> Gaps:
        """Return what another process makes of the same journal."""
        return Gaps(self.journal, self.frames.append)

    def announced(self) -> list[tuple[int, int | None, str, int]]:
        """Return what subscribers were told since the last time: begin, end, outcome and events."""
        told = []
        for frame in self.frames:
            data = json.loads(frame)["data"]
            end = None if data["end"] is None else parse_time(data["end"])
            told.append((parse_time(data["begin"]), end, data["outcome"], data["events"]))
        self.frames.clear()
        return told

    def test_there_is_none_before_the_first_stream(self) -> None:
        """Nothing could be missed; from then on something can."""
        self.gaps.begin_gap()
        self.gaps.settle(GapOutcome.LOST)
        self.gaps.count_found(1)
        self.assertIsNone(self.gaps.current)
        self.gaps.end_gap(BACK)
        self.assertEqual((list(self.gaps), self.frames), ([], []))
        self.gaps.begin_gap()
        self.assertEqual(self.gaps.current, Gap(BACK))

    def test_the_first_stream_is_remembered(self) -> None:
        """A later return without a gap does not make the log complete from then on only."""
        self.gaps.end_gap(BACK)
        self.gaps.end_gap(BACK + 5)
        again = self.restart()
        again.begin_gap()
        self.assertEqual(again.current, Gap(BACK))

    def test_begins_at_the_last_moment_that_is_complete(self) -> None:
        """The first stream's begin, the newest event, or how far the history is known: the latest of them."""
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

    def test_our_clock_counts_only_where_nothing_is_known_of_alpacas(self) -> None:
        """It was ahead, and a gap began later than the last event, which was the last thing known."""
        self.gaps.end_gap(time_of(3600))
        self.gaps.check_through(time_of(1))
        self.assertEqual(self.gaps.complete_through, time_of(1))
        self.journal.append(events(2))
        self.assertEqual(self.gaps.complete_through, time_of(2))

    def test_asks_from_where_it_was_last_seen_that_all_is_there(self) -> None:
        """However much has come since, and over a restart; from an open gap's begin, if that is earlier."""
        self.assertIsNone(self.gaps.backfill_from)
        self.journal.append(events(1))
        self.assertEqual(self.gaps.backfill_from, time_of(1))
        self.gaps.check_through(time_of(5))
        self.gaps.check_through(time_of(4))
        self.journal.append(events(9))
        self.assertEqual(
            (self.gaps.backfill_from, self.restart().backfill_from), (time_of(5), time_of(5))
        )
        self.gaps.begin_gap()
        self.assertEqual(self.gaps.backfill_from, time_of(5))
        self.gaps.check_through(time_of(20))
        self.assertEqual(self.gaps.backfill_from, time_of(9))

    def test_a_log_that_starts_over_misses_nothing_older(self) -> None:
        """It is another account's now, and complete from then on."""
        self.journal.append(events(1))
        self.journal.identify("one")
        self.journal.identify("two")
        self.assertIsNone(self.gaps.complete_through)
        self.gaps.start_log(BACK)
        self.assertEqual((self.gaps.backfill_from, self.gaps.complete_through), (BACK, BACK))
        self.gaps.start_log(BACK + 2)
        self.assertEqual((self.gaps.current, self.gaps.complete_through), (None, BACK + 2))

    def test_is_announced_at_every_step(self) -> None:
        """Begun, ended, and what became of it; the same outcome twice is no news."""
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

    def test_another_outage_makes_an_open_one_longer(self) -> None:
        """Until what was missed is found, it is one gap, with its first begin."""
        self.journal.append(events(1))
        self.gaps.begin_gap()
        self.gaps.end_gap(BACK)
        self.journal.append(events(50))
        self.gaps.begin_gap()
        self.assertEqual(self.gaps.current, Gap(time_of(1)))
        self.gaps.end_gap(BACK + 1)
        self.assertEqual(list(self.gaps), [Gap(time_of(1), BACK + 1)])

    def test_ends_no_earlier_than_it_began(self) -> None:
        """Alpaca's clock and ours may differ."""
        self.journal.append(events(200))
        self.gaps.begin_gap()
        self.gaps.end_gap(BACK)
        self.assertEqual(self.gaps.current, Gap(time_of(200), time_of(200)))

    def test_a_gap_that_is_open_survives_a_restart(self) -> None:
        """However often, and although newer events have come in the meantime."""
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

    def test_a_gap_that_is_closed_is_not_begun_again(self) -> None:
        """After a restart the next one begins where the log is complete."""
        self.journal.append(events(1))
        for outcome in (GapOutcome.RECOVERED, GapOutcome.ORDERS, GapOutcome.LOST):
            self.gaps.begin_gap()
            self.gaps.settle(outcome)
        self.journal.append(events(2))
        again = self.restart()
        again.begin_gap()
        self.assertEqual(again.current, Gap(time_of(2)))

    def test_the_last_ones_are_kept(self) -> None:
        """A bad night does not fill a hello frame."""
        for n in range(GAPS_KEPT + 5):
            self.journal.append(events(n))
            self.gaps.begin_gap()
            self.gaps.settle(GapOutcome.LOST)
        kept = [gap.begin for gap in self.gaps]
        self.assertEqual(kept, [time_of(n) for n in range(5, GAPS_KEPT + 5)])


class FollowTests(MemoryCase):
    """Where another process holds the stream, the gaps are those of which it tells."""

    def setUp(self) -> None:
        super().setUp()
        self.frames: list[bytes] = []
        self.gaps = Gaps(self.open(), self.frames.append)

    def test_what_is_new_is_announced_once(self) -> None:
        """Whole lists come; only what has changed since is news."""
        first, second = Gap(1), Gap(5)
        closed = Gap(1, 2, GapOutcome.RECOVERED, 3)
        for told, news in (
            ((first,), [first]),
            ((first,), []),
            ((closed,), [closed]),
            ((closed, second), [second]),
            ((), []),
        ):
            self.gaps.replicate(told)
            self.assertEqual(tuple(self.gaps), told)
            self.assertEqual(self.frames, [encode_gap(gap) for gap in news])
            self.frames.clear()

    def test_an_open_one_goes_on_when_the_stream_is_held_here(self) -> None:
        """It keeps its begin, and is remembered from then on; what was counted here counts nothing twice."""
        self.gaps.replicate([Gap(7, 9, GapOutcome.OPEN, 2, "HTTP 500")])
        self.assertEqual(self.gaps.outcomes[GapOutcome.PENDING], 0)
        self.gaps.begin_gap()
        self.assertEqual(self.gaps.current, Gap(7, None, GapOutcome.OPEN, 2, "HTTP 500"))
        self.assertEqual(self.gaps.complete_through, 7)

    def test_an_open_one_is_remembered(self) -> None:
        """The log may have to begin anew from what this process knows."""
        self.gaps.replicate([Gap(3, 4, GapOutcome.LOST), Gap(7)])
        self.assertEqual(self.gaps.complete_through, 7)
        self.gaps.replicate([Gap(3, 4, GapOutcome.LOST), Gap(7, 9, GapOutcome.RECOVERED)])
        self.assertIsNone(self.gaps.complete_through)

    def test_more_than_are_kept_are_not_kept_here_either(self) -> None:
        """The last ones stay."""
        self.gaps.replicate([Gap(n) for n in range(GAPS_KEPT + 3)])
        self.assertEqual([gap.begin for gap in self.gaps], list(range(3, GAPS_KEPT + 3)))


class GapsInRedisTests(InRedis, GapsTests):
    """The same for an account whose journal is shared; the node that holds the stream restarts."""
