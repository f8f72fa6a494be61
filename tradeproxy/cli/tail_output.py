"""The output of `tradeproxy tail`: events as a table or as JSON, and the status of the stream."""

from __future__ import annotations

from datetime import date, datetime
from shutil import get_terminal_size
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO

from tradeproxy.cli.terminal import Style, cut, escape_unprintable, fit, has_colour, paint
from tradeproxy.cli.times import format_local_time, parse_local_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tradeproxy.client import Update
    from tradeproxy.client.resume import StatusData

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

# The width of each column: in a narrow terminal, in a wide one, and in a file or pipe.
NARROW_CELLS = {
    "time": 12,
    "event": 14,
    "side": 4,
    "qty": 9,
    "symbol": 9,
    "price": 10,
    "status": 16,
}
WIDE_CELLS = NARROW_CELLS | {"qty": 14, "symbol": 21, "price": 12}
FILE_CELLS = WIDE_CELLS | {"time": 23, "event": 22, "qty": 18, "price": 18}

RIGHT_ALIGNED = {"qty", "price"}

REPEAT_AFTER = 60.0
"""Seconds until the same connection problem is printed again."""


class JsonLines:
    """Writes the raw data of each event. On a terminal, unprintable characters are escaped."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()

    def show(self, update: Update) -> None:
        """Write one line, and flush it."""
        text = update.raw.decode()
        self._out.write(f"{escape_unprintable(text) if self._is_terminal else text}\n")
        self._out.flush()


class Table:
    """Writes events as a table. Cells are padded or cut to the column; the last one is not padded.

    On a terminal it has a header, is in colour and is cut at the right edge. A file gets whole
    lines, with the date in each.
    """

    def __init__(self, out: TextIO, environ: Mapping[str, str]) -> None:
        self._out = out
        self._colour = has_colour(out, environ)
        self._is_terminal = out.isatty()
        self._day: date | None = None
        self._cells = FILE_CELLS
        if self._is_terminal:
            self._cells = WIDE_CELLS if get_terminal_size().columns >= WIDE else NARROW_CELLS
            self._write(
                self._format_line({name: name for name in self._cells}, "order"), Style.BOLD
            )

    def show(self, update: Update) -> None:
        """Write one line. On a terminal, a change of the date is a line before it."""
        try:
            texts = read_cells(update.data)
        except (ValueError, RecursionError):  # a number or a nesting beyond Python's limits
            texts = {"event": "unreadable"}
        texts["time"] = self._format_time(texts.get("at", ""))
        mark = "" if update.recovered is None else f"[recovered: {update.recovered}] "
        style = STYLES.get(texts.get("event", ""), Style.PLAIN)
        self._write(self._format_line(texts, mark + texts.get("order", "")), style)

    def _format_time(self, text: str) -> str:
        moment = parse_local_time(text)
        if moment is None:
            return text
        time = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}"
        if not self._is_terminal:
            return f"{moment:%Y-%m-%d} {time}"
        if moment.date() != self._day:
            self._day = moment.date()
            self._write(f"{moment:%Y-%m-%d}", Style.DIM)
        return time

    def _format_line(self, texts: Mapping[str, str], last: str) -> str:
        fitted = (
            fit(texts.get(name, ""), n, right=name in RIGHT_ALIGNED)
            for name, n in self._cells.items()
        )
        return " ".join([*fitted, escape_unprintable(last)]).rstrip()

    def _write(self, line: str, style: Style) -> None:
        if self._is_terminal:  # a wrapped line would break the columns
            line = cut(line, get_terminal_size().columns)
        self._out.write(f"{paint(line, style, self._colour)}\n")
        self._out.flush()


def read_cells(data: Any) -> dict[str, str]:
    """Return the text of each column for an event's data, whatever its types.

    A fill has its own quantity and price. For other events they are the order's.
    """
    data = data if isinstance(data, dict) else {}
    order = data.get("order")
    order = order if isinstance(order, dict) else {}
    price = data.get("price") or order.get("limit_price") or order.get("stop_price")
    found = {
        "at": data.get("at") or data.get("timestamp"),
        "event": data.get("event"),
        "side": order.get("side"),
        "qty": data.get("qty") or order.get("qty") or order.get("notional"),
        "symbol": order.get("symbol") or order.get("order_class"),
        "price": price,
        "status": order.get("status"),
        "order": order.get("client_order_id") or order.get("id"),
    }
    return {name: str(value) for name, value in found.items() if value is not None}


class Notices:
    """Writes the status of the stream and of the connection to standard error, dimmed.

    Args:
        err: standard error.
        environ: the environment, for NO_COLOR and TERM.
        seconds: a monotonic clock.
    """

    def __init__(
        self, err: TextIO, environ: Mapping[str, str], seconds: Callable[[], float] = monotonic
    ) -> None:
        self._err = err
        self._colour = has_colour(err, environ)
        self._is_terminal = err.isatty()
        self._seconds = seconds
        self._problem: object = None
        self._printed_at = 0.0
        # The outcome of each gap, by its begin; None before the first hello.
        self._gaps: dict[object, object] | None = None

    def show_status(self, status: StatusData) -> None:
        """Write the lines for a status frame.

        A connection problem is repeated after REPEAT_AFTER, not for every attempt.
        """
        problem = status.get("reason") if status.get("event") == "connection" else None
        now = self._seconds()
        elapsed = now - self._printed_at
        if problem is None or problem != self._problem or elapsed >= REPEAT_AFTER:
            self._printed_at = now
            for line in format_status(status):
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
            is_changed = (
                outcome in ("pending", "open")
                if known is None
                else known.get(gap.get("begin")) != outcome
            )
            if is_changed:
                for line in format_status({"event": "gap", **gap}):
                    self.write(line)

    def write(self, line: str) -> None:
        """Write one line, with the current local time before it."""
        text = escape_unprintable(f"{datetime.now().astimezone():%H:%M:%S}     {line}")
        text = cut(text, get_terminal_size().columns) if self._is_terminal else text
        self._err.write(f"{paint(text, Style.DIM, self._colour)}\n")
        self._err.flush()


def format_status(status: StatusData) -> list[str]:
    """Return the lines for a status frame. For a hello, these are its problems."""
    match status:
        case {"event": "hello", "upstream": {} as upstream, "journal": {} as journal}:
            upstream_lines = (
                format_status({"event": "upstream", **upstream})
                if upstream.get("state") != "up"
                else []
            )
            journal_lines = (
                format_status({"event": "journal", **journal})
                if journal.get("state") != "durable"
                else []
            )
            return [*upstream_lines, *journal_lines]
        case {"event": "connection", "state": "up"}:
            return ["connected to the proxy"]
        case {"event": "connection", "reason": reason, "retry_in": seconds}:
            return [f"no connection to the proxy, next attempt {_format_delay(seconds)}: {reason}"]
        case {"event": "upstream" | "journal" as name, "state": state}:
            return [_with_reason(f"{name} {state}", status)]
        case {"event": "gap", "end": None, "begin": begin}:
            at = "an unknown time" if begin is None else format_local_time(begin)
            return [f"gap: begins at {at}"]
        case {"event": "gap", "outcome": outcome, "begin": begin, "events": events}:
            since = "" if begin is None else f" since {format_local_time(begin)}"
            return [_with_reason(f"gap: {outcome}, {events} events found{since}", status)]
    return []


def _format_delay(seconds: float) -> str:
    return f"in {seconds:.0f} s" if seconds >= 1 else "now"


def _with_reason(text: str, status: StatusData) -> str:
    reason = status.get("reason")
    return f"{text}: {reason}" if reason else text
