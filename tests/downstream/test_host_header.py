"""Tests for the check of the Host header in tradeproxy.downstream.admission."""

from __future__ import annotations

from tests.support.admission import OPEN, AdmissionTestCase, make_request
from tradeproxy.downstream.admission import Admission


class HostTests(AdmissionTestCase):
    """Host must be a name of this machine; this defeats DNS rebinding."""

    def test_loopback_host_is_admitted(self) -> None:
        """All loopback names and addresses are admitted, with or without a port, in any case."""
        hosts = (
            "localhost:8099",
            "localhost",
            "LocalHost:8099",
            "127.0.0.1",
            "127.0.0.1:8099",
            "127.8.9.10:8099",
            "[::1]:8099",
            "[::1]",
            "[0:0:0:0:0:0:0:1]:8099",
        )
        self.check({host: make_request(host) for host in hosts}, None)

    def test_other_host_is_403(self) -> None:
        """Similar names, values with more than a host, and a missing Host are rejected."""
        hosts = (
            "evil.example",
            "evil.example:8099",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "evil.localhost.example",
            "notlocalhost",
            "localhost:8099, evil",
            "localhost, localhost",
            "user@localhost",
            "localhost@evil.example",
            "evil.example#localhost",
            "localhost/evil",
            "localhost:",
            "localhost:http",
            "localhost:8099:8099",
            "localhost\n",
            "localhost\r\nx: y",
            " localhost",
            "localhost ",
            "\u2113ocalhost",
            "::1",
            "[::1",
            "::1]",
            "[::g]",
            "[::1%lo]",
            "[evil.example]",
            "0.0.0.0:8099",
            "[::]:8099",
            "192.168.1.5:8099",
            "127.1",
            "2130706433",
            "0x7f000001",
            ".",
            "*",
            "",
        )
        self.check({repr(host): make_request(host) for host in hosts}, 403, "PROXY_ALLOWED_HOSTS")
        self.check({"no Host at all": make_request(None)}, 403, "PROXY_ALLOWED_HOSTS")

    def test_host_equal_to_local_address_is_admitted(self) -> None:
        """DNS cannot rebind an address. A dual-stack socket's form of IPv4 counts as equal."""
        requests = {
            "IPv4": make_request("192.168.1.5:8099", local_address="192.168.1.5"),
            "IPv4 at a socket of IPv6": make_request(
                "192.168.1.5:8099", local_address="::ffff:192.168.1.5"
            ),
            "IPv6": make_request("[2001:db8::5]:8099", local_address="2001:db8::5"),
            "IPv6 in capitals": make_request("[2001:DB8::5]:8099", local_address="2001:db8::5"),
            "localhost at another address": make_request("localhost", local_address="192.168.1.5"),
            "localhost at a UNIX socket": make_request("localhost", local_address=None),
        }
        self.check(requests, None)

    def test_host_with_other_address_is_403(self) -> None:
        """An address is rejected unless it is the local address of the connection."""
        requests = {
            "IPv4": make_request("192.168.1.6", local_address="192.168.1.5"),
            "a prefix": make_request("192.168.1.5", local_address="192.168.1.50"),
            "IPv6": make_request("[2001:db8::6]", local_address="2001:db8::5"),
            "nothing at a UNIX socket": make_request("", local_address=None),
            "any address at a UNIX socket": make_request("192.168.1.5", local_address=None),
        }
        self.check(requests, 403, "PROXY_ALLOWED_HOSTS")

    def test_allowed_host_is_admitted_and_its_subdomains_are_403(self) -> None:
        """Allowed names and addresses are admitted at any port; sub- and superdomains are not."""
        self.admission = Admission(("desk.lan", "10.0.0.7", "2001:db8::7"), (), OPEN)
        admitted = (
            "desk.lan",
            "desk.lan:8099",
            "DESK.lan:443",
            "10.0.0.7:1",
            "[2001:db8::7]:8099",
            "localhost",
        )
        self.check({host: make_request(host) for host in admitted}, None)
        others = ("lan", "x.desk.lan", "desk.lan.evil.example", "desk", "10.0.0.8", "[2001:db8::8]")
        self.check({host: make_request(host) for host in others}, 403, "PROXY_ALLOWED_HOSTS")
