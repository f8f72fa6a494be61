"""Tests for tradeproxy.journal.metadata: what is saved beside the rows, and what is read back."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.journal.metadata import (
    OPEN_SINCE,
    ORDERS_THROUGH,
    UNKNOWN,
    Metadata,
    TrimmedEvent,
    read_assignments,
)

SAVED = {
    "epoch": "e",
    "base_url": "b",
    "trimmed": "4",
    "begins": "7",
    "latest": "9",
    "horizon": "6",
}

MIB = 1_048_576
"""Characters that a note may have. An older version may have stored as many."""

TRIMMED = '[4, "x", 6]'
"""The saved form of the newest trimmed event of SAVED."""


def load(**changes: str | None) -> Metadata:
    """Return metadata that was loaded from SAVED with these changes. None omits a key."""
    metadata = Metadata("b")
    saved: dict[str, str | None] = {**SAVED, **changes}
    metadata.load({key: value for key, value in saved.items() if value is not None}, None)
    return metadata


class SavedFormTests(SynchronousTestCase):
    """Every version reads what earlier ones have saved."""

    def test_encode_has_every_value_under_its_key(self) -> None:
        """None deletes a key in a store that has it; an empty store needs the others only."""
        metadata = load(**{"trimmed event": TRIMMED, "account_id": "a", "remembered n": "1"})
        metadata.latest_time = None
        metadata.dedup_horizon = None
        saved = {
            "epoch": "e",
            "base_url": "b",
            "account_id": "a",
            "trimmed": "4",
            "trimmed event": TRIMMED,
            "begins": "7",
            "remembered n": "1",
        }
        self.assertEqual(metadata.encode_present(), saved)
        self.assertEqual(metadata.encode(), {**saved, "latest": None, "horizon": None})

    def test_load_restores_what_was_encoded(self) -> None:
        """With the numbers and the highest time of the rows, which are in the store too."""
        saved = {**SAVED, "trimmed event": TRIMMED, "account_id": "a", "remembered n": "1"}
        for rows, first, last, latest in ((None, 5, 4, 9), ((5, 8, 11), 5, 8, 11)):
            metadata = Metadata("other")
            metadata.load(saved, rows)
            self.assertEqual((metadata.first, metadata.last), (first, last))
            self.assertEqual(metadata.encode_present(), {**saved, "latest": str(latest)})
            self.assertEqual(metadata.newest_trimmed, TrimmedEvent(4, "x", 6))

    def test_new_log_has_neither_rows_nor_times(self) -> None:
        """The first event gets number 1."""
        metadata = Metadata("b")
        self.assertEqual((metadata.first, metadata.last), (1, 0))
        self.assertEqual(
            metadata.encode_present(),
            {"epoch": "", "base_url": "b", "trimmed": "0", "begins": "0"},
        )

    def test_lost_log_leaves_account_times_and_notes_to_its_successor(self) -> None:
        """The new log has an epoch, numbers and bounds of its own."""
        metadata = load(**{"trimmed event": TRIMMED, "account_id": "a", "remembered n": "1"})
        state = metadata.encode_state()
        self.assertEqual(
            state,
            {
                "base_url": "b",
                "account_id": "a",
                "latest": "9",
                "horizon": "6",
                "remembered n": "1",
            },
        )
        successor = Metadata("b")
        successor.continue_from(state)
        self.assertEqual(
            successor.encode_present(), {**state, "epoch": "", "trimmed": "0", "begins": "0"}
        )


class TextOfAnotherProcessTests(SynchronousTestCase):
    """What another node has stored with this same log."""

    def test_text_is_taken_over_or_removed(self) -> None:
        """As this process would have loaded it: the beginning of a gap may be unknown."""
        metadata = load(**{"remembered n": "1", "remembered m": "2"})
        for text in ("3", None):
            metadata.adopt_text("n", text)
            self.assertEqual(metadata.get_metadata("n"), text)
        self.assertEqual(metadata.get_metadata("m"), "2")
        metadata.adopt_text("m", "1" * (MIB + 1))
        self.assertIsNone(metadata.get_metadata("m"))
        metadata.adopt_text(OPEN_SINCE, "x")
        self.assertEqual(metadata.get_metadata(OPEN_SINCE), UNKNOWN)

    def test_assignments_are_orders_with_strategies(self) -> None:
        """Another program's text assigns none."""
        self.assertEqual(read_assignments('{"an order": "alpha"}'), {"an order": "alpha"})
        for text in (None, "", "{}", "x", "[]", '{"an order": 1}'):
            self.assertEqual(read_assignments(text), {}, text)


class LoadTests(SynchronousTestCase):
    """Metadata in which another program or a damaged disk has written."""

    def test_times_that_are_no_numbers_count_as_none(self) -> None:
        """A gap whose beginning cannot be read is still open, from an unknown time."""
        metadata = Metadata("b")
        for text in ("abc", "", "1.5", "9" * 30, "9" * 5000):
            metadata.load({**SAVED, f"remembered {OPEN_SINCE}": text, "horizon": text}, None)
            self.assertEqual(metadata.get_metadata(OPEN_SINCE), UNKNOWN)
            self.assertIsNone(metadata.dedup_horizon, text[:9])
            metadata.begin_epoch("e2", 1, 9, 7)
            self.assertEqual(metadata.dedup_horizon, 7)

    def test_notes_that_no_version_has_stored_are_dropped(self) -> None:
        """Kept for ever, they would be read and saved with every change."""
        notes = {f"remembered {n}": "1" for n in range(64)}
        self.assertEqual(len(load(**notes).encode_present()) - len(SAVED), 32)
        for key, value in (("n", "1" * (MIB + 1)), ("n", "é"), ("\ud800", "1"), ("é", "1")):
            self.assertIsNone(load(**{f"remembered {key}": value}).get_metadata(key))
        self.assertEqual(load(**{"remembered n": "1" * MIB}).get_metadata("n"), "1" * MIB)
        unreadable = load(**{f"remembered {OPEN_SINCE}": "1" * (MIB + 1)})
        self.assertEqual(unreadable.get_metadata(OPEN_SINCE), UNKNOWN)

    def test_epoch_that_is_no_hexadecimal_number_is_refused(self) -> None:
        """It becomes a part of file names."""
        for epoch in ("../../x", "e" * 17, "E", "é", "e\n"):
            self.assertRaises(ValueError, load, epoch=epoch)
        self.assertEqual(load(epoch="0123456789abcdef").epoch, "0123456789abcdef")

    def test_numbers_out_of_range_are_refused(self) -> None:
        """SQLite's integers have 64 bits, and the next row needs a number too."""
        for trimmed in (-1, 2**62, 2**63 - 1, 10**30):
            self.assertRaises(
                ValueError, Metadata("b").load, {**SAVED, "trimmed": str(trimmed)}, None
            )
        for trimmed in (0, 2**62 - 1):
            self.assertEqual(load(trimmed=str(trimmed)).last, trimmed)

    def test_rows_that_do_not_follow_the_trimmed_ones_are_refused(self) -> None:
        """A reader would skip the missing ones."""
        for rows in ((4, 9, 9), (6, 9, 9), (5, 3, 9)):
            self.assertRaises(ValueError, Metadata("b").load, SAVED, rows)

    def test_unknown_beginning_is_the_last_known_time(self) -> None:
        """Earlier versions stored times outside the calendar. Trimmed events are not after it."""
        for latest, horizon, complete_from in (
            ("9", "6", 9),
            ("6", "9", 9),
            ("9", None, 9),
            (None, "6", 6),
            (None, None, 0),
            (None, "-5", 0),
            ("-5", None, 0),
        ):
            metadata = load(begins="9" * 30, latest=latest, horizon=horizon)
            self.assertEqual(metadata.complete_from, complete_from, (latest, horizon))

    def test_trimmed_event_that_cannot_be_read_is_unknown(self) -> None:
        """An older version trims rows, but leaves the event that a newer one has saved."""
        for text in ("", "[", "null", "4", '[4, "x"]', '[3, "x", 6]', '["4", "x", 6]', "[" * 9999):
            self.assertIsNone(load(**{"trimmed event": text}).newest_trimmed, text[:9])
        self.assertIsNone(load().newest_trimmed)
        for time in ("null", "1.5", "9" * 30):
            metadata = load(**{"trimmed event": f'[4, "x", {time}]'})
            self.assertEqual(metadata.newest_trimmed, TrimmedEvent(4, "x", None), time)


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

    def test_adopt_bounds_takes_those_of_the_process_that_trims(self) -> None:
        """If that one has trimmed fewer rows, this log is complete from a later time."""
        for trimmed, begins, complete_from in (
            ("4", "5", 5),
            ("5", "5", 5),
            ("4", "9", 9),
            ("3", "5", 7),
            ("3", "9", 9),
            (None, "5", 7),
            ("4", None, 7),
        ):
            metadata = load(horizon="6")
            saved = {"trimmed": trimmed, "begins": begins, "horizon": "3"}
            metadata.adopt_bounds({key: value for key, value in saved.items() if value})
            self.assertEqual(
                (metadata.complete_from, metadata.dedup_horizon), (complete_from, 3), saved
            )

    def test_adopt_bounds_takes_trimmed_event_before_own_first_row_only(self) -> None:
        """A position at any other row is before rows that this process lacks, or has itself."""
        for seq, known in ((3, False), (4, True), (5, False)):
            self.metadata.adopt_bounds({"trimmed event": f'[{seq}, "x", 6]'})
            self.assertEqual(
                self.metadata.newest_trimmed, TrimmedEvent(seq, "x", 6) if known else None
            )


class EpochTests(SynchronousTestCase):
    """A new epoch and a trim move the bounds of the log."""

    def test_begin_epoch_is_complete_after_now_and_all_delivered_events(self) -> None:
        """Earlier events cannot be read any more. Those missed in an open gap can still come."""
        for max_time, horizon, open_since, expected in (
            (None, None, None, (20, None)),
            (None, 6, 3, (20, 6)),
            (15, None, None, (20, 15)),
            (19, None, None, (20, 19)),
            (20, None, None, (21, 20)),
            (30, 6, None, (31, 30)),
            (15, 16, None, (20, 16)),
            (15, None, 9, (20, 9)),
            (15, None, 18, (20, 15)),
        ):
            metadata = load(**{"trimmed event": TRIMMED})
            metadata.dedup_horizon = horizon
            if open_since is not None:
                metadata.continue_from({f"remembered {OPEN_SINCE}": str(open_since)})
                metadata.dedup_horizon = horizon
            metadata.begin_epoch("f", 9, 20, max_time)
            self.assertEqual(
                (metadata.epoch, metadata.first, metadata.newest_trimmed), ("f", 9, None)
            )
            self.assertEqual((metadata.complete_from, metadata.dedup_horizon), expected)

    def test_gap_begins_with_older_one_and_orders_are_compared_since(self) -> None:
        """Events of both gaps may be missing, and those that were made of orders too."""
        for known, begin, expected in (
            (None, 5, 5),
            ("7", 5, 5),
            ("3", 5, 3),
            ("3", None, None),
            (None, None, None),
            (UNKNOWN, 5, None),
        ):
            metadata = load(**{f"remembered {OPEN_SINCE}": known, "remembered orders through": "9"})
            metadata.begin_gap(begin)
            found = [metadata.get_metadata(key) for key in (OPEN_SINCE, ORDERS_THROUGH)]
            self.assertEqual(found, [UNKNOWN if expected is None else str(expected), None])
            self.assertEqual(metadata.dedup_horizon, 6 if expected is None else min(expected, 6))

    def test_gap_of_log_without_horizon_sets_none(self) -> None:
        """No event is known to be delivered."""
        metadata = load(horizon=None)
        metadata.begin_gap(5)
        self.assertIsNone(metadata.dedup_horizon)

    def test_reset_account_keeps_numbers_only(self) -> None:
        """The times, the identity and the notes are another account's."""
        metadata = load(account_id="a", **{"remembered n": "1"})
        metadata.reset_account("c")
        self.assertEqual(
            metadata.encode_present(),
            {"epoch": "e", "base_url": "c", "trimmed": "4", "begins": "7"},
        )

    def test_record_trim_moves_bounds_forward_only(self) -> None:
        """An event with the time of one that was trimmed earlier is not the only one."""
        for time, max_time, expected in (
            (None, None, (None, 7, 6)),
            (6, 6, (None, 7, 6)),
            (7, 7, (7, 8, 7)),
            (9, 9, (9, 10, 9)),
            (9, 12, (9, 13, 12)),
            (2, 5, (None, 7, 6)),
        ):
            metadata = load()
            metadata.record_trim(8, TrimmedEvent(8, "x", time), max_time)
            self.assertEqual(metadata.first, 9)
            self.assertEqual(metadata.newest_trimmed, TrimmedEvent(8, "x", expected[0]))
            self.assertEqual((metadata.complete_from, metadata.dedup_horizon), expected[1:])
