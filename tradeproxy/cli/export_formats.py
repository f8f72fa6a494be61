"""The formats of `tradeproxy export`: JSON lines, CSV and Parquet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, TextIO

from tradeproxy.tradelog.columns import COLUMNS, LoggedEvent, list_cells
from tradeproxy.tradelog.csv_text import format_line
from tradeproxy.wire.event import read_time
from tradeproxy.wire.printable import escape_unprintable

EXPORTED = (*COLUMNS, "strategy")
"""The columns of CSV and Parquet. An assignment by hand can change `strategy` later, so the files
of the trade log do not have it."""

ROW_GROUP = 10_000
"""Events that are kept in memory for one row group of a Parquet file: about 5 MB."""


def write_lines(events: Iterator[LoggedEvent], out: TextIO) -> int:
    """Write the data of each event on one line: escaped on a terminal, else byte for byte.

    Returns the number of events.
    """
    count = 0
    for count, event in enumerate(events, 1):  # noqa: B007  # it is the last one that counts
        text = event.raw.decode()
        out.write(f"{escape_unprintable(text) if out.isatty() else text}\n")
    return count


def write_csv(
    events: Iterator[LoggedEvent], out: TextIO, find_strategy: Callable[[LoggedEvent], str]
) -> int:
    """Write a header line, and one line for each event. A missing field is empty.

    No field is a formula in a spreadsheet. Control characters and lone surrogates are escaped as in
    JSON, except for tab, CR and LF in a file. Returns the number of events.
    """
    count = 0
    out.write(f"{format_line(EXPORTED)}\n")
    for count, event in enumerate(events, 1):  # noqa: B007  # it is the last one that counts
        cells = [*list_cells(event), find_strategy(event)]
        out.write(f"{format_line(map(escape_unprintable, cells) if out.isatty() else cells)}\n")
    return count


def write_parquet(
    events: Iterator[LoggedEvent],
    out: BinaryIO,
    notes: Mapping[str, str],
    find_strategy: Callable[[LoggedEvent], str],
) -> int:
    """Write a Parquet file. Its columns are those of CSV; a missing field is null.

    `time` is a timestamp in microseconds, rounded up; null for text that is no time. All others are
    text, as Alpaca wrote them, with lone surrogates escaped as in JSON. `notes` go into the
    metadata of the file. `find_strategy` returns the strategy of an event's order.

    Returns the number of events. Raises ParquetError if pyarrow is not installed.
    """
    pa, parquet = _import_pyarrow()
    schema = pa.schema(
        [
            (name, pa.timestamp("us", tz="UTC") if name == "time" else pa.string())
            for name in EXPORTED
        ],
        metadata=dict(notes),
    )
    count = 0
    with parquet.ParquetWriter(out, schema) as writer:
        rows: list[list[Any]] = []
        for event in events:
            time, *texts = *list_cells(event), find_strategy(event)
            rows.append([read_time(time), *(_encode(text) for text in texts)])
            if len(rows) == ROW_GROUP:
                count += len(rows)
                writer.write_table(_build_table(pa, schema, rows))
                rows = []
        writer.write_table(_build_table(pa, schema, rows))
    return count + len(rows)


class ParquetError(Exception):
    """A Parquet file cannot be written. The text is a line for the user."""


def _import_pyarrow() -> tuple[Any, Any]:
    # An extra, and half a second to import: only who asks for Parquet needs it.
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise ParquetError(f"needs a library: {sys.executable} -m pip install pyarrow") from None
    return pa, parquet


def _build_table(pa: Any, schema: Any, rows: list[list[Any]]) -> Any:
    columns = zip(*rows, strict=True) if rows else [()] * len(EXPORTED)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _encode(text: str) -> str | None:
    if not text:
        return None
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
