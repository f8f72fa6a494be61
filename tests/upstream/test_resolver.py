"""Tests for tradeproxy.upstream.resolver."""

from __future__ import annotations

import sys
from socket import getaddrinfo
from threading import Event
from time import monotonic
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.support.processes import SOURCES
from tradeproxy.upstream import resolver as resolver_module
from tradeproxy.upstream.resolver import DaemonResolver

STUCK = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from tradeproxy.upstream import resolver
resolver.getaddrinfo = lambda *arguments, **options: threading.Event().wait()
from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
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
        self.began: list[object] = []
        self.addresses: list[object] = []
        self.complete: Deferred[None] = Deferred()

    def resolutionBegan(self, resolutionInProgress: object) -> None:
        self.began.append(resolutionInProgress)

    def addressResolved(self, address: object) -> None:
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        self.complete.callback(None)


class DaemonResolverTests(TestCase):
    """The system's resolver on daemon threads."""

    async def resolve(self, name: str, *arguments: Any) -> list[Any]:
        """Return the addresses of a name. `arguments` follow it: a port, and types."""
        receiver = AddressRecorder()
        resolver = DaemonResolver(reactor)  # type: ignore[arg-type]  # the reactor has threads
        resolution = resolver.resolveHostName(receiver, name, *arguments)
        self.assertEqual(resolution.name, name)
        resolution.cancel()  # without effect
        await receiver.complete
        self.assertEqual(receiver.began, [resolution])
        return receiver.addresses

    async def test_resolve_localhost_finds_loopback(self) -> None:
        """The result is that of the system's resolver."""
        self.assertIn(IPv4Address("TCP", "127.0.0.1", 443), await self.resolve("localhost", 443))

    async def test_resolve_without_port_is_port_0(self) -> None:
        """IHostnameResolver defines it."""
        self.assertEqual(await self.resolve("127.0.0.1"), [IPv4Address("TCP", "127.0.0.1", 0)])

    async def test_resolve_finds_addresses_of_the_given_types(self) -> None:
        """A caller may have no IPv6, or nothing else."""
        four, six = IPv4Address("TCP", "127.0.0.1", 443), IPv6Address("TCP", "::1", 443)
        for name, types, addresses in (
            ("127.0.0.1", [IPv4Address], [four]),
            ("127.0.0.1", [IPv6Address], []),
            ("::1", [IPv4Address], []),
            ("::1", [IPv4Address, IPv6Address], [six]),
            ("::1", None, [six]),
        ):
            self.assertEqual(await self.resolve(name, 443, types), addresses, (name, types))

    async def test_name_that_hangs_has_one_thread(self) -> None:
        """Each attempt to connect began another one, while the name servers did not answer.

        All that wait get the answer, each with its own port and types, also after an error of one.
        """
        asked: list[str] = []
        is_released = Event()

        def answer_later(name: str, *arguments: Any, **options: Any) -> Any:
            asked.append(name)
            is_released.wait(30)
            return getaddrinfo("127.0.0.1", *arguments, **options)

        self.patch(resolver_module, "getaddrinfo", answer_later)
        self.addCleanup(is_released.set)
        resolver = DaemonResolver(reactor)  # type: ignore[arg-type]  # the reactor has threads
        receivers = [AddressRecorder() for _ in range(4)]
        broken = AddressRecorder()
        broken.resolutionComplete = None  # type: ignore[assignment,method-assign]  # for an error
        resolver.resolveHostName(broken, "alpaca.example", 1)
        for port, receiver in enumerate(receivers):
            types = [IPv6Address] if port == 3 else None
            resolver.resolveHostName(receiver, "alpaca.example", port, types)
        is_released.set()
        for port, receiver in enumerate(receivers):
            await receiver.complete
            expected = [] if port == 3 else [IPv4Address("TCP", "127.0.0.1", port)]
            self.assertEqual(receiver.addresses, expected)
        self.assertEqual(asked, ["alpaca.example"])
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        after = AddressRecorder()
        resolver.resolveHostName(after, "alpaca.example")
        await after.complete
        self.assertEqual(len(asked), 2)

    async def test_resolve_invalid_name_finds_no_address(self) -> None:
        """The resolver raises no error; the endpoint that uses it does."""
        for name in ("a..b", "x" * 300):  # invalid, so no name server is asked
            self.assertEqual(await self.resolve(name, 443), [], name)

    async def test_stop_during_stuck_resolution_ends_process(self) -> None:
        """A stuck getaddrinfo does not delay the end of the process."""
        started = monotonic()
        output = await getProcessOutputAndValue(sys.executable, ["-c", STUCK, str(SOURCES)])
        self.assertEqual(output, (b"", b"", 0))
        self.assertLess(monotonic() - started, 20)
