"""The assignments by hand of this node and of the log in Redis, which every node gets.

| a check of the lease finds that they differ   | this node                               |
|-----------------------------------------------|-----------------------------------------|
| while it follows                              | takes over those of the log             |
| while it leads                                | saves its own: Redis has lost some      |
| after it has read an older state of the log   | keeps its own until its term begins, or |
|                                               | until another leader changes the log's  |
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha1
from typing import NamedTuple

from twisted.internet.defer import Deferred

from tradeproxy.cluster.redis_client import RedisUnavailableError
from tradeproxy.cluster.redis_log import RedisLog
from tradeproxy.journal.metadata import ASSIGNMENTS, MAX_NOTE, Metadata, read_assignments
from tradeproxy.runtime.account_log import AccountLogger


class _Lost(NamedTuple):
    """Assignments of this node that the log no longer has."""

    text: str
    epoch: str
    digest: str
    """Of those that the log has instead."""


class SharedAssignments:
    """Keeps the assignments in a node's metadata and in Redis alike."""

    def __init__(
        self,
        account: str,
        redis_log: RedisLog,
        metadata: Metadata,
        is_leading: Callable[[], bool],
        save: Callable[[], None],
    ) -> None:
        """Read nothing yet.

        Args:
            account: its name.
            redis_log: has those of the log.
            metadata: has those of this node.
            is_leading: whether this node's are the newest.
            save: writes this node's metadata to the log.
        """
        self._log = AccountLogger(self, account)
        self._redis_log = redis_log
        self._metadata = metadata
        self._is_leading = is_leading
        self._save = save
        self._is_reading = False
        self._lost: _Lost | None = None
        self._known: tuple[str | None, str] = None, ""  # a text and its digest

    def observe(self, digest: str) -> None:
        """Compare this node's with those of this epoch's log, by their hash."""
        if self._lost is not None and digest != self._lost.digest:
            self._lost = None
        if digest == self._digest():
            return
        if self._is_leading():
            self._save()
        elif not self._is_reading:
            self._is_reading = True
            reading = Deferred.fromCoroutine(self._read())
            reading.addErrback(lambda failure: failure.trap(RedisUnavailableError))

    async def _read(self) -> None:
        epoch = self._metadata.epoch
        try:
            text = await self._redis_log.read_assignments()
        finally:
            self._is_reading = False
        if not self._is_leading() and epoch == self._metadata.epoch:
            self._metadata.adopt_text(ASSIGNMENTS, text)

    def record_loss(self, before: str | None) -> None:
        """Keep this node's assignments, now that the metadata is that of an older log."""
        if before and before != self._metadata.get_metadata(ASSIGNMENTS):
            self._lost = _Lost(before, self._metadata.epoch, self._digest())

    def restore(self) -> None:
        """Add what was lost, now that this node leads; the caller saves the metadata.

        If that is more than metadata may have, those of the log stay, and the log has a warning.
        """
        lost, self._lost = self._lost, None
        if lost is not None and (lost.epoch, lost.digest) == (self._metadata.epoch, self._digest()):
            text = self._metadata.get_metadata(ASSIGNMENTS)
            found = read_assignments(text) | read_assignments(lost.text)
            merged = json.dumps(found, separators=(",", ":"))
            if len(merged) <= MAX_NOTE:
                self._metadata.adopt_text(ASSIGNMENTS, merged)
            else:
                self._log.warn(
                    "assignments by hand that Redis has lost are dropped:"
                    " with the others they are too long"
                )

    def _digest(self) -> str:
        text = self._metadata.get_metadata(ASSIGNMENTS)
        if text is not self._known[0]:
            encoded = (text or "").encode()
            self._known = text, sha1(encoded, usedforsecurity=False).hexdigest() if encoded else ""
        return self._known[1]
