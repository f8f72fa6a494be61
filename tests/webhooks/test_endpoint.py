"""Tests for tradeproxy.webhooks.endpoint: which address a request is sent to."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI
from zope.interface import implementer

from tests.support.webhooks import url_of, webhook_with
from tradeproxy.config.connect_proxy import ConnectProxy, NoProxyEntry
from tradeproxy.runtime.reactor import Reactor
from tradeproxy.webhooks.endpoint import (
    MAX_ADDRESSES,
    AddressRefusedError,
    CheckedEndpoint,
    ReceiverEndpoint,
)


@implementer(IHostnameResolver)
class ScriptedResolver:
    """A resolver that gives the next of some answers, each a list of addresses."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        IResolutionReceiver(resolutionReceiver).resolutionBegan(None)  # type: ignore[arg-type]
        for host in self.answers.pop(0):
            kind: Any = IPv6Address if ":" in host else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", host, portNumber))
        resolutionReceiver.resolutionComplete()
        return None


class EndpointTestCase(SynchronousTestCase):
    """A reactor without a network, whose resolver is the test's."""

    def connect(self, *answers: list[str], **suffixes: str) -> Any:
        """Connect to the receiver of a webhook; return the Deferred."""
        self.reactor: Any = MemoryReactorClock()
        self.reactor.nameResolver = ScriptedResolver(*answers)
        webhook = webhook_with(**suffixes)
        endpoint = CheckedEndpoint(url_of(webhook), webhook.allow_http, cast(Reactor, self.reactor))
        return endpoint.connect(Factory.forProtocol(Protocol))

    def assert_refused(self, phrase: str, *addresses: str, **suffixes: str) -> None:
        """Assert that nothing is connected to, and why."""
        failure = self.failureResultOf(
            self.connect(list(addresses), **suffixes), AddressRefusedError
        )
        self.assertEqual(str(failure.value), f"refused: an address of its name {phrase}")
        self.assertEqual(self.reactor.tcpClients, [])

    @property
    def tried(self) -> list[tuple[str, int]]:
        """The addresses that were connected to."""
        return [(host, port) for host, port, *_ in self.reactor.tcpClients]

    def fail_last(self) -> None:
        """Refuse the newest connection."""
        *_, factory, _, _ = self.reactor.tcpClients[-1]
        factory.clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))


class CheckedAddressTests(EndpointTestCase):
    """A public name, whose DNS server belongs to somebody else."""

    def test_name_that_resolves_to_link_local_is_refused(self) -> None:
        """The metadata service of a cloud is there."""
        self.assert_refused("is link-local", "169.254.169.254")
        self.assert_refused("is link-local", "fe80::1%eth0")

    def test_name_that_resolves_to_a_mapped_address_is_refused(self) -> None:
        """Linux connects it over IPv4."""
        for address in ("::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"):
            self.assert_refused("contains an address that is link-local", address)

    def test_every_address_is_checked(self) -> None:
        """A name with one good and one bad address would otherwise lead to either."""
        self.assert_refused("is link-local", "93.184.216.34", "169.254.169.254")

    def test_checked_address_is_the_one_connected_to(self) -> None:
        """A second answer would be another address: DNS rebinding."""
        self.connect(["93.184.216.34"], ["169.254.169.254"])
        self.assertEqual(self.tried, [("93.184.216.34", 443)])
        self.assertEqual(len(self.reactor.nameResolver.answers), 1)

    def test_http_name_must_resolve_to_a_private_address(self) -> None:
        """Its owner can change the address at any time."""
        suffixes = {"URL": "http://nas.example:8000/x", "ALLOW_HTTP": "1"}
        self.connect(["192.168.0.9"], **suffixes)
        self.assertEqual(self.tried, [("192.168.0.9", 8000)])
        self.assert_refused("is no private address: use https", "8.8.8.8", **suffixes)

    def test_localhost_must_be_this_machine(self) -> None:
        """A resolver may ask a server for it."""
        url = "http://localhost/x"
        self.connect(["127.0.0.1"], URL=url)
        self.assertEqual(self.tried, [("127.0.0.1", 80)])
        self.assert_refused("is another machine: use https", "10.0.0.1", URL=url)

    def test_next_address_is_tried(self) -> None:
        """One machine of several may be down; not more than some are tried."""
        addresses = [f"93.184.216.{n}" for n in range(MAX_ADDRESSES + 2)]
        connecting = self.connect(addresses)
        for _ in range(MAX_ADDRESSES):
            self.fail_last()
        self.failureResultOf(connecting, error.ConnectionRefusedError)
        self.assertEqual(self.tried, [(each, 443) for each in addresses[:MAX_ADDRESSES]])

    def test_name_without_an_address_fails(self) -> None:
        """As a name that does not exist."""
        self.failureResultOf(self.connect([]), DNSLookupError)

    def test_address_is_not_resolved(self) -> None:
        """There is nothing to ask for."""
        self.connect(URL="https://[2001:db8::1]:8443/x")
        self.assertEqual(self.tried, [("2001:db8::1", 8443)])


class HttpProxyTests(EndpointTestCase):
    """HTTPS_PROXY."""

    def connect_with(self, proxy: ConnectProxy, url: str, address: str = "127.0.0.1") -> None:
        """Connect to the receiver at a URL."""
        self.reactor = MemoryReactorClock()
        self.reactor.nameResolver = ScriptedResolver([address])
        endpoint = ReceiverEndpoint(url_of(webhook_with(URL=url)), False, self.reactor, proxy)
        self.assertIs(endpoint.endpointForURI(URI.fromBytes(b"https://other.example/")), endpoint)
        connecting: Any = endpoint.connect(Factory.forProtocol(Protocol))
        connecting.addErrback(lambda _: None)

    def test_https_goes_through_the_proxy(self) -> None:
        """Unless NO_PROXY has the name; http never does."""
        proxy = ConnectProxy(False, "10.9.9.9", 3128, None, (), "HTTPS_PROXY")
        self.connect_with(proxy, "https://x.example/", "10.9.9.9")
        self.assertEqual(self.tried, [("10.9.9.9", 3128)])
        self.connect_with(proxy, "http://localhost:81/")
        self.assertEqual(self.tried, [("127.0.0.1", 81)])
        entry = NoProxyEntry.parse("x.example")
        direct = ConnectProxy(False, "10.9.9.9", 3128, None, (entry,), "HTTPS_PROXY")
        self.connect_with(direct, "https://x.example:8443/")
        self.assertEqual(self.tried, [("127.0.0.1", 8443)])
