"""Tests for the memory of all answers about the state of accounts that are under way."""

from __future__ import annotations

import json
from typing import Any

from tests.support.state import BlockedStateCase, StateTestCase
from tradeproxy.book import old_documents
from tradeproxy.book.book import Book
from tradeproxy.config.settings import Limits
from tradeproxy.web import state_pages

GREEDY, OTHER = "192.0.2.1", "192.0.2.2"
SIZE = 400_000
"""Bytes of a page, about."""


class HeldBytesTests(BlockedStateCase):
    """128 pages that nobody read took 170 MB: only their number was bounded."""

    limits = Limits(max_clients=40)
    trusted_proxies = ("127.0.0.1/32",)

    def setUp(self) -> None:
        super().setUp()
        self.patch(state_pages, "HELD_BYTES", 5 * SIZE // 2)
        self.trade_often(SIZE // 4000, note="x" * 4000)

    def ask_for_page(self, host: str) -> Any:
        """Ask for a page from this address; its client does not read."""
        return self.ask("/events?limit=500", X_Forwarded_For=host)

    def list_dropped(self) -> list[int]:
        """Return the numbers of the requests whose connections are dropped."""
        return [n for n, transport in enumerate(self.servers) if transport.disconnecting]

    def test_client_that_asks_again_and_again_holds_no_more(self) -> None:
        """The one that has waited longest gives way to its next request."""
        for _ in range(10):
            self.ask_for_page(GREEDY)
            self.wires.advance(1)
        self.assertEqual(self.list_dropped(), [*range(8)])

    def test_other_address_takes_bytes_of_the_one_that_holds_most(self) -> None:
        """Its own answer stays, however often the greedy one asks."""
        for host in (GREEDY, GREEDY, OTHER, GREEDY):
            self.ask_for_page(host)
            self.wires.advance(1)
        self.assertEqual(self.list_dropped(), [0, 1])

    def test_bytes_that_were_read_are_free(self) -> None:
        """Any number of clients that read get their pages."""
        for _ in range(10):
            answer = self.ask_for_page(GREEDY)
            self.servers[-1].blocked = False
            self.wires.flush()
            self.assertEqual(len(json.loads(answer.body)["events"]), SIZE // 4000)
        self.assertEqual(self.list_dropped(), [])

    def test_state_that_is_in_memory_anyway_is_not_counted(self) -> None:
        """Many clients get one that is far larger than all pages."""
        self.patch(state_pages, "HELD_BYTES", SIZE // 10)
        for _ in range(10):
            self.ask("/state")
            self.ask("/positions")
        self.assertEqual(self.list_dropped(), [])


class OldStateTests(BlockedStateCase):
    """Each state shares the documents of the book, until they change there.

    Nothing counted what unread answers kept: 96 of them took 390 MB while large orders changed.
    """

    limits = Limits(max_clients=40)
    trusted_proxies = ("127.0.0.1/32",)

    def setUp(self) -> None:
        super().setUp()
        self.patch(old_documents, "MAX_OLD_BYTES", 4 * SIZE)
        self.change_all()

    def change_all(self) -> None:
        """Let every order have a new document: SIZE bytes together."""
        self.trade_often(100, note="x" * (SIZE // 100 - 500))

    def list_dropped(self) -> list[int]:
        """Return the numbers of the requests whose connections are dropped."""
        return [n for n, transport in enumerate(self.servers) if transport.disconnecting]

    def test_client_that_asks_again_and_again_keeps_few_states(self) -> None:
        """The one that has waited longest is dropped."""
        for _ in range(10):
            for _ in range(2):
                self.ask("/state", X_Forwarded_For=GREEDY)
            self.change_all()
            self.wires.advance(1)
        self.assertEqual(self.list_dropped(), [*range(12)])

    def test_client_of_another_address_gets_its_state(self) -> None:
        """It has waited longest, but the other address has more answers."""
        answer = self.ask("/state", X_Forwarded_For=OTHER)
        before = self.paper.cursor_at(self.paper.log.last)
        for _ in range(5):
            self.change_all()
            for _ in range(2):
                self.ask("/state", X_Forwarded_For=GREEDY)
            self.wires.advance(1)
        self.change_all()
        self.wires.advance(1)
        self.assertNotIn(0, self.list_dropped())
        self.servers[0].blocked = False
        self.wires.flush()
        state = json.loads(answer.body)
        self.assertEqual((state["cursor"], len(state["orders"])), (before, 100))

    def test_clients_that_read_get_their_states(self) -> None:
        """Any number of them."""
        for _ in range(10):
            answer = self.ask("/state", X_Forwarded_For=GREEDY)
            self.change_all()
            self.servers[-1].blocked = False
            self.wires.flush()
            self.assertEqual(len(json.loads(answer.body)["orders"]), 100)

    def test_answer_that_was_not_begun_is_503(self) -> None:
        """Its client is to ask again."""
        self.patch(old_documents, "MAX_OLD_BYTES", 0)
        book = self.books["paper"]
        hold = book.hold

        def change_and_hold(*arguments: Any) -> Any:
            held = hold(*arguments)
            self.change_all()
            book.snapshot()
            return held

        self.patch(book, "hold", change_and_hold)
        answer = self.ask("/state")
        self.servers[-1].blocked = False
        self.wires.flush()
        self.assertEqual(answer.status, 503)


class CountedTests(StateTestCase):
    """Nothing that an answer holds is left out."""

    def test_every_answer_counts(self) -> None:
        """A timeline was 0.7 MB of objects, outside every bound."""
        self.trade("1")
        self.trade("2", "fill")
        paths = ("/state", "/positions", "/orders", "/orders/1", "/events", "/strategies")
        for path in paths:
            self.assertEqual(self.ask(path).status, 200, path)
        self.patch(state_pages, "HELD_BYTES", 0)
        for path in paths:
            self.assertEqual(self.ask(path).status, 503, path)

    def test_answer_counts_while_it_is_made(self) -> None:
        """128 answers that are made in turns would all be complete before one counts."""
        for _ in range(400):
            self.trade("1", "replaced", status="new", note="x" * 2000)
        calls: list[int] = []
        events, timeline = Book.events, Book.timeline

        def count_events(book: Book, *arguments: Any) -> Any:
            calls.append(1)
            return events(book, *arguments)

        def count_timeline(book: Book, *arguments: Any) -> Any:
            calls.append(1)
            return timeline(book, *arguments)

        self.patch(Book, "events", count_events)
        self.patch(Book, "timeline", count_timeline)
        self.patch(state_pages, "HELD_BYTES", 16_000)
        for path in ("/events?limit=500", "/orders/1"):
            calls.clear()
            self.assertEqual(self.ask(path).status, 503)
            self.assertLessEqual(len(calls), 2, path)

    def test_timeline_ends_with_the_bytes_of_a_page(self) -> None:
        """The rest comes with `timeline_after`."""
        self.patch(state_pages, "MAX_PAGE_BYTES", 20_000)
        for _ in range(400):
            self.trade("1", "replaced", status="new")
        document = self.fetch("/orders/1")
        self.assertIs(document["timeline_more"], True)
        self.assertLess(len(json.dumps(document["timeline"])), 50_000)
        found = document["timeline"]
        while document["timeline_more"]:
            document = self.fetch(f"/orders/1?timeline_after={found[-1]['seq']}")
            found += document["timeline"]
        self.assertEqual([entry["seq"] for entry in found], [*range(1, 401)])
