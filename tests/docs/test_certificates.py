"""Tests for docs/operations.md: the certificate that its commands make is valid everywhere."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Authority

PAGE = Path(__file__).parents[2] / "docs/operations.md"


def handshake(authority: Path, key: Path, certificate: Path, name: str) -> None:
    """Open TLS between OpenSSL's client and server. Raises ssl.SSLCertVerificationError.

    The client verifies as those of Python 3.13 and newer do, on every version of Python.
    """
    trusting = ssl.create_default_context(cafile=authority)
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    upward, downward = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(downward, upward, server_hostname=name)
    server = serving.wrap_bio(upward, downward, server_side=True)
    pending = [client, server]
    while pending:
        side = pending.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pending.append(side)


class PrivateAuthorityTests(SynchronousTestCase):
    """A certificate of an authority that only some clients trust."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def test_documented_commands_make_valid_certificate(self) -> None:
        """Python 3.13 verifies strictly: it rejects one that lacks a key identifier."""
        if shutil.which("openssl") is None:
            self.skipTest("the program openssl is not installed")
        text = PAGE.read_text(encoding="utf-8")
        [section] = re.findall(
            r"^## A private authority\n(.*?)^## ", text, re.DOTALL | re.MULTILINE
        )
        [commands] = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
        subprocess.run(
            ["sh", "-euc", commands], cwd=self.directory, check=True, capture_output=True
        )
        authority, key, certificate, both = (
            self.directory / name
            for name in ("authority.pem", "localhost.key", "localhost.crt", "localhost.pem")
        )
        for name in ("localhost", "127.0.0.1"):
            handshake(authority, key, certificate, name)
            handshake(authority, both, both, name)

    def test_authority_of_tests_is_valid(self) -> None:
        """The TLS tests would fail on Python 3.13 for a reason that is not the proxy's."""
        authority = Authority(str(self.directory))
        identity = authority.issue("localhost")
        handshake(authority.certificate, identity.key, identity.certificate, "localhost")
