"""How a node follows the shared log: entry by entry, and from its beginning where it is another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from tradeproxy.cluster.redis_client import AwayError
from tradeproxy.cluster.redis_log import Told
from tradeproxy.hub.account import OWN_ERROR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from tradeproxy.cluster.redis_log import Beginning, Place, Said, SharedLog

AGAIN = 0.1
"""Seconds until Redis is asked once more."""

AFTER_ERROR = 1.0
"""Seconds until it is tried again after an error of our own."""

NO_LOG = "no node has begun it yet"

_BEGINNING = b"0-0"


class Reader(Protocol):
    """Who reads the log."""

    epoch: str
    """Of what has been read; "" if nothing has been."""
    last: int
    """The number of the event that was read last."""

    def fits(self, place: Place) -> bool:
        """Whether what was read last is in the log, or has been the last to be trimmed from it."""

    def begin_at(self, place: Place) -> None:
        """Be empty, and read the whole log."""

    def change(self, begun: Beginning) -> bool:
        """Go on in another epoch, and return whether that is possible: it must begin where this node is."""

    def add(self, told: Sequence[Told]) -> None:
        """Take what comes next: one event at least, with the next numbers, of this epoch."""

    def hear(self, standing: str) -> None:
        """Take notice of how the stream is, as another node says."""

    def is_at(self, end: int | None) -> None:
        """Note that all has been read that there was, up to the number `end`, if that is told."""

    def is_away(self, reason: str) -> None:
        """Note why there is nothing to read."""


class Follower:
    """Lets a reader have all that is in the log, for as long as it is there."""

    _log = Logger()

    def __init__(self, account: str, log: SharedLog, reader: Reader, clock: IReactorTime) -> None:
        self._account = account
        self._shared = log
        self._reader = reader
        self._clock = clock
        self._at = _BEGINNING  # the entry that was read last
        self._is_misfit = self._is_doubtful = False
        self._following: Deferred[None] | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._following = Deferred.fromCoroutine(self._read_on())
        self._following.addErrback(self._stumbled)

    def stop(self) -> None:
        """Read no more; harmless if nothing is read."""
        if self._following is not None:
            self._following.cancel()
            self._following = None

    def doubt(self) -> None:
        """Look soon whether the log is the one that is followed."""
        self._is_doubtful = True

    def _stumbled(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._log.failure("{account}: the shared log could not be followed", failure, account=self._account)
        self._is_misfit = True
        self._reader.is_away(OWN_ERROR)
        self._following = deferLater(self._clock, AFTER_ERROR, self.start)
        self._following.addErrback(lambda gone: gone.trap(CancelledError))

    async def _read_on(self) -> None:
        while True:
            try:
                if await self._find_place():
                    while not self._is_misfit and not self._is_doubtful:
                        self._take(await self._shared.follow(self._at))
            except AwayError:
                pass
            await deferLater(self._clock, AGAIN)

    async def _find_place(self) -> bool:
        """Find out whether the log is the one that was followed; return whether there is any."""
        self._is_doubtful = False
        reader = self._reader
        place = await self._shared.place(reader.last)
        if not place.facts:
            reader.is_away(NO_LOG)
            return False
        epoch = place.facts["epoch"]
        if epoch != reader.epoch or self._is_misfit or not reader.fits(place):
            self._is_misfit = False
            self._at = _BEGINNING
            begun = place.begun
            if epoch == reader.epoch or begun is None or begun.epoch != epoch or not reader.change(begun):
                reader.begin_at(place)
        if place.standing is not None and place.teller != self._shared.owner:
            reader.hear(place.standing)
        reader.is_at(place.last)
        return True

    def _take(self, entries: Sequence[Said | Told]) -> None:
        """Take what comes next in the log."""
        told: list[Told] = []
        for entry in entries:
            if isinstance(entry, Told):
                last = told[-1].seq if told else self._reader.last
                if entry.epoch != self._reader.epoch or entry.seq != last + 1:
                    self._is_misfit = True  # the log is another one, or what is between has been trimmed
                    break
                told.append(entry)
            else:
                self._add(told)
                told = []
                self._hear(entry)
                if self._is_misfit:
                    return
            self._at = entry.id
        self._add(told)
        if not self._is_misfit:
            self._reader.is_at(None)

    def _add(self, told: list[Told]) -> None:
        if told:
            self._reader.add(told)

    def _hear(self, said: Said) -> None:
        if said.standing is not None and said.teller != self._shared.owner:
            self._reader.hear(said.standing)
        begun = said.begun
        if begun is not None and begun.epoch != self._reader.epoch and not self._reader.change(begun):
            self._is_misfit = True
