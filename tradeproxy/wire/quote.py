"""Texts of a peer that knows our secrets, for a log or a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tradeproxy.wire.credentials import Secret

MAX_QUOTE = 200
"""Characters of a peer's text that are quoted."""

MAX_WORD = 15
"""Characters of a word that is quoted. Keys are longer, and so are encoded ones."""

FRAGMENT = 4
"""Characters of a secret that make a word unfit for the log."""


def quote_text(text: str, secrets: Iterable[Secret], max_word: int = MAX_WORD) -> str:
    """Return a peer's text: bounded, escaped, and without our secrets.

    A peer may send them back, as they are or encoded. A word that may hold one is left out.
    """
    fragments = {
        secret[at : at + FRAGMENT]
        for secret in (each.reveal() for each in secrets)
        for at in range(max(1, len(secret) - FRAGMENT + 1))
    }
    quote = " ".join(
        "..." if len(word) > max_word or any(each in word for each in fragments) else word
        for word in ascii(text[:MAX_QUOTE])[1:-1].split()
    )
    # Split into short words, as they are or as hexadecimal digits?
    joined = "".join(filter(str.isalnum, quote))
    coded = {each.encode().hex() for each in fragments}
    is_split = any(each in joined for each in fragments) or any(
        each in joined.lower() for each in coded
    )
    return "..." if is_split else quote
