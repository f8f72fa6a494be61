"""Fields of a CSV line that no spreadsheet takes for a formula."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tradeproxy.wire.printable import escape_unprintable

_PLAIN = re.compile(r"(?:[0-9A-Za-z][0-9A-Za-z_.:-]*)?")
# Spreadsheets take a field for a formula by its first character, some after white space, and some
# with the full-width forms. Lone surrogates cannot be encoded; NUL ends a cell or a file.
_FORMULA = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
# Where `;` or a tab separates fields, a part of a field may be one: quotes count only at the start
# of a field, which begins elsewhere then. A quote there is written twice: an empty text in quotes,
# to which the spreadsheet adds what follows.
_INNER_FORMULA = re.compile(
    r"""([;\t\r\n](?:[^\S\t\r\n]|["\u200b-\u200f\u2060\ufeff])*)"""
    r"(?=[=+\-@\uff1d\uff0b\uff0d\uff20])"
)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|Infinity)")
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
# `;` and tab separate fields in some spreadsheets.
_SPECIAL = re.compile(r'[",;\t\r\n]')


def format_line(cells: Iterable[str]) -> str:
    """Return a line, without its end. A line break inside a field stays one, in quotes."""
    return ",".join(map(format_cell, cells))


def format_cell(text: str) -> str:
    """Return a field of a CSV line: quoted if it must be, and never a formula.

    A field that begins as a formula gets a leading apostrophe, by which spreadsheets show it as
    text. So does a part of it behind a separator. A number stays a number.
    """
    if _PLAIN.fullmatch(text):  # nearly always
        return text
    text = _UNWRITABLE.sub(lambda match: escape_unprintable(match[0]), text)
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    text = _INNER_FORMULA.sub(r"\1'", text)
    # Not csv.writer: it quotes a CR only if the line terminator contains one.
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text
