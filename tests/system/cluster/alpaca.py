"""An Alpaca that knows which node each connection is of, and sees two of them at once where they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from time import monotonic
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred

from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.service import Simulator
from tradeproxy.simulator.simulator import CloseFrame, Frame, StreamConnection
from tradeproxy.simulator.stream import StreamProtocol
from tradeproxy.wire.credentials import KeyPair
from tradeproxy.wire.messages import Authenticate, parse_client

reactor: Any = chosen


@dataclass(slots=True, eq=False)
class Visit:
    """One connection to the stream; times in monotonic seconds, None for what has not happened."""

    key: str = ""
    """The id of the key that it logged in with: each node has its own."""
    listening: float | None = None
    """When it began to listen."""
    ended: float | None = None
    close_frame: CloseFrame | None = None

    @property
    def listens(self) -> bool:
        """Whether events go to it."""
        return self.listening is not None and self.ended is None


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two that listened at once, from `begin` on."""

    older: Visit
    newer: Visit
    begin: float


class KnownProtocol(StreamProtocol):
    """A connection of which the key is known."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        alpaca: Any = self.factory.simulator
        match parse_client(payload):
            case Authenticate(KeyPair(key_id)):
                alpaca.visit(self).key = key_id.reveal()
        super().onMessage(payload, isBinary)


class Alpaca(Simulator):
    """Lets `most` connections in at once, where the real one lets in one; all of them are told everything."""

    def __init__(self, random: Random) -> None:
        super().__init__(reactor, random)
        self.most = 1
        self.visits: list[Visit] = []
        """Those that were let in, in their order."""
        self.overlaps: list[Overlap] = []
        self.turned_away = 0
        self._open: dict[StreamConnection, Visit] = {}

    def visit(self, connection: StreamProtocol) -> Visit:
        """Return what is known of a connection that was let in."""
        return self._open[connection]

    @property
    def listener(self) -> Visit | None:
        """The one that listens; of several, the newest."""
        listening = [visit for visit in self._open.values() if visit.listens]
        return listening[-1] if listening else None

    def when(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fire once this is so; it is asked again whenever somebody begins to listen, or is gone."""
        return self._when(condition)

    def admit(self, connection: StreamConnection) -> Fault | None:
        self.handshakes += 1
        if len(self._open) >= self.most:
            self.turned_away += 1
            # The real one says 429 for some 90 s after a connection that was lost, and nothing of a time.
            return Fault(FaultKind.THROTTLE, retry_after=1)
        self._connection = connection
        self._open[connection] = visit = Visit()
        self.visits.append(visit)
        return None

    def release(self, connection: StreamConnection) -> None:
        if (visit := self._open.pop(connection, None)) is None:
            return  # it was turned away
        visit.ended, visit.close_frame = monotonic(), connection.close_frame
        if connection is self._connection:
            self._connection = next(reversed(self._open), None)
        self.tell()

    def tell(self) -> None:
        for connection, visit in self._open.items():
            if connection.listening and visit.listening is None:
                visit.listening = monotonic()
                others = [
                    other for other in self._open.values() if other.listens and other is not visit
                ]
                self.overlaps += [Overlap(other, visit, visit.listening) for other in others]
        super().notify_waiters()

    def _send(self, frames: Sequence[Frame]) -> int:
        told = [each for each in self._open if each.listening and not each.silent]
        for connection in told if frames else ():
            connection.send_frames(frames)
        return len(frames) if told else 0

    def end(self) -> Deferred[None]:
        for connection in self._open:
            connection.close(1001)
        return super().stop()
