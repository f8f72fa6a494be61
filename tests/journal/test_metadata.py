"""Tests for tradeproxy.journal.metadata, where several processes save them; the journals' tests have the rest."""

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


def saved(facts: Metadata) -> dict[str, str]:
    """Return what is there after they have been saved."""
    return {key: value for key, value in facts.encode().items() if value is not None}


class AdoptTests(SynchronousTestCase):
    """What another process has saved of the same log counts, but for the bounds."""

    def setUp(self) -> None:
        self.facts = Metadata("b")
        self.facts.load(SAVED, None)

    def test_bounds_and_the_latest_time_stay(self) -> None:
        """This process knows its own rows."""
        before = (
            self.facts.epoch,
            self.facts.first,
            self.facts.last,
            self.facts.complete_from,
            self.facts.latest_time,
        )
        self.facts.adopt(
            {"epoch": "f", "base_url": "c", "trimmed": "8", "begins": "9", "latest": "20"}
        )
        after = (
            self.facts.epoch,
            self.facts.first,
            self.facts.last,
            self.facts.complete_from,
            self.facts.latest_time,
        )
        self.assertEqual(after, before)

    def test_the_horizon_moves_on_only(self) -> None:
        """What is known stays known, whoever found it."""
        for told, horizon in (({}, 6), ({"horizon": "5"}, 6), ({"horizon": "8"}, 8)):
            self.facts.adopt(told)
            self.assertEqual(self.facts.dedup_horizon, horizon)
        self.facts.dedup_horizon = None
        self.facts.adopt({"horizon": "5"})
        self.assertEqual(self.facts.dedup_horizon, 5)

    def test_what_is_remembered_is_replaced(self) -> None:
        """An open gap of the other process is open here; one that it has closed is closed."""
        other = Metadata("b")
        other.load({**SAVED, "account_id": "x"}, None)
        other._notes = {OPEN_SINCE: "3", "gone": None}
        self.facts.adopt(saved(other))
        self.assertEqual(
            (self.facts.get_metadata(OPEN_SINCE), self.facts.get_metadata("gone")), ("3", None)
        )
        self.assertEqual(self.facts.account_id, "x")
        self.facts.adopt(SAVED)
        self.assertEqual((self.facts.get_metadata(OPEN_SINCE), self.facts.account_id), (None, None))
