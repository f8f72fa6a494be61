"""Servers of a test on real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.support.reactor import reactor

LOOPBACK = "tcp:0:interface=127.0.0.1"
"""Any free port."""


async def listen(test: TestCase, factory: IProtocolFactory, endpoint: str = LOOPBACK) -> int:
    """Serve until the test ends, and return the port."""
    port: Any = await serverFromString(reactor, endpoint).listen(factory)
    test.addCleanup(close_port, port)
    number: int = port.getHost().port
    return number


async def close_port(port: Any) -> None:
    """Listen no longer, and abort the connections.

    The other end may be a process that is gone already, but its end of a connection is only read in
    a later turn of the reactor.
    """
    await port.stopListening()
    readers: list[Any] = reactor.getReaders()
    for connection in readers:
        if getattr(connection, "server", None) is port:
            connection.abortConnection()
    await deferLater(reactor, 0)
