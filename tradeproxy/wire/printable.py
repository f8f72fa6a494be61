"""Text of others: escaped so that it controls neither a terminal nor a file, and with UTF-8."""

from __future__ import annotations

import re

_UNPRINTABLE = re.compile(r"[^ -~]")


def escape_unprintable(text: str) -> str:
    r"""Escape every unprintable character as JSON does (`\u` and four hex digits).

    These include control characters, bidirectional controls and lone surrogates. Escaped JSON is
    still JSON with the same content.
    """
    return _UNPRINTABLE.sub(
        lambda match: match[0] if match[0].isprintable() else escape_character(match[0]), text
    )


def make_one_line(text: str) -> str:
    """Escape every unprintable character, a line break too, as Python writes it in a string."""
    return "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text
    )


def replace_surrogates(text: str) -> str:
    """Return a text that has UTF-8: a lone surrogate, which JSON can contain, is a `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def escape_character(character: str) -> str:
    r"""Return a character as JSON escapes it: `\u` and four hex digits, or a surrogate pair."""
    code = ord(character)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
