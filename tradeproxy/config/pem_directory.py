"""A check of the directory of a `tls:` endpoint, before Twisted reads it."""

from __future__ import annotations

import re

from OpenSSL.crypto import FILETYPE_PEM
from twisted.internet.ssl import Certificate, DistinguishedName, KeyPair
from twisted.python.filepath import FilePath

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)


def refuse_circular_chains(path: str) -> None:
    """Raise ValueError if certificates without a key, such as a root, issued each other.

    Twisted adds the issuer of each certificate to the chain that it sends, and its issuer, and so
    on. It has no end for a root, which issued itself. A file that is unreadable raises OSError or
    an error of OpenSSL's.
    """
    certificates: list[tuple[str, Certificate]] = []
    keys = set()
    for file in FilePath(path).walk():
        if not file.basename().endswith(".pem") or not file.isfile():
            continue
        for block in _BLOCK.finditer(file.getContent()):
            if b"CERTIFICATE" in block[1]:
                certificates.append((file.path, Certificate.loadPEM(block[0])))
            else:
                keys.add(KeyPair.load(block[0], FILETYPE_PEM).keyHash())
    issuers = {
        _freeze(each.getSubject()): (file, _freeze(each.getIssuer()))
        for file, each in certificates
        if each.getPublicKey().keyHash() not in keys
    }
    for subject in issuers:
        name = subject
        for _ in range(len(issuers) + 1):
            if name not in issuers:
                break
            holder, name = issuers[name]
        else:
            raise ValueError(f"{holder} has a root certificate; remove it, since clients have it")


def _freeze(name: DistinguishedName) -> tuple[tuple[str, bytes], ...]:
    return tuple(sorted(name.items()))
