"""What old snapshots keep in memory, and which clients give up when it is too much."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import ref

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.book.support import BookCase, make_snapshot
from tests.support.state import order_event
from tradeproxy.book import old_documents
from tradeproxy.book.builder import WRITE_EVERY
from tradeproxy.book.old_documents import (
    COUNTED_PER_TURN,
    ENDED_PER_TURN,
    VIEW_BYTES,
    Hold,
    OldDocuments,
    View,
    list_replaced,
)
from tradeproxy.book.views import PositionView
from tradeproxy.journal.base import Journal


@dataclass(eq=False)
class Reader:
    """A client that keeps what it has not read until it gives up."""

    host: str = "192.0.2.1"
    stalled: float = 0.0
    given_up: list[float] = field(default_factory=list)
    hold: Hold | None = None

    def give_up(self, seconds: float) -> None:
        """See old_documents.SnapshotReader."""
        self.given_up.append(seconds)
        self.hold = None


class Owner:
    """A book of which the newest documents can be set."""

    newest: object = None

    def is_newest(self, documents: object) -> bool:
        """See DocumentOwner."""
        return documents is self.newest


class CountingClock(Clock):
    """A clock that counts the turns that were planned."""

    turns = 0

    def callLater(self, *arguments: Any, **options: Any) -> Any:
        """See IReactorTime."""
        self.turns += 1
        return super().callLater(*arguments, **options)


class CountedTests(BookCase):
    """No bound counted documents that had changed: unread states took 350 MB."""

    def start(self, journal: Journal | None = None, **options: Any) -> None:
        super().start(journal, **options)
        self.old = OldDocuments(self.clock)
        self.book.stop()
        self.new_book(self.old)
        self.publish(*[order_event(n, str(n), note="x" * 1000) for n in range(40)])

    def read(self) -> Reader:
        """Return a client that has the newest snapshot, and reads nothing of it."""
        reader = Reader()
        reader.hold = self.book.hold(make_snapshot(self.book), reader)
        return reader

    def test_changed_order_counts_once_until_nobody_keeps_it(self) -> None:
        """However many clients and snapshots have it; what is in the book does not count."""
        first, second = self.read(), self.read()
        self.publish(order_event(100, "100"))
        third = self.read()
        self.assertEqual(self.old.size, 0)
        [view] = [each for each in make_snapshot(self.book).list_orders() if each.id == "7"]
        size = len(view.document) + VIEW_BYTES
        del view
        self.publish(order_event(101, "7", "replaced"))
        make_snapshot(self.book)
        self.assertEqual(self.old.size, size)
        for reader in (first, third):
            reader.hold = None
            self.assertEqual(self.old.size, size)
        second.hold = None
        self.assertEqual(self.old.size, 0)

    def test_everything_that_changed_counts(self) -> None:
        """An order, a position and a strategy: each has a document."""
        self.publish(order_event(100, "100", "fill", symbol="MSFT"))
        reader = self.read()
        snapshot = make_snapshot(self.book)
        documents = [*snapshot.list_orders()][5:6]
        views: list[View] = [*documents, *snapshot.positions, *snapshot.strategies]
        size = sum(len(each.document) + VIEW_BYTES for each in views)
        del snapshot, documents, views
        self.publish(order_event(101, "5", "partial_fill", symbol="MSFT"))
        make_snapshot(self.book)
        self.assertEqual(self.old.size, size)
        self.assertEqual(reader.given_up, [])

    def test_positions_alone_count(self) -> None:
        """An answer with the positions needs no snapshot."""
        self.publish(order_event(100, "100", "fill", symbol="MSFT"))
        reader = Reader()
        reader.hold = self.book.hold(self.book.positions(), reader)
        self.assertFalse(reader.hold.is_old)
        size = len(self.book.positions()[0].document) + VIEW_BYTES
        self.publish(order_event(101, "101", "partial_fill", symbol="MSFT"))
        self.book.positions()
        self.assertEqual(self.old.size, size)
        self.assertTrue(reader.hold.is_old)

    def test_order_that_was_written_is_kept_by_clients_alone(self) -> None:
        """The book kept all of a snapshot, 30 MB, until somebody asked for the next one."""
        reader = self.read()
        views = {each.id: ref(each) for each in make_snapshot(self.book).list_orders()}
        self.publish(order_event(100, "7", "replaced"))
        self.clock.advance(WRITE_EVERY)
        self.clock.advance(0)
        self.assertGreater(self.old.size, 1000)
        assert reader.hold is not None
        self.assertTrue(reader.hold.is_old)
        reader.hold = None
        self.assertIsNone(views["7"]())
        self.assertIsNotNone(views["8"]())
        self.assertEqual(self.old.size, 0)

    def test_write_without_a_change_keeps_the_newest_snapshot(self) -> None:
        """It is written later than it was asked for. Nothing of it is made again."""
        self.publish(order_event(100, "7", "replaced"))
        snapshot = make_snapshot(self.book)
        self.clock.advance(WRITE_EVERY)
        self.clock.advance(0)
        self.assertIs(make_snapshot(self.book), snapshot)


class GiveUpTests(SynchronousTestCase):
    """Beyond the bound, clients give up until the rest fits."""

    def setUp(self) -> None:
        self.clock = CountingClock()
        self.old = OldDocuments(self.clock)
        self.patch(old_documents, "MAX_OLD_BYTES", 10 * (1000 + VIEW_BYTES))
        self.book = Owner()

    def read(self, host: str, stalled: float = 0.0, book: Owner | None = None) -> Reader:
        """Return a client that keeps a document of its own, which is old."""
        reader = Reader(host, stalled)
        view = PositionView(host, b"x" * 1000)
        reader.hold = self.old.hold(view, book or self.book, reader)
        self.old.add(book or self.book, list_replaced([view], ()))
        return reader

    def give_up(self, *readers: Reader) -> list[int]:
        """Return the numbers of the readers that give up."""
        while self.clock.getDelayedCalls():
            self.clock.advance(0)
        return [n for n, reader in enumerate(readers) if reader.given_up]

    def test_longest_stalled_client_gives_up(self) -> None:
        """One that reads, however slowly, keeps what it has."""
        readers = [self.read("192.0.2.1", stalled=[0.0, 9.0, 5.0][n % 3]) for n in range(12)]
        self.assertEqual(self.give_up(*readers), [7, 10])
        self.assertLessEqual(self.old.size, old_documents.MAX_OLD_BYTES)

    def test_address_with_most_gives_up(self) -> None:
        """The clients of others stay, even if they have not read for longer."""
        others = [self.read("192.0.2.2", stalled=20.0) for _ in range(3)]
        greedy = [self.read("192.0.2.1", stalled=1.0) for _ in range(10)]
        self.assertEqual(self.give_up(*others), [])
        self.assertEqual(len(self.give_up(*greedy)), 3)

    def test_clients_of_another_account_stay(self) -> None:
        """Their end would free little."""
        other = Owner()
        others = [self.read("192.0.2.2", 20.0, other) for _ in range(5)]
        greedy = [self.read("192.0.2.1") for _ in range(7)]
        self.assertEqual(self.give_up(*others), [])
        self.assertEqual(len(self.give_up(*greedy)), 2)

    def test_client_with_the_newest_documents_stays(self) -> None:
        """Its end would free nothing."""
        newest = self.read("192.0.2.1", stalled=9.0)
        assert newest.hold is not None
        self.book.newest = newest.hold.documents
        readers = [self.read("192.0.2.1") for _ in range(11)]
        self.assertEqual(self.give_up(newest, *readers), [10, 11])

    def test_many_documents_are_counted_in_several_turns(self) -> None:
        """An answer with 10,000 other positions took 70 ms in one turn, if a client had the old."""
        views = [PositionView(f"{n}", b"") for n in range(2 * COUNTED_PER_TURN + 1)]
        self.old.add(self.book, list_replaced(views, ()))
        self.assertEqual(self.old.size, COUNTED_PER_TURN * VIEW_BYTES)
        self.clock.advance(0)
        self.assertEqual(self.old.size, len(views) * VIEW_BYTES)

    def test_reason_has_the_time_since_the_snapshot(self) -> None:
        """The log and the client see it."""
        reader = self.read("192.0.2.1", stalled=2.0)
        self.clock.advance(3.04)
        others = [self.read("192.0.2.1") for _ in range(10)]
        self.assertEqual(self.give_up(reader, *others), [0])
        self.assertEqual(reader.given_up, [3.0])

    def test_many_clients_give_up_in_several_turns(self) -> None:
        """Each is a connection to close: thousands in one turn delayed events."""
        readers = [self.read("192.0.2.1") for _ in range(3 * ENDED_PER_TURN)]
        self.assertEqual(len(self.give_up(*readers)), 3 * ENDED_PER_TURN - 10)
        self.assertEqual(self.clock.turns, 3)
