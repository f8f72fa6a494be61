"""Tests for tradeproxy.journal.metadata that several processes share."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.journal.metadata import OPEN_SINCE, Metadata

SAVED = {
    "epoch": "e",
    "base_url": "b",
    "trimmed": "4",
    "begins": "7",
    "latest": "9",
    "horizon": "6",
}


class LoadTests(SynchronousTestCase):
    """Metadata in which another program or a damaged disk has written."""

    def test_times_that_are_no_numbers_count_as_none(self) -> None:
        """A note is any text. A new epoch reads one of them as a time."""
        metadata = Metadata("b")
        for text in ("abc", "", "1.5", "9" * 30, "9" * 5000):
            metadata.load({**SAVED, f"remembered {OPEN_SINCE}": text, "horizon": text}, None)
            self.assertEqual(metadata.get_metadata(OPEN_SINCE), text)
            self.assertIsNone(metadata.dedup_horizon, text[:9])
            metadata.begin_epoch("e2", 1, 9, 7)
            self.assertEqual(metadata.dedup_horizon, 7)

    def test_numbers_out_of_range_are_refused(self) -> None:
        """SQLite's integers have 64 bits, and the next row needs a number too."""
        for trimmed in (-1, 2**62, 2**63 - 1, 10**30):
            self.assertRaises(
                ValueError, Metadata("b").load, {**SAVED, "trimmed": str(trimmed)}, None
            )


class AdoptTests(SynchronousTestCase):
    """Metadata that another process saved for the same log is adopted, except the bounds."""

    def setUp(self) -> None:
        self.metadata = Metadata("b")
        self.metadata.load(SAVED, None)

    def test_adopt_keeps_bounds_and_latest_time(self) -> None:
        """This process derives them from its own rows."""
        before = (
            self.metadata.epoch,
            self.metadata.first,
            self.metadata.last,
            self.metadata.complete_from,
            self.metadata.latest_time,
        )
        self.metadata.adopt(
            {"epoch": "f", "base_url": "c", "trimmed": "8", "begins": "9", "latest": "20"}
        )
        after = (
            self.metadata.epoch,
            self.metadata.first,
            self.metadata.last,
            self.metadata.complete_from,
            self.metadata.latest_time,
        )
        self.assertEqual(after, before)

    def test_adopt_moves_horizon_forward_only(self) -> None:
        """The later of both dedup horizons is valid."""
        for adopted, horizon in (({}, 6), ({"horizon": "5"}, 6), ({"horizon": "8"}, 8)):
            self.metadata.adopt(adopted)
            self.assertEqual(self.metadata.dedup_horizon, horizon)
        self.metadata.dedup_horizon = None
        self.metadata.adopt({"horizon": "5"})
        self.assertEqual(self.metadata.dedup_horizon, 5)

    def test_adopt_replaces_named_values(self) -> None:
        """An open gap of the other process is open here too, and so is the end of one."""
        self.metadata.load({**SAVED, "remembered gone": "1"}, None)
        other = Metadata("b")
        other.load({**SAVED, "account_id": "x", f"remembered {OPEN_SINCE}": "3"}, None)
        self.metadata.adopt(other.encode_present())
        self.assertEqual(
            (self.metadata.get_metadata(OPEN_SINCE), self.metadata.get_metadata("gone")),
            ("3", None),
        )
        self.assertEqual(self.metadata.account_id, "x")
        self.metadata.adopt(SAVED)
        self.assertEqual(
            (self.metadata.get_metadata(OPEN_SINCE), self.metadata.account_id), (None, None)
        )
