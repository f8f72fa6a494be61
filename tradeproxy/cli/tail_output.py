"""The output of `tradeproxy tail`: events as a table or as JSON, and the status of the stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from datetime import date, datetime
from shutil import get_terminal_size
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO

from tradeproxy.cli.ask import SHAPE_ERRORS
from tradeproxy.cli.terminal import Style, cut, has_colour, paint, width
from tradeproxy.cli.times import format_local_time, parse_local_time
from tradeproxy.wire.event import AMENDMENT_KINDS, EXECUTION_KINDS
from tradeproxy.wire.plural import plural
from tradeproxy.wire.printable import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tradeproxy.client import Update
    from tradeproxy.client.resume import StatusData

MEDIUM = 80
"""The minimum width of a terminal for MEDIUM_CELLS."""

WIDE = 110
"""The minimum width of a terminal for WIDE_CELLS: an OCC option symbol has 21 characters."""

STYLES = {
    "fill": Style.GREEN,
    "partial_fill": Style.GREEN,
    "new": Style.CYAN,
    "accepted": Style.CYAN,
    "canceled": Style.YELLOW,
    "expired": Style.YELLOW,
    "replaced": Style.YELLOW,
    "rejected": Style.RED,
    "order_cancel_rejected": Style.RED,
    "order_replace_rejected": Style.RED,
}

# The width of each column: in a narrow terminal, from MEDIUM and from WIDE columns on, and in a
# file or pipe. A longer text takes the room that it needs. The status nearly repeats the event.
NARROW_CELLS = {"time": 8, "event": 12, "side": 4, "qty": 11, "symbol": 8, "price": 11}
MEDIUM_CELLS = NARROW_CELLS | {"time": 12, "symbol": 9, "price": 12}
WIDE_CELLS = MEDIUM_CELLS | {"event": 14, "symbol": 21, "price": 14, "status": 16}
FILE_CELLS = WIDE_CELLS | {"time": 23, "event": 22, "qty": 18, "price": 18}

RIGHT_ALIGNED = {"qty", "price"}
CUT = {"status", "order"}
"""The columns that end at the right edge of a terminal. The others are never cut."""

INDENT = "  "
"""Before the further lines of a row that is wrapped."""

REPEAT_AFTER = 60.0
"""Seconds until the same connection problem is printed again."""


class Sink(ABC):
    """Shows updates."""

    @abstractmethod
    def show(self, update: Update) -> None:
        """Show an update."""

    def end_replay(self) -> None:  # noqa: B027  # most need nothing
        """Past events have been shown, or are lost; new ones follow."""


class JsonLines(Sink):
    """Writes the raw data of each event. On a terminal, unprintable characters are escaped."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()

    def show(self, update: Update) -> None:
        """Write one line, and flush it."""
        text = update.raw.decode()
        self._out.write(f"{escape_unprintable(text) if self._is_terminal else text}\n")
        self._out.flush()


class Table(Sink):
    """Writes events as a table. Numbers and symbols are never cut.

    A text that is longer than its column moves the next ones to the right. On a terminal the table
    has a header and is in colour; status and order are cut at the right edge, and a row whose other
    columns do not fit is wrapped between them. A file gets whole lines, with the date in each.
    """

    def __init__(self, out: TextIO, environ: Mapping[str, str]) -> None:
        self._out = out
        self._colour = has_colour(out, environ)
        self._is_terminal = out.isatty()
        self._day: date | None = None
        self._cells = FILE_CELLS
        if self._is_terminal:
            columns = get_terminal_size().columns
            self._cells = MEDIUM_CELLS if columns >= MEDIUM else NARROW_CELLS
            if columns >= WIDE:
                self._cells = WIDE_CELLS
            self._write({name: name for name in (*self._cells, "order")}, Style.BOLD)

    def show(self, update: Update) -> None:
        """Write one line. On a terminal, a change of the date is a line before it."""
        try:
            texts = read_cells(update.data)
        except SHAPE_ERRORS:  # a number or a nesting beyond Python's limits
            texts = {"event": "unreadable"}
        texts["time"] = self._format_time(texts.get("at", ""))
        mark = "" if update.recovered is None else f"[recovered: {update.recovered}] "
        style = STYLES.get(texts.get("event", ""), Style.PLAIN)
        self._write(texts | {"order": mark + texts.get("order", "")}, style)

    def _format_time(self, text: str) -> str:
        moment = parse_local_time(text)
        if moment is None:
            return text
        time = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
        if not self._is_terminal:
            return f"{moment:%Y-%m-%d} {time}"
        if moment.date() != self._day:
            self._day = moment.date()
            self._write_lines([f"{moment:%Y-%m-%d}"], Style.DIM)
        return time[: self._cells["time"]]

    def _write(self, texts: Mapping[str, str], style: Style) -> None:
        columns = get_terminal_size().columns if self._is_terminal else None
        names = (*self._cells, "order")
        printable = {name: escape_unprintable(texts.get(name, "")) for name in names}
        self._write_lines(lay_out(printable, self._cells, columns), style)

    def _write_lines(self, lines: Sequence[str], style: Style) -> None:
        for line in lines:
            self._out.write(f"{paint(line, style, self._colour)}\n")
        self._out.flush()


def lay_out(texts: Mapping[str, str], cells: Mapping[str, int], columns: int | None) -> list[str]:
    """Return the lines of a row.

    Args:
        texts: the printable text of each column, in the order of the columns.
        cells: the width of each column. One without a width is as wide as its text.
        columns: the width of the terminal; None if the row has one line of any length.
    """
    line, begin = "", 0
    for name, text in texts.items():
        shift = max(cells.get(name, 0) - width(text), 0) if name in RIGHT_ALIGNED else 0
        gap = begin + shift - width(line)
        before = line + " " * (max(gap, 1) if line else gap)
        begin += cells.get(name, 0) + 1
        if columns is None:
            line = before + text
        elif name in CUT:
            line = before + cut(text, columns - width(before))
        elif width(line := before + text) > columns:
            return _wrap(texts, columns)
    return [line.rstrip()]


def _wrap(texts: Mapping[str, str], columns: int) -> list[str]:
    """Return the texts in lines of at most `columns`, unless a single one is wider than that."""
    lines: list[str] = []
    for name, text in texts.items():
        fitted = cut(text, columns - len(INDENT)) if name in CUT else text
        if not fitted:
            continue
        if lines and width(lines[-1]) + 1 + width(fitted) <= columns:
            lines[-1] += f" {fitted}"
        else:
            lines.append(INDENT + fitted if lines else fitted)
    return lines


def read_cells(data: Any) -> dict[str, str]:
    """Return the text of each column for an event's data, whatever its types.

    An execution has its own quantity and price. For other events the quantity is the order's, or
    the amount of money with a "$", and the price says which limit of the order it is.
    """
    data = data if isinstance(data, dict) else {}
    order = data.get("order")
    order = order if isinstance(order, dict) else {}
    qty, notional = data.get("qty") or order.get("qty"), order.get("notional")
    found = {
        "at": data.get("at") or data.get("timestamp"),
        "event": data.get("event"),
        "side": order.get("side"),
        "qty": f"${notional}" if qty is None and notional is not None else qty,
        "symbol": order.get("symbol") or order.get("order_class"),
        "price": _read_price(data, order),
        "status": order.get("status"),
        "order": order.get("client_order_id") or order.get("id"),
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def _read_price(data: Mapping[str, Any], order: Mapping[str, Any]) -> object:
    if price := data.get("price"):
        return price
    if str(data.get("event")) in EXECUTION_KINDS | AMENDMENT_KINDS:
        return None
    limits = {"limit": order.get("limit_price"), "stop": order.get("stop_price")}
    return next((f"{name} {price}" for name, price in limits.items() if price), None)


class Notices:
    """Writes the status of the stream and of the connection to standard error, dimmed.

    `environ` is for NO_COLOR and TERM, and the URL of the stream is for messages. `seconds` is a
    monotonic clock.
    """

    def __init__(
        self,
        err: TextIO,
        environ: Mapping[str, str],
        url: str,
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self._err = err
        self._colour = has_colour(err, environ)
        self._url = url
        self._seconds = seconds
        self._problem: object = None
        self._printed_at = 0.0
        # The outcome of each gap, by its begin; None before the first hello.
        self._gaps: dict[object, object] | None = None

    def show_status(self, status: StatusData) -> None:
        """Write the lines for a status frame, or one line if it has another shape.

        A connection problem is repeated after REPEAT_AFTER, not for every attempt.
        """
        try:
            self._show_status(status)
        except SHAPE_ERRORS:
            self.write("a status of the proxy cannot be read")

    def _show_status(self, status: StatusData) -> None:
        problem = status.get("reason") if status.get("event") == "connection" else None
        now = self._seconds()
        elapsed = now - self._printed_at
        if problem is None or problem != self._problem or elapsed >= REPEAT_AFTER:
            self._printed_at = now
            for line in format_status(status, self._url):
                self.write(line)
        self._problem = problem
        match status:
            case {"event": "hello", "gaps": [*gaps]}:
                self._show_changed_gaps(gaps)
            case {"event": "gap", "begin": begin, "outcome": outcome} if self._gaps is not None:
                self._gaps[begin] = outcome

    def _show_changed_gaps(self, gaps: Sequence[StatusData]) -> None:
        """Write the gaps that changed since the last hello or gap frame.

        At the first hello, write only the open ones.
        """
        known = self._gaps
        self._gaps = {gap.get("begin"): gap.get("outcome") for gap in gaps}
        for gap in gaps:
            outcome = gap.get("outcome")
            if known is None:
                is_shown = outcome in ("pending", "open")
            else:
                is_shown = known.get(gap.get("begin")) != outcome
            if is_shown:
                for line in format_status({"event": "gap", **gap}):
                    self.write(line)

    def write(self, line: str) -> None:
        """Write one line, with the current local time before it. A terminal wraps it."""
        text = escape_unprintable(f"{datetime.now().astimezone():%H:%M:%S}     {line}")
        self._err.write(f"{paint(text, Style.DIM, self._colour)}\n")
        self._err.flush()


class LastUpdates(Sink):
    """Shows of a replay only the last updates, at most `count`, and then every update.

    The proxy counts the events of a replay before it filters them. So a filtered replay is
    requested from the beginning, and this keeps its end.
    """

    def __init__(self, sink: Sink, count: int) -> None:
        self._sink = sink
        self._kept: deque[Update] | None = deque(maxlen=count)

    def show(self, update: Update) -> None:
        """Show an update, or keep it until the end of the replay."""
        if self._kept is None:
            self._sink.show(update)
        else:
            self._kept.append(update)

    def end_replay(self) -> None:
        """Show what was kept of the replay."""
        kept, self._kept = self._kept or (), None
        for update in kept:
            self._sink.show(update)


def format_status(status: StatusData, url: str = "") -> list[str]:
    """Return the lines for a status frame. For a hello, these are its problems.

    Raises one of SHAPE_ERRORS for another shape.

    `url` is that of the stream, for a problem of the connection.
    """
    match status:
        case {"event": "hello", "upstream": {} as upstream, "journal": {} as journal}:
            lines = []
            if upstream.get("state") != "up":
                lines += format_status({"event": "upstream", **upstream})
            if journal.get("state") != "durable":
                lines += format_status({"event": "journal", **journal})
            return lines
        case {"event": "connection", "state": "up"}:
            return ["connected to the proxy"]
        case {"event": "connection", "reason": reason}:
            cause = reason.removeprefix("cannot connect: ")
            return [f"no connection to the proxy at {url}: {cause}; retrying"]
        case {"event": "upstream" | "journal" as name, "state": state}:
            return [_with_reason(f"{name} {state}", status)]
        case {"event": "gap", "end": None, "begin": begin}:
            at = "an unknown time" if begin is None else format_local_time(begin)
            return [f"gap: begins at {at}"]
        case {"event": "gap", "outcome": outcome, "begin": begin, "end": end, "events": events}:
            since = "" if begin is None else f" from {format_local_time(begin)}"
            found = f"{plural(events, 'event')} found{since} to {format_local_time(end)}"
            return [_with_reason(f"gap: {outcome}, {found}", status)]
    return []


def _with_reason(text: str, status: StatusData) -> str:
    reason = status.get("reason")
    return f"{text}: {reason}" if reason else text
