"""Tests for tradeproxy.hub.completeness."""

from __future__ import annotations

from tests.support.journals import MemoryCase, events, time_of
from tradeproxy.hub.completeness import Completeness
from tradeproxy.hub.gaps import Gaps

BACK = time_of(100)
"""When the stream returns (microseconds since 1970)."""


class CompletenessTests(MemoryCase):
    """A backfill begins where the log is complete, by the stream and by earlier checks."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open()
        self.commits = 0
        self.completeness = Completeness(self.journal, self.count_commit)
        self.gaps = Gaps(self.journal, self.completeness, lambda _: None)

    def count_commit(self) -> None:
        """Count a commit of pending events."""
        self.commits += 1

    def restart(self) -> Completeness:
        """Return what another process reads from the same journal."""
        return Completeness(self.journal)

    def test_complete_through_prefers_times_by_alpacas_clock(self) -> None:
        """Our own clock may be ahead, so that a gap would begin after the last event."""
        self.gaps.end_gap(time_of(3600))
        self.completeness.check_through(time_of(1))
        self.assertEqual(self.completeness.complete_through, time_of(1))
        self.journal.append(events(2))
        self.assertEqual(self.completeness.complete_through, time_of(2))

    def test_backfill_from_starts_at_last_check_or_open_gap(self) -> None:
        """Later events and restarts do not move it; an open gap that is older does."""
        self.assertIsNone(self.completeness.backfill_from)
        self.journal.append(events(1))
        self.assertEqual(self.completeness.backfill_from, time_of(1))
        self.completeness.check_through(time_of(5))
        self.completeness.check_through(time_of(4))
        self.journal.append(events(9))
        self.assertEqual(
            (self.completeness.backfill_from, self.restart().backfill_from),
            (time_of(5), time_of(5)),
        )
        self.gaps.begin_gap()
        self.assertEqual(self.completeness.backfill_from, time_of(5))
        self.completeness.check_through(time_of(20))
        self.assertEqual(self.completeness.backfill_from, time_of(9))

    def test_start_log_after_account_change_is_complete_from_now(self) -> None:
        """The log belongs to another account, and has no gap before its start."""
        self.journal.append(events(1))
        self.journal.identify("one")
        self.journal.identify("two")
        self.assertIsNone(self.completeness.complete_through)
        self.completeness.check_through(BACK)
        self.assertEqual(
            (self.completeness.backfill_from, self.completeness.complete_through),
            (BACK, BACK),
        )
        self.completeness.check_through(BACK + 2)
        self.assertEqual((self.gaps.current, self.completeness.complete_through), (None, BACK + 2))

    def test_orders_through_is_the_latest_time(self) -> None:
        """Events made of orders must not be made again after a restart."""
        self.assertIsNone(self.completeness.orders_through)
        for made, latest in ((5, 5), (4, 5), (6, 6)):
            self.completeness.check_orders_through(time_of(made))
            self.assertEqual(self.restart().orders_through, time_of(latest))

    def test_synthetic_until_is_a_minute_ahead_of_the_latest_event(self) -> None:
        """So a gap of many orders costs one commit. A crash must not hide that there are some."""
        self.assertIsNone(self.completeness.synthetic_until)
        minute = 60_000_000
        for made, until in ((5, 5), (4, 5), (65, 5), (66, 66)):
            self.completeness.record_synthetic(time_of(made))
            self.assertEqual(self.restart().synthetic_until, time_of(until) + minute, made)

    def test_damaged_metadata_counts_as_none(self) -> None:
        """The journal is then checked from its newest event on; the account must still start."""
        self.journal.append(events(1))
        self.journal.set_metadata("checked through", "yesterday")
        self.assertIsNone(self.completeness.checked_through)
        self.assertEqual(self.completeness.backfill_from, time_of(1))

    def test_pending_events_are_committed_before_each_record(self) -> None:
        """After a crash in between, they would count as delivered, and never be found again."""
        for number, record in enumerate(
            (
                self.completeness.check_through,
                self.completeness.check_orders_through,
                self.completeness.supersede_history,
            )
        ):
            record(time_of(-1))
            self.assertEqual(self.commits, number + 1)
        self.assertEqual(self.journal.dedup_horizon, time_of(-1))
