"""What one WebSocket client is sent of its account: events, and the status if it asks, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tradeproxy.downstream.feed import Feed
from tradeproxy.hub.locate import LostPositionError, locate
from tradeproxy.journal.base import UnreadableError
from tradeproxy.wire.close_codes import LONGEST_REASON, CloseCode
from tradeproxy.wire.proxy_status import Replay, encode_position, encode_replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.downstream.encoder import Framing
    from tradeproxy.downstream.log_reader import Steps
    from tradeproxy.downstream.query import Wishes
    from tradeproxy.hub.account import Account
    from tradeproxy.journal.base import Burst, Row

NOT_KEPT = "events at this place were not kept"
PLACE_INTERVAL = 15
"""Seconds after which a client from which all is held back is told where its stream stands."""

TRIMMED = "read too slowly: what comes next is no longer kept; reconnect"


class Wire(Protocol):
    """The connection to the client."""

    def write(self, frames: bytes) -> None:
        """Send whole WebSocket frames."""

    def end(self, code: CloseCode, reason: str = "") -> None:
        """Send a close frame; the subscription's feed ends with it."""

    def sever(self) -> None:
        """Drop the connection."""

    def pause_reading(self) -> None:
        """Take nothing from the client."""

    def resume_reading(self) -> None:
        """Take from the client again."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How things are said to WebSocket clients, and what is said to many of them at once."""

    message: Callable[[bytes], bytes]
    """Makes a frame of a payload."""
    plain: Framing
    with_cursors: Framing
    steps: Steps


class Subscription:
    """One client's: the subscriber of its account, and the outlet of its feed.

    Status frames stand in the order of the events. What changes while older events are owed to the client is
    not kept for it: it is told the whole state once it has them.
    """

    size = 1

    __slots__ = (
        "_account",
        "_clock",
        "_filter",
        "_framing",
        "_is_replaying",
        "_owes_hello",
        "_position",
        "_sent_at",
        "_stall_timeout",
        "_wants_status",
        "_wire",
        "_wording",
        "deliver",
        "feed",
        "write",
    )

    def __init__(
        self,
        account: Account,
        wishes: Wishes,
        wire: Wire,
        wording: Wording,
        clock: IReactorTime,
        stall_timeout: float,
    ) -> None:
        self.write = wire.write if wishes.filter is None else self._pass_on
        self.feed = Feed(account.journal, wording.steps, self, clock, stall_timeout)
        self.deliver = self.feed.deliver
        self._account = account
        self._clock = clock
        self._filter = wishes.filter
        self._sent_at = clock.seconds()
        self._position = wishes.position
        self._wire = wire
        self._wording = wording
        self._stall_timeout = stall_timeout
        self._wants_status = False
        self._owes_hello = False
        self._is_replaying = False
        self._choose_framing()

    # What the session asks for.

    def stream(self, on: bool) -> None:
        """Begin to send events: the first time at the client's position, then at the newest; or end it."""
        if not on:
            self.feed.stop()
            self._is_replaying = False
            if self.feed.is_current:
                self.caught_up()
            return
        position, self._position = self._position, None
        last = self._account.journal.last
        if position is None:
            self.feed.start(last)
            return
        try:
            begin = locate(self._account, position)
        except LostPositionError as lost:
            self._begin_without(str(lost), last)
        except UnreadableError:
            self.unreadable()
        else:
            self._is_replaying = True
            self._tell_replay(Replay.BEGUN, begin)
            self.feed.start(begin)

    def status(self, on: bool) -> None:
        """Begin to send the status, with all there is to know; or end it."""
        self._wants_status = on
        self._choose_framing()
        if on:
            self._say_hello()

    # What the broadcaster calls, besides `deliver`.

    def announce(self, status: bytes) -> None:
        """Pass a status frame on, or remember that there was one."""
        if not self._wants_status:
            return
        if self.feed.is_current:
            self._say(status)
        else:
            self._owes_hello = True

    def sever(self) -> None:
        """Drop the connection without a goodbye."""
        self._wire.sever()

    # What the feed calls, besides `write`.

    def frame(self, burst: Burst) -> bytes | None:
        """Return the burst as this client gets it."""
        return self._framing.of(burst, self._account)

    def paused(self) -> None:
        """Take no questions from a client that does not read the answers."""
        self._wire.pause_reading()

    def resumed(self) -> None:
        """Take its questions again."""
        self._wire.resume_reading()

    def caught_up(self) -> None:
        """Say that the replay is complete, and what happened meanwhile."""
        if self._is_replaying:
            self._is_replaying = False
            self._tell_replay(Replay.COMPLETE, self.feed.position)
        if self._owes_hello and self._wants_status:
            self._say_hello()

    def hole(self, row: Row) -> None:
        """Tell what cannot be had: those who understand it go on, the others must not go on unaware."""
        if self._wants_status:
            self._tell_replay(Replay.IMPOSSIBLE, row.seq, NOT_KEPT)
        else:
            self._wire.end(CloseCode.POSITION_LOST, CloseCode.POSITION_LOST.because(NOT_KEPT))

    def lost(self) -> None:
        """Say that the client's place has been trimmed away while it read, or before it could."""
        if self._is_replaying:
            self._is_replaying = False
            self._begin_without("it is no longer kept", self._account.journal.last)
        else:
            self._wire.end(CloseCode.TOO_SLOW, TRIMMED)

    def unreadable(self) -> None:
        """Ask for another try: the position is good."""
        self._wire.end(CloseCode.UNREADABLE)

    def stalled(self) -> None:
        """Give up on a client that does not read, and say where it stood, so that it can go on there."""
        code = CloseCode.TOO_SLOW
        cursor = self._account.cursor_at(self.feed.position) if self._wants_status else None
        reason = f"read too slowly for {self._stall_timeout:g} s: reconnect with since_id={cursor}"
        is_fit = cursor is not None and len(reason) <= LONGEST_REASON
        self._wire.end(code, reason if is_fit else code.reason)

    # What the filter leaves.

    def _choose_framing(self) -> None:
        framing = self._wording.with_cursors if self._wants_status else self._wording.plain
        self.feed.framing = self._framing = framing.through(self._filter)

    def _pass_on(self, frames: bytes) -> None:
        """Write what a filter has left of some events; where that is nothing, say now and then how far it is.

        No timer is needed: a client's own cursor is behind its place by a few events at most, and a resume
        from there passes over them once more.
        """
        if frames or (frames := self._due_word_of_place()):
            self._sent_at = self._clock.seconds()
            self._wire.write(frames)

    def _due_word_of_place(self) -> bytes:
        is_due = self._wants_status and self._clock.seconds() - self._sent_at >= PLACE_INTERVAL
        cursor = self._account.cursor_at(self.feed.position) if is_due else None
        return b"" if cursor is None else self._wording.message(encode_position(cursor))

    # Words.

    def _begin_without(self, reason: str, last: int) -> None:
        if self._wants_status:
            self._tell_replay(Replay.IMPOSSIBLE, last, reason)
            self.feed.start(last)
        else:
            self._wire.end(CloseCode.POSITION_LOST, CloseCode.POSITION_LOST.because(reason))

    def _say_hello(self) -> None:
        self._owes_hello = not self.feed.is_current
        if not self._owes_hello:
            self._say(self._account.hello(self._place()))

    def _place(self) -> int | None:
        """Return where the client's stream stands, or will begin; None if that cannot be told now."""
        if not self.feed.is_idle:
            return self.feed.position
        last = self._account.journal.last
        try:
            return last if self._position is None else locate(self._account, self._position)
        except LostPositionError:
            return last
        except UnreadableError:
            return None

    def _tell_replay(self, state: Replay, seq: int, reason: str = "") -> None:
        if self._wants_status:
            self._say(encode_replay(state, self._account.cursor_at(seq), reason))

    def _say(self, status: bytes) -> None:
        self._wire.write(self._wording.message(status))
