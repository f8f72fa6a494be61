"""Tests for tradeproxy.wire.receiver_address."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.wire.receiver_address import find_refusal

IPV4 = ("169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192")


def refuse(address: str, *, secure: bool = True, allow_http: bool = False) -> str | None:
    """Return the refusal of an address."""
    return find_refusal(address, secure=secure, allow_http=allow_http)


class RefusalTests(SynchronousTestCase):
    """A receiver's address, or an address behind its name."""

    def test_metadata_services_are_refused(self) -> None:
        """They give the machine's own credentials to any program on it."""
        ipv6 = ("fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42")
        for address in (*IPV4, *ipv6):
            for is_secure in (True, False):
                found = refuse(address, secure=is_secure, allow_http=True)
                self.assertRegex(found or "", "is link-local|metadata service", address)

    def test_addresses_within_ipv6_are_refused(self) -> None:
        """Mapped, compatible, translated, NAT64 in two forms, 6to4, Teredo and ISATAP."""
        for text in (
            "::ffff:169.254.169.254",
            "::ffff:a9fe:a9fe",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:a9fe:a9fe::1",
            f"2001:0:4136:e378:8000:63bf:{0xA9FE ^ 0xFFFF:x}:{0xA9FE ^ 0xFFFF:x}",
            "fd12::5efe:a9fe:a9fe",
            "2001:db8::200:5efe:169.254.169.254",
            "::ffff:100.100.100.200",
            "64:ff9b::0.0.0.0",
        ):
            self.assertRegex(refuse(text) or "", "^contains an address that is ", text)

    def test_neighbour_of_a_metadata_service_within_ipv6_is_allowed(self) -> None:
        """Every bit of the address counts: it may be a receiver."""
        for last, is_allowed in (("c800", False), ("c900", True)):
            refusal = refuse(f"64:ff9b:1:6464:64:{last}:808:808")
            self.assertEqual(refusal is None, is_allowed, last)
        for text in (
            "64:ff9b:1:6465:64:c800:808:808",
            "64:ff9b::100.100.100.201",
            "fd12::5eff:a9fe:a9fe",
        ):
            self.assertIsNone(refuse(text), text)

    def test_refusal_never_shows_the_address(self) -> None:
        """It is a part of the URL, which is a secret, and the page of /readyz is public."""
        for text in ("169.254.1.2", "::ffff:169.254.1.2", "fe80::7"):
            self.assertNotRegex(refuse(text) or "", "[0-9]")

    def test_https_to_any_other_address_is_allowed(self) -> None:
        """A receiver may be in the same network, or on this machine."""
        for text in ("8.8.8.8", "10.0.0.1", "127.0.0.1", "::1", "2606:4700::1111", "fd00::1"):
            self.assertIsNone(refuse(text), text)

    def test_http_is_for_this_machine(self) -> None:
        """Everybody between here and there could read the messages, and the token in the URL."""
        for text in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
            self.assertIsNone(refuse(text, secure=False), text)
        for text in ("8.8.8.8", "10.0.0.1", "::ffff:10.0.0.1", "fd00::1", "0.0.0.0", "::"):
            self.assertIsNotNone(refuse(text, secure=False), text)

    def test_http_to_private_addresses_can_be_allowed(self) -> None:
        """Public ones stay refused, in IPv6 too."""
        for text in ("10.1.2.3", "172.31.0.1", "192.168.0.9", "fd00::1", "::ffff:10.0.0.1"):
            self.assertIsNone(refuse(text, secure=False, allow_http=True), text)
        for text in ("8.8.8.8", "172.32.0.1", "2606:4700::1", "::ffff:8.8.8.8", "100.64.0.1"):
            self.assertIsNotNone(refuse(text, secure=False, allow_http=True), text)

    @examples()
    @given(st.ip_addresses())
    def test_any_address_has_an_answer(self, address: object) -> None:
        """No address raises."""
        refuse(str(address))

    @examples()
    @given(st.sampled_from(IPV4), st.sampled_from(("::ffff:0:0", "64:ff9b::", "::")))
    def test_any_spelling_is_the_same_address(self, inner: str, prefix: str) -> None:
        """An address in full is the same as its short form."""
        from ipaddress import IPv4Address

        whole = IPv6Address(int(IPv6Address(prefix)) | int(IPv4Address(inner)))
        for text in (str(whole), whole.exploded):
            self.assertIsNotNone(refuse(text), text)
