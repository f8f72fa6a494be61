"""The standard streams of a command: present, and able to write any character."""

from __future__ import annotations

import codecs
import os
import sys
from io import TextIOWrapper
from typing import TextIO

from tradeproxy.wire.printable import escape_character

JSON_ESCAPE = "tradeproxy.json-escape"
r"""An error handler of codecs: a character that the encoding lacks becomes `\u20ac`, as in JSON."""


def open_missing_streams() -> None:
    """Open /dev/null for each standard stream that is closed, as after `tradeproxy run >&-`.

    Otherwise Python has no `sys.stdout`, and the next socket or file would get its number. A
    library may have taken that already: libffi keeps its own file open.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, which is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # kept


def replace_unencodable(stream: TextIO, errors: str = "backslashreplace") -> None:
    """Set what a stream writes for a character that its encoding lacks, instead of an error.

    `errors` is an error handler of codecs, such as "replace" or JSON_ESCAPE.
    """
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors=errors)


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(escape_character, error.object[error.start : error.end])), error.end


codecs.register_error(JSON_ESCAPE, _escape)
