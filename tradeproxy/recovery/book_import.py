"""Imports all fills that Alpaca lists into the book per strategy: `tradeproxy book import`.

step    asks for                            until
------  ----------------------------------  ----------------------------------------
orders  GET /v2/orders, oldest first        none is new, or one is newer than the import
fills   GET /v2/account/activities/FILL     a page is not full, or one is newer than the import

Orders come first: only they have the client_order_id that names a strategy. Where a step is after a
page is stored with what the page brought, so an import continues there after a restart.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tradeproxy.book.book import Book
from tradeproxy.book.executions import Execution, OrderLinks, read_activity, read_order_links
from tradeproxy.book.importing import PAGE_RECORDS, ImportPage, ImportProgress, ImportState
from tradeproxy.book.strategies import Strategies
from tradeproxy.journal.base import ImportLog, NotLeadingError, UnreadableError
from tradeproxy.recovery.delivered import read_time
from tradeproxy.recovery.reconcile import Document, expand, is_id
from tradeproxy.recovery.snapshot import get_page
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.upstream.rest import (
    SHAPE,
    RestClient,
    RestList,
    RestOversizedError,
    RestRefusedError,
    RestUnavailableError,
)
from tradeproxy.wire.event import CLOSED_STATUSES, format_time

ORDERS_A_PAGE, FILLS_A_PAGE = 500, 100

PAUSE = 2.0
"""Seconds between two requests. At most half of the account's requests are the import's."""

RETRIES = 5
"""Attempts for one page."""

MAX_STILL = 10
"""Pages in a row without a later time than before: a list that repeats itself has no end."""

WRITE_RETRIES = 30
"""Attempts to store a page, a second apart: Redis may be away, or the disk full, for a while."""

ORDERS_AFTER, FILLS_TOKEN, FIRST_TIME = "import orders", "import fills", "import first"
"""The keys under which it is stored how far the import is."""

IMPORTED = "imported"
"""The key in the journal for the time of the last import. Nothing reads it."""

_NO_END = "the times on its pages do not advance"


class BookImport:
    """Imports the fills of one account. Implements book.importing.Importer."""

    def __init__(self, book: Book, rest: RestClient, clock: IReactorTime) -> None:
        self._book = book
        self._log = AccountLogger(self, book.account.name)
        self._rest = rest
        self._clock = clock
        self._state = ImportState.IDLE
        self._reason = ""
        self._orders = self._fills = self._new = 0
        self._fraction = 0.0

    @property
    def progress(self) -> ImportProgress:
        """How far it is."""
        return ImportProgress(
            self._state, self._orders, self._fills, self._new, self._fraction, self._reason
        )

    def start(self) -> None:
        """Begin an import, or continue one that was interrupted. While one runs, do nothing."""
        if self._state is not ImportState.RUNNING:
            self._state, self._reason = ImportState.RUNNING, ""
            self._orders = self._fills = self._new = 0
            self._fraction = 0.0
            Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        try:
            log = self._book.account.import_log
            if log is not None:
                await log.sync()
                await self._wait_for_book()  # it may be further by another leader's pages
            await self._read_orders()
            await self._read_fills()
            if log is None:
                await self._sync()
        except (RestRefusedError, RestUnavailableError) as error:
            self._fail(error.reason)
        except NotLeadingError:
            self._fail("this node does not lead the account any more; ask the leader to continue")
        except UnreadableError as error:
            self._fail(str(error) or "the journal cannot be written at the moment")
        except Exception:
            self._log.failure("the import of fills failed")
            self._fail("see the proxy's log")
        else:
            self._state, self._fraction = ImportState.DONE, 1.0
            self._log.info("imported {new} of {fills} fills", new=self._new, fills=self._fills)

    async def _sync(self) -> None:
        """Have the pages survive a power cut: the urgent metadata is in the same file, and synced.

        Raises UnreadableError.
        """
        account = self._book.account
        account.set_metadata(IMPORTED, format_time(account.dates.now_microseconds()))
        if not await account.when_saved():
            raise UnreadableError

    def _fail(self, reason: str) -> None:
        self._state, self._reason = ImportState.FAILED, reason

    async def _read_orders(self) -> None:
        after = (await self._strategies()).get_progress(ORDERS_AFTER)
        seen: set[str] = set()
        end = _ListEnd()
        # The stream brings newer ones, and a busy account would never end.
        began = self._book.account.dates.now_microseconds()
        parameters = {
            "status": "all",
            "direction": "asc",
            "limit": str(ORDERS_A_PAGE),
            "nested": "true",
        }
        while True:
            if after:
                parameters["after"] = after
            before, seen = seen, set()
            count = new = newest = 0
            links: list[OrderLinks] = []
            async for order in _read_objects(await self._get("/v2/orders", parameters, "limit")):
                count += sum(1 for _ in expand([order]))
                newest = max(newest, read_time(order.get("submitted_at")))
                order_id = str(order.get("id"))
                seen.add(order_id)
                if order_id not in before:
                    new += 1
                    links += read_order_links(order) if _matters(order) else ()
            if not new and count >= int(parameters["limit"]):
                raise RestUnavailableError("more orders at one time than fit on a page")
            self._orders += new
            end.note(newest)
            has_more = bool(new) and 0 < newest < began
            # A microsecond earlier: Alpaca begins a page after the time, not at it.
            after = format_time(newest - 1) if has_more else ""
            await self._take(links, [], {ORDERS_AFTER: after} if has_more else {})
            if not has_more:
                return

    async def _read_fills(self) -> None:
        token = (await self._strategies()).get_progress(FILLS_TOKEN)
        end = _ListEnd()
        began = self._book.account.dates.now_microseconds()
        parameters = {"direction": "asc", "page_size": str(FILLS_A_PAGE)}
        while True:
            if token:
                parameters["page_token"] = token
            page = await self._get("/v2/account/activities/FILL", parameters, "page_size")
            found: list[Execution] = []
            times: list[int] = []
            last = None
            async for fill in _read_objects(page):
                last = fill.get("id")
                times.append(read_time(fill.get("transaction_time")))
                if (execution := read_activity(fill)) is not None:
                    found.append(execution)
            self._fills += len(page)
            newest = max(times, default=0)
            end.note(newest)
            progress = {}
            if is_id(last) and last != token:
                token = last
                # Fills that come later are behind it, so the next import begins there.
                first = self._measure(times, await self._strategies())
                progress = {FILLS_TOKEN: token, FIRST_TIME: str(first)}
            await self._take([], found, progress)
            if len(page) < int(parameters["page_size"]) or newest >= began:
                return
            if last != token:  # no next page can be asked for
                raise RestUnavailableError(SHAPE)

    def _measure(self, times: list[int], strategies: Strategies) -> int:
        """Estimate by the times of the fills how much of all is read; return that of the first."""
        first = int(strategies.get_progress(FIRST_TIME) or 0) or times[0]
        span = self._book.account.dates.now_microseconds() - first
        if span > 0:
            self._fraction = min(max((times[-1] - first) / span, 0.0), 1.0)
        return first

    async def _take(
        self, orders: list[OrderLinks], fills: list[Execution], progress: dict[str, str]
    ) -> None:
        """Have the book take what a request brought; the last part has how far the import is."""
        size = max(len(orders), len(fills))
        for begin in range(0, max(size, 1), PAGE_RECORDS):
            end = begin + PAGE_RECORDS
            page = ImportPage(
                tuple(orders[begin:end]), tuple(fills[begin:end]), progress if end >= size else {}
            )
            if page != ImportPage():
                await self._take_page(page)

    async def _take_page(self, page: ImportPage) -> None:
        strategies = await self._strategies()
        before = strategies.imported
        if (log := self._book.account.import_log) is None:
            strategies = await self._store(page)
        else:
            await self._share(log, page.encode())
            strategies = await self._wait_for_book()
        self._new += max(strategies.imported - before, 0)

    async def _store(self, page: ImportPage) -> Strategies:
        """Add a page to the journal's file, and return what has it. Raises UnreadableError."""
        strategies: Strategies | None = None
        for _ in range(WRITE_RETRIES):
            if (current := await self._strategies()) is not strategies:
                strategies = current  # after an error of the tables, without what was not written
                strategies.take_page(page)
            if self._book.save() and self._book.strategies is strategies:
                await deferLater(self._clock, 0)
                return strategies
            await deferLater(self._clock, 1.0)
        raise UnreadableError

    async def _share(self, log: ImportLog, page: bytes) -> None:
        """Add a page to the import log. Raises NotLeadingError, or UnreadableError at last."""
        for _ in range(WRITE_RETRIES - 1):
            try:
                await log.append(page)
            except UnreadableError:
                await deferLater(self._clock, 1.0)
            else:
                return
        await log.append(page)

    async def _wait_for_book(self) -> Strategies:
        """Return the strategies once the book has every page."""
        while not (strategies := await self._strategies()).is_imported:
            await deferLater(self._clock, 0.02)
        return strategies

    async def _strategies(self) -> Strategies:
        """Return the strategies once they can be asked."""
        for _ in range(120):
            if (found := self._book.strategies) is not None:
                return found
            await deferLater(self._clock, 0.5)
        raise UnreadableError("the book is still being built")

    async def _get(self, path: str, parameters: dict[str, str], limit: str) -> RestList:
        """Return a page: see `get_page`.

        Raises RestRefusedError, RestOversizedError, or RestUnavailableError after RETRIES.
        """
        for attempt in range(RETRIES):
            await deferLater(self._clock, PAUSE * (1 + attempt * attempt))
            try:
                return await get_page(self._rest, path, parameters, limit)
            except RestOversizedError:
                raise
            except RestUnavailableError as error:
                if attempt == RETRIES - 1:
                    raise
                await deferLater(self._clock, error.retry_after)
        raise AssertionError("the last attempt returns or raises")


class _ListEnd:
    """Finds out that a list repeats itself, even if the ids on its pages change."""

    def __init__(self) -> None:
        self._newest = 0
        self._still = 0

    def note(self, newest: int) -> None:
        """Take the newest time of a page. Raises RestUnavailableError after MAX_STILL pages."""
        self._still = 0 if newest > self._newest else self._still + 1
        self._newest = max(self._newest, newest)
        if self._still > MAX_STILL:
            raise RestUnavailableError(_NO_END)


async def _read_objects(page: RestList) -> AsyncIterator[Document]:
    """Yield the objects of a list. Raises RestUnavailableError for anything else in it."""
    async for each in page:
        if not isinstance(each, dict):
            raise RestUnavailableError(SHAPE)
        yield each


def _matters(order: Document) -> bool:
    """Whether an order may have fills, or links to orders that do."""
    return bool(
        order.get("filled_qty") not in (None, "0", 0)
        or order.get("status") not in CLOSED_STATUSES  # its fills may come with a later import
        or order.get("legs")
        or order.get("replaces")
        or order.get("replaced_by")
    )
