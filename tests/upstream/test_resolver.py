"""Host names, looked up on threads that nobody waits for."""

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
class Receiver:
    """Keeps the addresses of a name."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.complete: Deferred[None] = Deferred()

    def resolutionBegan(self, resolutionInProgress: object) -> None:
        pass

    def addressResolved(self, address: object) -> None:
        self.hosts.append(address.host)  # type: ignore[attr-defined]  # every address of TCP has one

    def resolutionComplete(self) -> None:
        self.complete.callback(None)


class DaemonResolverTests(TestCase):
    """The system's resolver, without its hold on the process."""

    async def addresses_of(self, name: str) -> list[str]:
        receiver = Receiver()
        DaemonResolver(reactor).resolveHostName(receiver, name, 443)  # type: ignore[arg-type]  # the reactor's
        await receiver.complete
        return receiver.hosts

    async def test_finds_this_machine(self) -> None:
        """As Twisted's own would."""
        self.assertIn("127.0.0.1", await self.addresses_of("localhost"))

    async def test_a_name_that_cannot_be_looked_up_has_no_address(self) -> None:
        """That is no error here: the endpoint that asked makes it one."""
        for name in ("a..b", "x" * 300):  # which never reach a name server
            self.assertEqual(await self.addresses_of(name), [], name)

    async def test_a_stuck_look_up_does_not_delay_the_end(self) -> None:
        """Without a network the system may take half a minute to give up; the process need not."""
        started = monotonic()
        output = await getProcessOutputAndValue(sys.executable, ["-c", STUCK, str(SOURCES)])
        self.assertEqual(output, (b"", b"", 0))
        self.assertLess(monotonic() - started, 20)
