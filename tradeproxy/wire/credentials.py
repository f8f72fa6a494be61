"""Secrets, and the credentials that consist of them. Their values never appear in a log."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TypeAlias


class Secret:
    """A text that str(), repr(), format() and a traceback with local variables redact.

    Only reveal() returns the text. Its calls are the list of places where a secret leaves the
    proxy.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text in clear."""
        return self._text

    def __eq__(self, other: object) -> bool:
        """Compare in constant time, so that the duration does not reveal where the texts differ."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_comparable(self._text), _comparable(other._text))

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "<secret>" if self._text else "<no secret>"

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled or copied")


def _comparable(text: str) -> bytes:
    # JSON may contain lone surrogates ("\ud800"), which strict UTF-8 cannot encode.
    return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Alpaca API key: its id and its secret. The proxy treats both as secrets."""

    key_id: Secret
    secret_key: Secret


@dataclass(frozen=True, slots=True)
class OAuthToken:
    """An OAuth access token. Alpaca accepts it instead of a key pair."""

    token: Secret


Credentials: TypeAlias = KeyPair | OAuthToken


def list_secrets(credentials: Credentials) -> list[Secret]:
    """Return the secrets in credentials, without empty ones."""
    match credentials:
        case KeyPair(key_id, secret_key):
            secrets = [key_id, secret_key]
        case OAuthToken(token):
            secrets = [token]
    return [secret for secret in secrets if secret]
