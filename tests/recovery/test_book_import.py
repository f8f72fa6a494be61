"""The import of old fills, from a simulated Alpaca."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from twisted.web.server import Request

from tests.recovery.recovery_case import OrdersTestCase
from tests.support.holdings import group_holdings
from tests.support.journals import Connections, journal_at
from tests.support.redisjournals import UNLIMITED_LEASE, leading_journal
from tests.support.redislog import SyncRedis, done
from tests.support.ticks import Ticks
from tests.upstream.support import BASE_URL, KEYS, keys_of, memory_agent
from tradeproxy.book.book import Book
from tradeproxy.book.importing import ImportState
from tradeproxy.cluster.redis_journal import RedisJournal
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Journal
from tradeproxy.recovery import book_import, snapshot
from tradeproxy.recovery.book_import import BookImport
from tradeproxy.runtime.dates import Dates
from tradeproxy.upstream.rest import RestClient


class BookImportTests(OrdersTestCase):
    """An account whose fills are not in the log: it begins after them."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(book_import, "FILLS_A_PAGE", 10)
        for number in range(12):
            side = "sell" if number % 4 == 3 else "buy"
            name = f"{'alpha' if number % 2 else 'beta'}-{number}"
            self.submit(client_order_id=name, side=side)
            self.advance(2)
        self.fills = sum(each.fill is not None for each in self.alpaca.executions())
        self.stop()
        self.log: Journal = self.open_journal()
        self.addCleanup(lambda: self.log.close())
        self.begin()

    def open_journal(self) -> Journal:
        """Return a journal that is open and empty."""
        path = Path(self.mktemp()) / "paper.sqlite3"
        dates = Dates(self.clock.seconds, self.clock.seconds)
        self.disk = Connections()
        journal = journal_at(path, self.clock, dates=dates, full_sync=True, connect=self.disk)
        journal.open()
        return journal

    def refuse_writing(self) -> None:
        """Let the journal fail."""
        self.disk.fail("BEGIN", sqlite3.SQLITE_FULL)

    def accept_writing(self) -> None:
        """Let it work again."""
        self.disk.fail("BEGIN", None)

    def begin_again(self) -> None:
        """End the life of the book and begin another one, as a restart does."""
        self.book.stop()
        self.begin()

    def begin(self) -> None:
        """Begin a life of the book and of its importer."""
        self.account = Account("paper", self.log, self.proxy_clock)
        rest = RestClient(
            memory_agent(self.host, self.clock),
            BASE_URL,
            keys_of(KEYS),
            self.clock,
            self.account.dates,
        )
        self.book = Book(self.account, self.clock, Ticks())
        self.book.start()
        self.addCleanup(self.book.stop)
        self.importer = BookImport(self.book, rest, self.clock)
        self.advance(1)

    def complete(self) -> int:
        """Let the import run until it ends; return how many seconds it took at most."""
        for seconds in range(1, 600):
            self.advance(1)
            if self.importer.progress.state is not ImportState.RUNNING:
                return seconds
        raise AssertionError(self.importer.progress)

    def quantities(self) -> dict[str, str]:
        """Return what each strategy holds."""
        self.advance(5)
        strategies = self.book.strategies
        assert strategies is not None
        self.assertTrue(strategies.is_current())
        return {name: f"{own[0][1].qty:f}" for name, own in group_holdings(strategies.book).items()}

    def test_import_finds_every_fill_and_whose_it_is(self) -> None:
        """Partial ones, too. A second import reads what is new only."""
        self.assertGreater(self.fills, 12)
        self.importer.start()
        self.importer.start()
        self.assertLess(self.complete(), 13)
        progress = self.importer.progress
        self.assertEqual(progress.state, ImportState.DONE, progress)
        self.assertEqual(
            (progress.orders, progress.fills, progress.new), (12, self.fills, self.fills)
        )
        self.assertEqual(self.quantities(), {"alpha": "0", "beta": "60"})
        self.importer.start()
        self.complete()
        self.assertEqual((self.importer.progress.fills, self.importer.progress.new), (0, 0))
        self.assertEqual(self.quantities(), {"alpha": "0", "beta": "60"})

    def test_interrupted_import_continues_behind_the_last_page(self) -> None:
        """What was imported is stored with the place."""
        self.importer.start()
        while self.importer.progress.fills < 10:
            self.advance(1)
        self.advance(1)
        self.begin_again()
        self.importer.start()
        self.complete()
        progress = self.importer.progress
        self.assertEqual((progress.state, progress.fills), (ImportState.DONE, self.fills - 10))
        self.assertEqual(self.quantities(), {"alpha": "0", "beta": "60"})

    def test_import_waits_while_the_journal_cannot_be_written(self) -> None:
        """A restart of Redis must not end an import of an hour. With a full disk it was `done`."""
        self.importer.start()
        while self.importer.progress.fills < 10:
            self.advance(1)
        self.refuse_writing()
        self.advance(20)
        self.assertEqual(self.importer.progress.state, ImportState.RUNNING)
        self.accept_writing()
        self.complete()
        self.assertEqual(self.importer.progress.state, ImportState.DONE)
        self.assertEqual(self.quantities(), {"alpha": "0", "beta": "60"})
        self.begin_again()
        self.assertEqual(self.quantities(), {"alpha": "0", "beta": "60"})

    def test_import_is_done_once_it_survives_a_power_cut(self) -> None:
        """The pages are written without a sync of the disk, since the stream waits for that."""
        if isinstance(self.log, RedisJournal):
            return  # Redis syncs its file
        self.importer.start()
        while self.importer.progress.fills < 10:
            self.advance(1)
        statements = self.disk.record()
        self.complete()
        self.assertEqual(self.importer.progress.state, ImportState.DONE)
        level = last = "FULL"
        for each in statements:
            level = each.split()[-1] if each.startswith("PRAGMA synchronous =") else level
            last = level if each == "COMMIT" else last
        self.assertEqual(last, "FULL")

    def test_import_fails_if_the_journal_cannot_be_written_for_long(self) -> None:
        """The same command continues it."""
        self.importer.start()
        while self.importer.progress.fills < 10:
            self.advance(1)
        self.refuse_writing()
        self.complete()
        self.assertEqual(self.importer.progress.state, ImportState.FAILED)
        self.assertEqual(
            self.importer.progress.reason, "the journal cannot be written at the moment"
        )
        self.accept_writing()
        self.advance(3)
        self.importer.start()
        self.complete()
        self.assertEqual(self.importer.progress.state, ImportState.DONE)
        self.assertEqual(self.quantities(), {"alpha": "0", "beta": "60"})

    def test_refused_request_ends_the_import_with_the_reason(self) -> None:
        """The command prints it."""
        self.patch(book_import, "RETRIES", 1)
        self.host.refusing = True
        self.importer.start()
        self.complete()
        progress = self.importer.progress
        self.assertEqual(progress.state, ImportState.FAILED)
        self.assertTrue(progress.reason)

    def fail_with(self, path: str, make_page: Callable[[int], list[dict[str, Any]]]) -> str:
        """Import from an Alpaca with other pages at one path; return why that fails."""
        requests = count(1)

        def answer(request: Request) -> bytes | None:
            if request.path.decode() != path:
                return None
            return json.dumps(make_page(next(requests))).encode()

        self.override(answer)
        self.importer.start()
        self.complete()
        progress = self.importer.progress
        self.assertEqual(progress.state, ImportState.FAILED)
        self.requests = next(requests) - 1
        self.assertLess(self.requests, 20)
        return progress.reason

    def test_fills_count_for_the_order_that_theirs_belongs_to(self) -> None:
        """That one may have no fill itself: it was canceled, or replaced by another order."""
        time = {"submitted_at": "2026-11-30T15:00:00Z"}
        closed, filled = {"filled_qty": "0"}, {"filled_qty": "1", "status": "filled"}
        leg = {"id": "leg", "client_order_id": "x"} | filled
        parent = {"id": "parent", "client_order_id": "gamma-1", "status": "canceled", "legs": [leg]}
        old = {"id": "old", "client_order_id": "delta-1", "status": "replaced"}
        middle = {"id": "middle", "client_order_id": "y", "status": "replaced", "replaces": "old"}
        new = {"id": "new", "client_order_id": "z", "replaces": "middle"} | filled
        unrelated = {"id": "other", "client_order_id": "epsilon-1", "status": "canceled"}
        orders = [
            closed | parent | time,
            closed | old | {"replaced_by": "middle"} | time,
            closed | middle | time,
            new | time,
            closed | unrelated | time,
        ]
        fill = {
            "transaction_time": "2026-11-30T15:00:00Z",
            "type": "fill",
            "side": "buy",
            "symbol": "SPY",
            "qty": "1",
            "cum_qty": "1",
            "price": "1",
        }
        fills = [fill | {"id": f"fill of {each}", "order_id": each} for each in ("leg", "new")]
        pages = {"/v2/orders": orders, "/v2/account/activities/FILL": fills}
        self.override(lambda request: json.dumps(pages[request.path.decode()]).encode())
        self.importer.start()
        self.complete()
        self.assertEqual(self.importer.progress.state, ImportState.DONE)
        self.assertEqual(self.quantities(), {"delta": "1", "gamma": "1"})

    def test_more_orders_of_one_time_than_a_page_fail_the_import(self) -> None:
        """A page begins behind a time, so the others cannot be read. It was said to be done."""
        orders = [
            {"id": f"{number}", "submitted_at": "2026-11-30T15:00:00Z", "filled_qty": "1"}
            for number in range(book_import.ORDERS_A_PAGE)
        ]
        reason = self.fail_with("/v2/orders", lambda _: orders)
        self.assertEqual(reason, "more orders at one time than fit on a page")

    def test_pages_that_repeat_under_other_ids_fail_the_import(self) -> None:
        """They have no end: the import asked for them for ever."""
        fill = {"transaction_time": "2026-11-30T15:00:00Z", "order_id": "1", "type": "fill"}

        def make_page(request: int) -> list[dict[str, Any]]:
            return [fill | {"id": f"{request} {n}"} for n in range(book_import.FILLS_A_PAGE)]

        reason = self.fail_with("/v2/account/activities/FILL", make_page)
        self.assertEqual(reason, "the times on its pages do not advance")
        self.assertEqual(self.requests, 1 + 11)

    def test_page_that_is_too_large_is_asked_for_in_parts(self) -> None:
        """The import failed."""
        self.patch(snapshot, "MIN_A_PAGE", 1)
        sizes: list[int] = []

        def answer(request: Request) -> bytes | None:
            size = request.args.get(b"limit") or request.args.get(b"page_size")
            if size is None:
                return None
            sizes.append(int(size[0]))
            return b"[]".rjust(8 * 1024 * 1024 + 1) if sizes[-1] > 3 else None

        self.override(answer)
        self.importer.start()
        self.complete()
        self.assertEqual(self.importer.progress.state, ImportState.DONE)
        self.assertEqual(self.importer.progress.fills, self.fills)
        self.assertEqual(self.quantities(), {"alpha": "0", "beta": "60"})
        self.assertLess(len(sizes), self.fills + 12)

    def test_id_that_is_no_page_token_fails_the_import(self) -> None:
        """A lone surrogate has no place in a URL or a table: the import ended with a traceback."""
        fill = {"transaction_time": "2026-11-30T15:00:00Z", "order_id": "1", "type": "fill"}
        page = [fill | {"id": f"{n}\ud800"} for n in range(book_import.FILLS_A_PAGE)]
        reason = self.fail_with("/v2/account/activities/FILL", lambda _: page)
        self.assertEqual(reason, "an answer of another shape")


class SharedBookImportTests(BookImportTests):
    """The same with a log in Redis, where another node continues."""

    def open_journal(self) -> Journal:
        """Return the journal of a node that leads, and knows the account."""
        self.redis = SyncRedis(self.clock)
        return self.lead()

    def refuse_writing(self) -> None:
        assert isinstance(self.log, RedisJournal)
        self.redis.clients[0].cut()

    def accept_writing(self) -> None:
        self.redis.clients[0].restore()

    def lead(self) -> RedisJournal:
        """Return the journal of another node, which takes the lease."""
        journal = leading_journal(self.redis, dates=self.dates())
        if journal.account_id is None:
            journal.identify("paper account")
        self.copy_imports(journal)
        return journal

    def copy_imports(self, journal: RedisJournal) -> None:
        """Check the lease, as a node does twice a second."""
        state = done(journal.redis_log.query_lease(UNLIMITED_LEASE, acquire=True))
        journal.observe_lease(state, frozenset(), journal.last)

    def dates(self) -> Dates:
        return Dates(self.clock.seconds, self.clock.seconds)

    def begin_again(self) -> None:
        """End this node; another one leads with what is in Redis."""
        self.book.stop()
        self.log.close()
        self.log = self.lead()
        self.begin()

    def test_node_that_does_not_lead_any_more_ends_the_import(self) -> None:
        """The command prints that, and the next leader continues behind the last page."""
        self.importer.start()
        while self.importer.progress.fills < 10:
            self.advance(1)
        self.advance(1)
        former, importer = self.log, self.importer
        self.log = self.lead()
        while importer.progress.state is ImportState.RUNNING:
            self.advance(1)
        self.assertEqual(importer.progress.state, ImportState.FAILED)
        self.assertIn("does not lead", importer.progress.reason)
        self.book.stop()
        former.close()
        self.begin()
        self.importer.start()
        self.complete()
        self.assertEqual(self.importer.progress.fills, self.fills - 10)
        self.assertEqual(self.quantities(), {"alpha": "0", "beta": "60"})

    def test_import_of_an_unknown_account_fails_with_the_cause(self) -> None:
        """The reason was that the journal cannot be written."""
        self.log.account_id = None
        self.importer.start()
        self.complete()
        self.assertEqual(self.importer.progress.state, ImportState.FAILED)
        reason = "the account's id is not known yet: Alpaca has not answered"
        self.assertEqual(self.importer.progress.reason, reason)
