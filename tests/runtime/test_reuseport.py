"""Tests for tradeproxy.runtime.reuseport, on real sockets: the kernel decides who shares a port."""

from __future__ import annotations

import os
from typing import cast

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import TestCase

from tests.support.certificates import Authority
from tests.support.processes import PATIENCE, free_port
from tests.support.reactor import reactor
from tradeproxy.config.endpoints import complete, describe_tcp, has_ipv6_loopback
from tradeproxy.runtime import reuseport
from tradeproxy.runtime.reactor import Reactor


class Door(Factory):
    """Drops each connection and reports the first."""

    noisy = False

    def __init__(self) -> None:
        self.reached: Deferred[None] = Deferred()

    def buildProtocol(self, addr: IAddress | None) -> None:
        """Return None, which closes the connection."""
        if not self.reached.called:
            self.reached.callback(None)


class PortTests(TestCase):
    """Two services on one port."""

    timeout = 60

    def start(self, description: str, reuse_port: bool = True) -> Door:
        """Listen on a description. Raises CannotListenError."""
        door = Door()
        service = reuseport.build_listener(description, door, reactor, reuse_port)
        service.startService()
        self.addCleanup(service.stopService)
        return door

    async def test_both_services_get_connections(self) -> None:
        """The kernel chooses by the client's port. Of many connections, each gets some."""
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

    def test_every_tcp_endpoint_shares_its_port(self) -> None:
        """This includes TLS, IPv6 and the PROXY protocol of a load balancer."""
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

    def test_unshared_port_fails_the_start(self) -> None:
        """The start fails at once if either service does not share the port."""
        description = describe_tcp("127.0.0.1", free_port())
        self.start(description, reuse_port=False)
        self.assertRaises(CannotListenError, self.start, description)

    def test_other_endpoint_options_are_kept(self) -> None:
        """The address and the backlog are unchanged."""
        memory = MemoryReactor()
        reuseport.build_listener(
            describe_tcp("127.0.0.1", 80), Factory(), cast(Reactor, memory), reuse_port=True
        ).startService()
        [(_, _, backlog, interface)] = memory.tcpServers
        self.assertEqual((backlog, interface), (4096, "127.0.0.1"))

    def test_unix_socket_is_unchanged(self) -> None:
        """A Unix socket has no port to share."""
        memory = MemoryReactor()
        reuseport.build_listener(
            "unix:/run/x.sock:mode=600", Factory(), cast(Reactor, memory), reuse_port=True
        ).startService()
        self.assertEqual(len(memory.unixServers), 1)
