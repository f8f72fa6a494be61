"""Tests for tradeproxy.runtime.tls_policy: handshakes with every version and suite of OpenSSL."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from OpenSSL import SSL
from twisted.internet import _sslverify
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.certificates import Authority
from tests.support.processes import free_port
from tests.support.reactor import reactor
from tradeproxy.runtime.reuseport import build_listener

OLD_VERSIONS = {"TLSv1": SSL.TLS1_VERSION, "TLSv1.1": SSL.TLS1_1_VERSION}
VERSIONS = OLD_VERSIONS | {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}
EVERYTHING = b"ALL:COMPLEMENTOFALL:@SECLEVEL=0"
"""All suites, even those without encryption."""

KINDS = ("ECDSA", "RSA")
"""The kinds of certificates. Each has suites of its own."""


def list_suites() -> list[str]:
    """Return the names of all suites that this OpenSSL knows."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_cipher_list(EVERYTHING)
    return SSL.Connection(context, None).get_cipher_list()


def find_accepted(port: int) -> set[tuple[str, str]]:
    """Return the version and the suite of each handshake that a server accepts. Blocks.

    Each attempt offers one version, and one suite or, with TLS 1.3, all of them.
    """
    accepted = set()
    for version, suite in _offers():
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_cipher_list(suite + b":@SECLEVEL=0")
        context.set_min_proto_version(VERSIONS[version])
        context.set_max_proto_version(VERSIONS[version])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as end:
            end.setblocking(True)
            client = SSL.Connection(context, end)
            client.set_tlsext_host_name(b"localhost")
            client.set_connect_state()
            try:
                client.do_handshake()
            except SSL.Error:
                continue
            accepted.add((client.get_protocol_version_name(), str(client.get_cipher_name())))
    return accepted


def _offers() -> Iterator[tuple[str, bytes]]:
    suites = list_suites()
    yield "TLSv1.3", b"ALL"
    for version in OLD_VERSIONS:
        yield version, EVERYTHING
    for suite in suites:
        if not suite.startswith("TLS_"):
            yield "TLSv1.2", suite.encode()


class CipherSuiteTests(TestCase):
    """What a server of an endpoint description accepts."""

    timeout = 60

    def setUp(self) -> None:
        self.patch(_sslverify, "defaultCiphers", _sslverify.defaultCiphers)  # restored afterwards
        # pyOpenSSL deprecates the constants of the old versions.
        warnings.simplefilter("ignore", DeprecationWarning)
        self.addCleanup(warnings.resetwarnings)

    async def find_accepted(self, description: str, port: int) -> set[tuple[str, str]]:
        """Listen on a description, and return what is accepted."""
        factory = Factory.forProtocol(Protocol)
        service = build_listener(description, factory, reactor, reuse_port=False)
        service.startService()
        self.addCleanup(service.stopService)
        return await deferToThread(find_accepted, port)

    async def test_only_forward_secret_suites_of_new_versions_are_accepted(self) -> None:
        """With the certificates of `ssl:`, and of a directory of `tls:`.

        Without forward secrecy (AES256-SHA), a stolen key decrypts what was recorded before.
        """
        self.assertIn("AES256-SHA", list_suites())
        for kind in KINDS:
            directory = self.mktemp()
            os.mkdir(directory)
            identity = Authority(directory).issue("localhost", rsa_bits=2048 * (kind == "RSA"))
            # Without the root: Twisted follows a chain to a certificate that signs itself for ever.
            served = self.mktemp()
            os.mkdir(served)
            Path(served, "server.pem").write_bytes(
                identity.key.read_bytes() + identity.certificate.read_bytes()
            )
            secure = {
                f"ECDHE-{kind}-{cipher}"
                for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305")
            }
            expected = {("TLSv1.2", suite) for suite in secure}
            expected.add(("TLSv1.3", "TLS_AES_256_GCM_SHA384"))
            port = free_port()
            self.assertEqual(await self.find_accepted(identity.endpoint(port), port), expected)
            port = free_port()
            description = rf"tls:{served}:{port}:interface=\:\:ffff\:127.0.0.1"
            self.assertEqual(await self.find_accepted(description, port), expected)
