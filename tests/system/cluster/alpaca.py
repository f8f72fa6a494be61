"""A simulated Alpaca that records which node each connection belongs to, and any overlaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from time import monotonic
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred

from tradeproxy.simulator.connection import CloseFrame, Frame, StreamConnection
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.service import Simulator
from tradeproxy.simulator.stream import StreamProtocol
from tradeproxy.wire.credentials import KeyPair
from tradeproxy.wire.messages import Authenticate, parse_client

reactor: Any = chosen


@dataclass(slots=True, eq=False)
class ConnectionRecord:
    """One connection to the stream; times in monotonic seconds, None for what has not happened."""

    key: str = ""
    """The id of its key; each node has its own key."""
    listening_since: float | None = None
    """When its `listen` message was accepted."""
    ended: float | None = None
    close_frame: CloseFrame | None = None

    @property
    def is_listening(self) -> bool:
        """Whether it gets events."""
        return self.listening_since is not None and self.ended is None


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two connections that listened at once, from `begin` on."""

    older: ConnectionRecord
    newer: ConnectionRecord
    begin: float


class RecordedStreamProtocol(StreamProtocol):
    """A connection whose record has its key."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        alpaca: Any = self.factory.simulator
        match parse_client(payload):
            case Authenticate(KeyPair(key_id)):
                alpaca.get_record(self).key = key_id.reveal()
        super().onMessage(payload, isBinary)


class RecordingAlpaca(Simulator):
    """Accepts up to `max_connections`, where the real one accepts one; all get every event."""

    def __init__(self, random: Random) -> None:
        super().__init__(reactor, random)
        self.max_connections = 1
        self.records: list[ConnectionRecord] = []
        """Of all accepted connections, in order."""
        self.overlaps: list[Overlap] = []
        self.rejected = 0
        self._open: dict[StreamConnection, ConnectionRecord] = {}

    def get_record(self, connection: StreamProtocol) -> ConnectionRecord:
        """Return the record of an accepted connection."""
        return self._open[connection]

    @property
    def listener(self) -> ConnectionRecord | None:
        """The record of the connection that listens; the newest, if there are several."""
        listening = [record for record in self._open.values() if record.is_listening]
        return listening[-1] if listening else None

    def when(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fire once the condition holds; checked when a connection listens or ends."""
        return self._when(condition)

    def admit(self, connection: StreamConnection) -> Fault | None:
        self.handshakes += 1
        if len(self._open) >= self.max_connections:
            self.rejected += 1
            # The real one answers 429 for some 90 s after a lost connection, without Retry-After.
            return Fault(FaultKind.THROTTLE, retry_after=1)
        self._connection = connection
        self._open[connection] = record = ConnectionRecord()
        self.records.append(record)
        return None

    def release(self, connection: StreamConnection) -> None:
        if (record := self._open.pop(connection, None)) is None:
            return  # it was rejected
        record.ended, record.close_frame = monotonic(), connection.close_frame
        if connection is self._connection:
            self._connection = next(reversed(self._open), None)
        self.notify_waiters()

    def notify_waiters(self) -> None:
        for connection, record in self._open.items():
            if connection.listening and record.listening_since is None:
                record.listening_since = monotonic()
                others = [
                    other
                    for other in self._open.values()
                    if other.is_listening and other is not record
                ]
                self.overlaps += [
                    Overlap(other, record, record.listening_since) for other in others
                ]
        super().notify_waiters()

    def _send(self, frames: Sequence[Frame]) -> int:
        receivers = [
            each for each in self._open if each.listening and not each.is_quiet(FaultKind.SILENCE)
        ]
        for connection in receivers if frames else ():
            connection.send_frames(frames)
        return len(frames) if receivers else 0

    def stop(self) -> Deferred[None]:
        for connection in self._open:
            connection.close(1001)
        return super().stop()
