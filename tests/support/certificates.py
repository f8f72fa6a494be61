"""A test certificate authority and its certificates. No default store trusts it.

They have what Python 3.13's default contexts demand (`ssl.VERIFY_X509_STRICT`, RFC 5280): key usage
and the identifiers of the keys. docs/operations.md makes the same with openssl.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Identity:
    """A server's private key and certificate: two PEM files."""

    key: Path
    certificate: Path

    def endpoint(self, port: int = 0) -> str:
        """Return the description of an endpoint on 127.0.0.1 with this certificate."""
        return f"ssl:{port}:interface=127.0.0.1:privateKey={self.key}:certKey={self.certificate}"

    def encrypt_key(self, passphrase: bytes) -> None:
        """Write the key again, with a passphrase."""
        key = load_pem_private_key(self.key.read_bytes(), None)
        encryption = BestAvailableEncryption(passphrase)
        self.key.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, encryption)
        )


class Authority:
    """Issues certificates into a directory.

    `certificate` is the file of the root certificate. It is the only file that ends in ".pem":
    an endpoint with this directory as its `trustRoots` trusts the root alone.
    """

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._key = _curve_key()
        name = _name("an authority for tests")
        root = (
            _builder(name, name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .sign(self._key, SHA256())
        )
        self._issuer = name
        self.certificate = self._directory / "authority.pem"
        self.certificate.write_bytes(root.public_bytes(Encoding.PEM))

    def private_bytes(self) -> bytes:
        """Return the private key of the root in PEM."""
        return _encode(self._key)

    def issue(self, *hosts: str, rsa_bits: int = 0, days: int = 1) -> Identity:
        """Issue a certificate for host names and addresses. The first one names the files.

        Its key is of an elliptic curve, or of RSA with so many bits. It is valid for so many days
        from now; it has expired if they are negative.
        """
        names = [_general_name(host) for host in hosts]
        return self.issue_names(hosts[0], names, rsa_bits=rsa_bits, days=days)

    def issue_names(
        self,
        common_name: str,
        names: Sequence[x509.GeneralName],
        *,
        rsa_bits: int = 0,
        days: int = 1,
    ) -> Identity:
        """Issue a certificate with these names in subjectAltName; without one for no names."""
        key = rsa.generate_private_key(65_537, rsa_bits) if rsa_bits else _curve_key()
        builder = (
            _builder(_name(common_name), self._issuer, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, SHA256())
        identity = Identity(
            self._directory / f"{common_name}.key", self._directory / f"{common_name}.crt"
        )
        identity.key.write_bytes(_encode(key))
        identity.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        return identity


def _encode(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _curve_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    days: int = 1,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - 2 * DAY,
        not_valid_after=now + days * DAY,
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _key_usage(**uses: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: uses.get(name, False) for name in names})


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
