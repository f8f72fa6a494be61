"""The events one client still has to get: the live stream, or the log while the client is behind.

States of a feed, apart from the pause:

    state      event                                       effect                  next state
    ---------  ------------------------------------------  ----------------------  ----------
    any        start                                       plan a step             BEHIND
    LIVE       deliver: the next batch                     write it                LIVE
    LIVE       deliver: an overflow at the position        write it                LIVE
    LIVE       deliver: any other batch with newer rows    plan a step             BEHIND
    BEHIND     step: the log has more                      write one step of rows  BEHIND
    BEHIND     step: the log has no more                   on_caught_up            LIVE
    BEHIND     step: the next row is a hole                on_hole                 BEHIND
    BEHIND     step: the next rows are trimmed             on_trimmed              IDLE
    BEHIND     step: the next rows are unreadable          on_unreadable           IDLE
    any        stop                                        none                    IDLE
    any        stopProducing                               cancel all timers       ENDED
    LIVE       insert                                      plan a step             INSERTING
    INSERTING  step: a frame                               write it                INSERTING
    INSERTING  step: no frame yet                          plan a later step       INSERTING
    INSERTING  step: no more frames                        plan a step             BEHIND
    INSERTING  deliver                                     none: it is in the log  INSERTING
    any        step: an error                              cancel, then abort      ENDED

ENDED is final. While the transport is paused, nothing is written and no step runs.
`resumeProducing` plans the next step if the feed is BEHIND or INSERTING.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.logger import Logger
from zope.interface import implementer

from tradeproxy.downstream.log_reader import MIN_STEP_BYTES, LogReader
from tradeproxy.journal.base import Batch, Log, Row, TrimmedError, UnreadableError
from tradeproxy.runtime.peer import get_host_key

INSERT_RETRY = 0.25
"""Seconds after which a feed asks again for a frame that was not ready."""


class FeedSink(Protocol):
    """The receiver of a feed: it encodes and sends the events, and reacts to changes of the feed.

    Each method may end the feed by calling `stopProducing`.
    """

    def encode(self, batch: Batch) -> bytes | None:
        """Return the encoded batch, which may be empty; None if it contains a hole."""

    @property
    def write(self) -> Callable[[bytes], None]:
        """Sends what `encode` returned. The feed's position already includes these events."""

    def on_pause(self) -> None:
        """Stop reading from the client, because the client does not read."""

    def on_resume(self) -> None:
        """Read from the client again, because the client reads again."""

    def on_caught_up(self) -> None:
        """Handle that all events in the log have been sent. The next event is a live one."""

    def on_hole(self, row: Row) -> None:
        """Handle a hole: events at this row were not stored. The feed continues after it."""

    def on_trimmed(self) -> None:
        """Handle that the next rows are no longer stored. The feed is idle until `start`."""

    def on_unreadable(self) -> None:
        """Handle that the next rows cannot be read now. The feed is idle until `start`."""

    def on_stall(self, seconds: float) -> None:
        """Handle that the client has not read what it must in so many seconds. The feed goes on."""

    def abort(self) -> None:
        """Drop the connection at once: the feed has failed."""


class _LostConnection:
    """Replaces a connection that is lost: every method does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


LOST: Any = _LostConnection()


class _FeedState(Enum):
    IDLE = auto()
    """The client wants no events."""
    LIVE = auto()
    """Every committed event has been sent. New batches are sent when they arrive."""
    BEHIND = auto()
    """Events are read from the log, one step at a time: see LogReader."""
    INSERTING = auto()
    """Frames from elsewhere are sent, one in each step. Events wait in the log."""
    ENDED = auto()
    """The connection is closing. Nothing is sent any more."""


@implementer(IPushProducer)
class Feed:
    """Sends a sink every event after a position, once and in order, as fast as the client reads.

    Register it as the transport's push producer. Twisted pauses it when bytes wait for the socket
    (more than MAX_READ of handshake_limits.py), and resumes it when all of them are sent.

    A feed buffers no events. What cannot be sent on arrival is read from the log later. So a slow
    client costs no more memory than Twisted's own buffer.
    """

    __slots__ = (
        "_initial",
        "_insert_retry",
        "_inserted",
        "_is_ready",
        "_is_scheduled",
        "_journal",
        "_log_reader",
        "_paused",
        "_sink",
        "_stall_timer",
        "_state",
        "encoder",
        "host",
        "position",
        "send",
    )
    _log = Logger()

    def __init__(
        self,
        journal: Log,
        log_reader: LogReader,
        sink: FeedSink,
        host: str = "",
    ) -> None:
        """Create an idle feed.

        Args:
            journal: the log of the client's account.
            log_reader: the cache and the queue of steps, shared with other clients. `on_stall` is
                called after its `stall_timeout`.
            sink: the receiver of the events. Its `write` is read once, here.
            host: the address of the client; the addresses take turns with their steps.
        """
        self.position = 0
        """The sequence number of the last row that was sent or skipped."""
        # `position`, less `passed`. Only `_move_to` changes it: the fan-out counts nothing.
        self._initial = 0
        self.encoder: object = None
        """The key of this client's bytes in `Batch.encoded`; None if they are never shared."""
        self._journal = journal
        self._log_reader = log_reader
        self._sink = sink
        self.send: Callable[[bytes], None] = sink.write
        """How encoded events are sent. A sink may replace its `write` by a faster way here."""
        self.host = get_host_key(host)
        """The key of the client's address."""
        self._state = _FeedState.IDLE
        self._paused = False
        # LIVE and not paused. `deliver` tests this one attribute instead of two, for every event.
        self._is_ready = False
        self._is_scheduled = False
        self._stall_timer: IDelayedCall | None = None
        self._inserted: Iterator[bytes | None] = iter(())
        self._insert_retry: IDelayedCall | None = None

    @property
    def is_current(self) -> bool:
        """Whether other frames may be sent now without overtaking older events.

        False while the feed is behind or the client does not read.
        """
        return not self._paused and self._state in (_FeedState.IDLE, _FeedState.LIVE)

    @property
    def is_idle(self) -> bool:
        """Whether the client wants no events. `position` has no meaning then."""
        return self._state is _FeedState.IDLE

    @property
    def is_paused(self) -> bool:
        """Whether the client does not read."""
        return self._paused

    @property
    def stalled(self) -> float:
        """The seconds for which the client has read nothing; 0 while it reads."""
        if not self._paused or self._stall_timer is None:
            return 0.0
        left = self._stall_timer.getTime() - self._log_reader.clock.seconds()
        return self._log_reader.stall_timeout - left

    @property
    def is_caught_up(self) -> bool:
        """Whether every event in the log has been sent and the client reads."""
        return self._is_ready and self.position == self._journal.last

    @property
    def step_bytes(self) -> int:
        """How many bytes may be sent at once: few if many clients of the address do not read.

        Twisted buffers them for a client that does not read. A single event is always sent whole.
        """
        return self._log_reader.find_step_bytes(self.host)

    @property
    def passed(self) -> int:
        """How many rows of the log were sent since the first start, or left out by the filter.

        Events that the log does not store have one row together, if they were sent. A hole that was
        read instead of them counts as none.
        """
        return self.position - self._initial

    def start(self, position: int) -> None:
        """Send every event after `position`: the sequence number of the last row to skip."""
        if self._state is not _FeedState.ENDED:
            self._move_to(position)
            self._set_state(_FeedState.BEHIND)
            self._schedule_step()

    def insert(self, frames: Iterator[bytes | None]) -> None:
        """Send these frames before the next event, as fast as the client reads.

        Each one is taken in a step of its own. An empty one is not sent. None means that the next
        one is not ready: it is asked for again after INSERT_RETRY seconds. `start` and `stop` drop
        the rest.
        """
        if self._state is not _FeedState.ENDED:
            self._inserted = frames
            self._set_state(_FeedState.INSERTING)
            self._schedule_step()

    def give_up(self, seconds: float) -> None:
        """Treat the client as one that has not read for so many seconds."""
        self._sink.on_stall(seconds)

    def skip_to(self, position: int) -> None:
        """Leave out the events up to `position`."""
        self._move_to(position)

    def stop(self) -> None:
        """Send no events until the next `start`."""
        if self._state is not _FeedState.ENDED:
            self._set_state(_FeedState.IDLE)

    def deliver(self, batch: Batch) -> None:
        """Send the batch if it is next and the client reads; otherwise read it later in the log.

        This runs for every client and event. The usual case comes first and makes few calls.
        """
        if self._is_ready and batch.first == self.position + 1:
            # The cache is read here: calling `encode` costs one more call for each client.
            frames = batch.encoded.get(self.encoder)
            if frames is None:
                frames = self._sink.encode(batch)
            if (
                frames is not None
                and not batch.overflow
                and (
                    len(frames) <= MIN_STEP_BYTES
                    or len(batch.rows) == 1
                    or len(frames) <= self.step_bytes
                )
            ):
                # Position first: `send` may pause, stop or query this feed.
                self.position = batch.last
                self.send(frames)
                return
        if self._state in (_FeedState.IDLE, _FeedState.ENDED):
            return
        if batch.overflow:
            self._deliver_overflow(batch)
        elif batch.last > self.position:
            self._fall_behind()

    def _deliver_overflow(self, batch: Batch) -> None:
        # All rows have the number of one hole, and several batches may have the same number.
        # A client that is at the hole or just before it can still get these events live.
        hole = batch.first
        if self.is_current and hole - 1 <= self.position <= hole:
            self._write(self._sink.encode(batch), hole)
        else:
            # The log does not store these events. The client must read the hole instead, even
            # if it got earlier events of the same hole: otherwise it misses events unnoticed.
            self._move_to(min(self.position, hole - 1))
            self._fall_behind()

    # Called by the transport.

    def pauseProducing(self) -> None:
        """Send nothing until the transport asks for more."""
        # Twisted may call this again for each write while it is paused. The first call counts.
        if not self._paused and self._state is not _FeedState.ENDED:
            self._paused = True
            self._log_reader.add_paused(self.host)
            self._is_ready = False
            clock, timeout = self._log_reader.clock, self._log_reader.stall_timeout
            self._stall_timer = clock.callLater(timeout, self._sink.on_stall, timeout)
            self._sink.on_pause()

    def resumeProducing(self) -> None:
        """Continue at the client's position: live, or from the log if it is behind."""
        if not self._paused or self._state is _FeedState.ENDED:
            return
        self._paused = False
        self._log_reader.discard_paused(self.host)
        self._set_state(self._state)
        _cancel(self._stall_timer)
        self._sink.on_resume()
        if self.is_current:
            self._sink.on_caught_up()
        else:
            self._schedule_step()

    def stopProducing(self) -> None:
        """End the feed, because the connection is closing."""
        if self._paused and self._state is not _FeedState.ENDED:
            self._log_reader.discard_paused(self.host)
        self._set_state(_FeedState.ENDED)
        _cancel(self._stall_timer)
        self._inserted = iter(())
        _cancel(self._insert_retry)
        self._is_scheduled = False
        self._log_reader.cancel(self._step)

    def release(self) -> None:
        """End the feed and drop its sink, because the connection is lost.

        Otherwise the sink, the feed and its timers refer to each other. What a client leaves behind
        would wait for a full garbage collection: 17 KB with a long filter.
        """
        self.stopProducing()
        self._stall_timer = self._insert_retry = None
        self._sink, self.send = LOST, LOST.write

    # Reading the log.

    def _fall_behind(self) -> None:
        if self._state is not _FeedState.INSERTING:
            self._set_state(_FeedState.BEHIND)
            self._schedule_step()

    def _move_to(self, position: int) -> None:
        """Set the position; no row counts as passed by that."""
        self._initial += position - self.position
        self.position = position

    def _set_state(self, state: _FeedState) -> None:
        self._state = state
        self._is_ready = state is _FeedState.LIVE and not self._paused

    def _schedule_step(self) -> None:
        """Plan the next step, or go live if the log has no more rows."""
        is_inserting = self._state is _FeedState.INSERTING
        if self._paused or not (is_inserting or self._state is _FeedState.BEHIND):
            return
        if self.position >= self._journal.last and not is_inserting:
            self._set_state(_FeedState.LIVE)
            self._sink.on_caught_up()
        elif not self._is_scheduled:
            # One step at a time: a long replay does not delay other clients.
            self._is_scheduled = True
            self._log_reader.schedule(self._step, self.host)

    def _step(self) -> None:
        # The reactor would log an error of this timer, and the client would wait forever.
        self._is_scheduled = False
        try:
            if self._paused:
                return
            if self._state is _FeedState.BEHIND:
                self._read()
                self._schedule_step()
            elif self._state is _FeedState.INSERTING:
                self._send_inserted()
        except Exception:
            self._log.failure("a client's events could not be read from the journal")
            self.stopProducing()
            self._sink.abort()

    def _read(self) -> None:
        try:
            batch = self._log_reader.read(self._journal, self.position, self.host)
        except TrimmedError:
            batch = None
        except UnreadableError:
            self._set_state(_FeedState.IDLE)
            self._sink.on_unreadable()
            return
        # Sequence numbers are contiguous. A batch that begins later means rows are trimmed.
        if batch is None or batch.first != self.position + 1:
            self._set_state(_FeedState.IDLE)
            self._sink.on_trimmed()
        elif batch.rows[0].payload is None:
            self._move_to(batch.first)
            self._sink.on_hole(batch.rows[0])
        else:
            self._write(self._sink.encode(batch), batch.last)

    def _send_inserted(self) -> None:
        inserted = self._inserted
        for frame in inserted:
            if frame is None:
                _cancel(self._insert_retry)
                clock = self._log_reader.clock
                self._insert_retry = clock.callLater(INSERT_RETRY, self._schedule_step)
                return
            if frame:
                self.send(frame)
            break
        else:
            # The iterator may have ended or restarted the feed.
            if self._state is _FeedState.INSERTING and inserted is self._inserted:
                self._set_state(_FeedState.BEHIND)
        self._schedule_step()

    def _write(self, frames: bytes | None, position: int) -> None:
        assert frames is not None, "the batch contains no hole"
        self.position = position
        self.send(frames)


def _cancel(timer: IDelayedCall | None) -> None:
    if timer is not None and timer.active():
        timer.cancel()
