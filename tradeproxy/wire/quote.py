"""Texts that may hold secrets, for a log or a page: of a peer, or of a setting."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tradeproxy.wire.credentials import Secret

MAX_QUOTE = 200
"""Characters of a peer's text that are quoted."""

MAX_WORD = 15
"""Characters of a word that is quoted. Keys are longer, and so are encoded ones."""

FRAGMENT = 4
"""Characters of a secret that make a word unfit for the log."""

_KEY = re.compile(rf"(?!([a-z/_-]+|[0-9]+)(?![\w+/-]))[\w+/-]{{{MAX_WORD + 1},}}", re.ASCII)
"""What may be a key: longer than any word, and not of small letters or digits alone."""


def hide_keys(text: str, given: str) -> str:
    """Return a text without what may be a key in the setting's value that it quotes.

    A user may put a key into the wrong variable. An error names the variable, so it stays clear.
    Only what is a part of `given`, the value as the user wrote it, is left out, in any case.
    """
    for key in sorted({match[0] for match in _KEY.finditer(given)}, key=len, reverse=True):
        text = re.sub(re.escape(key), "...", text, flags=re.IGNORECASE)
    return text


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
