"""How a node follows the shared log: entry by entry, and from its beginning where it is another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tradeproxy.cluster.redis_client import RedisUnavailableError
from tradeproxy.cluster.redis_log import EventEntry
from tradeproxy.hub.account import INTERNAL_ERROR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from tradeproxy.cluster.redis_log import EpochStart, LogState, RedisLog, StatusEntry

RETRY_DELAY = 0.1
"""Seconds until Redis is asked once more."""

AFTER_ERROR = 1.0
"""Seconds until it is tried again after an error of our own."""

NO_LOG = "no node has begun it yet"

_BEGINNING = b"0-0"


class TailTarget(Protocol):
    """Who reads the log."""

    epoch: str
    """Of what has been read; "" if nothing has been."""
    last: int
    """The number of the event that was read last."""

    def matches(self, place: LogState) -> bool:
        """Whether what was read last is in the log, or has been the last to be trimmed from it."""

    def read_from_start(self, place: LogState) -> None:
        """Be empty, and read the whole log."""

    def continue_in_epoch(self, begun: EpochStart) -> bool:
        """Go on in another epoch, and return whether that is possible: it must begin where this node is."""

    def apply_events(self, told: Sequence[EventEntry]) -> None:
        """Take what comes next: one event at least, with the next numbers, of this epoch."""

    def apply_stream_state(self, standing: str) -> None:
        """Take notice of how the stream is, as another node says."""

    def mark_read_to(self, end: int | None) -> None:
        """Note that all has been read that there was, up to the number `end`, if that is told."""

    def mark_unavailable(self, reason: str) -> None:
        """Note why there is nothing to read."""


class LogTailer:
    """Lets a reader have all that is in the log, for as long as it is there."""

    _log = Logger()

    def __init__(
        self, account: str, log: RedisLog, reader: TailTarget, clock: IReactorTime
    ) -> None:
        self._account = account
        self._redis_log = log
        self._target = reader
        self._clock = clock
        self._at = _BEGINNING  # the entry that was read last
        self._is_mismatched = self._must_recheck = False
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._running = Deferred.fromCoroutine(self._read_on())
        self._running.addErrback(self._failed)

    def stop(self) -> None:
        """Read no more; harmless if nothing is read."""
        if self._running is not None:
            self._running.cancel()
            self._running = None

    def recheck(self) -> None:
        """Look soon whether the log is the one that is followed."""
        self._must_recheck = True

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._log.failure(
            "{account}: the shared log could not be followed", failure, account=self._account
        )
        self._is_mismatched = True
        self._target.mark_unavailable(INTERNAL_ERROR)
        self._running = deferLater(self._clock, AFTER_ERROR, self.start)
        self._running.addErrback(lambda gone: gone.trap(CancelledError))

    async def _read_on(self) -> None:
        while True:
            try:
                if await self._sync():
                    while not self._is_mismatched and not self._must_recheck:
                        self._apply_entries(await self._redis_log.read_entries(self._at))
            except RedisUnavailableError:
                pass
            await deferLater(self._clock, RETRY_DELAY)

    async def _sync(self) -> bool:
        """Find out whether the log is the one that was followed; return whether there is any."""
        self._must_recheck = False
        reader = self._target
        place = await self._redis_log.read_state(reader.last)
        if not place.metadata:
            reader.mark_unavailable(NO_LOG)
            return False
        epoch = place.metadata["epoch"]
        if epoch != reader.epoch or self._is_mismatched or not reader.matches(place):
            self._is_mismatched = False
            self._at = _BEGINNING
            begun = place.epoch_start
            if (
                epoch == reader.epoch
                or begun is None
                or begun.epoch != epoch
                or not reader.continue_in_epoch(begun)
            ):
                reader.read_from_start(place)
        if place.stream_state is not None and place.status_owner != self._redis_log.owner:
            reader.apply_stream_state(place.stream_state)
        reader.mark_read_to(place.last)
        return True

    def _apply_entries(self, entries: Sequence[StatusEntry | EventEntry]) -> None:
        """Take what comes next in the log."""
        told: list[EventEntry] = []
        for entry in entries:
            if isinstance(entry, EventEntry):
                last = told[-1].seq if told else self._target.last
                if entry.epoch != self._target.epoch or entry.seq != last + 1:
                    self._is_mismatched = (
                        True  # the log is another one, or what is between has been trimmed
                    )
                    break
                told.append(entry)
            else:
                self._add(told)
                told = []
                self._apply_status(entry)
                if self._is_mismatched:
                    return
            self._at = entry.id
        self._add(told)
        if not self._is_mismatched:
            self._target.mark_read_to(None)

    def _add(self, told: list[EventEntry]) -> None:
        if told:
            self._target.apply_events(told)

    def _apply_status(self, said: StatusEntry) -> None:
        if said.stream_state is not None and said.status_owner != self._redis_log.owner:
            self._target.apply_stream_state(said.stream_state)
        begun = said.epoch_start
        if (
            begun is not None
            and begun.epoch != self._target.epoch
            and not self._target.continue_in_epoch(begun)
        ):
            self._is_mismatched = True
