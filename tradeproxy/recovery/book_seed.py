"""Alpaca's open orders and positions for the book: at the start, after a gap, and to compare."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tradeproxy.book.book import Book
from tradeproxy.book.positions import MAX_POSITIONS
from tradeproxy.book.seeding import Seed
from tradeproxy.journal.base import UnreadableError
from tradeproxy.recovery.reconcile import Document, leg_ids
from tradeproxy.recovery.snapshot import read_named_orders, read_open_orders, read_positions
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.upstream.rest import RestClient, RestRefusedError, RestUnavailableError

CHUNK = 25
"""Orders that the book takes in one turn of the reactor: about a millisecond."""

CHUNK_BYTES = 1024 * 1024
"""Bytes of these orders. The last one may exceed it."""

POSITIONS_CHUNK = 500
"""Positions that are encoded in one turn: about 4 ms."""

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
        unreadable: list[Any] = []
        legs: set[str] = set()

        def keep(order: Document) -> bytes:
            legs.update(leg_ids([order]))
            return _encode(order)

        listed = await read_open_orders(self._rest, keep, unreadable)
        positions = await read_positions(self._rest, unreadable)
        problem = f"they have entries of another shape: {len(unreadable)}" if unreadable else ""
        if len(positions) > MAX_POSITIONS:
            problem = f"they have more than {MAX_POSITIONS} positions"
            self._seeding.record_gap()
        await self._take_orders(seed, [listed[key] for key in listed if key not in legs])
        answer: list[tuple[str, bytes]] = []
        for begin in range(0, min(len(positions), MAX_POSITIONS), POSITIONS_CHUNK):
            await deferLater(self._clock, 0)
            chunk = positions[begin : min(begin + POSITIONS_CHUNK, MAX_POSITIONS)]
            answer += [(str(each["symbol"]), _encode(each)) for each in chunk]
        if not await self._repeat(
            lambda: self._seeding.take_positions(seed, answer, is_whole=not problem), 0
        ):
            return problem
        if not problem:
            self._seeding.finish(seed)
        missing = set(self._seeding.list_open(seed)) - listed.keys() - self._unknown
        named = sorted(missing & self._missing)[:MAX_NAMED]
        self._missing = missing - set(named)
        orders = await read_named_orders(self._rest, named, self._unknown)
        await self._take_orders(seed, list(map(_encode, orders)))
        return problem

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


def _encode(document: Document) -> bytes:
    # A lone surrogate has no UTF-8: the book and its clients could not read the document.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
