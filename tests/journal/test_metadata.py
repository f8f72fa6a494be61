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
