"""Tests for tradeproxy.downstream.send_group: Twisted's own transport on a real socket."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Server
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.downstream.send_group import is_plain_tcp, write_direct


class Writers:
    """As much of a reactor as a transport needs: who waits until its socket takes more, or gives some."""

    def __init__(self) -> None:
        self.waiting: set[Any] = set()

    def addWriter(self, transport: Any) -> None:
        self.waiting.add(transport)

    def removeWriter(self, transport: Any) -> None:
        self.waiting.discard(transport)

    def addReader(self, transport: Any) -> None: ...

    def removeReader(self, transport: Any) -> None: ...


class Ending(Protocol):
    """Notes why it ended."""

    reason: Any = None

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.reason = reason


class Connection:
    """As much of an Autobahn connection as it takes; what goes the ordinary way is kept."""

    def __init__(self, transport: Server) -> None:
        self.transport = transport
        self.send_queue: list[bytes] = []
        self.ordinary: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.ordinary.append(data)
        self.transport.write(data)


class DirectTests(SynchronousTestCase):
    """What is written arrives whole and in order, whether or not the socket takes it at once."""

    def setUp(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.peer = socket.create_connection(listener.getsockname())
            accepted, address = listener.accept()
        self.addCleanup(self.peer.close)
        accepted.setblocking(False)
        self.writers = Writers()
        self.protocol = Ending()
        reactor: Any = self.writers
        port: Any = None
        self.transport = Server(accepted, self.protocol, address, port, 0, reactor)
        self.protocol.makeConnection(self.transport)
        self.connection = Connection(self.transport)
        self.addCleanup(accepted.close)

    def write(self, data: bytes) -> bool:
        return write_direct(self.connection, data, self.connection.write)

    def received(self) -> bytes:
        """Return what has arrived, letting the transport send the rest meanwhile."""
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

    def test_is_for_twisteds_own_tcp_alone(self) -> None:
        """Not for TLS, a UNIX socket or a wire in memory: these have their own ways."""
        self.assertTrue(is_plain_tcp(self.transport))
        self.assertFalse(is_plain_tcp(object()))

    def test_goes_at_once(self) -> None:
        """Nothing waits for the reactor."""
        self.assertTrue(self.write(b"hello"))
        self.assertEqual(self.writers.waiting, set())
        self.assertEqual(self.peer.recv(100), b"hello")

    def test_what_the_socket_does_not_take_waits_in_the_transport(self) -> None:
        """A short write's rest, and all that is written after it, in order."""
        whole = b"".join(b"%07d " % n for n in range(2_000_000))
        self.assertFalse(self.write(whole))
        self.assertIn(self.transport, self.writers.waiting)
        self.write(b"behind it")
        self.assertEqual(self.received(), whole + b"behind it")
        self.write(b" and at once again")
        self.assertEqual(self.peer.recv(100), b" and at once again")

    def test_overtakes_nothing_that_waits(self) -> None:
        """A frame that Autobahn has written, such as a pong, goes before it."""
        self.transport.write(b"pong ")
        self.write(b"event")
        self.assertEqual(self.received(), b"pong event")

    def test_goes_the_ordinary_way_where_something_is_unusual(self) -> None:
        """Autobahn keeps frames of its own; the transport is closing, or has been lost."""
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
        self.assertEqual(self.connection.ordinary, [b"2", b"3", b"4"])

    def test_hides_no_lost_connection(self) -> None:
        """A reset is found by the transport, and the protocol told, as without this."""
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()
        self.write(b"hello")
        self.assertIn(self.transport, self.writers.waiting)
        failure = self.transport.doWrite()
        self.assertIsInstance(failure, Exception)
