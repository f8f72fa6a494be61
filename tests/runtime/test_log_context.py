"""The reactor's calls of readers and writers, without the context of the old log."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.python import context, log
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.reactor import drop_log_context


class Reader:
    """Reads one byte from a socket, and raises."""

    def __init__(self, socket: socket.socket, error: BaseException) -> None:
        self._socket = socket
        self._error = error

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """Name the reader, as Twisted asks."""
        return "reader"

    def doRead(self) -> None:
        """Read a byte and raise."""
        self._socket.recv(1)
        raise self._error

    def connectionLost(self, reason: object) -> None:
        """Do nothing, as Twisted asks."""


class LogContextTests(SynchronousTestCase):
    """drop_log_context, with a real reactor and a socket."""

    def setUp(self) -> None:
        self.patch(log, "callWithLogger", log.callWithLogger)
        drop_log_context()
        self.reactor: Any = EPollReactor()
        ours, self.theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(self.theirs.close)
        self.ours = ours

    def run_with(self, error: BaseException) -> None:
        """Let a reader raise an error in a turn of the reactor."""
        self.reactor.addReader(Reader(self.ours, error))
        self.theirs.send(b"x")
        self.reactor.iterate(1)

    def test_error_of_a_reader_is_logged_and_ends_nothing(self) -> None:
        """As without the change: every other connection goes on."""
        self.run_with(ValueError("an error of the test"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_context_is_not_set(self) -> None:
        """That is what the change saves."""
        systems: list[str] = []

        def record() -> None:
            systems.append(context.get(log.ILogContext)["system"])

        log.callWithLogger(None, record)
        log.callWithContext({"system": "x"}, record)
        self.assertEqual(systems, ["-", "x"])

    def test_interrupt_ends_the_reactor(self) -> None:
        """Ctrl-C must not be taken for an error of a connection."""
        self.assertRaises(KeyboardInterrupt, log.callWithLogger, None, self.interrupt)

    def interrupt(self) -> None:
        raise KeyboardInterrupt
