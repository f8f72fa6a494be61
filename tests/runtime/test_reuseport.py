"""Tests for tradeproxy.runtime.reuseport, on real sockets: the kernel decides who shares a port."""

from __future__ import annotations

import os

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import TestCase

from tests.support.certificates import Authority
from tests.support.processes import PATIENCE, free_port
from tradeproxy.config.endpoints import complete, describe_tcp, has_ipv6_loopback
from tradeproxy.runtime import reuseport


class Door(Factory):
    """Drops each connection that comes, and tells of the first."""

    noisy = False

    def __init__(self) -> None:
        self.reached: Deferred[None] = Deferred()

    def buildProtocol(self, addr: IAddress | None) -> None:
        """Refuse it, which closes it."""
        if not self.reached.called:
            self.reached.callback(None)


class PortTests(TestCase):
    """Two services on one port."""

    timeout = 60

    def start(self, description: str, reuse_port: bool = True) -> Door:
        """Listen on a description; raises CannotListenError."""
        door = Door()
        service = reuseport.build_listener(description, door, reactor, reuse_port)
        service.startService()
        self.addCleanup(service.stopService)
        return door

    async def test_both_are_given_connections(self) -> None:
        """Whose turn it is the kernel decides by the client's port; of many, each gets some."""
        port = free_port()
        one, other = (self.start(describe_tcp("127.0.0.1", port)) for _ in range(2))
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        for _ in range(500):
            if one.reached.called and other.reached.called:
                break
            client = await endpoint.connect(Factory.forProtocol(Protocol))
            assert isinstance(client, Protocol)
            assert client.transport is not None
            client.transport.loseConnection()
        both = gatherResults([one.reached, other.reached])
        await both.addTimeout(PATIENCE, reactor)

    def test_every_kind_of_tcp_is_shared(self) -> None:
        """TLS, IPv6, and behind a load balancer that speaks its own protocol first."""
        directory = self.mktemp()
        os.mkdir(directory)
        identity = Authority(directory).issue("127.0.0.1")
        descriptions = [
            f"tcp:{free_port()}:interface=127.0.0.1",
            f"haproxy:tcp:{free_port()}:interface=127.0.0.1",
            identity.endpoint(free_port()),
        ]
        if has_ipv6_loopback():
            descriptions += [rf"{kind}:{free_port()}:interface=\:\:1" for kind in ("tcp", "tcp6")]
        for description in map(complete, descriptions):
            self.start(description)
            self.start(description)
            self.assertRaises(CannotListenError, self.start, description, reuse_port=False)

    def test_a_port_that_is_not_shared_is_taken(self) -> None:
        """It is enough that one of the two does not share; the start fails, at once."""
        description = describe_tcp("127.0.0.1", free_port())
        self.start(description, reuse_port=False)
        self.assertRaises(CannotListenError, self.start, description)

    def test_nothing_else_of_a_description_is_lost(self) -> None:
        """The address, and room for many that come at once."""
        memory = MemoryReactor()
        reuseport.build_listener(
            describe_tcp("127.0.0.1", 80), Factory(), memory, reuse_port=True
        ).startService()
        [(_, _, backlog, interface)] = memory.tcpServers
        self.assertEqual((backlog, interface), (4096, "127.0.0.1"))

    def test_a_socket_file_is_as_ever(self) -> None:
        """It has no port."""
        memory = MemoryReactor()
        reuseport.build_listener(
            "unix:/run/x.sock:mode=600", Factory(), memory, reuse_port=True
        ).startService()
        self.assertEqual(len(memory.unixServers), 1)
