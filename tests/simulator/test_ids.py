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
        """It reads as a random UUID."""
        self.assertEqual(UUID(random_uuid(Random(1))).version, 4)


class UlidSequenceTests(SynchronousTestCase):
    """What a sequence of ULIDs promises."""

    def setUp(self) -> None:
        self.sequence = UlidSequence(Random(1))

    def test_tells_its_time(self) -> None:
        """A ULID holds the millisecond it was made for, as Alpaca's captured ids do."""
        self.assertEqual(milliseconds_of(self.sequence.next(1_784_904_169_354)), 1_784_904_169_354)
        self.assertEqual(milliseconds_of("01KYA98DWAS5PA5BP53N9XTN5E"), 1_784_904_169_354)

    def test_has_the_form_of_a_ulid(self) -> None:
        """It is 26 characters of Crockford's base 32."""
        self.assertRegex(self.sequence.next(1), r"\A[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")

    def test_counts_up_within_a_millisecond(self) -> None:
        """Ids of one millisecond sort in the order in which they were made."""
        made = [self.sequence.next(5) for _ in range(100)]
        self.assertEqual(made, sorted(set(made)))

    def test_is_read_back(self) -> None:
        """The time comes out of a ULID; what is none has none."""
        self.assertEqual(ulid_milliseconds("01KYA98DWAS5PA5BP53N9XTN5E"), 1_784_904_169_354)
        for text in (
            "",
            "01KYA98DWAS5PA5BP53N9XTN5",
            "81KYA98DWAS5PA5BP53N9XTN5E",
            "01KYA98DWAS5PA5BP53N9XTN5U",
        ):
            self.assertIsNone(ulid_milliseconds(text), text)
