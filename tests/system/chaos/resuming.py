"""The base of all clients: a log, a connection that is reopened, and a way to stall."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from time import time
from typing import Any, TypeAlias

from twisted.internet import reactor as chosen
from twisted.internet.protocol import ClientFactory
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.system.chaos.checker import ClientLog, DeclaredGap, ReceivedEvent
from tradeproxy.wire.event import format_time, parse_time

reactor: Any = chosen
RETRY = 0.05
"""Seconds before a client connects again."""

SMALL_BUFFER = 4096
"""Bytes of the receive buffer: the proxy soon notices a client that does not read."""


FindOrderEvent: TypeAlias = Callable[[str, str], tuple[int, Sequence[int]] | None]
"""Returns the number of an order's event by its kind, and those before it; None if unknown."""


class SingleProtocolFactory(ClientFactory):
    """A factory that returns one existing protocol."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Any:
        return self._protocol


_tls_options = CertificateOptions()
"""One context for all clients, so that their handshakes are quick."""


def over_tls(protocol: Any) -> TLSMemoryBIOFactory:
    """Return a factory of a client's TLS connection. It accepts any certificate."""
    return TLSMemoryBIOFactory(_tls_options, True, SingleProtocolFactory(protocol))


class ResumingClient:
    """The base of all clients: a log, a connection that is reopened, and a way to stall."""

    def __init__(self, name: str, port: Callable[[], int], since: int) -> None:
        """`port` returns the port for each attempt to connect; `since` is in microseconds."""
        self.log = ClientLog(name)
        self.connects = 0
        self.gaps: dict[str, DeclaredGap] = {}
        """The gaps that were reported as incomplete, by their start."""
        self.find_order_event: FindOrderEvent = lambda order_id, kind: None
        self._port = port
        self._since: int | None = since  # None: live events only
        self._connection: Any = None
        self.tls = False
        """Whether it connects over TLS."""
        self._running = True

    @property
    def is_ready(self) -> bool:
        """Whether every event from now on must reach the client."""
        return True

    @property
    def resumes_by_cursor(self) -> bool:
        """Whether the client sees cursors, and resumes by time if its cursor is unknown."""
        return False

    def start(self) -> None:
        """Connect, and reconnect until `stop`."""
        self._connect()

    def stop(self) -> None:
        """Disconnect, and do not reconnect."""
        self._running = False
        self.kill()

    def has(self, number: int) -> bool:
        """Return whether the event has been received."""
        return any(
            number == entry.number or number in entry.replaces
            for entry in reversed(self.log.entries)
        )

    def count_missing(self, numbers: Collection[int]) -> int:
        """Return how many events were neither received nor replaced."""
        missing = set(numbers)
        for entry in reversed(self.log.entries):
            missing.discard(entry.number)
            missing.difference_update(entry.replaces)
            if not missing:
                break
        return len(missing)

    def has_stored(self, number: int, newest: int = 500) -> bool:
        """Return whether one of the `newest` entries proves that the event is on the disk."""
        entries = self.log.entries[-newest:] if self.log.has_cursors else ()
        return any(entry.number == number and entry.certain for entry in entries)

    def kill(self) -> None:
        """Abort the connection, as in a crash."""
        if self._connection is not None:
            self._connection.transport.abortConnection()

    def stall(self) -> None:
        """Stop reading until `resume_reading`."""
        if self._connection is not None and self._connection.transport.connected:
            self._connection.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read again."""
        if self._connection is not None and self._connection.transport.connected:
            self._connection.transport.resumeProducing()

    def connection_ended(self) -> None:
        """Reconnect after RETRY seconds."""
        self._connection = None
        if self._running:
            reactor.callLater(RETRY, self._connect)

    def _connect(self) -> None:
        if not self._running:
            return
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sock.settimeout(5)
        try:
            sock.connect(("127.0.0.1", self._port()))
        except OSError:
            sock.close()
            self.connection_ended()
            return
        sock.setblocking(False)
        self.connects += 1
        self._connection = self._protocol()
        wrap: Any = over_tls if self.tls else SingleProtocolFactory
        try:
            reactor.adoptStreamConnection(sock.fileno(), socket.AF_INET, wrap(self._connection))
        except OSError:  # a proxy that was killed just now has reset the connection
            self.connection_ended()
        finally:
            sock.close()

    def _protocol(self) -> Any:
        raise NotImplementedError

    def _record(self, data: dict[str, Any], recovered: str | None, certain: bool) -> None:
        found = (data["n"], ()) if "n" in data else self._find_number(data)
        if found is None:
            return
        event_time = parse_time(data.get("at") or data["timestamp"])
        # The newest time: after a late event its own would bring most events again. A time that
        # lies in the future is invalid as a position.
        if event_time <= time() * 1e6:
            self._since = max(event_time, self._since or 0)
        number, replaces = found
        self.log.entries.append(
            ReceivedEvent(number, recovered, certain, self.connects, event_time, replaces)
        )

    def _find_number(self, data: dict[str, Any]) -> tuple[int, Sequence[int]] | None:
        """Return the number of an event that the proxy made of an order."""
        return self.find_order_event(data["order"]["id"], data["event"])

    def _since_query(self) -> dict[str, str]:
        return {} if self._since is None else {"since": format_time(self._since)}

    def _record_lost_position(self) -> None:
        """Record that the events after this position may be incomplete."""
        self.log.positions_lost.append(len(self.log.entries))

    def _position_rejected(self, *, was_time: bool) -> None:
        """Resume from the time of the newest event; if that was rejected too, from live events.

        The events since that time may come again, and none may be missing: only the second
        rejection declares a loss.
        """
        since = self._since
        if was_time or since is None:
            self._since = None
            self._record_lost_position()
            return
        later = (index for index, entry in enumerate(self.log.entries) if entry.time >= since)
        self._allow_repeats(next(later, len(self.log.entries)))

    def _allow_repeats(self, first: int) -> None:
        """Record that the entries from an index on may come again on another connection."""
        entries = self.log.entries
        entries[first:] = [replace(entry, certain=False) for entry in entries[first:]]
