"""Tests for tests.system.chaos.checker, which checks the clients' logs in `make chaos`."""

from __future__ import annotations

from tests.support.sockets import SocketTestCase
from tests.system.chaos.checker import (
    ClientLog,
    DeclaredGap,
    ReceivedEvent,
    Truth,
    count_deliveries_without_cursor,
    judge,
)


class CheckerTests(SocketTestCase):
    """The checker finds violations and accepts what is allowed."""

    def test_judge_counts_every_violation(self) -> None:
        """Losses, duplicates and disorder count, unless they are declared or allowed."""
        emitted = {number: float(number) for number in range(1, 6)}
        whole = [ReceivedEvent(number) for number in emitted]
        provisional, again = ReceivedEvent(5, certain=False), ReceivedEvent(5, connection=2)
        table = [
            (whole, [], (0, 0, 0)),
            (whole[:2] + whole[3:], [], (0, 0, 1)),
            (whole[:2] + whole[3:], [DeclaredGap(2.5, 3.5)], (0, 0, 0)),
            ([*whole, ReceivedEvent(5)], [], (1, 0, 0)),
            ([*whole, again], [], (1, 0, 0)),
            ([*whole[:4], provisional, again], [], (0, 0, 0)),
            ([*whole[:4], provisional, ReceivedEvent(5)], [], (1, 0, 0)),
            ([*whole[:4], provisional, again, ReceivedEvent(5, connection=3)], [], (1, 0, 0)),
            ([*whole[:3], provisional, whole[3], again], [], (0, 0, 0)),
            ([*whole[:3], provisional, whole[3]], [], (0, 1, 0)),
            ([*whole[:3], provisional, again, whole[3]], [], (0, 1, 0)),
            ([ReceivedEvent(2), ReceivedEvent(1), *whole[2:]], [], (0, 1, 0)),
            ([ReceivedEvent(2), ReceivedEvent(1, recovered="events"), *whole[2:]], [], (0, 0, 0)),
        ]
        for entries, gaps, breaches in table:
            verdict = judge(ClientLog("client", entries=entries), Truth(emitted, gaps))
            self.assertEqual(
                (verdict.duplicates, verdict.disorder, verdict.lost), breaches, entries
            )
            self.assertEqual(verdict.is_clean, breaches == (0, 0, 0))

    def test_judge_client_that_resumes_by_time_may_repeat(self) -> None:
        """Any event may come again on another connection, but none may be missing."""
        whole = [ReceivedEvent(number) for number in (1, 2, 3)]
        again = [ReceivedEvent(number, connection=2) for number in (2, 3)]
        truth = Truth({number: float(number) for number in (1, 2, 3, 4)})
        for entries, counts in (
            ([*whole, *again, ReceivedEvent(4, connection=2)], (2, 0, 0, 0)),
            ([*whole, ReceivedEvent(4), ReceivedEvent(3)], (0, 1, 0, 0)),
            ([*whole, *again], (2, 0, 0, 1)),
        ):
            verdict = judge(ClientLog("since", may_repeat=True, entries=entries), truth)
            found = (verdict.repeated, verdict.duplicates, verdict.disorder, verdict.lost)
            self.assertEqual(found, counts, entries)

    def test_judge_unfindable_event_may_be_missing(self) -> None:
        """It counts as declared if it is missing, and as received if it is not."""
        truth = Truth({1: 1.0, 2: 2.0, 3: 3.0}, unfindable={2, 3})
        log = ClientLog("client", entries=[ReceivedEvent(1), ReceivedEvent(3)])
        verdict = judge(log, truth)
        self.assertEqual((verdict.received, verdict.declared, verdict.lost), (2, 1, 0))

    def test_judge_client_without_cursors_uses_counts_of_others(self) -> None:
        """It may get an event again as often as others got it without a cursor."""
        log = ClientLog(
            "aware",
            entries=[
                ReceivedEvent(1),
                ReceivedEvent(2, certain=False),
                ReceivedEvent(2, connection=2),
            ],
        )
        unaware = ClientLog(
            "unaware", False, [ReceivedEvent(1), ReceivedEvent(2), ReceivedEvent(2, connection=2)]
        )
        counts = count_deliveries_without_cursor([log, unaware])
        truth = Truth({1: 1.0, 2: 2.0}, without_cursor=counts)
        for further, duplicates in (
            ((), 0),
            ((ReceivedEvent(2, connection=3),), 1),
            ((ReceivedEvent(1, connection=3),), 1),
        ):
            entries = [*unaware.entries, *further]
            verdict = judge(ClientLog("unaware", False, entries), truth)
            self.assertEqual((verdict.duplicates, verdict.disorder), (duplicates, 0))

    def test_judge_resent_event_may_be_out_of_order(self) -> None:
        """The order of Alpaca's stream is kept, even if an old event comes late."""
        log = ClientLog("client", entries=[ReceivedEvent(3), ReceivedEvent(1), ReceivedEvent(2)])
        truth = Truth({1: 1.0, 2: 2.0, 3: 3.0}, resent={2})
        self.assertEqual(judge(log, truth).disorder, 1)

    def test_judge_lost_position_excuses_only_events_after_it(self) -> None:
        """Up to the next event that the client received."""
        emitted = {number: float(number) for number in range(1, 7)}
        log = ClientLog(
            "client",
            entries=[ReceivedEvent(1), ReceivedEvent(4), ReceivedEvent(6)],
            positions_lost=[1],
        )
        verdict = judge(log, Truth(emitted))
        self.assertEqual((verdict.declared, verdict.lost), (2, 1))

    def test_judge_recovered_event_may_repeat_after_a_lost_position(self) -> None:
        """The log has lost it, and the proxy cannot know that this client has it."""
        truth = Truth({1: 1.0, 2: 2.0})
        first, again = ReceivedEvent(2), ReceivedEvent(2, "events", connection=2)
        live = ReceivedEvent(2, connection=2)
        for entries, lost, duplicates in (
            ([ReceivedEvent(1), first, again], [2], 0),
            ([ReceivedEvent(1), first, live], [2], 1),
            ([ReceivedEvent(1), first, again], [], 1),
            ([ReceivedEvent(1), first, again], [1], 1),
        ):
            log = ClientLog("client", entries=entries, positions_lost=lost)
            self.assertEqual(judge(log, truth).duplicates, duplicates)

    def test_judge_lost_position_excuses_recovered_events_behind_it(self) -> None:
        """In the order in which another client got them; those before and after are lost."""
        others = {number: place for place, number in enumerate([1, 5, 2, 3, 4, 6, 8, 7])}
        received = [ReceivedEvent(1), ReceivedEvent(5), ReceivedEvent(3, "events")]
        log = ClientLog("client", entries=[*received, ReceivedEvent(8)], positions_lost=[3])
        truth = Truth(dict.fromkeys(others, 0.0), places=[others])
        verdict = judge(log, truth)
        self.assertEqual(verdict.excused, [4, 6, 7])
        self.assertEqual(verdict.breaches, [("lost", 2)])

    def test_judge_event_made_of_an_order_replaces_earlier_ones(self) -> None:
        """It counts as its own event, and the missing ones before it are not lost.

        A history that works later may bring those.
        """
        emitted = {number: float(number) for number in range(1, 5)}
        made = ReceivedEvent(3, "orders", replaces=(1, 2))
        first, last = ReceivedEvent(1), ReceivedEvent(4)
        unsure = ReceivedEvent(3, "orders", certain=False, replaces=(1, 2))
        table = [
            ([made, last], (0, 0, 0)),
            ([first, made, last], (0, 0, 0)),
            ([last, made], (0, 0, 0)),
            ([made, last, ReceivedEvent(3)], (1, 0, 0)),
            ([made, last, ReceivedEvent(2, "events")], (0, 0, 0)),
            ([made, last, *[ReceivedEvent(2, "events")] * 2], (1, 0, 0)),
            ([ReceivedEvent(3), made, last], (1, 0, 2)),
            ([unsure, last, ReceivedEvent(3, connection=2)], (0, 1, 0)),
            ([unsure, last, ReceivedEvent(2, "events", connection=2)], (0, 0, 0)),
        ]
        for entries, breaches in table:
            verdict = judge(ClientLog("client", entries=entries), Truth(emitted))
            found = (verdict.duplicates, verdict.disorder, verdict.lost)
            self.assertEqual(found, breaches, entries)

    def test_judge_gap_with_orders_excuses_only_other_events(self) -> None:
        """An event of an order must be there, or one that was made of it."""
        emitted = {number: float(number) for number in range(1, 4)}
        log = ClientLog("client", entries=[ReceivedEvent(1)])
        for gap, lost in (
            (DeclaredGap(1.5, 3.5), 0),
            (DeclaredGap(1.5, 3.5, has_orders=True), 1),
        ):
            verdict = judge(log, Truth(emitted, [gap], order_events={2}))
            self.assertEqual((verdict.lost, verdict.declared), (lost, 2 - lost))

    def test_judge_recovered_event_does_not_end_a_lost_position(self) -> None:
        """The events between the lost position and the next live one are excused."""
        entries = [ReceivedEvent(1), ReceivedEvent(2, "events"), ReceivedEvent(5)]
        log = ClientLog("client", entries=entries, positions_lost=[1])
        verdict = judge(log, Truth({number: float(number) for number in range(1, 7)}))
        self.assertEqual((verdict.declared, verdict.lost), (2, 1))
