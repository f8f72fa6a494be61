"""Values that must not be shown: a Secret, and the credentials made of them."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TypeAlias


class Secret:
    """A piece of text that does not show itself in str(), repr(), format() or a traceback of values.

    Only reveal() gives it away; its calls are the list of places where a secret leaves us.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __eq__(self, other: object) -> bool:
        """Compare in a time that does not depend on where the texts differ."""
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
        raise TypeError("a Secret is not for storing")


def _comparable(text: str) -> bytes:
    # JSON may hold lone surrogates ("\ud800"), which strict UTF-8 refuses to encode.
    return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Alpaca API key: its id and its secret. Both are treated as secrets."""

    key_id: Secret
    secret_key: Secret


@dataclass(frozen=True, slots=True)
class OAuthToken:
    """An OAuth access token, which stands in the place of a key pair."""

    token: Secret


Credentials: TypeAlias = KeyPair | OAuthToken
