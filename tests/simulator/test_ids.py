"""Tests of ids."""

from __future__ import annotations

from random import Random
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from tests.simulator.support import milliseconds_of
from tradeproxy.simulator.clock import UlidSequence, random_uuid, ulid_milliseconds


class UuidTests(SynchronousTestCase):
    """UUIDs."""

    def test_is_of_version_4(self) -> None:
        """It parses as a random UUID."""
        self.assertEqual(UUID(random_uuid(Random(1))).version, 4)


class UlidSequenceTests(SynchronousTestCase):
    """The order and format of ULIDs."""

    def setUp(self) -> None:
        self.sequence = UlidSequence(Random(1))

    def test_ulid_contains_its_time(self) -> None:
        """It contains its millisecond, as Alpaca's captured ids do."""
        self.assertEqual(milliseconds_of(self.sequence.next(1_784_904_169_354)), 1_784_904_169_354)
        self.assertEqual(milliseconds_of("01KYA98DWAS5PA5BP53N9XTN5E"), 1_784_904_169_354)

    def test_ulid_has_26_characters(self) -> None:
        """They are of Crockford's base 32."""
        self.assertRegex(self.sequence.next(1), r"\A[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")

    def test_ulids_of_one_millisecond_ascend(self) -> None:
        """They sort in the order of creation."""
        made = [self.sequence.next(5) for _ in range(100)]
        self.assertEqual(made, sorted(set(made)))

    def test_time_of_other_text_is_none(self) -> None:
        """The time of a ULID is read back; other text has none."""
        self.assertEqual(ulid_milliseconds("01KYA98DWAS5PA5BP53N9XTN5E"), 1_784_904_169_354)
        for text in (
            "",
            "01KYA98DWAS5PA5BP53N9XTN5",
            "81KYA98DWAS5PA5BP53N9XTN5E",
            "01KYA98DWAS5PA5BP53N9XTN5U",
        ):
            self.assertIsNone(ulid_milliseconds(text), text)
