"""The imports of an account in Redis: a list that the leader appends to and every node copies.

The first element is a header that names the account; each other one is a page of an import. A page
is never changed. What a node does when its copy differs from the list:

| the list                        | a node that follows       | the leader                     |
|---------------------------------|---------------------------|--------------------------------|
| continues the copy              | copies the rest           | copies the rest                |
| is only the copy's beginning    | keeps the copy            | appends the rest of the copy:  |
|                                 |                           | Redis has lost its end, or all |
| is another one                  | copies it from its start  | copies it from its start       |
| is another account's            | has no pages              | begins another list with the   |
|                                 |                           | next page                      |
| is here, but the account's id   | has no pages until the id | has no pages until the id is   |
| is not known yet                | is known                  | known                          |

The log does not matter: the list stays when rows are trimmed, and when another epoch begins.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from hashlib import sha1
from sys import getsizeof
from typing import Any, NamedTuple

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from tradeproxy.cluster.redis_client import RedisUnavailableError
from tradeproxy.cluster.redis_log import RedisLog
from tradeproxy.journal.base import NotLeadingError, UnreadableError
from tradeproxy.journal.metadata import Metadata

READ_ELEMENTS = 50
"""Elements of one read. A page has some kilobytes."""

WRITE_BYTES = 256 * 1024
"""Bytes of one write, at most, unless a single page is larger."""

MAX_COPY = 64 * 1024 * 1024
"""Bytes of the copy in memory: the pages of about 600,000 fills."""

MAX_STEPS = 20_000
"""Reads and writes of one comparison with Redis, at most. The next one continues."""


class ListHeader(NamedTuple):
    """The first element of the list, as JSON."""

    base_url: str
    account_id: str
    id: str
    """Random, so that two lists never begin alike."""


class RedisImportLog:
    """Implements journal.base.ImportLog. The copy is in memory."""

    _log = Logger()

    def __init__(
        self, redis_log: RedisLog, metadata: Metadata, get_token: Callable[[], str | None]
    ) -> None:
        """Begin with an empty copy. `get_token` returns the fencing token, None while following."""
        self._redis_log = redis_log
        self._metadata = metadata
        self._get_token = get_token
        self._elements: list[bytes] = []  # those for which there is no room are empty
        self._bytes = 0  # of all these
        self._newest = ""  # the hash of the last one, as Redis has it
        self._header: ListHeader | None = None
        self._lock = DeferredLock()
        self._has_failed = False
        self._reported: set[str] = set()
        self._account_id: str | None = None  # as of the last check of the lease
        self.generation = 0
        self.is_copied = False
        self.on_pages: Callable[[], None] = lambda: None

    @property
    def count(self) -> int:
        """How many pages there are of this account."""
        return len(self._elements) - 1 if self._is_own else 0

    def read(self, number: int) -> bytes:
        """Return a page by its number, from 0 on."""
        return self._elements[1 + number]

    def observe(self, imports: tuple[int, str]) -> None:
        """Compare the copy with the list if they differ, and with the account's id.

        `imports` are the number of the list's elements, and the SHA-1 hash of the last one.
        """
        if self._account_id != self._metadata.account_id:
            self._account_id = self._metadata.account_id
            self.on_pages()
        count, newest = imports
        if count < 0:
            self._report("there is no list, but another value")
        if (max(count, 0), newest) == (len(self._elements), self._newest):
            self.is_copied = True
        elif not self._lock.locked:
            self._lock.run(self._sync).addErrback(self._failed)

    async def sync(self) -> None:
        """Copy what the list has by now. Raises UnreadableError or NotLeadingError."""
        await self._do(self._sync)

    async def append(self, page: bytes) -> None:
        """Append a page, and return once it is in Redis. Raises UnreadableError or NotLeadingError.

        After an error the page may be there. Appended again, it is there twice.
        """
        await self._do(partial(self._append, page))

    async def _do(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await self._lock.run(work)
        except RedisUnavailableError:
            raise UnreadableError from None

    def _failed(self, failure: Failure) -> None:
        if failure.check(RedisUnavailableError, NotLeadingError) or self._has_failed:
            return  # the next check of the lease tries again
        self._has_failed = True
        self._log.failure("reading the imports in Redis failed", failure)

    @property
    def _is_own(self) -> bool:
        """Whether the copy is this account's, as far as is known."""
        header = self._header
        own = (self._metadata.base_url, self._metadata.account_id)
        return header is not None and (header.base_url, header.account_id) == own

    async def _sync(self) -> None:
        for _ in range(MAX_STEPS):
            known = min(len(self._elements), 1)  # it shows whether the list continues the copy
            first = len(self._elements) - known
            _, found = await self._redis_log.read_imports(first, READ_ELEMENTS)
            if known and not found:
                if not await self._restore():
                    break
            elif known and _digest(found[0]) != self._newest:
                self._clear()
            elif len(found) == known:
                break
            else:
                self._extend(found[known:])
        else:
            return
        self.is_copied = True

    async def _restore(self) -> bool:
        """Append what the list has lost; return whether it can be compared again."""
        count, _ = await self._redis_log.read_imports(0, 1)
        kept = (await self._redis_log.read_imports(count - 1, 1))[1] if count else []
        if kept != self._elements[max(count - 1, 0) : count]:
            self._clear()
            return True
        token = self._get_token()
        if token is None or not self._is_own:
            return False
        await self._write(token, count, _take(self._elements, count))
        return True

    async def _append(self, page: bytes) -> None:
        await self._sync()
        token, account_id = self._get_token(), self._metadata.account_id
        if token is None:
            raise NotLeadingError
        if account_id is None:
            raise UnreadableError("the account's id is not known yet: Alpaca has not answered")
        if self._is_own and self._bytes + getsizeof(page) > MAX_COPY:
            raise UnreadableError("the imports in Redis have no room for more fills")
        if self._is_own:
            await self._write(token, len(self._elements), [page])
            self._extend([page])
        else:
            header = json.dumps([self._metadata.base_url, account_id, os.urandom(8).hex()]).encode()
            await self._write(token, 0, [header, page])
            self._clear()
            self._extend([header, page])

    async def _write(self, token: str, count: int, elements: Sequence[bytes]) -> None:
        written = await self._redis_log.append_imports(token, count, elements)
        if written is None:
            raise NotLeadingError
        if written != count + len(elements):
            raise RedisUnavailableError("the imports were changed meanwhile")

    def _clear(self) -> None:
        if self._elements:
            self.generation += 1
        self._elements.clear()
        self._bytes, self._newest = 0, ""
        self._header = None

    def _extend(self, elements: Sequence[bytes]) -> None:
        if not self._elements:
            self._header = _read_header(elements[0])
        self._newest = _digest(elements[-1])
        for element in elements:
            if self._bytes + getsizeof(element) > MAX_COPY:
                self._report("all are too large, so the last ones count as bad pages")
                self._elements.append(b"")  # each one keeps its number
            else:
                self._bytes += getsizeof(element)
                self._elements.append(element)
        self.on_pages()

    def _report(self, problem: str) -> None:
        """Log a problem of the list, once."""
        if problem not in self._reported:
            self._reported.add(problem)
            self._log.warn("imports in Redis are ignored: {problem}", problem=problem)


def _take(elements: Sequence[bytes], first: int) -> Sequence[bytes]:
    """Return elements from index `first` on, at least one and about WRITE_BYTES at most."""
    end, size = first + 1, 0
    while end < len(elements) and (size := size + len(elements[end])) < WRITE_BYTES:
        end += 1
    return elements[first:end]


def _read_header(element: bytes) -> ListHeader | None:
    try:
        base_url, account_id, list_id = json.loads(element)
    except (TypeError, ValueError, RecursionError):  # not written by the proxy
        return None
    return ListHeader(base_url, account_id, list_id)


def _digest(element: bytes) -> str:
    return sha1(element, usedforsecurity=False).hexdigest()
