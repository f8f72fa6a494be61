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
            "127.1",
            "2130706433",
            "0x7f000001",
            ".",
            "*",
            "",
        )
        self.check({repr(host): make_request(host) for host in hosts}, 403, "PROXY_ALLOWED_HOSTS")
        self.check({"no Host at all": make_request(None)}, 403, "PROXY_ALLOWED_HOSTS")

    def test_any_address_is_admitted(self) -> None:
        """DNS cannot rebind an address, so no page can make a browser send one of another server.

        A container and a forwarded port have addresses that the proxy does not know.
        """
        hosts = (
            "192.168.1.5:8099",
            "172.17.0.1",
            "[2001:db8::5]:8099",
            "[2001:DB8::5]",
            "0.0.0.0:8099",
            "[::]:8099",
            "[::ffff:192.168.1.5]",
        )
        self.check({host: make_request(host) for host in hosts}, None)

    def test_foreign_origin_at_an_address_is_403(self) -> None:
        """An address as Host admits no page of another site."""
        requests = {
            "another site": make_request("192.168.1.5:8099", "https://evil.example"),
            "another port": make_request("192.168.1.5:8099", "http://192.168.1.5"),
            "another address": make_request("192.168.1.5:8099", "http://192.168.1.6:8099"),
        }
        self.check(requests, 403, "PROXY_ALLOWED_ORIGINS")
        own = make_request("192.168.1.5:8099", "http://192.168.1.5:8099")
        self.check({"its own page": own}, None)

    def test_dot_of_the_root_makes_no_difference(self) -> None:
        """`localhost.` is the absolute form of `localhost`; browsers send it as it was typed."""
        self.admission = Admission(("desk.lan",), (), OPEN)
        requests = {
            "localhost": make_request("localhost.:8099"),
            "without a port": make_request("LOCALHOST."),
            "an allowed name": make_request("desk.lan.:8099"),
            "its own page": make_request("localhost.:8099", "http://localhost.:8099"),
        }
        self.check(requests, None)
        others = ("localhost..", "evil.example.", "127.0.0.1.", ".localhost")
        self.check({host: make_request(host) for host in others}, 403, "PROXY_ALLOWED_HOSTS")

    def test_allowed_host_is_admitted_and_its_subdomains_are_403(self) -> None:
        """Allowed names are admitted at any port; sub- and superdomains are not."""
        self.admission = Admission(("desk.lan",), (), OPEN)
        admitted = ("desk.lan", "desk.lan:8099", "DESK.lan:443", "localhost")
        self.check({host: make_request(host) for host in admitted}, None)
        others = ("lan", "x.desk.lan", "desk.lan.evil.example", "desk")
        self.check({host: make_request(host) for host in others}, 403, "PROXY_ALLOWED_HOSTS")
