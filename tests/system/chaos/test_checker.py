"""Tests for tests.system.chaos.checker, which judges what clients got in `make chaos`."""

from __future__ import annotations

from tests.support.sockets import SocketTestCase
from tests.system.chaos.checker import (
    DeclaredGap,
    Entry,
    Log,
    Truth,
    deliveries_without_cursor,
    judge,
)


class CheckerTests(SocketTestCase):
    """The checker finds what it is there to find."""

    def test_tells_every_breach(self) -> None:
        """A loss, a repeat, disorder; none of them where it was declared, or may be."""
        emitted = {number: float(number) for number in range(1, 6)}
        whole = [Entry(number) for number in emitted]
        provisional, again = Entry(5, certain=False), Entry(5, connection=2)
        table = [
            (whole, [], (0, 0, 0)),
            (whole[:2] + whole[3:], [], (0, 0, 1)),
            (whole[:2] + whole[3:], [DeclaredGap(2.5, 3.5)], (0, 0, 0)),
            ([*whole, Entry(5)], [], (1, 0, 0)),
            ([*whole, again], [], (1, 0, 0)),
            ([*whole[:4], provisional, again], [], (0, 0, 0)),
            ([*whole[:4], provisional, Entry(5)], [], (1, 0, 0)),
            ([*whole[:4], provisional, again, Entry(5, connection=3)], [], (1, 0, 0)),
            ([*whole[:3], provisional, whole[3], again], [], (0, 0, 0)),
            ([*whole[:3], provisional, whole[3]], [], (0, 1, 0)),
            ([*whole[:3], provisional, again, whole[3]], [], (0, 1, 0)),
            ([Entry(2), Entry(1), *whole[2:]], [], (0, 1, 0)),
            ([Entry(2), Entry(1, recovered="events"), *whole[2:]], [], (0, 0, 0)),
        ]
        for entries, gaps, breaches in table:
            verdict = judge(Log("client", entries=entries), Truth(emitted, gaps))
            self.assertEqual(
                (verdict.duplicates, verdict.disorder, verdict.lost), breaches, entries
            )
            self.assertEqual(verdict.is_clean, breaches == (0, 0, 0))

    def test_a_client_without_cursors_is_judged_by_the_others(self) -> None:
        """It may be handed again what those who are told got without a cursor, as often as they did."""
        log = Log("told", entries=[Entry(1), Entry(2, certain=False), Entry(2, connection=2)])
        unaware = Log("unaware", False, [Entry(1), Entry(2), Entry(2, connection=2)])
        told = deliveries_without_cursor([log, unaware])
        truth = Truth({1: 1.0, 2: 2.0}, without_cursor=told)
        for further, duplicates in (
            ((), 0),
            ((Entry(2, connection=3),), 1),
            ((Entry(1, connection=3),), 1),
        ):
            entries = [*unaware.entries, *further]
            verdict = judge(Log("unaware", False, entries), truth)
            self.assertEqual((verdict.duplicates, verdict.disorder), (duplicates, 0))

    def test_what_alpaca_tells_again_may_stand_where_it_was_told(self) -> None:
        """Its stream's order is kept, even where it is odd."""
        log = Log("client", entries=[Entry(3), Entry(1), Entry(2)])
        truth = Truth({1: 1.0, 2: 2.0, 3: 3.0}, retold={2})
        self.assertEqual(judge(log, truth).disorder, 1)

    def test_a_lost_position_excuses_only_what_follows_it(self) -> None:
        """Up to the next event that the client got."""
        emitted = {number: float(number) for number in range(1, 7)}
        log = Log("client", entries=[Entry(1), Entry(4), Entry(6)], positions_lost=[1])
        verdict = judge(log, Truth(emitted))
        self.assertEqual((verdict.declared, verdict.lost), (2, 1))
