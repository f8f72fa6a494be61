"""One subscriber's place in the log: it follows the live stream while it can, and reads the log when not."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from tradeproxy.journal.base import TrimmedError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from tradeproxy.downstream.log_reader import LogReader
    from tradeproxy.journal.base import Batch, Journal, Row


MAX_DIRECT_BYTES = 256 * 1024
"""Bytes that are sent in one piece to a client that keeps up; more is read from the log, step by step."""


class FeedSink(Protocol):
    """Where a feed leads to: what frames its events and sends them, and what is told how it fares.

    Each of these may end the feed, by `stopProducing`.
    """

    def encode(self, burst: Batch) -> bytes | None:
        """Return the burst as it is sent, which may be nothing; None if one of its rows is a hole."""

    @property
    def write(self) -> Callable[[bytes], None]:
        """Send what `frame` returned; the feed's position is behind it already."""

    def on_pause(self) -> None:
        """Send no more than what must be, and read no more from the client, for it does not read."""

    def on_resume(self) -> None:
        """Go on: the client reads again."""

    def on_caught_up(self) -> None:
        """Note that nothing is owed any more: what comes next is news."""

    def on_hole(self, row: Row) -> None:
        """Note that the events at this place were not kept; the feed goes on behind it."""

    def on_trimmed(self) -> None:
        """Note that what follows the position is no longer kept; the feed waits for another start."""

    def on_unreadable(self) -> None:
        """Note that what follows the position cannot be read now; the feed waits for another start."""

    def on_stall(self) -> None:
        """Note that the client has not read for too long; the feed goes on nevertheless."""

    def abort(self) -> None:
        """End at once: the feed has failed."""


class _FeedState(Enum):
    IDLE = auto()
    """No events are wanted."""
    LIVE = auto()
    """All that was committed has been sent; what comes next is sent as it comes."""
    BEHIND = auto()
    """What comes next is read from the log, in steps, one a turn of the reactor."""
    ENDED = auto()


@implementer(IPushProducer)
class Feed:
    """Hands an outlet every event behind a position, once and in order, at the pace at which it is read.

    Register it as the transport's push producer: Twisted pauses it when more than 64 KiB wait for the socket,
    and resumes it when all of that is gone. It keeps no events itself: those that cannot be sent when they
    come are read from the log later, so that a client that does not read costs what Twisted holds for it.
    """

    __slots__ = (
        "_clock",
        "_is_ready",
        "_journal",
        "_log_reader",
        "_next_step",
        "_paused",
        "_sink",
        "_stall",
        "_stall_timeout",
        "_state",
        "encoder",
        "position",
        "send",
    )
    _log = Logger()

    def __init__(
        self,
        journal: Journal,
        steps: LogReader,
        outlet: FeedSink,
        clock: IReactorTime,
        stall_timeout: float,
    ) -> None:
        self.position = 0
        self.encoder: object = None
        """What frames this client's bursts, where it is the same for many: the key of `Burst.framed`."""
        self._journal = journal
        self._log_reader = steps
        self._sink = outlet
        self.send: Callable[[bytes], None] = outlet.write
        """How frames are sent; an outlet may put a quicker way in the place of its `write`."""
        self._clock = clock
        self._stall_timeout = stall_timeout
        self._state = _FeedState.IDLE
        self._paused = False
        self._is_ready = False  # to send the next burst as it comes: live, and not paused
        self._next_step: IDelayedCall | None = None
        self._stall: IDelayedCall | None = None

    @property
    def is_current(self) -> bool:
        """Whether whatever is sent now is sent in its place: nothing older is owed, and the client reads."""
        return not self._paused and self._state in (_FeedState.IDLE, _FeedState.LIVE)

    @property
    def is_idle(self) -> bool:
        """Whether no events are wanted, so that `position` means nothing."""
        return self._state is _FeedState.IDLE

    @property
    def is_paused(self) -> bool:
        """Whether the client does not read."""
        return self._paused

    @property
    def is_caught_up(self) -> bool:
        """Whether all that is in the log has been sent, and the client reads."""
        return self._is_ready and self.position == self._journal.last

    def start(self, position: int) -> None:
        """Hand on all that follows `position`: the number of the last row that is not to be sent."""
        if self._state is not _FeedState.ENDED:
            self.position = position
            self._fall_behind()

    def stop(self) -> None:
        """Hand on nothing until the next `start`."""
        if self._state is not _FeedState.ENDED:
            self._set_state(_FeedState.IDLE)

    def deliver(self, burst: Batch) -> None:
        """Send the burst if it is next and the client reads; else it is met later, in the log.

        This is done for every client and event. What is nearly always so is asked first, in a few words.
        """
        if self._is_ready and burst.first == self.position + 1:
            frames = burst.encoded.get(self.encoder)
            if frames is None:
                frames = self._sink.encode(burst)
            if (
                frames is not None
                and not burst.overflow
                and (len(frames) <= MAX_DIRECT_BYTES or len(burst.rows) == 1)
            ):
                self.position = burst.last
                self.send(frames)
                return
        if self._state in (_FeedState.IDLE, _FeedState.ENDED):
            return
        if burst.overflow:
            self._deliver_overflow(burst)
        elif burst.last > self.position:
            self._fall_behind()

    def _deliver_overflow(self, burst: Batch) -> None:
        hole = burst.first
        if self.is_current and hole - 1 <= self.position <= hole:
            self._write(self._sink.encode(burst), hole)
        else:
            # These events cannot be read later. What can, and must, is that they were there.
            self.position = min(self.position, hole - 1)
            self._fall_behind()

    # What the transport calls.

    def pauseProducing(self) -> None:
        """Send nothing until the transport asks for more."""
        if not self._paused and self._state is not _FeedState.ENDED:
            self._paused = True
            self._is_ready = False
            self._stall = self._clock.callLater(self._stall_timeout, self._sink.on_stall)
            self._sink.on_pause()

    def resumeProducing(self) -> None:
        """Go on where the log says that this client is."""
        if not self._paused or self._state is _FeedState.ENDED:
            return
        self._paused = False
        self._set_state(self._state)
        self._cancel_stall()
        self._sink.on_resume()
        if self.is_current:
            self._sink.on_caught_up()
        else:
            self._schedule_step()

    def stopProducing(self) -> None:
        """End: the connection is ending."""
        self._set_state(_FeedState.ENDED)
        self._cancel_stall()
        if self._next_step is not None:
            self._next_step.cancel()
            self._next_step = None

    # The log.

    def _fall_behind(self) -> None:
        self._set_state(_FeedState.BEHIND)
        self._schedule_step()

    def _set_state(self, state: _FeedState) -> None:
        self._state = state
        self._is_ready = state is _FeedState.LIVE and not self._paused

    def _schedule_step(self) -> None:
        """Plan the next step, unless there is none to take."""
        if self._state is not _FeedState.BEHIND or self._paused:
            return
        if self.position >= self._journal.last:
            self._set_state(_FeedState.LIVE)
            self._sink.on_caught_up()
        elif self._next_step is None:
            self._next_step = self._clock.callLater(0, self._step)

    def _step(self) -> None:
        # A timer's error would be logged by the reactor, and leave the client waiting for ever.
        self._next_step = None
        try:
            if self._state is _FeedState.BEHIND and not self._paused:
                self._read()
                self._schedule_step()
        except Exception:
            self._log.failure("a client's events could not be read from the journal")
            self.stopProducing()
            self._sink.abort()

    def _read(self) -> None:
        try:
            burst = self._log_reader.read(self._journal, self.position)
        except TrimmedError:
            burst = None
        except UnreadableError:
            self._set_state(_FeedState.IDLE)
            self._sink.on_unreadable()
            return
        if burst is None or burst.first != self.position + 1:
            self._set_state(_FeedState.IDLE)
            self._sink.on_trimmed()
        elif burst.rows[0].payload is None:
            self.position = burst.first
            self._sink.on_hole(burst.rows[0])
        else:
            self._write(self._sink.encode(burst), burst.last)

    def _write(self, frames: bytes | None, position: int) -> None:
        assert frames is not None, "there is no hole in it"
        self.position = position
        self.send(frames)

    def _cancel_stall(self) -> None:
        if self._stall is not None and self._stall.active():
            self._stall.cancel()
        self._stall = None
