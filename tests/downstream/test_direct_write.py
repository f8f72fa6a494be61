"""Tests for tradeproxy.downstream.direct_write, on Twisted's real transport."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Server
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.downstream.direct_write import find_writer, write_direct


class Writers:
    """The part of a reactor that a transport needs: it records the waiting writers."""

    def __init__(self) -> None:
        self.waiting: set[Any] = set()

    def addWriter(self, transport: Any) -> None:
        self.waiting.add(transport)

    def removeWriter(self, transport: Any) -> None:
        self.waiting.discard(transport)

    def addReader(self, transport: Any) -> None: ...

    def removeReader(self, transport: Any) -> None: ...


class RecordingProtocol(Protocol):
    """Records the reason of the connection loss."""

    reason: Any = None

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.reason = reason


class Connection:
    """The needed part of an Autobahn connection; it records the writes through the fallback."""

    def __init__(self, transport: Server) -> None:
        self.transport = transport
        self.send_queue: list[bytes] = []
        self.fallback: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.fallback.append(data)
        self.transport.write(data)


class DirectWriteTests(SynchronousTestCase):
    """All bytes arrive, in order, whether or not the socket takes them at once."""

    def setUp(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.peer = socket.create_connection(listener.getsockname())
            accepted, address = listener.accept()
        self.addCleanup(self.peer.close)
        accepted.setblocking(False)
        self.writers = Writers()
        self.protocol = RecordingProtocol()
        reactor: Any = self.writers
        port: Any = None
        self.transport = Server(accepted, self.protocol, address, port, 0, reactor)
        self.protocol.makeConnection(self.transport)
        self.connection = Connection(self.transport)
        self.addCleanup(accepted.close)

    def write(self, data: bytes) -> bool:
        return write_direct(self.connection, data, self.connection.write)

    def received(self) -> bytes:
        """Return the received bytes, while the transport sends the rest."""
        taken = b""
        while True:
            if self.transport in self.writers.waiting:
                self.transport.doWrite()
            self.peer.settimeout(0.2)
            try:
                data = self.peer.recv(1 << 20)
            except TimeoutError:
                return taken
            if not data:
                return taken
            taken += data

    def test_other_transports_have_no_direct_way(self) -> None:
        """UNIX sockets, wrappers and transports in memory are not written directly."""
        self.assertIsNotNone(find_writer(self.connection))
        other: Any = object()
        self.assertIsNone(find_writer(Connection(other)))

    def test_write_is_sent_at_once(self) -> None:
        """Nothing waits for the reactor."""
        self.assertTrue(self.write(b"hello"))
        self.assertEqual(self.writers.waiting, set())
        self.assertEqual(self.peer.recv(100), b"hello")

    def test_short_write_rest_is_buffered_in_transport(self) -> None:
        """The rest of a short write and all later writes arrive in order."""
        whole = b"".join(b"%07d " % n for n in range(2_000_000))
        self.assertFalse(self.write(whole))
        self.assertIn(self.transport, self.writers.waiting)
        self.write(b"behind it")
        self.assertEqual(self.received(), whole + b"behind it")
        self.write(b" and at once again")
        self.assertEqual(self.peer.recv(100), b" and at once again")

    def test_write_follows_buffered_data(self) -> None:
        """A frame that Autobahn wrote before, such as a pong, arrives first."""
        self.transport.write(b"pong ")
        self.write(b"event")
        self.assertEqual(self.received(), b"pong event")

    def test_undrained_or_closing_connection_uses_fallback(self) -> None:
        """Autobahn has queued frames, or the transport is closing or lost."""
        self.connection.send_queue.append(b"a frame of Autobahn's")
        self.write(b"2")
        self.connection.send_queue.clear()
        self.assertEqual(self.received(), b"2")
        self.write(b"at once")
        self.transport.loseConnection()
        self.write(b"3")
        self.transport.disconnecting = False
        self.transport.connected = False
        self.write(b"4")
        self.assertEqual(self.connection.fallback, [b"2", b"3", b"4"])

    def test_reset_is_reported_by_transport(self) -> None:
        """The transport finds a reset and reports it to the protocol, as without a direct write."""
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()
        self.write(b"hello")
        self.assertIn(self.transport, self.writers.waiting)
        failure = self.transport.doWrite()
        self.assertIsInstance(failure, Exception)
