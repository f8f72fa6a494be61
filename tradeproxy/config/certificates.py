"""Checks of the keys and certificates of `ssl:` and `tls:` endpoints, before Twisted serves them.

OpenSSL refuses a key only when the first client connects: one that is too short, or that is not the
certificate's. All clients would fail then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, DistinguishedName, KeyPair, PrivateCertificate
from twisted.python.filepath import FilePath

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)


class _ContextRecorder:
    """A reactor that keeps what makes the context of an `ssl:` endpoint."""

    made_by: Any = None

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> None:
        """Record the factory of contexts (IReactorSSL)."""
        self.made_by = contextFactory


def check_pair(description: str) -> None:
    """Make the context of an `ssl:` endpoint, which reads its key and its certificate.

    Raises ValueError if OpenSSL refuses them, OSError, or what Twisted's parser raises.
    """
    recorder = _ContextRecorder()
    with _reasons():
        serverFromString(recorder, description).listen(Factory())
        recorder.made_by.getContext()


def check_directory(path: str) -> None:
    """Check all pairs in the directory of a `tls:` endpoint. Raises ValueError.

    Certificates without a key, such as a root, must not have issued each other. Twisted adds the
    issuer of each certificate to the chain that it sends, and its issuer, and so on. It has no end
    for a root, which issued itself. A file that is unreadable raises OSError.
    """
    with _reasons():
        _check_directory(path)


def _check_directory(path: str) -> None:
    certificates: list[tuple[str, Certificate]] = []
    keys: dict[str, KeyPair] = {}
    for file in list_files(path):
        for block in _BLOCK.finditer(file.read_bytes()):
            if b"CERTIFICATE" in block[1]:
                certificates.append((str(file), Certificate.loadPEM(block[0])))
            elif b"ENCRYPTED" in block[0]:
                # Twisted reads the directory again when a client asks for an unknown name.
                raise ValueError(f"{file} has a key with a passphrase, which tls: cannot ask for")
            else:
                pair = KeyPair.load(block[0], crypto.FILETYPE_PEM)
                keys[pair.keyHash()] = pair
    others = []
    for holder, each in certificates:
        key = each.getPublicKey().keyHash()
        if key in keys:
            options = PrivateCertificate.fromCertificateAndKeyPair(each, keys[key]).options()
            options.getContext()
        else:
            others.append((holder, each))
    _refuse_circular_chains(others)


def list_files(directory: str) -> Iterator[Path]:
    """Yield the files that Twisted reads in the directory of a `tls:` endpoint."""
    for file in FilePath(directory).walk():
        if file.basename().endswith(".pem") and file.isfile():
            yield Path(file.path)


def find_expired(files: Iterable[Path]) -> list[str]:
    """Return a clause for each of these files with a certificate that has expired."""
    return [
        f"the certificate in {file} has expired"
        for file in files
        if file.is_file() and any(each.original.has_expired() for each in _read(file))
    ]


def _read(file: Path) -> Iterator[Certificate]:
    for block in _BLOCK.finditer(file.read_bytes()):
        if b"CERTIFICATE" in block[1]:
            with suppress(Exception):  # of a file that Twisted reads only in part
                yield Certificate.loadPEM(block[0])


@contextmanager
def _reasons() -> Iterator[None]:
    """Replace an error of OpenSSL's, which is a list, by a ValueError with its last reason."""
    try:
        yield
    except (SSL.Error, crypto.Error) as error:
        [*_, (_, _, reason)] = error.args[0] or [("", "", "no reason")]
        raise ValueError(f"OpenSSL refuses its key or certificate: {reason}") from None


def _refuse_circular_chains(certificates: Iterable[tuple[str, Certificate]]) -> None:
    """Raise ValueError if certificates without a key have issued each other."""
    issuers = {
        _freeze(each.getSubject()): (file, _freeze(each.getIssuer())) for file, each in certificates
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
