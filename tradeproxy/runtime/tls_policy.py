"""The cipher suites of TLS: only those with forward secrecy and authenticated encryption.

A recorded connection stays secret even if the server's private key becomes known later. Twisted's
defaults also accept suites without that. They already exclude versions before 1.2, session caches
and tickets.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import _sslverify
from twisted.internet.ssl import AcceptableCiphers

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""In OpenSSL's notation. It applies to TLS 1.2; all suites of TLS 1.3 qualify."""


def require_forward_secrecy() -> None:
    """Limit the suites of every TLS connection of this process that is configured later.

    An endpoint description has no option for this, and `tls:` reads new certificates at any time.
    So Twisted's default is replaced.
    """
    module: Any = _sslverify
    module.defaultCiphers = AcceptableCiphers.fromOpenSSLCipherString(CIPHERS)
