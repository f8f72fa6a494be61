"""Alpaca's open orders and positions for the book: at the start, after a gap, and to compare."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tradeproxy.book.book import Book
from tradeproxy.book.positions import MAX_POSITIONS
from tradeproxy.book.seeding import Seed
from tradeproxy.journal.base import UnreadableError
from tradeproxy.recovery.snapshot import (
    Snapshot,
    encode,
    is_named,
    read_named_order,
)
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.upstream.rest import (
    RestClient,
    RestOversizedError,
    RestRefusedError,
    RestUnavailableError,
)

CHUNK = 25
"""Orders that the book takes in one turn of the reactor: about a millisecond."""

CHUNK_BYTES = 1024 * 1024
"""Bytes of these orders. The last one may exceed it."""

WAIT_STEP, WAIT_STEPS = 0.25, 80
"""Seconds between two looks whether the book is built, and how many: it takes a few seconds."""

MAX_NAMED = 10
"""Orders that one run asks for by their ids."""

_T = TypeVar("_T")


class BookSeed:
    """Asks Alpaca for what one account's book cannot read from its log.

    An order that is open in the book, and that Alpaca does not list twice in a row, is asked for by
    its id: it may have closed without an event.
    """

    def __init__(self, book: Book, rest: RestClient, clock: IReactorTime) -> None:
        self._log = AccountLogger(self, book.account.name)
        self._seeding = book.seeding
        self._rest = rest
        self._clock = clock
        self._missing: set[str] = set()
        self._unknown: set[str] = set()
        # Orders that are missing and too large to be read: the book is not complete with them.
        self._oversized: set[str] = set()
        self._failure = ""

    def stream_lost(self) -> None:
        """Record that the book may miss something from now on."""
        self._seeding.record_gap()

    async def run(self) -> None:
        """Ask, and hand the answers to the book. A failure is logged once, and ends the run."""
        seed = await self._repeat(self._seeding.begin, WAIT_STEP)
        if seed is None:
            return  # the next check tries again
        try:
            problem = await self._ask(seed)
        except (RestRefusedError, RestUnavailableError) as error:
            problem = error.reason
        if problem and not self._failure:
            self._log.warn(
                "cannot compare the orders and positions with Alpaca's: {reason}", reason=problem
            )
        self._failure = problem

    async def _ask(self, seed: Seed) -> str:
        """Take Alpaca's lists; return why they are not complete, "" if they are."""
        listed = Snapshot()
        await listed.add_list(self._rest, "open")
        answer: list[tuple[str, bytes]] = []
        positions = await self._rest.get_list("/v2/positions")
        async for each in positions:
            if len(answer) == MAX_POSITIONS:
                break
            if is_named(each, "symbol"):
                answer.append((each["symbol"], encode(each)))
            else:
                listed.left_out.add("")
        problem = "they have entries of another shape" if listed.left_out else ""
        if len(positions) > MAX_POSITIONS:
            problem = f"they have more than {MAX_POSITIONS} positions"
            self._seeding.record_gap()
        roots = [document for key, document in listed.orders.items() if key not in listed.legs]
        await self._take_orders(seed, roots)
        if not await self._repeat(
            lambda: self._seeding.take_positions(seed, answer, is_whole=not problem), 0
        ):
            return problem
        missing = set(self._seeding.list_open(seed)) - listed.orders.keys() - self._unknown
        self._oversized &= missing
        if not problem and not self._oversized:
            self._seeding.finish(seed)
        named = sorted(missing & self._missing - self._oversized)[:MAX_NAMED]
        self._missing = missing - set(named)
        for order_id in named:
            try:
                orders = await read_named_order(self._rest, order_id, self._unknown)
            except RestOversizedError:
                self._oversized.add(order_id)
                self._seeding.record_gap()
            else:
                await self._take_orders(seed, map(encode, orders))
        return problem or ("an order is too large" if self._oversized else "")

    async def _repeat(self, attempt: Callable[[], _T | None], pause: float) -> _T | None:
        """Return the first true result of WAIT_STEPS attempts: the book may be behind its log."""
        for _ in range(WAIT_STEPS):
            with suppress(UnreadableError):
                if result := attempt():
                    return result
            await deferLater(self._clock, pause)
        return None

    async def _take_orders(self, seed: Seed, orders: Iterable[bytes]) -> None:
        waiting = deque(orders)
        while waiting:
            chunk, size = list[bytes](), 0
            while waiting and len(chunk) < CHUNK and size < CHUNK_BYTES:
                chunk.append(waiting.popleft())
                size += len(chunk[-1])
            self._seeding.take_orders(seed, chunk)
            if waiting:
                await deferLater(self._clock, 0)
