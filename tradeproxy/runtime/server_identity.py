"""TLS to a server whose certificate must name its host. Whatever cannot be checked is rejected."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache
from weakref import ref

from OpenSSL.crypto import X509
from OpenSSL.SSL import VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_PEER, Connection
from service_identity import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

TRUST_AGE = 60.0
"""Seconds for which the connections to a host share one copy of the trust store."""

MAX_COPIES = 32
"""Copies that are kept. Each takes 1 MB and, to read it, 5 ms of CPU: with a copy per connection, a
few dozen that fail and are tried again take the process a second, and over 100 MB."""


@implementer(IOpenSSLClientConnectionCreator)
class ServerIdentity:
    """Creates TLS connections to a host, for `wrapClientTLS` and others.

    The certificate must be valid by the platform's trust store, and its subjectAltName must have
    the host. The connection is otherwise lost with a VerificationError (another name) or a
    CertificateError (no subjectAltName, or an invalid one, such as a bare `*`).

    Twisted's own check rejects a certificate for a VerificationError alone. It logs a
    CertificateError, which service-identity raises for such certificates, and then accepts them for
    every host.
    """

    def __init__(self, host: str) -> None:
        """Create the connections' settings; `host` is a name or an address."""
        is_address = isIPAddress(host) or isIPv6Address(host)
        self._identity = IPAddress_ID(host) if is_address else DNS_ID(host)
        self._options = _read_trust(
            host,
            os.environ.get("SSL_CERT_FILE"),
            os.environ.get("SSL_CERT_DIR"),
            int(time.monotonic() // TRUST_AGE),
        )

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        """Return a connection that checks the certificate."""
        connection: Connection = self._options.clientConnectionForTLS(tlsProtocol)
        mode = VERIFY_PEER | VERIFY_FAIL_IF_NO_PEER_CERT
        connection.set_verify(mode, self._build_check(tlsProtocol))
        return connection

    def _build_check(
        self, protocol: TLSMemoryBIOProtocol
    ) -> Callable[[Connection, X509, int, int, int], bool]:
        # The connection keeps the function, and the protocol keeps the connection.
        reference = ref(protocol)

        def check(_: Connection, certificate: X509, error: int, depth: int, valid: int) -> bool:
            if depth > 0 or not valid:
                return bool(valid)  # an authority's certificate has no host
            try:
                verify_service_identity(extract_patterns(certificate), [self._identity], [])
            except (VerificationError, CertificateError):
                failure = Failure()
            except Exception:
                failure = Failure(CertificateError("the subjectAltName cannot be read"))
            else:
                return True
            if (living := reference()) is not None:
                living.failVerification(failure)
            return False

        return check


@lru_cache(maxsize=MAX_COPIES)
def _read_trust(host: str, *_: object) -> IOpenSSLClientConnectionCreator:
    # What differs between connections to one host is set for each connection, not here.
    return optionsForClientTLS(host)
