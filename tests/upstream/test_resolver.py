"""Tests for tradeproxy.upstream.resolver."""

from __future__ import annotations

import sys
from time import monotonic

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.support.processes import SOURCES
from tradeproxy.upstream.resolver import DaemonResolver

STUCK = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from tradeproxy.upstream import resolver
resolver.getaddrinfo = lambda *arguments, **options: threading.Event().wait()
from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory
reactor.installNameResolver(resolver.DaemonResolver(reactor))
HostnameEndpoint(reactor, "alpaca.example", 443).connect(Factory()).addErrback(lambda failure: None)
reactor.callLater(0.1, reactor.stop)
reactor.run()
"""


@implementer(IResolutionReceiver)
class AddressRecorder:
    """Records the addresses of a name."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.complete: Deferred[None] = Deferred()

    def resolutionBegan(self, resolutionInProgress: object) -> None:
        pass

    def addressResolved(self, address: object) -> None:
        self.hosts.append(address.host)  # type: ignore[attr-defined]  # TCP addresses have it

    def resolutionComplete(self) -> None:
        self.complete.callback(None)


class DaemonResolverTests(TestCase):
    """The system's resolver on daemon threads."""

    async def resolve(self, name: str) -> list[str]:
        receiver = AddressRecorder()
        resolver = DaemonResolver(reactor)  # type: ignore[arg-type]  # the reactor has threads
        resolver.resolveHostName(receiver, name, 443)
        await receiver.complete
        return receiver.hosts

    async def test_resolve_localhost_finds_loopback(self) -> None:
        """The result is that of the system's resolver."""
        self.assertIn("127.0.0.1", await self.resolve("localhost"))

    async def test_resolve_invalid_name_finds_no_address(self) -> None:
        """The resolver raises no error; the endpoint that uses it does."""
        for name in ("a..b", "x" * 300):  # invalid, so no name server is asked
            self.assertEqual(await self.resolve(name), [], name)

    async def test_stop_during_stuck_resolution_ends_process(self) -> None:
        """A stuck getaddrinfo does not delay the end of the process."""
        started = monotonic()
        output = await getProcessOutputAndValue(sys.executable, ["-c", STUCK, str(SOURCES)])
        self.assertEqual(output, (b"", b"", 0))
        self.assertLess(monotonic() - started, 20)
