"""A table of texts for a terminal, a file or a pipe."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from tradeproxy.cli.terminal import cut, width
from tradeproxy.wire.printable import escape_unprintable


def format_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()
) -> Iterator[str]:
    """Yield a line for the head and one for each row of printable texts.

    `right` has the names of the columns whose texts are at the right.
    """
    table = [head, *rows]
    widths = [max(map(width, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = []
        for name, cell, cells_wide in zip(head, row, widths, strict=True):
            space = " " * (cells_wide - width(cell))
            cells.append(f"{space}{cell}" if name in right else f"{cell}{space}")
        yield "  ".join(cells).rstrip()


def printable(value: Any, cells: int = 0) -> str:
    """Return a member of a JSON document as a text that cannot control the terminal; "" for None.

    It is cut to this many terminal cells; 0 cuts nothing.
    """
    text = "" if value is None else escape_unprintable(str(value))
    return cut(text, cells) if cells else text
